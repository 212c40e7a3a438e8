"""`ocisync push --watch`: each save of the work tree is pushed, and a development cluster is asked to take it.

What is pushed is the work tree, so its revision is marked `-dirty` when it differs from the commit. Findings, a
registry that is away and the like are shown and end nothing: the next save is the next try (an outage is tried again
without one). Ctrl-C ends it.

Release keys never sign here by accident. Without `--sign-key`, a development key signs that was made for this machine
on first use; with one, `--sign-each-save` must be there as well.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import output
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import cluster_options, environment
from ocisync.model.errors import (
    AccessDenied,
    InvalidInput,
    NotFound,
    OcisyncError,
    Refused,
    Unavailable,
    UsageError,
)
from ocisync.model.ref import Place, is_semver_tag
from ocisync.model.values import dataclass

if TYPE_CHECKING:
    from ocisync.flows.publish import PublishResult, Source
    from ocisync.flows.sign import AnySigner
    from ocisync.kit.watching import Watcher
    from ocisync.signing.keys import Signer

_RETRY_S = 5.0  # after an outage
_LOOK_S = 0.5
_RECONCILED_S = 120.0  # then the next save matters more
_KEY_NAME = "development"

PushOnce = Callable[["Source", tuple["AnySigner", ...], Callable[[str], None]], "PublishResult"]


@dataclass(frozen=True, slots=True)
class WatchFlags:
    """What the command line says about watching."""

    watch: bool
    sign_each_save: bool
    reconcile: str
    kubeconfig: Path | None
    context: str


def watch_options(function: Any) -> Any:
    """Add --watch and what belongs to it."""
    options = (
        click.option(
            "--watch", is_flag=True, help="Push the work tree at each save, until interrupted. For development."
        ),
        click.option(
            "--sign-each-save", is_flag=True, help="With --watch: let --sign-key sign what nobody has reviewed."
        ),
        click.option(
            "--reconcile",
            default="",
            metavar="NAMESPACE/NAME",
            help="With --watch: ask this sync of a development cluster to take each push.",
        ),
        cluster_options,
    )
    for option in reversed(options):
        function = option(function)
    return function


def taken_from(flags: dict[str, Any]) -> WatchFlags:
    """Take the values of these flags out of a command's arguments."""
    names = ("watch", "sign_each_save", "reconcile", "kubeconfig", "context")
    return WatchFlags(**{name: flags.pop(name) for name in names})


def check(
    flags: WatchFlags, path: str, targets: list[Place], source: dict[str, Any], *, with_key: bool, force_tag: bool
) -> None:
    """Refuse what makes no sense before anything is read.

    Raises:
        UsageError: flags that contradict each other or `--watch`.
        NotFound: no such directory.
        Refused: a key that was not meant for this.
    """
    if not flags.watch:
        for name, value in (("--sign-each-save", flags.sign_each_save), ("--reconcile", flags.reconcile)):
            if value:
                raise UsageError(f"{name} belongs to --watch", hint="add --watch, or leave it out")
        return
    if path == "-" or source["rev"] != "HEAD":
        raise UsageError("--watch pushes the work tree: neither stdin nor a commit can be saved", hint="name a PATH")
    if not Path(path).is_dir():
        raise NotFound(f"no directory {path} to watch")
    tags = [target.tag for target in targets if target.tag]
    if not tags:
        raise UsageError("--watch needs a tag that may move", hint=f"write {targets[0]}:dev")
    for tag in tags:
        if is_semver_tag(tag) and not force_tag:
            raise UsageError(f"tag {tag} is a version, which never moves; --watch moves its tag at each save")
    if flags.reconcile and flags.reconcile.count("/") != 1:
        raise UsageError(f"--reconcile: {flags.reconcile!r} is not NAMESPACE/NAME")
    if with_key and not flags.sign_each_save:
        raise Refused(
            "--watch does not sign every save with --sign-key: what it pushes, nobody has committed or reviewed",
            reason="ReleaseKey",
            hint="leave --sign-key out (a development key signs then), or add --sign-each-save",
        )


def run(
    flags: WatchFlags,
    path: str,
    source: dict[str, Any],
    signers: tuple[AnySigner, ...],
    push: PushOnce,
    form: str,
    *,
    quiet: bool,
) -> None:
    """Push now, and again after each change, until interrupted."""
    from ocisync.flows.publish import Source
    from ocisync.kit.watching import Watcher

    if not signers:
        signers = (development_key(quiet=quiet),)
    if source["use_git"]:
        source = {**source, "allow_dirty": True}
    elif not source["revision"]:
        source = {**source, "revision": "local"}
    files = Source(environ=environment(), path=Path(path), **source)
    loop = _Loop(flags, lambda step: push(files, signers, step), form, quiet=quiet)
    with Watcher(Path(path)) as watcher:
        again = loop.cycle(watcher, first=True)
        if not quiet:
            output.note(f"watching {path}; Ctrl-C ends it")
        while True:
            watcher.wait(_RETRY_S if again else None)
            again = loop.cycle(watcher)


