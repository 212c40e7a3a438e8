"""What the syncs of a schedule bring, what strangers do to it, and what must therefore be true at the end."""

from __future__ import annotations

import base64
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ocisync.cluster.normalise import applyset_id
from ocisync.model.resource import JsonObject
from ocisync.model.spec import PART_OF_LABEL
from tests.support.agent import Tenant
from tests.support.cluster import ApiError, Cluster

MERGE: Final = "application/merge-patch+json"
STRANGER: Final = "stranger"  # begins every key that strangers add
_UNIVERSE: Final = 26  # names that a sync may use
_LEAST: Final = 12
_RBAC: Final = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """An object of a schedule's namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Places:
    """Where objects live."""

    namespace: str
    group: str  # of the definition that this schedule brings

    def prefix(self, kind: str) -> str:
        """The URL path of a kind."""
        prefix, plural = {
            "ConfigMap": ("/api/v1", "configmaps"),
            "Secret": ("/api/v1", "secrets"),
            "Service": ("/api/v1", "services"),
            "ServiceAccount": ("/api/v1", "serviceaccounts"),
            "Role": (f"/apis/{_RBAC}/v1", "roles"),
            "Deployment": ("/apis/apps/v1", "deployments"),
            "Widget": (f"/apis/{self.group}/v1", "widgets"),
        }[kind]
        return f"{prefix}/namespaces/{self.namespace}/{plural}"

    def path(self, key: Key) -> str:
        """The URL path of an object."""
        return f"{self.prefix(key.kind)}/{key.name}"


@dataclass(slots=True)
class Revision:
    """What one push holds."""

    digest: str
    objects: dict[Key, JsonObject]


@dataclass(slots=True)
class Content:
    """One sync: its tenant, all that was ever pushed, the last revision being what must be."""

    tenant: Tenant
    prefix: str
    definition: JsonObject | None = None
    revisions: list[Revision] = field(default_factory=list)

    @property
    def sync_id(self) -> str:
        """The id in the label of its objects."""
        return applyset_id(self.tenant.name, self.tenant.namespace)

    def revise(self, rng: random.Random) -> Revision:
        """Push a revision: some objects go, some come, some change, most stay as they are."""
        before = self.revisions[-1].objects if self.revisions else {}
        kinds = ["ConfigMap", "ConfigMap", "ConfigMap", "Secret", "Service", "ServiceAccount", "Role", "Deployment"]
        kinds += ["Widget"] * (2 if self.definition else 0)
        names = [Key(kinds[n % len(kinds)], f"{self.prefix}-{n:02}") for n in range(_UNIVERSE)]
        keep = rng.uniform(0.5, 1.0)
        chosen = [key for key in names if rng.random() < (keep if key in before or not before else 0.4)]
        chosen += rng.sample([key for key in names if key not in chosen], max(0, _LEAST - len(chosen)))
        objects = {
            key: before[key] if key in before and rng.random() < 0.5 else manifest(key, rng.randint(0, 9), self.group)
            for key in sorted(chosen)
        }
        listed = list(objects.values())
        rng.shuffle(listed)
        if self.definition is not None:
            listed.insert(rng.randrange(len(listed)), self.definition)
        pushed = self.tenant.push({"all.yaml": listed})
        made = Revision(pushed.descriptor.digest, objects)
        self.revisions.append(made)
        return made

    @property
    def group(self) -> str:
        """Of its own kind."""
        return str(self.definition["spec"]["group"]) if self.definition else ""

    @property
    def wanted(self) -> dict[Key, JsonObject]:
        """The objects of the last revision."""
        return self.revisions[-1].objects

    def entered(self, key: Key) -> int:
        """How often an object came, from one revision to the next."""
        return self._moves(key, coming=True)

    def dropped(self, key: Key) -> int:
        """How often an object went."""
        return self._moves(key, coming=False)

    def _moves(self, key: Key, *, coming: bool) -> int:
        there = [False, *(key in revision.objects for revision in self.revisions)]
        return sum(now is coming and before is not coming for before, now in itertools.pairwise(there))

    def all_keys(self) -> set[Key]:
        """Every object that any revision had."""
        return {key for revision in self.revisions for key in revision.objects}


@dataclass(slots=True)
class Strangers:
    """What others did, as the server confirmed it."""

    cluster: Cluster
    places: Places
    added: dict[tuple[Key, str], str] = field(default_factory=dict)  # key of theirs on an object → the object's uid
    deleted: Counter[Key] = field(default_factory=Counter)
    own: dict[Key, tuple[str, str]] = field(default_factory=dict)  # their objects → uid and version

    def create_own(self, sync_ids: list[str]) -> None:
        """Objects that are nobody's business; some carry a label that was copied from ours."""
        data = {"owner": "somebody else"}
        copied = {PART_OF_LABEL: sync_ids[0]}
        for key, labels in (
            (Key("ConfigMap", "foreign-plain"), {}), (Key("ConfigMap", "foreign-copied"), copied),
            (Key("Secret", "foreign-secret"), copied), (Key("ServiceAccount", "foreign-account"), {}),
        ):  # fmt: skip
            body: JsonObject = {"apiVersion": "v1", "kind": key.kind, "metadata": {"name": key.name, "labels": labels}}
            if key.kind == "ConfigMap":
                body["data"] = data
            made = self.cluster.api("POST", self.places.prefix(key.kind) + "?fieldManager=somebody", body)
            self.own[key] = (made["metadata"]["uid"], made["metadata"]["resourceVersion"])

    def edit(self, key: Key, rng: random.Random) -> str:
        """Change what Git set, take a label of Git's away, or add something that Git does not know."""
        how = rng.choice(("change", "remove", "add", "add"))
        if how == "change":
            if key.kind == "Deployment" and rng.random() < 0.5:
                return self._patch(key, {"spec": {"replicas": 2}}, "scaled", "/scale")
            return self._patch(key, _CHANGES[key.kind], "changed")
        if how == "remove":
            return self._patch(key, {"metadata": {"labels": {"variant": None}}}, "label removed")
        name = f"{STRANGER}-{rng.randrange(1000)}"
        patch: JsonObject = {"metadata": {"annotations": {name: "kept"}}}
        if key.kind == "ConfigMap":
            patch["data"] = {name: "kept"}
        return self._patch(key, patch, f"{name} added", note=name)

    def strip(self, key: Key) -> str:
        """Take the label off that says whose it is."""
        return self._patch(key, {"metadata": {"labels": {PART_OF_LABEL: None}}}, "stripped")

    def delete(self, key: Key) -> str:
        """Delete an object."""
        try:
            self.cluster.api("DELETE", self.places.path(key))
        except ApiError as error:
            return f"{key} not deleted ({error.status})"
        self.deleted[key] += 1
        return f"{key} deleted"

    def _patch(self, key: Key, patch: JsonObject, what: str, subresource: str = "", note: str = "") -> str:
        path = f"{self.places.path(key)}{subresource}?fieldManager=by-hand"
        try:
            answer = self.cluster.api("PATCH", path, patch, content_type=MERGE)
        except ApiError as error:
            return f"{key} not {what} ({error.status})"
        if note:
            self.added[key, note] = answer["metadata"]["uid"]
        return f"{key} {what}"


