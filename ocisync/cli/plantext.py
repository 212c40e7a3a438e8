"""A plan, and what came of one, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ocisync.cli import output
from ocisync.cli.fieldtext import field_lines, styled

if TYPE_CHECKING:
    from ocisync.cluster.changes import Change
    from ocisync.flows.compare import Side
    from ocisync.flows.oneshot import Done
    from ocisync.flows.plan import Planned

_SIGNS = {
    "create": ("+", "green"), "configure": ("~", "yellow"), "adopt": ("~", "yellow"), "recreate": ("±", "red"),
    "prune": ("-", "red"), "conflict": ("!", "red"), "refused": ("!", "red"), "wait": ("!", "yellow"),
    "blocked": ("!", "yellow"), "orphan": ("=", "cyan"), "forget": ("=", "cyan"), "ending": ("=", "cyan"),
    "skip": ("=", "cyan"),
}  # fmt: skip
_WORDS = {
    "create": "to create", "configure": "to configure", "adopt": "to take over", "recreate": "to recreate",
    "unchanged": "unchanged", "prune": "to delete", "orphan": "kept", "forget": "forgotten", "ending": "ending",
    "skip": "skipped", "conflict": "in conflict", "wait": "waiting", "refused": "refused", "blocked": "blocked",
}  # fmt: skip
_LATER = {"created", "configured", "recreated", "deleted"}
_TAKEN = 5  # fields named of each manager


def plan_text(planned: Planned, *, fields: bool) -> str:
    """Every change but what stays as it is, then one line that sums up."""
    return "\n".join(_plan_lines(planned, fields=fields))


def _plan_lines(planned: Planned, *, fields: bool) -> Iterator[str]:
    yield f"{output.plain(planned.scope.name)}: {side_text(planned.side)}"
    for change in planned.preview.changes:
        if change.verb.value in _SIGNS:
            yield from _change_lines(change, fields=fields)
    yield summary(planned)
    if planned.preview.held:
        yield styled(output.plain(f"held: {planned.preview.held}  {planned.preview.hash}"), "red")


def side_text(side: Side) -> str:
    """What it is, its digest, its revision, who signed it."""
    parts = [side.name]
    if side.digest and side.digest not in side.name:
        parts.append(side.digest)
    if side.revision and side.revision != "local":
        parts.append(side.revision)
    if side.digest:
        parts.append(f"signed by {', '.join(side.signers)}" if side.signers else "NOT verified")
    return "  ".join(map(output.plain, parts))


def _change_lines(change: Change, *, fields: bool) -> Iterator[str]:
    verb = change.verb.value
    sign, colour = _SIGNS[verb]
    words = [f"{sign} {change.id}"]
    if verb not in {"create", "configure", "prune"}:
        words[0] += f": {_WORDS[verb].removeprefix('to ')}"
    if change.message:
        words[0] += f": {change.message}"
    if change.after is not None:
        words.append(f"(after {change.after})")
    if change.place:
        words.append(change.place)
    yield styled(output.plain("  ".join(words)), colour)
    if not fields:
        return
    for item in change.differences:
        yield from (f"    {line}" for line in field_lines(item.action, item.path, item.old, item.new))
    for take in change.takes:
        shown = ", ".join(take.fields[:_TAKEN])
        more = f" and {len(take.fields) - _TAKEN} more" if len(take.fields) > _TAKEN else ""
        yield f"    takes from {output.plain(take.manager or '(no name)')}: {output.plain(shown)}{more}"


def summary(planned: Planned) -> str:
    """How many objects meet which end."""
    counts = planned.preview.counts()
    text = ", ".join(f"{count} {_WORDS[verb]}" for verb, count in counts.items()) or "no objects"
    if not planned.differs:
        return f"no changes: {text}"
    if planned.preview.deferred:
        text += "; deletions wait until everything else can be applied"
    return text


def done_text(done: Done) -> str:
    """What was written, and what was not, then one line that sums up."""
    lines = [f"{output.plain(done.scope.name)}: {side_text(done.side)}"]
    for result in done.report.results:
        if result.failure is not None and result.action.value != "deleted":
            reason = f"{result.failure.error_class}: {result.failure.message}"
            lines.append(styled(output.plain(f"! {result.id}: {reason}  {result.place}".rstrip()), "red"))
        elif result.action.value in _LATER:
            held = "; a finalizer still holds it" if result.failure is not None else ""
            lines.append(output.plain(f"{result.id} {result.action.value}{held}"))
    lines += [output.plain(f"= {kept.id}: {kept.message}") for kept in done.report.kept]
    counts = ", ".join(f"{count} {word}" for word, count in done.counts().items()) or "no objects"
    lines.append(f"{counts}{'; deletions wait until everything is applied' if done.report.prune_deferred else ''}")
    return "\n".join(lines)
