"""The two custom resource definitions: `ArtifactSync` (namespaced) and `TrustPolicy` (cluster-scoped).

`TrustPolicy` keeps unknown fields at every level on purpose: the API server would silently prune a typo, and a policy
with a pruned rule is weaker than the one its author wrote. The agent sees the unknown field and refuses the policy.
"""

from __future__ import annotations

from ocisync.install.schema import (
    NAME_CHARS,
    choice,
    conditions,
    duration,
    flag,
    many,
    mapping,
    name_reference,
    record,
    text,
    whole,
)
from ocisync.model.resource import JsonObject
from ocisync.model.spec import API_GROUP, APPLYSET_PARENT_LABEL

_ONE_SELECTOR = "[has(self.tag), has(self.semver), has(self.digest)].filter(x, x).size() == 1"


def _source() -> JsonObject:
    return record(
        "Where artifacts come from.",
        {
            "repository": text("HOST/REPOSITORY without tag or digest.", most=512, least=3),
            "tag": text("The tag to follow.", most=128, least=1),
            "semver": text("The version range to follow.", most=256, least=1),
            "digest": text("The one digest to hold.", most=71, pattern="^sha256:[0-9a-f]{64}$"),
            "interval": duration("How often the registry is asked.", "1m"),
            "pullSecretRef": name_reference("Secret of type kubernetes.io/dockerconfigjson in the sync's namespace."),
            "serviceAccountName": text("Service account whose imagePullSecrets are used.", most=NAME_CHARS),
            "caSecretRef": name_reference("Secret with ca.crt for the registry."),
            "proxySecretRef": name_reference("Secret with the proxy to use."),
            "insecure": flag("Speak http to the registry."),
        },
        required=("repository",),
        rules=((_ONE_SELECTOR, "set exactly one of tag, semver, digest"),),
    )


def _ignore() -> JsonObject:
    target = record(
        "Objects meant; empty fields match any.",
        {
            "group": text("API group.", most=253),
            "kind": text("Kind.", most=63),
            "namespace": text("Namespace.", most=63),
            "name": text("Name.", most=NAME_CHARS),
        },
    )
    paths = many("JSON pointers.", text("A pointer.", most=1024, least=1, pattern="^/"), most=64, kind="set")
    return many(
        "Fields that others own.", record("One rule.", {"target": target, "paths": paths}, required=("paths",)), most=64
    )


def _wait() -> JsonObject:
    check = record(
        "Health of one kind.",
        {
            "apiVersion": text("API version.", most=316, least=1),
            "kind": text("Kind.", most=63, least=1),
            "current": text("CEL over the object: it is healthy.", most=4096),
            "failed": text("CEL over the object: it has failed.", most=4096),
        },
        required=("apiVersion", "kind"),
    )
    check["anyOf"] = [{"required": ["current"]}, {"required": ["failed"]}]
    return record(
        "Health after an apply. Where this is given, a wave waits for the health of the one before.",
        {"timeout": duration("How long to wait.", "5m"), "checks": many("Own rules.", check, most=64)},
    )


def _spec() -> JsonObject:
    guard = record(
        "Limits on what one new artifact may delete without a person's approval.",
        {
            "maxPrune": {
                "x-kubernetes-int-or-string": True,
                "default": "50%",
                "description": "Most deletions and recreations: a number, or a percentage (never below 5 objects); "
                "0 and 0% let none pass.",
            },
            "protect": many(
                "Kinds never deleted without approval: Kind or Kind.group.",
                text("A kind.", most=316, least=1),
                most=64,
                kind="set",
            ),
        },
    )
    prefix = r"^[A-Za-z0-9\[][^@\s]*$"
    image = record(
        "One rename.",
        {
            "from": text("Prefix of full names: HOST or HOST/PATH.", most=512, least=1, pattern=prefix),
            "to": text("Prefix to use: HOST or HOST/PATH.", most=512, least=1, pattern=prefix),
        },
        required=("from", "to"),
    )
    image_path = text("KIND.GROUP=/JSON/POINTER; * stands for every item or key.", most=1024, pattern=r"^[A-Z][^=]*=/.")
    dependency = record(
        "One sync.",
        {"name": text("Its name.", most=NAME_CHARS, least=1), "namespace": text("Its namespace.", most=63)},
        required=("name",),
    )
    return record(
        "What to keep the cluster equal to, and how.",
        {
            "source": _source(),
            "path": text("Directory inside the artifact.", most=1024),
            "target": record(
                "Where objects go and on whose behalf.",
                {
                    "namespace": text("Namespace for objects that name none.", most=63),
                    "serviceAccountName": text(
                        "Service account in the sync's namespace that does every write.",
                        most=NAME_CHARS,
                        default="default",
                    ),
                },
            ),
            "images": many("Image prefixes to replace when objects are applied.", image, most=64, keys=("from",)),
            "imagePaths": many("Fields with images besides those of pods.", image_path, most=64, kind="set"),
            "prune": flag("Delete what the artifact no longer holds.", default=True),
            "deletionPolicy": choice("What becomes of the objects when the sync is deleted.", "Delete", "Orphan"),
            "wait": _wait(),
            "drift": record(
                "What to do when live objects differ.",
                {
                    "mode": choice(
                        "Correct heals, Warn reports, Ignore does neither.",
                        "Correct",
                        "Warn",
                        "Ignore",
                        default="Correct",
                    ),
                    "unowned": choice("Foreign fields under spec.", "Warn", "Ignore", default="Warn"),
                },
            ),
            "ignore": _ignore(),
            "force": flag("Delete and create again what can't be changed in place.", default=False),
            "guard": guard,
            "onFailure": record(
                "What to do with an artifact that does not become healthy.",
                {"rollback": flag("Go back to the last healthy one.")},
            ),
            "dependsOn": many("Syncs that must be ready first.", dependency, most=64),
            "retryInterval": duration("How soon a failure is tried again.", "1m"),
            "suspend": flag("Stop reconciling.", default=False),
        },
        required=("source",),
        rules=(("!has(self.imagePaths) || has(self.images)", "imagePaths need images"),),
    )


