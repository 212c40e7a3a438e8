"""The record of drift: for each sync the last things that others did to its objects, kept in the cluster.

One ConfigMap per sync in the agent's namespace, where tenants can't edit it. Its `drift` is one JSON line for each
entry, oldest first; at most 64 KiB and 200 entries, then the oldest go. Values are those of the reports: shortened, and
masked in Secrets. `fold` is pure: it says what the record is after one more report. It is written by compare-and-swap.

    {"object":{…},"kind":"Modified","action":"Corrected","mode":"Correct","fields":[{"path":…,"old":…,"new":…}],
     "manager":"kubectl","changedAt":"…","timeSource":"Seen","seenAt":"…","correctedAt":"…","count":1,…}

An entry whose `action` is Reported, Failed or Delayed and that has neither `correctedAt` nor `endedAt` is open: what it
says is so now. The third and further equal entries of one object within ten minutes are counted in the last of them, so
that a fight over one object does not push out what happened to others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from ocisync.cluster.client import JSON, Cluster, Response, segment
from ocisync.cluster.drift import Action, DriftKind, DriftReport
from ocisync.kit.log import redact
from ocisync.model.clock import parse_rfc3339
from ocisync.model.errors import AccessDenied, ClusterRefused, NotFound, Unavailable
from ocisync.model.limits import DRIFT_RECORD_BYTES, DRIFT_RECORD_ENTRIES
from ocisync.model.resource import JsonObject, ObjectId

Entry = JsonObject

SYNC_ANNOTATION: Final = "ocisync.dev/sync"
COMPONENT: Final = "drift-record"
_LABELS: Final = {"app.kubernetes.io/name": "ocisync", "app.kubernetes.io/component": COMPONENT}
_DATA: Final = "drift"
_FIELDS: Final = 10
_PATH_CHARS: Final = 200
_NAME_CHARS: Final = 128
_MESSAGE_CHARS: Final = 300
_PAGE: Final = 100  # records at once; each may have 64 KiB
_APART: Final = 3  # so many equal entries of one object stay apart
_FOLD_WITHIN: Final = timedelta(minutes=10)
_OPEN_ACTIONS: Final = frozenset({Action.REPORTED, Action.FAILED, Action.DELAYED})
_OWN_END: Final = {DriftKind.UNMANAGED, DriftKind.CLAIMED}  # ended by a report of their own kind


def entry_of(report: DriftReport) -> Entry:
    """A report as it is kept."""
    by = report.attribution
    entry: Entry = {
        "object": report.object.as_json(),
        "kind": report.kind.value,
        "action": report.action.value,
        "mode": report.mode.value,
        "fields": [
            {"path": _cut(c.path, _PATH_CHARS), "old": redact(c.old), "new": redact(c.new)}
            | ({"manager": _cut(c.manager, _NAME_CHARS)} if c.manager else {})
            for c in report.fields[:_FIELDS]
        ],
        "manager": _cut(by.manager, _NAME_CHARS),
        "changedAt": by.time,
        "timeSource": by.time_source.value,
        "seenAt": moment(report.seen_at) if report.seen_at else by.time,
        "count": 1,
    }
    optional = {
        "moreFields": max(0, len(report.fields) - _FIELDS),
        "operation": by.operation,
        "subresource": by.subresource,
        "candidates": [_cut(name, _NAME_CHARS) for name in by.candidates],
        "place": _cut(report.place, _PATH_CHARS),
        "correctedAt": moment(report.done_at) if report.done_at else "",
        "latencySeconds": round(report.latency_s, 3) if report.latency_s is not None else None,
        "message": _cut(redact(report.message), _MESSAGE_CHARS) if _needs_words(report) else "",
    }
    return {**entry, **{key: value for key, value in optional.items() if value not in ("", 0, [], None)}}


def _needs_words(report: DriftReport) -> bool:
    """Whether the sentence says more than the entry: why it failed, or that it was found at the start."""
    return report.action in _OPEN_ACTIONS or (report.kind is DriftKind.MODIFIED and not report.fields)


def moment(at: datetime) -> str:
    """A time of ours, in milliseconds: corrections take less than a second."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def object_of(entry: Mapping[str, Any]) -> ObjectId:
    """Which object an entry is about."""
    found = entry.get("object")
    part = found if isinstance(found, dict) else {}
    return ObjectId(*(str(part.get(key) or "") for key in ("group", "kind", "namespace", "name")))


