"""Server-side apply of one object: the happy path is one request.

An object that the inventory knows is applied with its uid, so that a successor of the same name is never taken for it.
What others hold of it is taken back by force, but for the label of another owner and for fields that are left to
others. An object met for the first time is *created* by its first request: that request carries a resourceVersion that
no object has, so the server refuses it if something is there already; only then is the object read and its owner
judged. Fields that another program manages are left to it unless force is asked for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from ocisync.cluster import ownership
from ocisync.cluster.client import APPLY_PATCH, JSON, JSON_PATCH, PARTIAL_METADATA, Cluster, Response
from ocisync.cluster.discovery import ApiResource, Discovery
from ocisync.cluster.leave import yielded
from ocisync.cluster.memory import Applied, applied_of, version_of
from ocisync.cluster.normalise import ApplyMode, Desired, Target, canonical_json
from ocisync.cluster.outcome import (
    ApiFailure,
    ErrorClass,
    classify,
    failed,
    is_webhook_failure,
    unknown_kind,
    unreachable,
    with_advice,
)
from ocisync.cluster.ownership import Claim
from ocisync.cluster.past import Past
from ocisync.model.errors import ClusterRefused, Unavailable
from ocisync.model.resource import JsonObject, ObjectId, annotations_of
from ocisync.model.spec import FIELD_MANAGER, PROTECT

_QUERY = (("fieldManager", FIELD_MANAGER), ("fieldValidation", "Strict"))
_FORCED = (*_QUERY, ("force", "true"))
_TIMED = (("fieldManager", FIELD_MANAGER),)
# No object has it: etcd counts from 1, and its first write is 2. With it an apply can create but not change.
_ONLY_CREATE = "1"
# How often one call starts over when the object changes between our requests, as a Deployment does while it rolls.
ROUNDS: Final = 8
_BREATH_S: Final = 0.02  # before the second round; doubled before each further one
_GONE_WITHIN_S = 30.0


def breath_s(round_: int) -> float:
    """How long to let others finish what they write before the round of this number, counted from 0."""
    return _BREATH_S * 2 ** (round_ - 1) if round_ else 0.0


class Action(StrEnum):
    """What happened to an object."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"
    RECREATED = "recreated"
    DELETED = "deleted"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class ObjectResult:
    """The outcome for one object. `applied` is set when a server-side apply of ours was answered."""

    id: ObjectId
    action: Action
    place: str = ""
    failure: ApiFailure | None = None
    applied: Applied | None = None

    @property
    def succeeded(self) -> bool:
        """Whether what depends on this object may go on."""
        return self.failure is None


