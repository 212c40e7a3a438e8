"""The steps, in order. Each does what a person would do, waits for what they would see, and fails if it does not come.

A step returns commands and lines for a person, and the seconds of its interesting part; the command line writes them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ocisync.demo.stage import AGENT_NAMESPACE, SYNC_NAME, SYNC_NAMESPACE, DemoFailed, Ran, Stage, shop_directory
from ocisync.install import bundle
from ocisync.install.rbac import Access
from ocisync.install.workload import Workload
from ocisync.model.descriptor import OCI_MANIFEST
from ocisync.model.ref import parse_reference
from ocisync.model.resource import JsonObject
from ocisync.model.tree import Provenance, SourceTree, TreeFile

_SHOP = "shop-production"
_ACCOUNT = "shop-deployer"
_MERGE = "application/merge-patch+json"
_APPLY = "application/apply-patch+yaml"


@dataclass(slots=True)
class Told:
    """What a step wants to be said: commands as a person would type them, and what came of it."""

    commands: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    seconds: float = 0.0
    what: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One chapter."""

    title: str
    why: str
    run: Callable[[Stage], Told]


def _push(stage: Stage, told: Told, key: str = "release.key") -> JsonObject:
    reference = f"oci://{stage.oci_repository}:current"
    told.commands.append(f"ocisync push deploy {reference} --sign-key {key}")
    arguments = ["push", "deploy", reference, "--sign-key", str(stage.directory / key), "-o", "json", "--quiet"]
    ran = stage.ocisync(*arguments, cwd=stage.repository_directory)
    _expect_success(ran, "push")
    answer: JsonObject = json.loads(ran.stdout)
    state = "nothing to upload" if answer["unchanged"] else "uploaded and signed"
    told.lines.append(f"{state} in {ran.seconds:.1f} s: {answer['digest'][:19]}… {answer['revision'][:60]}")
    return answer


def _expect_success(ran: Ran, what: str) -> None:
    if ran.exit_code:
        raise DemoFailed(f"{what} ended with exit code {ran.exit_code}: {ran.stderr.strip()}")


def _commit(stage: Stage, told: Told, message: str) -> None:
    stage.git("add", "--all")
    stage.git("commit", "--quiet", "--message", message)
    told.commands.append(f"git commit -am '{message}'")


def _wait_ready(stage: Stage, told: Told, digest: str) -> None:
    told.seconds = stage.eventually(f"{digest[:19]}… applied and healthy", lambda: stage.ready_at(digest))
    objects = ((stage.sync().get("status") or {}).get("inventory") or {}).get("objects", 0)
    told.lines.append(f"Ready: {objects} objects are exactly what the commit says, all healthy")
    told.what = "from push to Ready"


def prepare(stage: Stage) -> None:
    """What exists before the story begins: keys, a Git repository with the shop, the sandbox, an installed agent."""
    for name in ("release", "intruder"):
        _expect_success(stage.ocisync("keys", "generate", name, "--quiet"), "keys generate")
    shutil.copytree(shop_directory(), stage.repository_directory / "deploy")
    stage.git("init", "--quiet", "--initial-branch", "main")
    stage.git("remote", "add", "origin", "https://git.shop.example/shop/deploy.git")
    stage.git("add", "--all")
    stage.git("commit", "--quiet", "--message", "The shop, as it is")
    stage.start_sandbox()
    _install(stage)


def _install(stage: Stage) -> None:
    """CRDs, rights, key, policy and sync: what an operator applies once."""
    access = Access(impersonate=(f"{SYNC_NAMESPACE}/{_ACCOUNT}",))
    spec = Workload(image=f"registry.example/ocisync@sha256:{'0' * 64}", namespace=AGENT_NAMESPACE)
    # The Deployment is left out: on the sandbox the agent is a process beside it.
    objects = [
        item for item in bundle.installation(spec, access) if item["kind"] not in ("Deployment", "Role", "RoleBinding")
    ]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYNC_NAMESPACE}}
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": _ACCOUNT, "namespace": SYNC_NAMESPACE},
    }
    for item in [*objects, namespace, account, _public_key(stage), _policy(stage), _sync(stage)]:
        _apply(stage, item)
    stage.start_agent()


def _apply(stage: Stage, item: JsonObject) -> None:
    group = item["apiVersion"].rpartition("/")[0]
    metadata = item["metadata"]
    kind = str(item["kind"])
    stage.eventually(f"the kind {kind}", lambda: stage.discovery.find(group, kind) is not None)
    path = stage.path(group, kind, str(metadata.get("namespace", "")), str(metadata["name"]))
    stage.send("PATCH", path, item, content_type=_APPLY, manager="operator")


def _public_key(stage: Stage) -> JsonObject:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "release-pub", "namespace": AGENT_NAMESPACE},
        "stringData": {"cosign.pub": stage.public_key.read_text()},
    }


