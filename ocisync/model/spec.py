"""`ArtifactSync` as the agent reads it: parsed, defaulted, checked once more.

The API server already validates against the CRD schema; the agent still parses strictly, because specs also come from
files and from clusters whose CRD is older than the agent. Durations are Go durations (`1m30s`), percentages are
int-or-string.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from ocisync.model.digest import is_digest
from ocisync.model.errors import InvalidInput, UsageError
from ocisync.model.image import ImageMap, parse_image_map
from ocisync.model.ref import Reference, check_tag, parse_reference
from ocisync.model.resource import JsonObject
from ocisync.model.semver import parse_range
from ocisync.model.values import dataclass

API_GROUP = "ocisync.dev"
API_VERSION = "ocisync.dev/v1alpha1"
SYNC_KIND = "ArtifactSync"
POLICY_KIND = "TrustPolicy"
FIELD_MANAGER = "ocisync"

# Annotations.
REQUESTED_AT = "ocisync.dev/requestedAt"
APPROVED = "ocisync.dev/approved"
ROLLBACK = "ocisync.dev/rollback"  # DIGEST@TIME: run this digest of the sync's own history until the tag moves
RETRY = "ocisync.dev/retry"  # DIGEST@TIME of a quarantine: end it
SUSPENDED_BY = "ocisync.dev/suspended-by"
SUSPEND_REASON = "ocisync.dev/suspend-reason"
PRUNE = "ocisync.dev/prune"
FORCE = "ocisync.dev/force"
APPLY = "ocisync.dev/apply"
DEPENDS_ON = "ocisync.dev/depends-on"
WAVE = "ocisync.dev/wave"
PROTECT = "ocisync.dev/protect"
ADOPT = "ocisync.dev/adopt"
FINALIZER = "ocisync.dev/finalizer"

PAUSE_NAME = "ocisync-pause"  # a ConfigMap in the agent's namespace: while it exists, no object is written

# ApplySet conventions (KEP-3659).
PART_OF_LABEL = "applyset.kubernetes.io/part-of"
APPLYSET_ID_LABEL = "applyset.kubernetes.io/id"
APPLYSET_TOOLING = "applyset.kubernetes.io/tooling"
APPLYSET_GROUP_KINDS = "applyset.kubernetes.io/contains-group-kinds"
APPLYSET_NAMESPACES = "applyset.kubernetes.io/additional-namespaces"
APPLYSET_PARENT_LABEL = "applyset.kubernetes.io/is-parent-type"

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?\Z")
_MIN_INTERVAL_S = 1.0
_CHECKS_COUNT = 64
_CEL_CHARS = 4096


class DriftMode(StrEnum):
    """What to do with drift in owned fields."""

    CORRECT = "Correct"
    WARN = "Warn"
    IGNORE = "Ignore"


class UnownedMode(StrEnum):
    """What to do with foreign fields under `/spec`."""

    WARN = "Warn"
    IGNORE = "Ignore"


class DeletionPolicy(StrEnum):
    """What becomes of the objects when their sync is deleted."""

    DELETE = "Delete"
    ORPHAN = "Orphan"


class SelectorKind(StrEnum):
    """How a source chooses its artifact."""

    TAG = "tag"
    SEMVER = "semver"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Where artifacts come from. `selector` is the tag, range or digest, as `kind` says."""

    reference: Reference
    kind: SelectorKind
    selector: str
    interval_s: float
    pull_secret: str
    insecure: bool
    account: str = ""
    ca_secret: str = ""
    proxy_secret: str = ""

    @property
    def watermark_key(self) -> str:
        """What the rollback watermark is kept for: repository and selector."""
        return f"{self.reference.repository}|{self.kind}={self.selector}"


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """Fields left to others: JSON pointers, on objects that match the given parts (empty = any)."""

    group: str
    kind: str
    namespace: str
    name: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """CEL over one kind of object. What is empty is left to the kind's own rule; never both.

    Attributes:
        place: where it stands in the spec, for messages.
        current: true when the object is healthy.
        failed: true when it will not become healthy by itself.
    """

    place: str
    group: str
    kind: str
    current: str
    failed: str


@dataclass(frozen=True, slots=True)
class SyncSpec:
    """A parsed `ArtifactSync` with its identity. Times in seconds."""

    namespace: str
    name: str
    uid: str
    generation: int
    created_at: str
    source: SourceSpec
    path: str
    target_namespace: str
    service_account: str
    prune: bool
    deletion_policy: DeletionPolicy
    waits: bool
    wait_timeout_s: float
    checks: tuple[HealthCheck, ...]
    roll_back: bool
    drift: DriftMode
    unowned: UnownedMode
    ignore: tuple[IgnoreRule, ...]
    force: bool
    max_prune: str
    protect: tuple[str, ...]
    depends_on: tuple[tuple[str, str], ...]
    retry_interval_s: float
    suspend: bool
    requested_at: str = ""
    approved: str = ""
    deleting: bool = False
    rollback: str = ""
    retry: str = ""
    suspended_by: str = ""
    suspend_reason: str = ""
    images: ImageMap = ImageMap()

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