class _Loop:
    def __init__(
        self, flags: WatchFlags, push: Callable[[Callable[[str], None]], PublishResult], form: str, *, quiet: bool
    ) -> None:
        self._flags = flags
        self._push = push
        self._form = form
        self._quiet = quiet
        self._warned: tuple[str, ...] = ()
        self._failed = ""

    def cycle(self, watcher: Watcher, *, first: bool = False) -> bool:
        """Push once and say so in one line; True if it shall be tried again without a save."""
        try:
            with output.progress("Publishing", quiet=self._quiet) as step:
                result = self._push(step)
            self._failed = ""
            self._tell(result)
            if self._flags.reconcile:
                self._reconcile(watcher)
        except (OcisyncError, OSError) as error:
            # At the start, these are about what was typed.
            if first and isinstance(error, UsageError | NotFound | AccessDenied):
                raise
            again = isinstance(error, OcisyncError) and error.transient
            if not (again and str(error) == self._failed):  # an outage is one line, not one every few seconds
                self._tell_failure(error)
            self._failed = str(error)
            return again
        return False

    def _tell(self, result: PublishResult) -> None:
        warnings = (*map(str, result.warnings), *result.notes)
        if not self._quiet and warnings != self._warned:
            for text in warnings:
                output.warning_text(text)
        self._warned = warnings
        state = "unchanged" if result.unchanged else "would publish" if result.dry_run else "published"
        if self._form == "text":
            self._line(f"{state}  {result.reference}  {result.revision}  {result.objects} objects")
        elif self._form == "name":
            output.write(result.reference)
        else:
            self._document(result.as_json())

    def _tell_failure(self, error: OcisyncError | OSError) -> None:
        if self._form in {"json", "yaml"}:
            findings = [str(item) for item in error.findings] if isinstance(error, InvalidInput) else []
            message = error.message if isinstance(error, OcisyncError) else str(error)
            self._document({"error": output.redact(message), "findings": [output.redact(text) for text in findings]})
        if isinstance(error, OcisyncError):
            output.render_error(error)
        else:
            output.error_text(f"{error.filename or ''}: {error.strerror or error}")

    def _document(self, answer: dict[str, object]) -> None:
        if self._form == "json":
            output.write(json.dumps({"time": _now().isoformat(timespec="seconds"), **answer}))  # one line for each
        else:
            output.write("---")
            output.emit(answer, "yaml", text=str)

    def _line(self, text: str) -> None:
        output.write(output.plain(f"{_now():%H:%M:%S}  {text}"))

    def _reconcile(self, watcher: Watcher) -> None:
        """Ask the sync, and say what came of it unless the next save comes first."""
        from ocisync.cli.syncs import Syncs, came_to_an_end, conditions, ready_word
        from ocisync.model.spec import REQUESTED_AT

        namespace, _, name = self._flags.reconcile.partition("/")
        syncs = Syncs(self._flags.kubeconfig, self._flags.context)
        wanted = SystemClock().now().isoformat(timespec="microseconds").replace("+00:00", "Z")
        syncs.annotate(namespace, name, {REQUESTED_AT: wanted})
        deadline = time.monotonic() + _RECONCILED_S
        while time.monotonic() < deadline and not watcher.wait(_LOOK_S, keep=True):
            sync = syncs.one(namespace, name)
            if (sync.get("status") or {}).get("lastHandledReconcileAt") != wanted:
                continue
            if came_to_an_end(sync) is not None:
                ready = conditions(sync).get("Ready") or {}
                if self._form == "text":
                    self._line(f"{namespace}/{name}  Ready={ready_word(sync)}  {ready.get('message')}")
                return
        if not watcher.changed:
            raise Unavailable(
                f"{namespace}/{name} has not come to an end", hint=f"ocisync status {name} -n {namespace}"
            )


def _now() -> datetime:
    return SystemClock().now().astimezone()


# The development key ------------------------------------------------------------------------------------------------


def development_key(*, quiet: bool) -> Signer:
    """The key of this machine for what only development clusters trust; made on first use.

    Raises:
        Refused: other users can read it.
    """
    from ocisync.kit import atomic
    from ocisync.signing import keys

    private = state_directory(environment()) / f"{_KEY_NAME}.key"
    public = private.with_suffix(".pub")
    made = False
    if not private.exists():
        private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = _create(private, keys.dump_private(keys.generate("ecdsa-p256"), password=None))
    if private.stat().st_mode & 0o077:
        raise Refused(f"{private} can be read by other users", hint=f"chmod 600 {private}")
    signer = keys.load_private(private.read_bytes(), None, name=str(private))
    pem = signer.public.pem.encode()
    if not public.exists() or public.read_bytes() != pem:
        atomic.write_bytes(public, pem)
    if made and not quiet:
        output.note(f"made a development key, {public}; only development clusters may trust it:")
        output.hint_text(
            f"kubectl -n ocisync-system create secret generic development-pub --from-file=cosign.pub={public}"
        )
    return signer


def _create(path: Path, data: bytes) -> bool:
    """Create a file that only its owner can read, whole or not at all; False if another process was faster."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    finally:
        Path(temporary).unlink()
    return True


def state_directory(environ: dict[str, str]) -> Path:
    """`$XDG_STATE_HOME/ocisync`, by default below the home directory."""
    given = environ.get("XDG_STATE_HOME", "")
    base = Path(given) if given.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return base / "ocisync"