_CHANGES: Final[dict[str, JsonObject]] = {
    "ConfigMap": {"data": {"revision": "edited by hand"}},
    "Secret": {"data": {"token": base64.b64encode(b"edited by hand").decode()}},
    "Service": {"spec": {"selector": {"app": "edited"}}},
    "ServiceAccount": {"metadata": {"annotations": {"note": "edited by hand"}}},
    "Role": {"rules": []},
    "Deployment": {"metadata": {"labels": {"variant": "edited"}}, "spec": {"minReadySeconds": 7}},
    "Widget": {"spec": {"size": -1}},
}


def manifest(key: Key, variant: int, group: str) -> JsonObject:
    """The object of a key in one of ten variants, which differ in values and in which fields they have."""
    made: JsonObject = {"metadata": {"name": key.name, "labels": {"variant": str(variant)}}}
    more = {f"extra-{n}": str(variant) for n in range(variant % 4)}
    match key.kind:
        case "ConfigMap":
            made |= {"apiVersion": "v1", "data": {"revision": str(variant), **more}}
        case "Secret":
            made |= {"apiVersion": "v1", "stringData": {"token": f"token-{variant}", **more}}
        case "Service":
            port = {"name": "http", "port": 80 + variant % 3, "targetPort": 8080, "protocol": "TCP"}
            made |= {"apiVersion": "v1", "spec": {"selector": {"app": key.name}, "ports": [port]}}
        case "ServiceAccount":
            made["apiVersion"] = "v1"
            made["metadata"]["annotations"] = {"note": str(variant), **more}
        case "Role":
            verbs = ["get", "list", "watch"][: 1 + variant % 3]
            rule = {"apiGroups": [""], "resources": ["pods"], "verbs": verbs}
            made |= {"apiVersion": f"{_RBAC}/v1", "rules": [rule] * (1 + variant % 2)}
        case "Deployment":
            labels = {"app": key.name}
            environment = [{"name": name.upper().replace("-", "_"), "value": value} for name, value in more.items()]
            container = {"name": "main", "image": f"registry.example/web:{variant}", "env": environment}
            template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
            spec = {"replicas": 0, "minReadySeconds": 1 + variant % 2, "selector": {"matchLabels": labels}}
            made |= {"apiVersion": "apps/v1", "spec": {**spec, "template": template}}
        case "Widget":
            made |= {"apiVersion": f"{group}/v1", "spec": {"size": variant}}
        case _:  # pragma: no cover
            raise AssertionError(key.kind)
    return {"kind": key.kind, **made}