DEFAULT_PROTECTED = ("Namespace", "CustomResourceDefinition.apiextensions.k8s.io", "PersistentVolumeClaim")


def parse_duration(text: str, where: str) -> float:
    """Parse a Go duration into seconds.

    Raises:
        InvalidInput: naming `where`.
    """
    match = _DURATION.match(text)
    if not text or match is None or not any(match.groups()):
        raise InvalidInput(f"{where}: {text!r} is not a duration like 30s, 1m or 1h30m")
    hours, minutes, seconds, millis = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + millis / 1000


class _Reader:
    """Reads typed fields of a JSON object and refuses what it does not know."""

    def __init__(self, value: object, where: str, known: tuple[str, ...]) -> None:
        if not isinstance(value, Mapping):
            raise InvalidInput(f"{where}: expected an object, found {type(value).__name__}")
        unknown = sorted(set(value) - set(known))
        if unknown:
            raise InvalidInput(f"{where}: unknown field {unknown[0]!r}", hint=f"known fields: {', '.join(known)}")
        self._value: Mapping[str, Any] = value
        self._where = where

    def text(self, name: str, default: str = "") -> str:
        value = self._value.get(name, default)
        if not isinstance(value, str):
            raise InvalidInput(f"{self._where}.{name}: expected a string, found {value!r}")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._value.get(name, default)
        if not isinstance(value, bool):
            raise InvalidInput(f"{self._where}.{name}: expected true or false, found {value!r}")
        return value

    def duration(self, name: str, default: str) -> float:
        return parse_duration(self.text(name, default), f"{self._where}.{name}")

    def items(self, name: str) -> list[Any]:
        value = self._value.get(name, [])
        if not isinstance(value, list):
            raise InvalidInput(f"{self._where}.{name}: expected a list, found {type(value).__name__}")
        return value

    def child(self, name: str, known: tuple[str, ...]) -> _Reader:
        return _Reader(self._value.get(name, {}), f"{self._where}.{name}", known)

    def has(self, name: str) -> bool:
        return name in self._value


def _parse_source(spec: _Reader) -> SourceSpec:
    source = spec.child(
        "source",
        (
            "repository",
            "tag",
            "semver",
            "digest",
            "interval",
            "pullSecretRef",
            "serviceAccountName",
            "caSecretRef",
            "proxySecretRef",
            "insecure",
        ),
    )
    chosen = [kind for kind in SelectorKind if source.has(kind.value)]
    if len(chosen) != 1:
        raise InvalidInput("spec.source: set exactly one of tag, semver, digest")
    kind, selector = chosen[0], source.text(chosen[0].value)
    try:
        reference = parse_reference(source.text("repository"))
        if kind is SelectorKind.TAG:
            check_tag(selector)
        if kind is SelectorKind.SEMVER:
            parse_range(selector)
    except UsageError as error:
        raise InvalidInput(f"spec.source: {error.message}", hint=error.hint) from error
    if reference.tag or reference.digest:
        raise InvalidInput("spec.source.repository: leave tag and digest out; they have fields of their own")
    if kind is SelectorKind.DIGEST and not is_digest(selector):
        raise InvalidInput(f"spec.source.digest: not a sha256 digest: {selector!r}")
    return SourceSpec(
        reference=reference,
        kind=kind,
        selector=selector,
        interval_s=max(source.duration("interval", "1m"), _MIN_INTERVAL_S),
        pull_secret=source.child("pullSecretRef", ("name",)).text("name"),
        insecure=source.flag("insecure", default=False),
        account=source.text("serviceAccountName"),
        ca_secret=source.child("caSecretRef", ("name",)).text("name"),
        proxy_secret=source.child("proxySecretRef", ("name",)).text("name"),
    )


def _parse_ignore(item: object, index: int) -> IgnoreRule:
    rule = _Reader(item, f"spec.ignore[{index}]", ("target", "paths"))
    target = rule.child("target", ("group", "kind", "namespace", "name"))
    paths = tuple(str(path) for path in rule.items("paths"))
    for path in paths:
        if not path.startswith("/"):
            raise InvalidInput(f"spec.ignore[{index}].paths: {path!r} is not a JSON pointer: it must begin with /")
    return IgnoreRule(target.text("group"), target.text("kind"), target.text("namespace"), target.text("name"), paths)


def _parse_checks(wait: _Reader) -> tuple[HealthCheck, ...]:
    """The shape of the checks; whether their CEL can be read is found out where it is compiled."""
    items = wait.items("checks")
    if len(items) > _CHECKS_COUNT:
        raise InvalidInput(f"spec.wait.checks: {len(items)} checks; at most {_CHECKS_COUNT} are taken")
    found: dict[tuple[str, str], HealthCheck] = {}
    for index, item in enumerate(items):
        where = f"spec.wait.checks[{index}]"
        reader = _Reader(item, where, ("apiVersion", "kind", "current", "failed"))
        group, slash, _ = reader.text("apiVersion").rpartition("/")
        check = HealthCheck(
            where, group if slash else "", reader.text("kind"), reader.text("current"), reader.text("failed")
        )
        if not check.kind or not reader.text("apiVersion"):
            raise InvalidInput(f"{where}: apiVersion and kind are required")
        if not check.current.strip() and not check.failed.strip():
            raise InvalidInput(f"{where}: give current, failed or both")
        if max(len(check.current), len(check.failed)) > _CEL_CHARS:
            raise InvalidInput(f"{where}: an expression has more than {_CEL_CHARS} characters")
        before = found.setdefault((check.group, check.kind), check)
        if before is not check:
            raise InvalidInput(f"{where}: {check.kind} has a check already, {before.place}")
    return tuple(found.values())