def _policy(stage: Stage) -> JsonObject:
    return {
        "apiVersion": "ocisync.dev/v1alpha1",
        "kind": "TrustPolicy",
        "metadata": {"name": "shop"},
        "spec": {
            "match": [{"repository": f"{stage.registry}/shop/config/*"}],
            "formats": ["Bundle"],
            "authorities": [{"name": "release-key", "key": {"secretRef": {"name": "release-pub"}}}],
            "threshold": 1,
            "repositoryClaim": {"mode": "Require"},
            "tagClaim": "Require",
        },
    }


def _sync(stage: Stage) -> JsonObject:
    return {
        "apiVersion": "ocisync.dev/v1alpha1",
        "kind": "ArtifactSync",
        "metadata": {"name": SYNC_NAME, "namespace": SYNC_NAMESPACE},
        "spec": {
            "source": {"repository": stage.oci_repository, "tag": "current", "interval": "1s"},
            "target": {"serviceAccountName": _ACCOUNT},
        },
    }


def first_sync(stage: Stage) -> Told:
    """Publish the first commit and see it become the cluster."""
    told = Told()
    answer = _push(stage, told)
    _wait_ready(stage, told, answer["digest"])
    return told


def new_commit(stage: Stage) -> Told:
    """Change one image; the agent writes one object."""
    told = Told()
    file = stage.repository_directory / "deploy" / "apps" / "cart.yaml"
    text = file.read_text()
    changed = (
        text.replace("replicas: 3", "replicas: 4", 1)
        if "replicas: 3" in text
        else text.replace("replicas: 2", "replicas: 3", 1)
    )
    if changed == text:
        raise DemoFailed("the cart has neither two nor three replicas")
    file.write_text(changed)
    _commit(stage, told, "Give the cart one more replica")
    before = stage.agent_writes()
    answer = _push(stage, told)
    _wait_ready(stage, told, answer["digest"])
    told.lines.append(
        f"the agent sent {stage.agent_writes() - before} writes for it; objects that did not change keep their versions"
    )
    return told


def drift(stage: Stage) -> Told:
    """Scale by hand; the agent puts it back and says who did it."""
    told = Told(commands=[f"kubectl -n {_SHOP} scale deployment/cart --replicas=10"], what="from scale to healed")
    wanted = _replicas(stage)
    seen = len(stage.events("DriftCorrected"))
    path = stage.path("apps", "Deployment", _SHOP, "cart")
    stage.send("PATCH", f"{path}/scale", {"spec": {"replicas": 10}}, content_type=_MERGE)
    told.seconds = stage.eventually("the cart back at its replicas", lambda: _replicas(stage) == wanted)
    stage.eventually("an Event about the drift", lambda: len(stage.events("DriftCorrected")) > seen)
    told.lines.append(f"back to {wanted} replicas. The alert:")
    told.lines.append("  " + str(stage.events("DriftCorrected")[-1]["message"]))
    told.lines += ["and ocisync why:", *(f"  {line}" for line in _why(stage, told))]
    return told


def _why(stage: Stage, told: Told) -> list[str]:
    """Ask where the value comes from, once the record has what happened to it."""
    question = ["why", "deployment/cart", ".spec.replicas", "-n", _SHOP]
    told.commands.append(f"ocisync {' '.join(question)}")
    answers: list[list[str]] = []

    def recorded() -> bool:
        ran = stage.ocisync(*question, "--kubeconfig", str(stage.kubeconfig), "--quiet")
        _expect_success(ran, "why")
        answers.append([line.strip() for line in ran.stdout.splitlines()])
        return any("by kubectl (scale)" in line for line in answers[-1])

    stage.eventually("the record of the drift", recorded)
    return [line for line in answers[-1] if "from Git" in line or line.startswith(("revision", "signed by"))]


def _replicas(stage: Stage) -> int:
    found = stage.get("apps", "Deployment", _SHOP, "cart")
    return int(found["spec"]["replicas"]) if found else -1


def deleted_pod(stage: Stage) -> Told:
    """Delete a Pod: that is Kubernetes' business, and the agent knows it."""
    count = _replicas(stage)
    stage.eventually("as many Pods as replicas", lambda: len(_pods(stage)) == count)
    name = _pods(stage)[0]
    told = Told(commands=[f"kubectl -n {_SHOP} delete pod {name}"], what="from delete to replaced by its ReplicaSet")
    before = stage.agent_writes()
    stage.send("DELETE", stage.path("", "Pod", _SHOP, name), None, content_type="application/json")

    def replaced() -> bool:
        now = _pods(stage)
        return name not in now and len(now) == count

    told.seconds = stage.eventually("a new Pod", replaced)
    if stage.agent_writes() != before:
        raise DemoFailed("the agent wrote something although only a Pod was deleted")
    told.lines.append(
        "its ReplicaSet made a new one; the agent sent no write: a Pod is not what Git says, a Deployment is"
    )
    return told


def _pods(stage: Stage) -> list[str]:
    names = [str(item["metadata"]["name"]) for item in stage.items("", "Pod", _SHOP)]
    return sorted(name for name in names if name.startswith("cart-"))