def _status() -> JsonObject:
    artifact = {
        "tag": text("Tag.", most=128),
        "digest": text("Digest.", most=71),
        "revision": text("Signed revision, else the annotated one.", most=1024),
        "signers": many("Authorities whose signatures counted.", text("A name.", most=253), most=32),
        "time": {"type": "string", "format": "date-time", "description": "When."},
    }
    failure = record(
        "One object that failed.",
        {
            "object": text("Kind.group namespace/name.", most=700),
            "place": text("file:line in the artifact.", most=1100),
            "class": text("Class of the error.", most=32),
            "message": text("What the API server said.", most=256),
        },
    )
    entry = record("One applied artifact.", {**artifact, "outcome": text("How it ended.", most=64)})
    return record(
        "What the agent saw and did.",
        {
            "observedGeneration": whole("Generation of the spec last acted on.", least=-1),
            "conditions": conditions(),
            "source": record("What the registry offers.", artifact),
            "applied": record("What the cluster is kept equal to.", artifact),
            "lastAttempted": record("What was tried last.", artifact),
            "inventory": record(
                "Objects held.",
                {"objects": whole("How many.", least=0), "ready": whole("How many are healthy.", least=0)},
            ),
            "failures": many("What failed, at most 20.", failure, most=20),
            "history": many("The last applied artifacts, newest first.", entry, most=10),
            "quarantine": record(
                "What is offered and not run: it failed here, or a person went back from it.",
                {
                    "digest": text("Its digest.", most=71),
                    "revision": text("Its revision.", most=1024),
                    "reason": text("Why, in one word.", most=64),
                    "message": text("Why.", most=1024),
                    "time": {"type": "string", "format": "date-time", "description": "Since when."},
                    "to": record(
                        "What runs instead.",
                        {name: artifact[name] for name in ("tag", "digest", "revision", "signers")},
                    ),
                },
            ),
            "lastHandledRollback": text("The last rollback annotation acted on.", most=256),
            "planHash": text("Hash of a plan that waits for approval.", most=128),
            "lastHandledReconcileAt": text("The last requestedAt annotation acted on.", most=256),
        },
    )


def _definition(
    plural: str, singular: str, kind: str, scope: str, short: list[str], version: JsonObject, labels: dict[str, str]
) -> JsonObject:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{API_GROUP}", "labels": {"app.kubernetes.io/name": "ocisync", **labels}},
        "spec": {
            "group": API_GROUP,
            "names": {
                "plural": plural,
                "singular": singular,
                "kind": kind,
                "listKind": f"{kind}List",
                "shortNames": short,
                "categories": ["ocisync"],
            },
            "scope": scope,
            "versions": [version],
        },
    }


def _column(name: str, path: str, kind: str = "string", description: str = "", priority: int = 0) -> JsonObject:
    out: JsonObject = {"name": name, "type": kind, "jsonPath": path}
    if description:
        out["description"] = description
    if priority:
        out["priority"] = priority
    return out


