"""The flags that say which files: for every command that packs a directory, in a commit or as it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli.options import environment
from ocisync.model.errors import InvalidInput, UsageError
from ocisync.model.limits import YAML_BYTES

if TYPE_CHECKING:
    from ocisync.flows.publish import Source

NAMES = ("use_git", "revision", "rev", "ref", "source", "allow_dirty")


def source_options(function: Any) -> Any:
    """Add --rev, --ref, --source, --allow-dirty, --no-git and --revision."""
    options = (
        click.option("--rev", default="HEAD", show_default=True, help="Commit to read."),
        click.option(
            "--ref", default="", help="Branch or tag to name in the revision (default: CI variables, tag, branch)."
        ),
        click.option("--source", default="", help="URL of the Git repository to name (default: CI variables, remote)."),
        click.option(
            "--allow-dirty",
            is_flag=True,
            help="Read the work tree although it differs from the commit; marked -dirty.",
        ),
        click.option(
            "--no-git",
            "use_git",
            flag_value=False,
            default=True,
            type=bool,
            help="Read a plain directory; to publish it needs --revision.",
        ),
        click.option("--revision", default="", help="Name of content that is not from Git."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def taken_from(flags: dict[str, Any]) -> dict[str, Any]:
    """Take the values of these flags out of a command's arguments."""
    return {name: flags.pop(name) for name in NAMES}


def source_of(path: str, flags: dict[str, Any]) -> Source:
    """Where the files come from: `path`, or standard input for `-`.

    Raises:
        UsageError: standard input is closed.
        InvalidInput: it holds more than one file may.
    """
    from ocisync.flows.publish import Source

    if path != "-":
        return Source(environ=environment(), path=Path(path), **flags)
    if sys.stdin is None:  # closed by the caller (`<&-`)
        raise UsageError("stdin is closed: there is nothing to read", hint="kubectl kustomize DIR | ocisync push - …")
    data = sys.stdin.buffer.read(YAML_BYTES + 1)
    if len(data) > YAML_BYTES:
        raise InvalidInput(f"stdin holds more than {YAML_BYTES >> 20} MiB")
    return Source(environ=environment(), path=None, data=data, **{**flags, "use_git": False})
