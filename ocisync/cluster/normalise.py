"""From a manifest to the exact bytes that are applied. Pure.

Removed: `status` and the metadata that only the server writes. Changed: Secret `stringData` becomes `data` (otherwise
foreign changes of `data` stay unseen and removed keys survive); a missing namespace of a namespaced kind is filled in;
the label that claims membership is set. The result is canonical JSON (which is YAML too), compressed: ten thousand
decoded objects would not fit the agent's memory budget.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from sys import intern
from typing import Any, Final

from ocisync.cluster.leave import REPLICAS_POINTER, ignored_pointers
from ocisync.cluster.outcome import ApiFailure, ErrorClass, failed, unknown_kind
from ocisync.model.options import ApplyMode as ApplyMode
from ocisync.model.options import ObjectOptions as ObjectOptions
from ocisync.model.options import parse_dependency as parse_dependency
from ocisync.model.options import parse_options as parse_options
from ocisync.model.resource import Gvk, JsonObject, ManifestObject, ObjectId
from ocisync.model.spec import (
    API_GROUP,
    PART_OF_LABEL,
    SYNC_KIND,
    IgnoreRule,
)

_SERVER_METADATA = (
    "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation", "managedFields",
    "resourceVersion", "selfLink", "uid",
)  # fmt: skip
_HEAD = b'{"metadata":{'
_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
# JSON that a YAML reader takes otherwise: it refuses or folds these inside double quotes unless they are escaped.
_UNSAFE_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


_DEFAULT_OPTIONS = ObjectOptions()

# Compressing is most of the cost of a small object if it begins with a window of 32 KiB, and what small objects repeat
# is what other objects say, too: it stands here, in the order of canonical JSON, the most frequent last.
_SMALL_BYTES: Final = 4096
_SMALL_WINDOW, _SMALL_MEMORY = -12, 5
_WINDOW, _MEMORY = -15, 8
_DICTIONARY: Final = (
    b'"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","roleRef":{"apiGroup":"rbac.authorization.k8s.io",'
    b'"kind":"ClusterRole","name":""},"subjects":[{"kind":"ServiceAccount","name":"","namespace":""}]}'
    b'"rules":[{"apiGroups":[""],"resources":[""],"verbs":["get","list","watch","create","update","patch","delete"]}]}'
    b'"apiVersion":"v1","data":{"":""},"kind":"Secret","type":"Opaque"}"apiVersion":"v1","kind":"ServiceAccount"}'
    b'"apiVersion":"v1","kind":"Service","spec":{"ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":8080}],'
    b'"selector":{"app":""},"type":"ClusterIP"}}'
    b'"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":1,"selector":{"matchLabels":{"app":""}},'
    b'"strategy":{"type":"RollingUpdate"},"template":{"metadata":{"annotations":{},"labels":{"app":""}},"spec":{'
    b'"containers":[{"args":[],"command":[],"env":[{"name":"","value":""}],"envFrom":[],"image":"","imagePullPolicy":'
    b'"IfNotPresent","livenessProbe":{"httpGet":{"path":"/","port":"http"}},"name":"","ports":[{"containerPort":8080}],'
    b'"readinessProbe":{"httpGet":{"path":"/","port":"http"}},"resources":{"limits":{"cpu":"","memory":""},"requests":{'
    b'"cpu":"100m","memory":"128Mi"}},"securityContext":{"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true,'
    b'"runAsNonRoot":true},"volumeMounts":[{"mountPath":"/","name":""}]}],"serviceAccountName":"","volumes":[{'
    b'"configMap":{"name":""},"name":""}]}}}}'
    b'{"metadata":{"annotations":{},"labels":{"app.kubernetes.io/instance":"","app.kubernetes.io/managed-by":"",'
    b'"app.kubernetes.io/name":"","app.kubernetes.io/part-of":"","applyset.kubernetes.io/part-of":"applyset-'
    b'-v1"},"name":"","namespace":""},"apiVersion":"v1","data":{"":""},"kind":"ConfigMap"}'
)


@dataclass(frozen=True, slots=True)
class Target:
    """For whom objects are applied.

    Attributes:
        sync_id: the ApplySet id, see `applyset_id`.
        service_account: of the sync's namespace; every write is made as it. Empty: as ourselves.
        namespace: what objects without a namespace get; empty means the sync's own.
        ignore: fields left to others.
        parent: kind and group of the ApplySet's parent, the object of the sync's name.
    """

    sync_id: str
    sync_name: str
    sync_namespace: str
    sync_uid: str
    service_account: str = ""
    namespace: str = ""
    ignore: tuple[IgnoreRule, ...] = ()
    parent: tuple[str, str] = (SYNC_KIND, API_GROUP)

    @property
    def user(self) -> str:
        """The user name to impersonate; empty for none."""
        if not self.service_account:
            return ""
        return f"system:serviceaccount:{self.sync_namespace}:{self.service_account}"


@dataclass(frozen=True, slots=True)
class Desired:
    """One object, ready to be applied.

    Attributes:
        body: as `body_of` made it; `payload` unpacks it.
        defines: group and kind that this CustomResourceDefinition brings; None for other kinds.
        left: JSON pointers to what is left to others: `spec.ignore`, and the replicas of what an autoscaler scales.
    """

    id: ObjectId
    gvk: Gvk
    body: bytes
    place: str
    options: ObjectOptions = _DEFAULT_OPTIONS
    defines: tuple[str, str] | None = None
    left: tuple[str, ...] = ()

    def payload(self, *, uid: str = "", resource_version: str = "") -> bytes:
        """The bytes to send, naming the object that is meant if `uid` or `resource_version` is given."""
        data = _unpacked(self.body)
        if not (uid or resource_version):
            return data
        named = {"resourceVersion": resource_version} if resource_version else {"uid": uid}
        return _HEAD + canonical_json(named)[1:-1] + b"," + data[len(_HEAD) :]

    def says_the_same(self, other: Desired) -> bool:
        """Whether it is equal, but for the place where it is written."""
        return self == other or replace(self, place=other.place) == other

    def or_known(self, known: Desired) -> Desired:
        """This, made of as much of `known`, an older form of it, as can be.

        Ten thousand new ones in the place of equal old ones would leave memory full of holes, pass for pass.
        """
        if not self.says_the_same(known):
            return replace(self, id=known.id)
        return known if self.place == known.place else replace(known, place=self.place)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An object that cannot be applied as it is written. Whatever needs it waits for it all the same."""

    id: ObjectId
    place: str
    failure: ApiFailure
    options: ObjectOptions = _DEFAULT_OPTIONS
    defines: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """An artifact's objects after normalising. `unknown_kinds`: group and kind that the server lacks."""

    desired: tuple[Desired, ...]
    rejected: tuple[Rejected, ...] = ()
    unknown_kinds: frozenset[tuple[str, str]] = frozenset()

    @property
    def complete(self) -> bool:
        """Whether every object of the artifact can be applied."""
        return not self.rejected