def is_open(entry: Mapping[str, Any]) -> bool:
    """Whether what the entry says is so now: reported and neither corrected nor over."""
    return entry.get("action") in _OPEN_ACTIONS and not entry.get("correctedAt") and not entry.get("endedAt")


def fold(entries: Sequence[Entry], new: Entry) -> list[Entry]:
    """The record after one more entry. The input is left as it is."""
    out = [dict(entry) for entry in entries]
    if new["action"] == Action.ENDED:
        _close(out, new, "endedAt", new["seenAt"])
        return out
    if new["action"] == Action.CORRECTED:
        failed = _close(out, new, "correctedAt", str(new.get("correctedAt") or new["seenAt"]))
        if failed is not None and failed["action"] != Action.DELAYED and _same(failed, new):
            # The correction that failed at first: one thing that happened, not two.
            failed.update({key: new[key] for key in ("action", "latencySeconds") if key in new})
            return _trimmed(out)
    mine = [entry for entry in out if entry.get("object") == new["object"]]
    last = mine[-1] if mine else None
    if last is not None and is_open(last) and is_open(new) and _same(last, new) and last["fields"] == new["fields"]:
        return out  # known, and still so
    if new["action"] == Action.REPORTED and new["kind"] not in _OWN_END:
        # Each report of what is not corrected says all that differs by then.
        followed = _close(out, new, "endedAt", new["seenAt"])
        if followed is not None:
            followed["followed"] = True
    if len(mine) >= _APART and all(_same(entry, new) and _recent(entry, new) for entry in mine[-_APART:]):
        count, first = _count(mine[-1]) + 1, mine[-1].get("firstSeenAt") or mine[-1]["seenAt"]
        mine[-1].update({**new, "count": count, "firstSeenAt": first})
        out.remove(mine[-1])
        out.append(mine[-1])
        return _trimmed(out)
    return _trimmed([*out, new])


def _close(entries: Iterable[Entry], new: Entry, key: str, at: str) -> Entry | None:
    """Mark what is open of the object as over; the latest of these."""
    closed = None
    own = {kind for kind in _OWN_END if kind == new["kind"]}
    for entry in entries:
        if entry.get("object") != new["object"] or not is_open(entry):
            continue
        if entry.get("kind") in _OWN_END and entry.get("kind") not in own:
            continue
        if own and entry.get("kind") not in own:
            continue
        entry[key] = at
        closed = entry
    return closed


def _same(one: Entry, other: Entry) -> bool:
    def marks(entry: Entry) -> tuple[Any, ...]:
        paths = tuple(str(item.get("path")) for item in entry.get("fields") or ())
        return entry.get("kind"), entry.get("manager"), entry.get("subresource"), paths

    return marks(one) == marks(other)


def _recent(entry: Entry, new: Entry) -> bool:
    before, now = parse_rfc3339(str(entry.get("seenAt"))), parse_rfc3339(str(new.get("seenAt")))
    return before is not None and now is not None and now - before <= _FOLD_WITHIN


def _count(entry: Entry) -> int:
    found = entry.get("count")
    return found if isinstance(found, int) else 1


def _trimmed(entries: list[Entry]) -> list[Entry]:
    """The latest that fit."""
    size, start = 0, len(entries)
    while start > 0 and len(entries) - start < DRIFT_RECORD_ENTRIES:
        size += len(_line(entries[start - 1])) + 1
        if size > DRIFT_RECORD_BYTES:
            break
        start -= 1
    return entries[start:]


def _line(entry: Entry) -> bytes:
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def write_lines(entries: Iterable[Entry]) -> str:
    """The text of a record."""
    return b"\n".join(_line(entry) for entry in entries).decode()


def read_lines(text: str) -> list[Entry]:
    """The entries of a record; lines that are none are left out, for whoever may write here may write anything."""
    found: list[Entry] = []
    for line in text.splitlines()[-DRIFT_RECORD_ENTRIES:]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and _sound(entry):
            found.append(entry)
    return found


