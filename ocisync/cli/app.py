"""The root command: lazy sub-commands, one place that turns errors into text and exit codes.

A sub-command's module is imported only when it runs (or its own help is asked for), so `ocisync --help` imports
neither the registry nor the cluster libraries.
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import click

from ocisync.cli import output
from ocisync.model.errors import ExitCode, Interrupted, OcisyncError

# name → (module, one line of help). The order is that of a user's way through the product.
COMMANDS: dict[str, tuple[str, str]] = {
    "push": ("push", "Publish a commit's manifests as one signed artifact."),
    "sign": ("sign", "Sign an artifact that is in the registry already."),
    "attest": ("attest", "Attest something of an artifact: an SBOM, a scan, a report."),
    "validate": ("validate", "Check manifests as push checks them, offline."),
    "verify": ("verify", "Check an artifact's signatures against keys or a policy."),
    "inspect": ("inspect", "Show what an artifact is, where it came from and who signed it."),
    "list": ("list", "List the tags of a repository, newest version first."),
    "tag": ("tag", "Point tags to an artifact, signed for them: promotion and rollback."),
    "promote": ("promote", "The same as tag."),
    "pull": ("pull", "Write an artifact's files into a directory, verified."),
    "diff": ("diff", "Show what changes between two artifacts or directories, by object and field."),
    "mirror": ("mirror", "Move whole artifacts to other registries and layouts, signatures and images included."),
    "keys": ("keys", "Make and read signing keys."),
    "policy": ("policy", "Write, check and try trust policies."),
    "install": ("install", "Print or apply everything the agent needs in a cluster."),
    "agent": ("agent", "Run the agent that keeps a cluster equal to its artifacts."),
    "plan": ("plan", "Show what applying something would change in a cluster."),
    "apply": ("apply", "Make a cluster equal to a directory or an artifact, once, without an agent."),
    "status": ("status", "Show the syncs of a cluster and how they are doing."),
    "reconcile": ("reconcile", "Ask the agent to reconcile a sync now."),
    "why": ("why", "Say which file, commit, signer and apply put a value there, and who changed it since."),
    "drift": ("drift", "Show what was changed outside GitOps, by whom, and what became of it."),
    "wait": ("wait", "Wait until a sync has applied an artifact and it is healthy."),
    "history": ("history", "Show the artifacts that a sync has run."),
    "rollback": ("rollback", "Go back to an artifact of a sync's history."),
    "suspend": ("suspend", "Let nothing be written for a sync."),
    "resume": ("resume", "End the suspension of a sync."),
    "pause": ("pause", "Stop all writes in the cluster; the brake for incidents."),
    "approve": ("approve", "Approve the held plan of a sync, by its hash."),
    "sandbox": ("sandbox", "Run a registry and a small Kubernetes API on loopback."),
    "demo": ("demo", "See the whole story on the sandbox, in a minute."),
    "login": ("login", "Log in to a registry, for docker and podman too."),
    "logout": ("logout", "Forget the login to a registry."),
    "completion": ("completion", "Print the completion script for your shell."),
}

ROOT_HELP = """GitOps over OCI registries.

Git stays the source of truth: CI turns one commit into one signed artifact (`push`); a small agent in each cluster
pulls it, verifies it against a policy, applies it and keeps the cluster equal to it.

\b
Examples:
  ocisync demo
  ocisync keys generate release
  ocisync push deploy/ oci://registry.example/shop:1.4.0 --sign-key release.key
  ocisync verify oci://registry.example/shop:1.4.0 --key release.pub
  ocisync install --help

\b
Exit codes:
  0 ok · 1 failed · 2 usage · 3 differences · 4 refused by policy or immutability
  5 not found · 6 access denied · 7 try again · 8 cluster refused · 130 interrupted
"""


class _Unread(Exception):
    """The reader of a help text or a script went away. Click would answer a BrokenPipeError by ending the process."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and help lines without importing them."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the arguments; `--help` is answered here."""
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError as error:
            raise _Unread from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _Unread from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All command names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"ocisync.cli.{entry[0]}")
        command = module.command
        if not isinstance(command, click.Command):  # a programming error, found by the first test that runs it
            raise TypeError(f"ocisync.cli.{entry[0]}.command is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, so that help imports nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, naming close ones when there is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=2)
            if close and isinstance(error, click.UsageError):
                raise click.UsageError(f"no command {args[0]!r}; did you mean {' or '.join(close)}?", ctx) from error
            raise


@click.group(
    cls=LazyGroup, help=ROOT_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="ocisync", prog_name="ocisync", message="%(prog)s %(version)s")
def root() -> None:
    """Hold the sub-commands."""


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run(args: Sequence[str], **extra: Any) -> int:
    """Run one command line and return its exit code. Every error becomes one message on stderr, never a traceback."""
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        result = root.main(args=list(args), prog_name="ocisync", standalone_mode=False, **extra)
        if sys.stdout is not None:  # closed by the caller (`>&-`)
            sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        output.tell(error.format_message())
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        _render_usage(error)
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt, Interrupted, BrokenPipeError):  # Click ends the line of a ^C, read or not
        output.note("interrupted")
        return int(ExitCode.INTERRUPTED)
    except OcisyncError as error:
        output.render_error(error)
        return int(error.exit_code)
    except _Unread:
        return int(ExitCode.OK)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        output.error_text(f"{where}{error.strerror or error}")
        return int(ExitCode.NOT_FOUND if isinstance(error, FileNotFoundError) else ExitCode.FAILED)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a defect of ours still gets one clear line
        output.render_defect(error)
        return int(ExitCode.FAILED)
    finally:
        output.hang_up()
        signal.signal(signal.SIGTERM, previous)
    return int(result) if isinstance(result, int) else int(ExitCode.OK)


def _render_usage(error: click.ClickException) -> None:
    output.error_text(error.format_message())
    context = getattr(error, "ctx", None)
    if context is not None:
        output.hint_text(f"{context.command_path} --help")