class _Refusal(Exception):
    """Carries a failure out of the steps of one apply."""

    def __init__(self, failure: ApiFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What an answer to an apply is understood by.

    Attributes:
        uid: the object that was meant; empty for none yet.
        recreate: an immutable field may be changed by a new object.
        previous: what an earlier apply of this process left.
        since: a version of the object's kind from before the apply; 0 if none is known.
        adopted: the object was there before us.
    """

    path: str
    desired: Desired
    uid: str = ""
    recreate: bool = False
    previous: Applied | None = None
    since: int = 0
    adopted: bool = False


class Applier:
    """Applies objects for one target. Thread-safe: it holds no state of its own.

    Args:
        cluster: where to.
        discovery: kinds and paths.
        target: for whom; every write is made as its service account.
        force: take fields from other programs, and replace objects whose immutable fields changed.
        webhooks: names of admission webhooks that this artifact brings, for messages.
        sleep: waits; returns True when it was interrupted.
        gentle: let every other request go first.
        renewing: told before a known object is made anew, with another uid; what it raises keeps that from happening.
        past: to tell an apply that changed nothing; without it, one of which that is not plain counts as a change.
    """

    def __init__(
        self,
        cluster: Cluster,
        discovery: Discovery,
        target: Target,
        *,
        force: bool = False,
        webhooks: frozenset[str] = frozenset(),
        sleep: Callable[[float], bool] | None = None,
        gentle: bool = False,
        renewing: Callable[[ObjectId], None] | None = None,
        past: Past | None = None,
    ) -> None:
        self._renewing = renewing
        self._past = past
        self._cluster = cluster
        self._discovery = discovery
        self._target = target
        self._gentle = gentle
        self._force = force
        self._webhooks = webhooks
        self._sleep = sleep

    def apply_one(
        self,
        desired: Desired,
        *,
        known: bool,
        uid: str = "",
        recreate: bool = False,
        previous: Applied | None = None,
    ) -> ObjectResult:
        """Apply one object; never raises for what the server or the network does.

        Args:
            desired: what to apply.
            known: the inventory has it: force is ours to use.
            uid: the object that is meant, when known.
            recreate: a change of an immutable field may delete and create the object anew.
            previous: what an earlier apply of this process left, to tell an unchanged object from a changed one.
        """
        try:
            return self._apply(desired, known=known, uid=uid, recreate=recreate, previous=previous)
        except _Refusal as refusal:
            return ObjectResult(desired.id, Action.FAILED, desired.place, self._explained(refusal.failure))
        except Unavailable as error:
            return ObjectResult(desired.id, Action.FAILED, desired.place, unreachable(error))
        except (ClusterRefused, ValueError) as error:
            failure = failed(ErrorClass.TRANSIENT, "BadAnswer", f"unexpected answer: {error}")
            return ObjectResult(desired.id, Action.FAILED, desired.place, failure)

    def would_recreate(self, desired: Desired, uid: str) -> bool:
        """Ask the server (dry run) whether a change of immutable fields would need a new object."""
        resource = self._discovery.find(desired.gvk.group, desired.gvk.kind, desired.gvk.version)
        if resource is None:
            return False
        query = (*_FORCED, ("dryRun", "All"))
        path = self._path(resource, desired)
        payload = self._considerate(path, desired, uid) if desired.left else desired.payload(uid=uid)
        response = self._patch(path, payload, query)
        return response.status >= 400 and self._classify(response, desired).error_class is ErrorClass.IMMUTABLE

    def may_force(self, desired: Desired) -> bool:
        """Whether the sync or the object's own annotation allows force."""
        return self._force or desired.options.force

    def protected(self, desired: Desired) -> bool:
        """Whether the live object asks to be confirmed before it is deleted."""
        return annotations_of(self.read(desired) or {}).get(PROTECT) == "confirm"

    def read(self, desired: Desired) -> JsonObject | None:
        """The live object's metadata; None if it does not exist."""
        resource = self._resource(desired)
        return self._read(self._path(resource, desired), desired)

    def _apply(
        self, desired: Desired, *, known: bool, uid: str, recreate: bool, previous: Applied | None
    ) -> ObjectResult:
        if desired.options.apply is ApplyMode.IGNORE:
            return ObjectResult(desired.id, Action.SKIPPED, desired.place)
        resource = self._resource(desired)
        path = self._path(resource, desired)
        if desired.options.apply is ApplyMode.IF_NOT_PRESENT and self._read(path, desired) is not None:
            return ObjectResult(desired.id, Action.SKIPPED, desired.place)
        since = previous.resource_version if previous is not None else 0
        if known:
            if previous is None and self._past is not None:
                since = self._past.mark(resource.path(), resource.path(desired.id.namespace))
            response = self._update(path, desired, uid)
            if response is not None:
                return self._settled(_Attempt(path, desired, uid, recreate, previous, since), response)
            self._renew(desired.id)
        return self._first_contact(path, desired, recreate=recreate, previous=previous)

    def _renew(self, object_id: ObjectId) -> None:
        try:
            if self._renewing is not None:
                self._renewing(object_id)
        except (Unavailable, ClusterRefused) as error:
            message = f"not made anew, because that could not be written down first: {error.message}"
            raise _Refusal(failed(ErrorClass.TRANSIENT, "NotWrittenAhead", message)) from error

    def _update(self, path: str, desired: Desired, uid: str) -> Response | None:
        """Apply to an object of ours; None if that object is gone or was replaced by another one."""
        response = None
        for round_ in range(ROUNDS):
            self._breathe(round_)
            if not desired.left:
                # Without force first: what others hold now may be theirs by right, and with it the whole object.
                response = self._patch(path, desired.payload(uid=uid), _QUERY)
                if not self._raced(response, desired, uid):
                    return response
            live = self._get(path, JSON, desired)
            if live is None or (uid and _uid(live) != uid):
                return None
            if (live.get("metadata") or {}).get("deletionTimestamp"):
                raise _Refusal(_terminating())
            self._check_owner(live, desired)
            response = self._patch(path, _yielding(desired, live), _FORCED)
            if not self._raced(response, desired, uid):
                return response
        return response

    def _breathe(self, round_: int) -> None:
        """Give whoever else writes the object a moment to finish."""
        if round_ and self._sleep is not None:
            self._sleep(breath_s(round_))

    def _raced(self, response: Response, desired: Desired, uid: str) -> bool:
        """Whether the object has to be read before the answer can be understood."""
        if response.status == 422 and uid:
            return _other_uid(self._classify(response, desired))
        return response.status == 409

    def _check_owner(self, live: JsonObject, desired: Desired) -> None:
        """Refuse what carries another owner's label, whoever put it there."""
        owner = ownership.part_of(live)
        if owner not in ("", self._target.sync_id, desired.options.adopt):
            message = f"belongs to another sync ({owner}); to take it over annotate it with ocisync.dev/adopt: {owner}"
            raise _Refusal(failed(ErrorClass.CONFLICT, "OwnedByOther", message))

    def _first_contact(self, path: str, desired: Desired, *, recreate: bool, previous: Applied | None) -> ObjectResult:
        for round_ in range(ROUNDS):
            self._breathe(round_)
            response = self._patch(path, desired.payload(resource_version=_ONLY_CREATE), _QUERY)
            if response.status != 409:
                return self._settled(_Attempt(path, desired, previous=previous), response)
            live = self._read(path, desired)
            if live is None:
                continue
            response = self._join(path, desired, live)
            if response.status != 409 or self._classify(response, desired).field_conflict:
                met = _Attempt(path, desired, _uid(live), recreate, previous, version_of(live), adopted=True)
                return self._settled(met, response)
        raise _Refusal(failed(ErrorClass.CONFLICT, "Changing", "it keeps changing while it is applied"))

    def _join(self, path: str, desired: Desired, live: JsonObject) -> Response:
        """Apply to an object that was there before us, if its owner allows."""
        verdict = ownership.claim(live, self._target.sync_id, desired.options.adopt)
        if verdict is Claim.TERMINATING:
            raise _Refusal(_terminating())
        self._check_owner(live, desired)
        uid = _uid(live)
        if verdict is Claim.OURS:
            return self._update(path, desired, uid) or self._patch(path, desired.payload(uid=uid), _FORCED)
        transfer = ownership.take_over_patch(live, leave=desired.left)
        if transfer is not None:
            self._json_patch(path, transfer, desired)
        payload = self._considerate(path, desired, uid) if desired.left else desired.payload(uid=uid)
        response = self._patch(path, payload, _QUERY)
        if response.status != 409:
            return response
        conflicts = ownership.conflicts_of(self._classify(response, desired).causes)
        if not conflicts:
            return response
        taken = tuple(conflict for conflict in conflicts if not conflict.autoscaled)
        if not (self.may_force(desired) or ownership.may_take(taken)):
            hint = "spec.force or the annotation ocisync.dev/force: enabled takes it"
            message = f"{ownership.describe(taken)}; {hint}"
            raise _Refusal(failed(ErrorClass.CONFLICT, "ManagedByOther", message))
        return self._patch(path, self._considerate(path, desired, uid), _FORCED)

    def _considerate(self, path: str, desired: Desired, uid: str) -> bytes:
        """The body for the object as it is now, so that what is left to others does not move."""
        live = self._get(path, JSON, desired)
        return desired.payload(uid=uid) if live is None or _uid(live) != uid else _yielding(desired, live)

    def _settled(self, attempt: _Attempt, response: Response) -> ObjectResult:
        desired = attempt.desired
        if response.status >= 400:
            failure = self._classify(response, desired)
            replaceable = attempt.recreate and attempt.uid and self.may_force(desired)
            if failure.error_class is ErrorClass.IMMUTABLE and replaceable:
                return self._recreate(attempt.path, desired, attempt.uid)
            raise _Refusal(failure)
        answer: JsonObject = json.loads(response.body)
        applied, created, action = applied_of(answer), response.status == 201, Action.CREATED
        if not created:
            action = self._action(attempt, answer, applied, response.headers.get("Date", ""))
        residue = None if created else ownership.residue_patch(answer, adopted=attempt.adopted)
        if residue is not None:
            answer = self._json_patch(attempt.path, residue, desired) or answer
            applied = applied_of(answer)
        if (answer.get("metadata") or {}).get("deletionTimestamp"):
            raise _Refusal(_terminating())
        return ObjectResult(desired.id, action, desired.place, applied=applied)

    def _action(self, attempt: _Attempt, answer: JsonObject, applied: Applied, date: str) -> Action:
        previous = attempt.previous
        if self._past is None:
            changed = previous is None or previous.resource_version != applied.resource_version
        else:
            changed = self._past.changed(attempt.path, answer, applied, previous, attempt.since, date)
        return Action.CONFIGURED if changed else Action.UNCHANGED

    def _recreate(self, path: str, desired: Desired, uid: str) -> ObjectResult:
        self._delete(path, desired, uid)
        self._renew(desired.id)
        started = time.monotonic()
        while (live := self._read(path, desired)) is not None and _uid(live) == uid:
            late = time.monotonic() - started > _GONE_WITHIN_S
            if late or self._sleep is None or self._sleep(0.2):
                raise _Refusal(_terminating())
        result = self._first_contact(path, desired, recreate=False, previous=None)
        action = Action.RECREATED if result.action is Action.CREATED else result.action
        return ObjectResult(result.id, action, result.place, result.failure, result.applied)

    def _delete(self, path: str, desired: Desired, uid: str) -> None:
        """Delete one object in the version that was looked at: nobody has put another owner's label on it since."""
        for round_ in range(ROUNDS):
            self._breathe(round_)
            live = self._read(path, desired)
            if live is None or _uid(live) != uid:
                return
            self._check_owner(live, desired)
            version = (live.get("metadata") or {}).get("resourceVersion")
            options = {"preconditions": {"uid": uid, "resourceVersion": version}, "propagationPolicy": "Background"}
            response = self._cluster.request(
                "DELETE", path, body=canonical_json(options), content_type=JSON, as_user=self._target.user
            )
            if response.status < 400 or response.status == 404:
                return
            if response.status != 409:
                raise _Refusal(self._classify(response, desired))
        raise _Refusal(failed(ErrorClass.CONFLICT, "Changing", "it keeps changing while it is replaced"))

    def _json_patch(self, path: str, operations: list[JsonObject], desired: Desired) -> JsonObject | None:
        """Send a guarded JSON patch; None if the object changed meanwhile (the next apply tries again)."""
        response = self._cluster.request(
            "PATCH",
            path,
            query=_TIMED,
            body=json.dumps(operations).encode(),
            content_type=JSON_PATCH,
            accept=PARTIAL_METADATA,
            as_user=self._target.user,
        )
        if response.status in (404, 409, 422):  # 422: the test on the version failed
            return None
        if response.status >= 400:
            raise _Refusal(self._classify(response, desired))
        answer: JsonObject = json.loads(response.body)
        return answer

    def _patch(self, path: str, payload: bytes, query: tuple[tuple[str, str], ...]) -> Response:
        return self._cluster.request(
            "PATCH",
            path,
            query=query,
            body=payload,
            content_type=APPLY_PATCH,
            accept=PARTIAL_METADATA,
            as_user=self._target.user,
            gentle=self._gentle,
        )

    def _read(self, path: str, desired: Desired) -> JsonObject | None:
        return self._get(path, PARTIAL_METADATA, desired)

    def _get(self, path: str, accept: str, desired: Desired) -> JsonObject | None:
        response = self._cluster.request("GET", path, accept=accept)
        if response.status == 403 and self._target.user:
            response = self._cluster.request("GET", path, accept=accept, as_user=self._target.user)
        if response.status == 404:
            return None
        if response.status >= 400:
            raise _Refusal(self._classify(response, desired))
        found: JsonObject = json.loads(response.body)
        return found

    def _resource(self, desired: Desired) -> ApiResource:
        gvk = desired.gvk
        resource = self._discovery.find(gvk.group, gvk.kind, gvk.version)
        if resource is None:
            other = self._discovery.find(gvk.group, gvk.kind)
            message = unknown_kind(f"{gvk.kind} ({gvk.api_version})", other.api_version if other else "")
            raise _Refusal(failed(ErrorClass.WAITING, "NoKind", message))
        return resource

    def _path(self, resource: ApiResource, desired: Desired) -> str:
        return resource.path(desired.id.namespace, desired.id.name)

    def _classify(self, response: Response, desired: Desired) -> ApiFailure:
        return classify(response, desired.gvk, user=self._target.user)

    def _explained(self, failure: ApiFailure) -> ApiFailure:
        webhook = is_webhook_failure(failure)
        if not webhook:
            return failure
        whose = "it is in this artifact" if webhook in self._webhooks else "it is not in this artifact"
        message = with_advice(failure.message, f"see to that webhook: {whose}")
        return replace(failure, reason="WebhookUnavailable", message=message)


def _terminating() -> ApiFailure:
    return failed(ErrorClass.WAITING, "Terminating", "it is being deleted; it is created again when that has ended")


def _other_uid(failure: ApiFailure) -> bool:
    """Whether the object of that name has another uid than the one we sent: the server calls that immutable."""
    return any(cause.field == "metadata.uid" for cause in failure.causes)


def _uid(obj: JsonObject) -> str:
    return str((obj.get("metadata") or {}).get("uid") or "")


def _yielding(desired: Desired, live: JsonObject) -> bytes:
    """The body to apply to exactly this object; if it takes values from there, to exactly this version of it."""
    written = json.loads(desired.payload())
    body, uid = yielded(written, live, desired.left), _uid(live)
    if body is written:
        return desired.payload(uid=uid)
    version = (live.get("metadata") or {}).get("resourceVersion")
    return canonical_json({**body, "metadata": {**body["metadata"], "uid": uid, "resourceVersion": version}})