def _sound(entry: Entry) -> bool:
    """Whether it has the parts that are relied on."""
    fields = entry.get("fields")
    return (
        isinstance(entry.get("object"), dict)
        and isinstance(fields, list)
        and all(isinstance(item, dict) for item in fields)
        and all(isinstance(entry.get(key), str) for key in ("kind", "action", "seenAt"))
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """A record as the cluster has it; `version` is empty if there is none yet."""

    entries: tuple[Entry, ...] = ()
    version: str = ""


class DriftRecords:
    """The records in one agent's namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self.collection = f"/api/v1/namespaces/{segment(namespace)}/configmaps"

    def read(self, sync: str) -> Kept:
        """The record of a sync (`namespace/name`).

        Raises:
            AccessDenied: the namespace of the agent may not be read.
            Unavailable, ClusterRefused: it can't be known.
        """
        answer = self._cluster.request("GET", f"{self.collection}/{record_name(sync)}")
        if answer.status == 404:
            return Kept()
        return _kept(_checked(answer, self._namespace))

    def all(self) -> dict[str, tuple[Entry, ...]]:
        """Every record by its sync.

        Raises:
            AccessDenied, Unavailable, ClusterRefused: as `read`.
        """
        selector = ("labelSelector", f"app.kubernetes.io/component={COMPONENT}")
        records: dict[str, tuple[Entry, ...]] = {}
        query: list[tuple[str, str]] = [selector, ("limit", str(_PAGE))]
        while True:
            answer = self._cluster.request("GET", self.collection, query=query)
            found = _checked(answer, self._namespace)
            records.update(map(self.of, found.get("items") or ()))
            more = str((found.get("metadata") or {}).get("continue") or "")
            if not more:
                records.pop("", None)
                return records
            query = [selector, ("limit", str(_PAGE)), ("continue", more)]

    @staticmethod
    def of(document: Mapping[str, Any]) -> tuple[str, tuple[Entry, ...]]:
        """Sync and entries of a record's ConfigMap; the sync is empty if it does not say one."""
        sync = str(((document.get("metadata") or {}).get("annotations") or {}).get(SYNC_ANNOTATION) or "")
        return sync, _kept(document).entries

    def require_namespace(self) -> None:
        """Tell an agent's namespace without records from one that does not exist.

        Raises:
            NotFound: there is no such namespace.
        """
        answer = self._cluster.request("GET", f"/api/v1/namespaces/{segment(self._namespace)}")
        if answer.status == 404:
            message = f"there is no namespace {self._namespace}: no agent keeps its records there"
            raise NotFound(message, hint="name the agent's namespace with --agent-namespace")

    def write(self, sync: str, entries: Sequence[Entry], version: str) -> bool:
        """Replace the record that had `version`; False if it has another one now.

        Raises:
            Unavailable, ClusterRefused, AccessDenied: it was not written.
        """
        metadata: JsonObject = {
            "name": record_name(sync),
            "namespace": self._namespace,
            "labels": _LABELS,
            "annotations": {SYNC_ANNOTATION: sync},
        }
        if version:
            metadata["resourceVersion"] = version
        document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {_DATA: write_lines(entries)},
        }
        method, path = ("PUT", f"{self.collection}/{record_name(sync)}") if version else ("POST", self.collection)
        answer = self._cluster.request(method, path, body=json.dumps(document).encode(), content_type=JSON)
        if answer.status in {404, 409}:
            return False
        _checked(answer, self._namespace)
        return True

    def delete(self, sync: str) -> None:
        """Forget a sync that is gone.

        Raises:
            Unavailable, ClusterRefused, AccessDenied: it could not be deleted.
        """
        answer = self._cluster.request("DELETE", f"{self.collection}/{record_name(sync)}")
        if answer.status != 404:
            _checked(answer, self._namespace)


def record_name(sync: str) -> str:
    """The name of a sync's record."""
    return f"ocisync-drift-{hashlib.sha256(sync.encode()).hexdigest()[:32]}"


def _kept(document: Mapping[str, Any]) -> Kept:
    data = document.get("data")
    text = data.get(_DATA) if isinstance(data, dict) else None
    version = str((document.get("metadata") or {}).get("resourceVersion") or "")
    return Kept(tuple(read_lines(text if isinstance(text, str) else "")), version)


def _checked(answer: Response, namespace: str) -> JsonObject:
    if answer.status < 300:
        found: JsonObject = json.loads(answer.body)
        return found
    text = f"drift record in {namespace}: HTTP {answer.status} {answer.body[:200].decode(errors='replace')}"
    if answer.status in {401, 403}:
        raise AccessDenied(text, hint=f"reading ConfigMaps in the agent's namespace {namespace} is needed")
    if answer.status == 429 or answer.status >= 500:
        raise Unavailable(text)
    raise ClusterRefused(text)


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"
