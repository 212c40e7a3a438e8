"""What a push tells the CI system that it runs in: a summary for people, values for later steps.

GitHub Actions (Gitea and Forgejo alike) name two files in the environment, to which a step appends: Markdown in
`GITHUB_STEP_SUMMARY`, `name=value` lines in `GITHUB_OUTPUT`. Elsewhere, other systems can set the same variables. The
push is done when this is written, so nothing here makes it fail: what cannot be written is a warning.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ocisync.cli import output

if TYPE_CHECKING:
    from ocisync.flows.publish import PublishResult

SUMMARY = "GITHUB_STEP_SUMMARY"
OUTPUT = "GITHUB_OUTPUT"
_MAX_REMARKS = 20  # a job page has room for few


def tell(result: PublishResult, environ: Mapping[str, str]) -> None:
    """Append to the files that the environment names, if it names any."""
    for variable, make in ((SUMMARY, markdown), (OUTPUT, outputs)):
        name = environ.get(variable, "")
        if name:
            try:
                _append(name, make(result))
            except (OSError, ValueError) as error:
                output.warning_text(f"{variable}: cannot write to {name}: {error}")


def outputs(result: PublishResult) -> str:
    """The lines of `GITHUB_OUTPUT`."""
    values = {
        "digest": result.digest,
        "reference": result.reference,
        "repository": result.repository,
        "tags": " ".join(result.tags),
        "content-digest": result.content_digest,
        "revision": result.revision,
        "unchanged": str(result.unchanged).lower(),
    }
    # A line feed in a value would begin another output.
    return "".join(f"{name}={output.plain(value)}\n" for name, value in values.items())


def markdown(result: PublishResult) -> str:
    """The text of `GITHUB_STEP_SUMMARY`."""
    state = "unchanged" if result.unchanged else "would publish" if result.dry_run else "published"
    keys = sorted({f"{item.signer} ({item.format.value})" for item in result.signatures})
    rows = {
        "reference": _code([result.reference]),
        "tags": _code(result.tags) or "none",
        "revision": _code([result.revision]),
        "content": f"{result.objects} objects in {result.files} files, {result.layer_bytes:,} bytes packed",
        "signed": _code(keys) or "**no**",
    }
    lines = [f"### ocisync push: {state}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    remarks = [*map(str, result.warnings), *result.notes]
    if remarks:
        lines += ["", *(f"- {_code([remark])}" for remark in remarks[:_MAX_REMARKS])]
    if len(remarks) > _MAX_REMARKS:
        lines.append(f"- … and {len(remarks) - _MAX_REMARKS} more")
    return "\n".join([*lines, "", ""])


def _code(texts: Iterable[str]) -> str:
    """Foreign text as code: no links, no HTML, no end of the table's cell."""
    clean = (output.plain(output.redact(text)).replace("`", "'").replace("|", "\\|") for text in texts)
    return " ".join(f"`{text}`" for text in clean)


def _append(name: str, text: str) -> None:
    # Not blocking: a pipe that nobody reads must not hold the job.
    descriptor = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        file.write(text.encode(errors="backslashreplace"))