def applyset_id(name: str, namespace: str, kind: str = SYNC_KIND, group: str = API_GROUP) -> str:
    """The id of a sync's ApplySet, made as kubectl makes it."""
    digest = hashlib.sha256(f"{name}.{namespace}.{kind}.{group}".encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"


def prepare(
    objects: Iterable[ManifestObject], target: Target, namespaced: Callable[[str, str], bool | None]
) -> Prepared:
    """Normalise every object of an artifact.

    `namespaced` tells the scope of a group and kind on the server, None if it has no such kind. Kinds whose definition
    is in the artifact are known from there.
    """
    work = list(objects)
    scopes = _scopes_in(work)
    scaled = _scaled_in(work, target)
    desired: dict[ObjectId, Desired] = {}
    rejected: list[Rejected] = []
    unknown: set[tuple[str, str]] = set()
    for obj in work:
        kind = (obj.id.group, obj.id.kind)
        scope = scopes[kind] if kind in scopes else namespaced(*kind)
        if scope is None:
            unknown.add(kind)
            message = unknown_kind(f"{obj.gvk.kind} ({obj.gvk.api_version})")
            rejected.append(_rejected(obj, obj.id, failed(ErrorClass.WAITING, "NoKind", message)))
            continue
        one = _desired(obj, target, namespaced=scope)
        if isinstance(one, Rejected):
            rejected.append(one)
        elif one.id in desired:
            message = f"written twice: {desired[one.id].place} has it too"
            failure = failed(ErrorClass.PERMANENT, "Duplicate", message)
            rejected.append(Rejected(one.id, one.place, failure, one.options, one.defines))
        else:
            desired[one.id] = replace(one, left=(*one.left, REPLICAS_POINTER)) if one.id in scaled else one
    return Prepared(tuple(desired.values()), tuple(rejected), frozenset(unknown))


def normalise(body: Mapping[str, Any], *, sync_id: str, namespace: str) -> JsonObject:
    """A new object as it is applied. `namespace` is what it ends in; empty for cluster-scoped kinds."""
    result = {key: value for key, value in body.items() if key != "status"}
    metadata = {key: value for key, value in (body.get("metadata") or {}).items() if key not in _SERVER_METADATA}
    metadata.pop("namespace", None)
    if namespace:
        metadata["namespace"] = namespace
    metadata["labels"] = {**(metadata.get("labels") or {}), PART_OF_LABEL: sync_id}
    result["metadata"] = metadata
    if body.get("apiVersion") == "v1" and body.get("kind") == "Secret" and "stringData" in result:
        plain = result.pop("stringData") or {}
        encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in plain.items()}
        if encoded or result.get("data"):
            result["data"] = {**(result.get("data") or {}), **encoded}
    return result


