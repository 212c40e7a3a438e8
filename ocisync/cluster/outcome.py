"""What an API server's refusal means: one table decides retry, condition and message. Pure.

    PERMANENT  the object must change: 400, 413, 422, 409 without force, and a strict-decoding 500 that has no reason
    IMMUTABLE  a field that can only be set at creation
    WAITING    something else must come first: the kind, the namespace, or the end of a deletion
    FORBIDDEN  RBAC or admission said no; retried slowly
    CONFLICT   someone else owns the object or its fields, or it changed under us
    TRANSIENT  try again: 429, 5xx, webhooks that do not answer, no connection

Messages are cut to 256 bytes, and of Secrets nothing of the server's text is kept that could quote a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ocisync.cluster.client import Response
from ocisync.model.errors import Unavailable
from ocisync.model.limits import STATUS_MESSAGE_BYTES
from ocisync.model.resource import Gvk


class ErrorClass(StrEnum):
    """How a failure is treated."""

    PERMANENT = "Permanent"
    IMMUTABLE = "Immutable"
    WAITING = "Waiting"
    FORBIDDEN = "Forbidden"
    TRANSIENT = "Transient"
    CONFLICT = "Conflict"


@dataclass(frozen=True, slots=True)
class Cause:
    """One detail of a refusal: a field, and what is wrong with it."""

    reason: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class ApiFailure:
    """A refusal in our words.

    Attributes:
        reason: the server's own word (`Invalid`, `NotFound`, …), or ours where it gave none.
        undeclared: the server does not know a field: with a schema written a moment ago, that means wait.
    """

    error_class: ErrorClass
    message: str
    reason: str = ""
    status: int = 0
    retry_after_s: float | None = None
    causes: tuple[Cause, ...] = ()
    undeclared: bool = False

    @property
    def field_conflict(self) -> bool:
        """Whether other field managers hold what we wanted to write."""
        return any(cause.reason == "FieldManagerConflict" for cause in self.causes)


_IMMUTABLE = re.compile(
    r"is immutable|immutable field|updates to statefulset spec for fields other than|may not change once set", re.I
)
_UNDECLARED = re.compile(r"field not declared in schema|unknown field")
_WEBHOOK = re.compile(r'failed calling webhook "([^"]+)"')
_DENIED = re.compile(r".*?\bdenied (?:the )?request", re.S)
_NO_KIND = "404 page not found"
_TYPED_PATCH = re.compile(r"failed to create typed patch object \([^)]*\): ")

# What a person can do, by what the server says; the first that fits. It survives when a long message is cut.
_ADVICE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), advice)
    for pattern, advice in (
        (r"exceeded quota", "raise the quota or ask for less"),
        (r"cannot \w+ resource", "grant it to that account with a Role or ClusterRole"),
        (r"\bdenied (?:the )?request", "change the object, or whoever keeps the rule must"),
        (r"field not declared in schema|unknown field", "a typo, or the cluster's schema is older"),
        (r"[Tt]oo long: may not be more than \d+ bytes|too large", "split it up"),
        (r'namespaces "[^"]*" not found', "create it, or add it to the artifact"),
        (r"is being terminated", "it is tried again when that has ended"),
    )
)
# `jobs.batch "x" is forbidden: User "u" cannot patch resource "jobs" in API group "batch" in the namespace "n"`
_CANNOT = re.compile(
    r'.*? is forbidden: User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" '
    r'in API group "(?P<group>[^"]*)"(?P<where>.*)',
    re.S,
)
_RECREATE = "annotate it with ocisync.dev/force: enabled to delete and create it anew"


def classify(response: Response, gvk: Gvk | None = None, *, user: str = "") -> ApiFailure:
    """Say what a status of 400 or more means for an object of kind `gvk`; `user` is who was impersonated, if anyone."""
    code, status = response.status, _status_of(response.body)
    reason = str(status.get("reason") or "")
    text = str(status.get("message") or "") or response.body[:STATUS_MESSAGE_BYTES].decode(errors="replace").strip()
    causes = _causes(status)
    error_class = _class_of(code, reason, text, causes, parsed=bool(status))
    return ApiFailure(
        error_class=error_class,
        message=_message(code, error_class, reason, text, causes, gvk, user),
        reason=reason or _default_reason(code, error_class),
        status=code,
        retry_after_s=_retry_after(response.headers),
        causes=causes,
        undeclared=_UNDECLARED.search(text) is not None,
    )


def unreachable(error: Unavailable) -> ApiFailure:
    """The failure of an object whose request never got an answer."""
    return ApiFailure(ErrorClass.TRANSIENT, shorten(error.message), "Unreachable", 0, error.retry_after_s)


def failed(error_class: ErrorClass, reason: str, message: str) -> ApiFailure:
    """A failure that we found ourselves, its message cut to size."""
    return ApiFailure(error_class, shorten(message), reason)


def shorten(text: str, limit: int = STATUS_MESSAGE_BYTES) -> str:
    """One line of at most `limit` bytes, cut at a character, with an ellipsis when cut."""
    line = " ".join(text.split())
    raw = line.encode()
    if len(raw) <= limit:
        return line
    return raw[: limit - 3].decode(errors="ignore") + "…"


def with_advice(text: str, advice: str, limit: int = STATUS_MESSAGE_BYTES) -> str:
    """`text; advice` in at most `limit` bytes: where it is too long, the text is cut and not the advice."""
    return f"{shorten(text, limit - len(advice.encode()) - 2)}; {advice}" if advice else shorten(text, limit)


def denied_by_admission(failure: ApiFailure) -> bool:
    """Whether a webhook or an admission policy refuses: it may change without the object."""
    return _DENIED.match(failure.message) is not None


def is_webhook_failure(failure: ApiFailure) -> str:
    """The name of the admission webhook that did not answer; empty if that was not the trouble."""
    match = _WEBHOOK.search(failure.message)
    return match.group(1) if match else ""


def _status_of(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _causes(status: Mapping[str, Any]) -> tuple[Cause, ...]:
    details = status.get("details")
    raw = details.get("causes") if isinstance(details, dict) else None
    return tuple(
        Cause(str(item.get("reason") or ""), str(item.get("field") or ""), str(item.get("message") or ""))
        for item in raw or ()
        if isinstance(item, dict)
    )


def _class_of(code: int, reason: str, text: str, causes: tuple[Cause, ...], *, parsed: bool) -> ErrorClass:
    if code in (422, 403) and _IMMUTABLE.search(text):
        return ErrorClass.IMMUTABLE
    if code == 403:
        terminating = any(cause.reason == "NamespaceTerminating" for cause in causes)
        return ErrorClass.WAITING if terminating else ErrorClass.FORBIDDEN
    if code == 401:
        return ErrorClass.FORBIDDEN
    if code == 404:
        return ErrorClass.WAITING
    if code == 409:
        return ErrorClass.CONFLICT
    if code == 500 and parsed and not reason:
        return ErrorClass.PERMANENT  # strict decoding fails with a bare 500: it will fail again
    if code == 429 or code >= 500:
        return ErrorClass.TRANSIENT
    return ErrorClass.PERMANENT


def _message(
    code: int,
    error_class: ErrorClass,
    reason: str,
    text: str,
    causes: tuple[Cause, ...],
    gvk: Gvk | None,
    user: str,
) -> str:
    if gvk is not None and gvk == Gvk("", "v1", "Secret"):
        # Of refusals by RBAC everything may be said; what admission says of an object may quote it.
        denied = _DENIED.match(text)
        if denied:
            text = f"{denied.group(0)} (its reason may quote values and is left out)"
        elif error_class is not ErrorClass.FORBIDDEN:
            text = _without_values(text, causes)
    if code == 404 and (reason in ("", "NotFound")) and (not text or text.startswith(_NO_KIND)):
        name = f"{gvk.kind} ({gvk.api_version})" if gvk else "this kind"
        return unknown_kind(name)
    webhook = _WEBHOOK.search(text)
    if webhook:
        return shorten(f'failed calling webhook "{webhook.group(1)}": {text.rpartition(": ")[2]}')
    advice = next((said for pattern, said in _ADVICE if pattern.search(text)), "")
    if error_class is ErrorClass.IMMUTABLE:
        advice = _RECREATE
    elif error_class is ErrorClass.FORBIDDEN and user and user not in text and not advice:
        text = f"{text} (as {user})"
    text = _CANNOT.sub(_cannot, _TYPED_PATCH.sub("", text, count=1))
    return with_advice(text or f"HTTP {code}", advice)


def _cannot(match: re.Match[str]) -> str:
    resource = f"{match['resource']}.{match['group']}" if match["group"] else match["resource"]
    where = match["where"].replace("in the namespace", "in namespace").replace('"', "")
    return f"{match['user']} cannot {match['verb']} {resource}{where}"


def unknown_kind(name: str, served: str = "") -> str:
    """What to say of a kind that the server lacks, or serves in another version only."""
    if served:
        return f"the server does not serve {name}; it serves {served}"
    return f"the server does not know {name}; add its CustomResourceDefinition, or install what brings it"


def _without_values(text: str, causes: tuple[Cause, ...]) -> str:
    """A refusal of a Secret may quote what was in it: keep only which fields are wrong."""
    fields = sorted({cause.field for cause in causes if cause.field})
    if fields:
        return f"the Secret is refused at {', '.join(fields)} (the server's text may quote values and is left out)"
    match = _UNDECLARED.search(text) or _IMMUTABLE.search(text)
    detail = match.group(0) if match else "the server's text may quote values and is left out"
    return f"the Secret is refused: {detail}"


def _default_reason(code: int, error_class: ErrorClass) -> str:
    return {400: "BadRequest", 404: "NoKind", 500: "TypedPatch", 429: "TooManyRequests"}.get(code, error_class.value)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After") or headers.get("retry-after") or ""
    return float(text) if text.isdecimal() else None
