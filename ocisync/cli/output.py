"""What people and programs read: data on stdout, everything else on stderr.

Colours and progress appear only on terminals and never with `NO_COLOR`. Errors have one form everywhere:

    error: what happened, naming the reference, file:line or digest
      file.yaml:3:1: each finding on its own line
    next:  the command to type now
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

import click

from ocisync.kit import plaintext
from ocisync.model.errors import InvalidInput, OcisyncError

plain = plaintext.plain
_MAX_FINDINGS = 200  # a screen can't hold more; `-o json` has them all


def redact(text: str) -> str:
    """Take credentials out of a text. Logging is imported with it, which `--help` shall not wait for."""
    from ocisync.kit import log

    return log.redact(text)


def _line(text: str) -> str:
    return plain(redact(text))


def write(text: str, *, newline: bool = True) -> bool:
    """Write to stdout; False when its reader went away just now.

    A reader that went away (`| head`) is no error, and no success either: the command goes on, and its exit code is the
    one that it would have had. Only what would go on for ever ends.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        click.echo(text.encode(encoding, "backslashreplace").decode(encoding), nl=newline)
    except BrokenPipeError:
        _silence(sys.stdout)
        return False
    except OSError as error:
        if error.filename is None:
            error.filename = "stdout"
        _silence(sys.stdout)
        raise
    return True


def tell(text: str) -> None:
    """Write a line to stderr, as it is; if nobody reads it any more (`2>&1 | head`), as with `write`."""
    try:
        click.echo(text, err=True)
    except BrokenPipeError:
        _silence(sys.stderr)


def hang_up() -> None:
    """At the end of a command: what nobody reads must not fail once more, without a word, when Python ends."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None or stream.closed:  # by the caller (`>&-`)
            continue
        try:
            stream.flush()
        except OSError:  # of a full disk, too: that has been told
            _silence(stream)


def _silence(stream: TextIO) -> None:
    """What is left in the buffer, and what comes, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _colour(stream: object) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)()) and "NO_COLOR" not in os.environ


def styled(text: str, colour: str, *, bold: bool = False, stderr: bool = True) -> str:
    """Colour `text` if the stream is a terminal that wants colours."""
    return click.style(text, fg=colour, bold=bold) if _colour(sys.stderr if stderr else sys.stdout) else text


def note(text: str) -> None:
    """One line on stderr for a person."""
    tell(_line(text))


def error_text(text: str) -> None:
    """The error line."""
    tell(styled("error: ", "red", bold=True) + _line(text))


def warning_text(text: str) -> None:
    """A warning line."""
    tell(styled("warning: ", "yellow", bold=True) + _line(text))


def hint_text(text: str) -> None:
    """The line that says what to do next."""
    tell(styled("next:  ", "cyan") + _line(text))


def render_error(error: OcisyncError) -> None:
    """Write an error, its findings and its hint to stderr."""
    error_text(error.message)
    if isinstance(error, InvalidInput):
        # One finding is often the message itself.
        told = [finding for finding in error.findings if str(finding) != error.message]
        for finding in told[:_MAX_FINDINGS]:
            tell(f"  {plaintext.plain_start(redact(str(finding)))}")
        if len(told) > _MAX_FINDINGS:
            tell(f"  … and {len(told) - _MAX_FINDINGS} more")
    if error.hint:
        hint_text(error.hint)


def render_defect(error: Exception) -> None:
    """One line for an error that we did not foresee; the traceback only in debug logs (`-vv`)."""
    from ocisync.kit.log import logger

    logger("cli").error("unexpected error", error=error)
    error_text(f"this is a defect in ocisync: {type(error).__name__}: {error}")
    hint_text("run it again with -vv and report what it prints")


def emit(data: Mapping[str, Any], form: str, *, text: Callable[[], str], name: str = "") -> None:
    """Write a command's answer to stdout in the form the user chose.

    Args:
        data: the JSON and YAML form.
        form: `text`, `json`, `yaml` or `name`.
        text: makes the form for people; called only when needed.
        name: the one line of `-o name`.
    """
    if form == "json":
        # Escapes of JSON's own where the terminal's encoding is not UTF-8.
        utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
        write(plaintext.plain_json(json.dumps(data, indent=2, ensure_ascii=not utf8)))
    elif form == "yaml":
        from ocisync.kit import yamlio

        write(yamlio.dump(data), newline=False)
    elif form == "name":
        write(name)
    else:
        write(text())


def shows_progress() -> bool:
    """Whether steps are shown on a terminal already."""
    return _colour(sys.stderr)


@contextmanager
def progress(description: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show a spinner with the current step on a terminal; nothing elsewhere. Yields the function that names a step."""
    if quiet or not _colour(sys.stderr):
        yield lambda _step: None
        return
    from rich.console import Console

    with Console(stderr=True).status(description) as status:
        yield lambda step: status.update(f"{description}: {step}")


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a transfer tells: its step, its size, and bytes that were moved (negative: to be moved again)."""

    step: Callable[[str], None]
    total: Callable[[int], None]
    moved: Callable[[int], None]


@contextmanager
def transfer(description: str, *, quiet: bool) -> Iterator[Transfer]:
    """Show a bar with bytes, speed and remaining time on a terminal; nothing elsewhere."""
    if quiet or not _colour(sys.stderr):
        yield Transfer(lambda _step: None, lambda _total: None, lambda _moved: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield Transfer(
            lambda step: bar.update(task, description=f"{description}: {plain(step)[:60]}".replace("[", "\\[")),
            lambda total: bar.update(task, total=total),
            lambda moved: bar.advance(task, moved),
        )


def table(rows: list[tuple[str, ...]], headers: tuple[str, ...]) -> str:
    """Align columns with two spaces between, as kubectl does."""
    everything = [headers, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(headers))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in everything
    )