def _version(description: str, spec: JsonObject, status: JsonObject, columns: list[JsonObject]) -> JsonObject:
    """The one served version of a definition."""
    schema = {
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    return {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
    }


def artifact_sync() -> JsonObject:
    """The `ArtifactSync` definition."""
    version = _version(
        "Keeps a cluster equal to one signed artifact.",
        _spec(),
        # Without this default kstatus and `kubectl wait` call a sync current before the agent has seen it.
        {**_status(), "default": {"observedGeneration": -1}},
        [
            _column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
            _column("Status", '.status.conditions[?(@.type=="Ready")].message'),
            _column("Revision", ".status.applied.revision"),
            _column("Age", ".metadata.creationTimestamp", "date"),
            _column("Verified", '.status.conditions[?(@.type=="Verified")].status', priority=1),
            _column("Digest", ".status.applied.digest", priority=1),
            _column("Objects", ".status.inventory.objects", "integer", priority=1),
        ],
    )
    return _definition(
        "artifactsyncs",
        "artifactsync",
        "ArtifactSync",
        "Namespaced",
        ["sync", "syncs"],
        version,
        {APPLYSET_PARENT_LABEL: "true"},
    )


def _policy_spec() -> JsonObject:
    def opened(description: str, properties: JsonObject, *, required: tuple[str, ...] = ()) -> JsonObject:
        return record(description, properties, required=required, open_world=True)

    words = text("A value.", most=2048)
    match = opened(
        "One pattern.",
        {"repository": text("HOST/REPOSITORY, or a prefix with /* at its end.", most=512, least=1)},
        required=("repository",),
    )
    key = opened(
        "A public key.",
        {
            "pem": text("The key itself.", most=8192),
            "secretRef": opened("Secret in the agent's namespace.", {"name": words}),
        },
    )
    keyless = opened(
        "An identity.",
        {
            "issuer": words,
            "subject": words,
            "subjectGlob": words,
            "claims": {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "description": "Exact certificate claims.",
            },
            "trustedRootRef": opened("Secret or ConfigMap in the agent's namespace.", {"name": words}),
        },
    )
    authority = opened(
        "Who may sign.",
        {"name": text("Its name.", most=253, least=1), "key": key, "keyless": keyless},
        required=("name",),
    )
    remap = opened("One rename.", {"signed": words, "here": words}, required=("signed", "here"))
    condition = opened(
        "A text that must stand in its predicate.",
        {
            "path": text("Where: a JSON pointer.", most=1024),
            "equals": text("The text.", most=2048),
            "glob": text("The same; * is any run without /.", most=2048),
        },
    )
    attestation = opened(
        "One attestation that must be there besides the signatures.",
        {
            "predicateType": text("Its type, a URI.", most=1024),
            "authorities": many("Names of authorities; one of them must have made it.", words, most=32),
            "where": many("Conditions, all on the same attestation.", condition, most=32),
        },
    )
    grant = opened("One digest that may be returned to.", {"digest": words, "until": words}, required=("digest",))
    rollback = opened(
        "Protection against old artifacts.",
        {
            "monotonic": text("What must not fall: Sequence.", most=32),
            "floor": whole("Lowest sequence ever accepted."),
            "maxAge": text("Oldest signature accepted, a Go duration.", most=32),
            "allow": many("Grants.", grant, most=64),
        },
    )
    deny = opened(
        "Never accepted, whatever else says.",
        {name: many(f"Denied {name}.", words, most=1024) for name in ("digests", "keys", "revisions")},
    )
    return opened(
        "Which signatures make an artifact trusted.",
        {
            "match": many("Repositories it judges; the longest pattern wins.", match, most=64),
            "floor": flag("Judged in addition to the winning policy."),
            "formats": many("Bundle, Legacy or both.", text("A format.", most=32), most=2),
            "authorities": many("Who may sign.", authority, most=32),
            "threshold": whole("How many different authorities must have signed.", least=1, most=32),
            "repositoryClaim": opened(
                "The signed repository.", {"mode": words, "remap": many("Renames of mirrors.", remap, most=64)}
            ),
            "tagClaim": text("Require, IfPresent or Ignore.", most=32),
            "annotations": mapping("Annotations that must be signed."),
            "attestations": many("Attestations that must exist.", attestation, most=32),
            "rollback": rollback,
            "requireTimestamp": flag("A trusted timestamp must be there."),
            "requireTransparencyLog": flag("A log entry must be there."),
            "deny": deny,
            "onRevoked": text("Correct or Suspend.", most=32),
            "mode": text("Enforce or Warn.", most=32),
        },
        required=("match",),
    )


def trust_policy() -> JsonObject:
    """The `TrustPolicy` definition."""
    version = _version(
        "Says whose signatures make artifacts trusted. Without a match nothing is trusted.",
        _policy_spec(),
        record(
            "What the agent thinks of it.",
            {"observedGeneration": whole("Generation judged.", least=-1), "conditions": conditions()},
        ),
        [
            _column("Accepted", '.status.conditions[?(@.type=="Accepted")].status'),
            _column("Status", '.status.conditions[?(@.type=="Accepted")].message'),
            _column("Threshold", ".spec.threshold", "integer"),
            _column("Age", ".metadata.creationTimestamp", "date"),
        ],
    )
    return _definition("trustpolicies", "trustpolicy", "TrustPolicy", "Cluster", [], version, {})
