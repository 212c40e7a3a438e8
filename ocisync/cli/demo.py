"""`ocisync demo`: the story, narrated."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from ocisync.cli import output
from ocisync.cli.options import common_options
from ocisync.demo.stage import Stage
from ocisync.demo.story import STEPS, Step, Told, prepare
from ocisync.model.errors import NotFound, OcisyncError


@click.command("demo")
@click.option("--pause", is_flag=True, help="Wait for Enter after each step.")
@click.option("--keep", is_flag=True, help="Keep the directory with logs, keys and the Git repository.")
@common_options
def command(pause: bool, keep: bool, quiet: bool) -> None:
    """Tell the whole story with the real command line and agent, on the sandbox.

    A registry and a small Kubernetes API run on loopback; a shop is published, synced, changed, disturbed, attacked,
    rolled back and rebuilt. Every step checks what it shows: the exit code is not 0 if any of it fails.

    \b
    Examples:
      ocisync demo
      ocisync demo --pause
      ocisync demo --keep
    """
    if shutil.which("git") is None:
        raise NotFound("git is not installed", hint="install git, then: ocisync demo")
    directory = Path(tempfile.mkdtemp(prefix="ocisync-demo-"))
    started = time.monotonic()
    finished = False
    try:
        _play(directory, pause=pause and sys.stdin.isatty())
        finished = True
    finally:
        if keep or not finished:
            output.note(f"kept: {directory} (agent.log, sandbox.log, git/)")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    click.echo(f"\n{_mark()} {len(STEPS)} steps in {time.monotonic() - started:.0f} s")
    if not quiet:
        output.hint_text("ocisync sandbox     (keep one running, with kubectl on it)")
        output.hint_text("ocisync push --help (publish your own)")


def _mark() -> str:
    return output.styled("✓", "green", bold=True, stderr=False)


def _play(directory: Path, *, pause: bool) -> None:
    click.echo("ocisync demo: a registry and a small Kubernetes API on loopback. Nothing leaves this machine.\n")
    with Stage(directory) as stage:
        before = time.monotonic()
        prepare(stage)
        click.echo(
            f"{_mark()} set up: keys, a Git repository, registry, API and agent  ({time.monotonic() - before:.1f} s)"
        )
        for number, step in enumerate(STEPS, start=1):
            _tell(stage, number, step)
            if pause:
                click.prompt("   Enter", default="", show_default=False, prompt_suffix=" …")


def _tell(stage: Stage, number: int, step: Step) -> None:
    click.echo(f"\n{output.styled(f'{number}  {step.title}', 'cyan', bold=True, stderr=False)}\n   {step.why}")
    try:
        told = step.run(stage)
    except OcisyncError as error:
        click.echo(f" {output.styled('✗', 'red', bold=True, stderr=False)} {step.title}")
        raise type(error)(f"step {number}, {step.title}: {error.message}", hint=error.hint) from error
    _write(told)


def _write(told: Told) -> None:
    for line in told.commands:
        click.echo(f"   {output.styled('$', 'yellow', stderr=False) + ' ' if not line.startswith('(') else ''}{line}")
    for line in told.lines:
        click.echo(f"     {line}")
    if told.what:
        click.echo(f" {_mark()} {told.seconds:.2f} s {told.what}")