def canonical_json(obj: Mapping[str, Any]) -> bytes:
    """Sorted keys, no blanks, UTF-8: equal objects give equal bytes, and every YAML reader agrees with JSON ones."""
    text = _ENCODER.encode(obj)
    if text.isascii() and "\x7f" not in text:
        return text.encode()
    return _UNSAFE_IN_YAML.sub(lambda match: f"\\u{ord(match.group(0)):04x}", text).encode()


def body_of(obj: JsonObject) -> bytes:
    """The form in which objects are kept: canonical JSON, but with `metadata` first to let a uid in; compressed."""
    metadata = canonical_json(obj["metadata"])
    rest = canonical_json({key: value for key, value in obj.items() if key != "metadata"})
    return _packed(b'{"metadata":' + metadata + b"," + rest[1:])


def _packed(data: bytes) -> bytes:
    small = len(data) <= _SMALL_BYTES
    window, memory = (_SMALL_WINDOW, _SMALL_MEMORY) if small else (_WINDOW, _MEMORY)
    packer = zlib.compressobj(1, zlib.DEFLATED, window, memory, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)
    return packer.compress(data) + packer.flush()


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(_WINDOW, _DICTIONARY)
    return unpacker.decompress(body) + unpacker.flush()


def options_of(live: Mapping[str, Any]) -> ObjectOptions:
    """What the annotations of a live object ask for; those that cannot be read ask for nothing."""
    metadata = live.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    try:
        return parse_options(annotations or {})
    except (ValueError, TypeError, AttributeError):
        return _DEFAULT_OPTIONS


def _desired(obj: ManifestObject, target: Target, *, namespaced: bool) -> Desired | Rejected:
    metadata = obj.body.get("metadata") or {}
    namespace = (obj.id.namespace or target.namespace or target.sync_namespace) if namespaced else ""
    # Equal texts are kept once: of ten thousand objects, all have a kind, and most the same.
    id_ = ObjectId(intern(obj.id.group), intern(obj.id.kind), intern(namespace), obj.id.name)
    if not obj.id.name:
        why = "generateName is not allowed: give it a name" if metadata.get("generateName") else "it has no name"
        return _rejected(obj, id_, failed(ErrorClass.PERMANENT, "NoName", why))
    try:
        options = parse_options(metadata.get("annotations") or {})
        body = body_of(normalise(obj.body, sync_id=target.sync_id, namespace=namespace))
    except (ValueError, TypeError, AttributeError) as error:
        return _rejected(obj, id_, failed(ErrorClass.PERMANENT, "Invalid", str(error)))
    left = ignored_pointers(target.ignore, id_)
    return Desired(id_, _shared(obj.gvk), body, obj.place, options, defined_kind(obj.body), left)


@lru_cache(maxsize=256)
def _shared(gvk: Gvk) -> Gvk:
    """The same object for equal ones."""
    return gvk


def _rejected(obj: ManifestObject, id_: ObjectId, failure: ApiFailure) -> Rejected:
    """What can be read of it still says what has to wait for it."""
    return Rejected(id_, obj.place, failure, options_of(obj.body), defined_kind(obj.body))


def defined_kind(body: Mapping[str, Any]) -> tuple[str, str] | None:
    """Group and kind that a CustomResourceDefinition defines; None for other objects."""
    if body.get("kind") != "CustomResourceDefinition" or not str(body.get("apiVersion")).startswith(
        "apiextensions.k8s.io/"
    ):
        return None
    spec = body.get("spec") or {}
    return str(spec.get("group") or ""), str((spec.get("names") or {}).get("kind") or "")


def _scopes_in(objects: Iterable[ManifestObject]) -> dict[tuple[str, str], bool]:
    scopes = {}
    for obj in objects:
        kind = defined_kind(obj.body)
        if kind is not None:
            scopes[kind] = (obj.body.get("spec") or {}).get("scope") != "Cluster"
    return scopes


def _scaled_in(objects: Iterable[ManifestObject], target: Target) -> set[ObjectId]:
    found = set()
    for obj in objects:
        if obj.id.kind == "HorizontalPodAutoscaler" and obj.id.group == "autoscaling":
            ref = (obj.body.get("spec") or {}).get("scaleTargetRef") or {}
            group = str(ref.get("apiVersion") or "").rpartition("/")[0]
            namespace = obj.id.namespace or target.namespace or target.sync_namespace
            found.add(ObjectId(group, str(ref.get("kind") or ""), namespace, str(ref.get("name") or "")))
    return found
