"""The answer to `ocisync why` for people."""

from __future__ import annotations

from collections.abc import Iterator

from ocisync.cli import output
from ocisync.cli.drifttext import lines as drift_lines
from ocisync.flows.whyanswer import Answer


def render(answer: Answer) -> Iterator[str]:
    """Line by line: the answer first, then what it rests on."""
    head = str(answer.object) + (f"  {answer.field}" if answer.field else "")
    yield output.plain(head)
    for sentence in answer.text:
        if sentence:
            yield output.plain(f"  {sentence}")
    yield from map(output.plain, _artifact(answer))
    if not answer.field:
        yield from map(output.plain, _managers(answer))
        if answer.differing:
            yield "  differs from Git"
            yield from (output.plain(f"    {line}") for line in answer.differing)
    if answer.drift:
        yield "  changed outside GitOps"
        for one in answer.drift:
            for line in drift_lines(one, with_sync=False):
                yield f"    {line}"
    for problem in answer.problems:
        yield output.plain(f"  not known: {problem}")


def _artifact(answer: Answer) -> Iterator[str]:
    owner, content = answer.owner, answer.content
    if owner is None:
        return
    applied = owner.artifact()
    revision = content.revision if content else str(applied.get("revision") or "")
    digest = content.digest if content else str(applied.get("digest") or "")
    signers = content.signers if content else tuple(map(str, applied.get("signers") or ()))
    yield f"  {'revision':<10}  {revision or '(unknown)'}"
    if content and content.source:
        yield f"  {'source':<10}  {content.source}"
    once = owner.once
    if owner.directory:
        yield f"  {'directory':<10}  {owner.directory}"
    elif content or once is None or once.record is not None:
        name = f"{content.repository or '(layout)'}@{digest}" if content else digest
        yield f"  {'artifact':<10}  {name or '(nothing is applied)'}"
        verified = "as the agent verified" if once is None else "as ocisync apply verified"
        judged = "verified now" if content and content.judged else verified
        yield f"  {'signed by':<10}  {', '.join(signers) or '(unknown)'} ({judged})"
    account = f" as {owner.account}" if owner.account else ""
    when = f", changed last at {answer.applied_at}" if answer.applied_at else ""
    who = f", run last by {once.run_by}" if once and once.run_by else ""
    yield f"  {'applied by':<10}  {owner.title}{account}{when}{who}"


def _managers(answer: Answer) -> Iterator[str]:
    yield "  managers"
    for holder in answer.holders:
        how = f"{holder.operation}{f', {holder.subresource}' if holder.subresource else ''}"
        when = holder.time or "time not recorded"
        yield f"    {holder.manager} ({how}): {holder.fields} fields, {when}"