def pruned(stage: Stage) -> Told:
    """Remove a file in Git; its objects leave the cluster."""
    told = Told()
    (stage.repository_directory / "deploy" / "campaigns" / "winter-sale.yaml").unlink()
    _commit(stage, told, "Winter is over")
    names = {item["metadata"]["name"] for item in _campaigns(stage)}
    answer = _push(stage, told)
    _wait_ready(stage, told, answer["digest"])
    left = {item["metadata"]["name"] for item in _campaigns(stage)}
    gone = names - left
    if not gone:
        raise DemoFailed("no campaign was pruned")
    told.lines.append(f"pruned: CouponCampaign {', '.join(sorted(gone))}; nothing else was deleted")
    return told


def _campaigns(stage: Stage) -> list[JsonObject]:
    return stage.items("shop.example.com", "CouponCampaign", _SHOP)


def _wait_refused(stage: Stage, told: Told, *reasons: str) -> None:
    def refused() -> bool:
        verified = stage.condition("Verified")
        return verified.get("status") == "False" and verified.get("reason") in reasons

    told.seconds = stage.eventually(f"a refusal ({' or '.join(reasons)})", refused)
    told.what = "from the attack to the refusal"
    verified = stage.condition("Verified")
    told.lines.append(f"Verified=False {verified['reason']}: {verified['message']}")


def tampered(stage: Stage) -> Told:
    """Someone with write access to the registry moves the tag to changed content."""
    from ocisync.oci.client import open_store
    from ocisync.pack import artifact

    told = Told(commands=["(an intruder in the registry changes a file in the artifact and moves the tag `current`)"])
    applied, before = stage.applied_digest(), stage.agent_writes()
    evil = TreeFile("apps/cart.yaml", b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: owned, namespace: default}\n")
    provenance = Provenance(commit="f" * 40, revision=f"main@sha1:{'f' * 40}", committed_at=datetime.now(UTC))
    built = artifact.build(SourceTree((evil,), provenance))
    store = open_store(parse_reference(stage.oci_repository))
    store.put_blob(built.layer_descriptor, built.layer)
    store.put_blob(built.config_descriptor, built.config)
    store.put_manifest(built.manifest, OCI_MANIFEST, "current")
    _wait_refused(stage, told, "Unsigned")
    _check_untouched(stage, told, applied, before)
    return told


def unknown_signer(stage: Stage) -> Told:
    """A well-formed push, signed with a key that no policy knows."""
    told = Told()
    applied, before = stage.applied_digest(), stage.agent_writes()
    stage.git("checkout", "--quiet", "-b", "intruder")
    (stage.repository_directory / "deploy" / "apps" / "web.yaml").unlink()
    _commit(stage, told, "Take the shop down")
    _push(stage, told, key="intruder.key")
    _wait_refused(stage, told, "UnknownSigner")
    _check_untouched(stage, told, applied, before)
    stage.git("checkout", "--quiet", "main")
    return told


def _check_untouched(stage: Stage, told: Told, applied: str, writes: int) -> None:
    if stage.applied_digest() != applied or stage.agent_writes() != writes:
        raise DemoFailed("something was written although the artifact was refused")
    told.lines.append("nothing was applied; everything that ran still runs, and is still kept as it was")


def reverted(stage: Stage) -> Told:
    """Roll back the way Git does."""
    told = Told()
    commit = stage.git("log", "--format=%H", "--grep", "one more replica")
    stage.git("revert", "--no-edit", commit)
    told.commands.append(f"git revert {commit[:12]}")
    replicas = _replicas(stage)
    answer = _push(stage, told)
    _wait_ready(stage, told, answer["digest"])
    told.lines.append(f"the cart went from {replicas} replicas back to {_replicas(stage)}")
    return told


def rebuilt(stage: Stage) -> Told:
    """Lose the whole cluster and the agent's copies; get it back from the registry."""
    told = Told(
        commands=["(the cluster is wiped: every object, the agent, its cache)", "ocisync install … --apply"],
        what="from nothing to Ready",
    )
    digest = stage.applied_digest()
    stage.stop_agent()
    stage.stop_sandbox()
    stage.forget_cache()
    stage.start_sandbox()
    if stage.get("apps", "Deployment", _SHOP, "cart") is not None:
        raise DemoFailed("the cluster was not wiped")
    _install(stage)
    _wait_ready(stage, told, digest)
    told.what = "from nothing to Ready"
    told.lines.append("the same digest, from the registry alone: Git and CI were not needed")
    return told


STEPS = (
    Step(
        "First sync", "A commit becomes a signed artifact; the agent verifies it and makes it the cluster.", first_sync
    ),
    Step("A new commit", "Only what changed is written.", new_commit),
    Step(
        "Someone scales by hand",
        "Drift is seen in a watch, healed by field ownership, and reported with its author.",
        drift,
    ),
    Step("Someone deletes a Pod", "What Git does not declare is left to Kubernetes.", deleted_pod),
    Step(
        "An object removed in Git", "Prune: only what was proven ours, only after everything else was applied.", pruned
    ),
    Step("A tampered artifact", "Write access to the registry is not enough.", tampered),
    Step("An unknown signer", "Nor is a signature by just anyone.", unknown_signer),
    Step("git revert", "Rolling back is a commit like any other.", reverted),
    Step("The cluster is lost", "Everything needed is in the registry.", rebuilt),
)