def _parse_max_prune(guard: _Reader, value: object) -> str:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"(?:\d{1,6}|(?:100|\d{1,2})%)", text):
        raise InvalidInput(f"spec.guard.maxPrune: {value!r} is neither a number nor a percentage like 50%")
    return text


def _parse_images(spec: _Reader) -> ImageMap:
    moves = [_Reader(item, f"spec.images[{index}]", ("from", "to")) for index, item in enumerate(spec.items("images"))]
    paths = [str(path) for path in spec.items("imagePaths")]
    if paths and not moves:
        raise InvalidInput("spec.imagePaths: there is nothing to rewrite without spec.images")
    try:
        return parse_image_map([(move.text("from"), move.text("to")) for move in moves], paths)
    except UsageError as error:
        raise InvalidInput(f"spec.images: {error.message}", hint=error.hint) from error


_SPEC_FIELDS = (
    "source", "path", "target", "images", "imagePaths", "prune", "deletionPolicy", "wait", "drift", "ignore", "force",
    "guard", "onFailure", "dependsOn", "retryInterval", "suspend",
)  # fmt: skip


def parse_sync(obj: JsonObject) -> SyncSpec:
    """Parse an `ArtifactSync` object.

    Raises:
        InvalidInput: naming the field; also for fields that a later version may know.
    """
    metadata: Mapping[str, Any] = obj.get("metadata") or {}
    annotations: Mapping[str, str] = metadata.get("annotations") or {}
    spec = _Reader(obj.get("spec"), "spec", _SPEC_FIELDS)
    prune = spec.flag("prune", default=True)
    drift = spec.child("drift", ("mode", "unowned"))
    guard = spec.child("guard", ("maxPrune", "protect"))
    target = spec.child("target", ("namespace", "serviceAccountName"))
    wait = spec.child("wait", ("timeout", "checks"))
    raw_guard = (obj.get("spec") or {}).get("guard") or {}
    namespace = str(metadata.get("namespace") or "default")
    depends_on = tuple(
        (reader.text("namespace", namespace), reader.text("name"))
        for reader in (
            _Reader(item, f"spec.dependsOn[{index}]", ("name", "namespace"))
            for index, item in enumerate(spec.items("dependsOn"))
        )
    )
    try:
        mode = DriftMode(drift.text("mode", "Correct"))
        unowned = UnownedMode(drift.text("unowned", "Warn"))
        deletion = DeletionPolicy(spec.text("deletionPolicy", "Delete" if prune else "Orphan"))
    except ValueError as error:
        raise InvalidInput(f"spec: {error}") from error
    return SyncSpec(
        namespace=namespace,
        name=str(metadata.get("name") or ""),
        uid=str(metadata.get("uid") or ""),
        generation=int(metadata.get("generation") or 0),
        created_at=str(metadata.get("creationTimestamp") or ""),
        source=_parse_source(spec),
        path=spec.text("path").strip("/").removeprefix("./"),
        target_namespace=target.text("namespace"),
        service_account=target.text("serviceAccountName", "default"),
        prune=prune,
        deletion_policy=deletion,
        waits=spec.has("wait"),
        wait_timeout_s=wait.duration("timeout", "5m"),
        checks=_parse_checks(wait),
        roll_back=spec.child("onFailure", ("rollback",)).flag("rollback", default=False),
        drift=mode,
        unowned=unowned,
        ignore=tuple(_parse_ignore(item, index) for index, item in enumerate(spec.items("ignore"))),
        force=spec.flag("force", default=False),
        max_prune=_parse_max_prune(guard, raw_guard.get("maxPrune", "50%")),
        protect=tuple(str(item) for item in guard.items("protect")) if guard.has("protect") else DEFAULT_PROTECTED,
        depends_on=depends_on,
        retry_interval_s=spec.duration("retryInterval", "1m"),
        suspend=spec.flag("suspend", default=False),
        requested_at=str(annotations.get(REQUESTED_AT) or ""),
        approved=str(annotations.get(APPROVED) or ""),
        deleting=bool(metadata.get("deletionTimestamp")),
        rollback=str(annotations.get(ROLLBACK) or ""),
        retry=str(annotations.get(RETRY) or ""),
        suspended_by=str(annotations.get(SUSPENDED_BY) or ""),
        suspend_reason=str(annotations.get(SUSPEND_REASON) or ""),
        images=_parse_images(spec),
    )
