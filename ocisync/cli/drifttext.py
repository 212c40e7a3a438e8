"""Entries of the drift record for people: what, by whom, when, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ocisync.cli import output
from ocisync.flows.drifthistory import Drifted
from ocisync.model.clock import parse_rfc3339

_KINDS = {
    "Modified": "modified {who}",
    "Deleted": "deleted {who}",
    "Replaced": "deleted and created anew {who}",
    "LabelRemoved": "membership label removed {who}",
    "Claimed": "claimed for another owner {who}",
    "UnmanagedChange": "fields that Git does not name were added {who}",
    "DriftFight": "changed again and again {who}",
}


def lines(one: Drifted, *, with_sync: bool) -> Iterator[str]:
    """One entry: a line for what and who, one for each field, one for what became of it."""
    entry = one.entry
    at = parse_rfc3339(str(entry.get("seenAt") or ""))
    shown = f"{at:%Y-%m-%d %H:%M:%S}Z" if at else "(time unknown)"
    sync = f"  ({one.sync})" if with_sync else ""
    if entry.get("source") == "Event":
        yield output.plain(f"{shown}  {entry.get('message')}{_times(entry)}{sync}")
        return
    if entry.get("kind") == "Modified" and not entry.get("fields") and entry.get("message"):
        yield output.plain(f"    {str(entry['message']).removeprefix(f'{one.object} ')}{_times(entry)}")
        return
    what = _KINDS.get(str(entry.get("kind")), "changed {who}").replace("{who}", _who(entry))
    place = f"  [{entry['place']}]" if entry.get("place") else ""
    yield output.plain(f"{shown}  {one.object}{place}{sync}")
    yield output.plain(f"    {what}{_changed(entry, at)}{_times(entry)}")
    for item in entry.get("fields") or ():
        values = f"  {item.get('old')} → {item.get('new')}" if item.get("old") or item.get("new") else ""
        yield output.plain(f"      {item.get('path')}{values}")
    if entry.get("moreFields"):
        yield output.plain(f"      and {entry['moreFields']} more fields")
    yield output.plain(f"    {_outcome(one)}")


def _who(entry: dict[str, Any]) -> str:
    if entry.get("manager"):
        return f"by {entry['manager']}" + (f" ({entry['subresource']})" if entry.get("subresource") else "")
    candidates = [str(name) for name in entry.get("candidates") or ()]
    return "by unknown" + (f"; candidates: {', '.join(candidates)}" if candidates else "")


def _changed(entry: dict[str, Any], seen: datetime | None) -> str:
    """When it happened, if Kubernetes recorded another moment than that at which it was seen."""
    at = parse_rfc3339(str(entry.get("changedAt") or ""))
    if at is None or entry.get("timeSource") == "Seen" or (seen is not None and at == seen.replace(microsecond=0)):
        return ""
    return f" at {at:%H:%M:%S}Z"


def _times(entry: dict[str, Any]) -> str:
    count = entry.get("count")
    if not isinstance(count, int) or count < 2:
        return ""
    since = parse_rfc3339(str(entry.get("firstSeenAt") or ""))
    return f", {count} times" + (f" since {since:%H:%M:%S}Z" if since else "")


def _outcome(one: Drifted) -> str:
    entry = one.entry
    took = entry.get("latencySeconds")
    after = f" after {took:.2f} s" if isinstance(took, int | float) else ""
    if entry.get("correctedAt"):
        return f"corrected{after}" if after else f"corrected at {entry['correctedAt']}"
    if entry.get("followed"):
        return "not corrected, and followed by what is told next of it"
    if entry.get("endedAt"):
        return f"over since {entry['endedAt']}, not corrected by us"
    match entry.get("action"):
        case "Corrected":
            return "corrected"
        case "Failed":
            return f"NOT corrected, tried again: {entry.get('message', '')}"
        case "Delayed":
            return "NOT corrected yet: corrections wait longer and longer, because someone changes it each time"
        case _ if entry.get("kind") in {"UnmanagedChange", "Claimed"}:
            return "left alone, and still so"
        case _:
            return f"NOT corrected: drift.mode is {entry.get('mode', 'Warn')}"