def definition(group: str) -> JsonObject:
    """The definition of widgets."""
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def as_stored(wanted: JsonObject) -> JsonObject:
    """A manifest as the server keeps it."""
    if "stringData" not in wanted:
        return wanted
    data = {name: base64.b64encode(value.encode()).decode() for name, value in wanted["stringData"].items()}
    return {**{name: value for name, value in wanted.items() if name != "stringData"}, "data": data}


def differences(wanted: JsonObject, live: JsonObject, sync_id: str) -> Iterator[str]:
    """Where a live object is not as its manifest says; what strangers added is no difference."""
    stored = as_stored(wanted)
    wanted = {name: value for name, value in stored.items() if name not in ("apiVersion", "kind")}
    yield from _lacking(wanted, live, "")
    if live["metadata"].get("labels", {}).get(PART_OF_LABEL) != sync_id:
        yield "it does not carry our label"
    for where in (("data",), ("metadata", "labels"), ("metadata", "annotations")):
        left, right = wanted, live
        for name in where:
            left, right = left.get(name) or {}, right.get(name) or {}
        for name in sorted(set(right) - set(left) - {PART_OF_LABEL, "deployment.kubernetes.io/revision"}):
            if not name.startswith(STRANGER):
                yield f"{'.'.join(where)}.{name} is left over"
    if stored["kind"] == "Deployment":
        names = [
            [item["name"] for item in obj["spec"]["template"]["spec"]["containers"][0].get("env") or ()]
            for obj in (wanted, live)
        ]
        if names[0] != names[1]:
            yield f"env is {names[1]}, not {names[0]}"


def _lacking(wanted: Any, live: Any, path: str) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(live, dict):
        for name, value in wanted.items():
            yield from _lacking(value, live.get(name), f"{path}.{name}")
    elif isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        for number, value in enumerate(wanted):
            yield from _lacking(value, live[number], f"{path}[{number}]")
    elif wanted != live and not (wanted == [] and live is None):
        yield f"{path} is {json.dumps(live)}, not {json.dumps(wanted)}"
