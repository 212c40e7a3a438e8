"""`ocisync wait`: until exactly this artifact is applied and healthy, for CI; with the rollout on stderr."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ocisync.cli import output
from ocisync.cli.following import Duration, Following
from ocisync.cli.options import cluster_options, common_options
from ocisync.cli.syncs import Syncs, conditions, namespace_option, ready_word
from ocisync.flows.outcome import Reason
from ocisync.model.digest import is_digest
from ocisync.model.errors import ExitCode, Unavailable, UsageError
from ocisync.model.resource import JsonObject
from ocisync.model.values import dataclass

_COMMIT = re.compile(r"[0-9a-f]{7,40}\Z")
_ENDS = frozenset({Reason.HEALTH_TIMEOUT.value, Reason.HEALTH_FAILED.value})
_NOTHING_MOVES = frozenset({Reason.SUSPENDED.value, Reason.PAUSED.value, Reason.INVALID_SPEC.value})


@dataclass(frozen=True, slots=True)
class Wish:
    """What is waited for. Without digest and revision: whatever the registry offers."""

    digest: str = ""
    revision: str = ""
    condition: str = "Ready"

    @property
    def named(self) -> bool:
        """Whether it is a certain artifact."""
        return bool(self.digest or self.revision)

    def means(self, artifact: Any) -> bool:
        """Whether a part of a status names the artifact."""
        if not isinstance(artifact, Mapping):
            return False
        if self.digest:
            return artifact.get("digest") == self.digest
        revision = str(artifact.get("revision") or "")
        if revision == self.revision:
            return True
        commit = self.revision.rpartition(":")[2] if "@sha1:" not in self.revision else ""
        return bool(_COMMIT.match(commit)) and revision.rpartition("@sha1:")[2].startswith(commit)

    def __str__(self) -> str:
        """For messages."""
        return self.digest or self.revision or "what the registry offers"


@dataclass(frozen=True, slots=True)
class End:
    """The answer, in an exit code and words."""

    code: ExitCode
    text: str


@click.command("wait")
@click.argument("name")
@namespace_option("Namespace (default: the context's).")
@click.option("--digest", default="", metavar="DIGEST", help="Wait for this artifact, as push printed it.")
@click.option(
    "--revision", default="", metavar="REVISION", help="Wait for this revision, or commit (7 digits or more)."
)
@click.option(
    "--for", "condition", type=click.Choice(["Ready", "Healthy", "Verified", "Deleted"]), default="Ready",
    show_default=True, help="What to wait for.",
)  # fmt: skip
@click.option("--timeout", "timeout_s", type=Duration(), default="10m", show_default=True, help="The longest wait.")
@cluster_options
@common_options
def command(
    name: str, namespace: str, digest: str, revision: str, condition: str, timeout_s: float,
    kubeconfig: Path | None, context: str, quiet: bool,
) -> int:  # fmt: skip
    """Wait until a sync has applied an artifact and all of it is healthy. The rollout is told on stderr as it moves.

    Ends at once when the artifact is refused, held, gone back from, or has failed for good. An artifact that was
    healthy and made way for a newer one counts.

    \b
    Examples:
      ocisync wait shop -n apps
      ocisync wait shop -n apps --digest sha256:… --timeout 15m
      ocisync wait shop -n apps --revision "$GITHUB_SHA"

    \b
    Exit codes:
      0 there · 1 failed or held · 4 refused by policy · 5 no such sync · 7 not there in time
    """
    if digest and revision:
        raise UsageError("--digest and --revision name one artifact twice", hint="give one of them")
    if digest and not is_digest(digest):
        raise UsageError(f"--digest: {digest!r} is no digest", hint="push -o json prints it: sha256: and 64 digits")
    wish = Wish(digest, revision, condition)
    syncs = Syncs(kubeconfig, context)
    namespace = namespace or syncs.default_namespace
    name = name.removeprefix("artifactsync/")
    last = ""
    with output.progress(f"waiting for {namespace}/{name}", quiet=quiet) as step:
        for sync in Following(syncs, time.monotonic, time.sleep).states(namespace, name, timeout_s):
            end = judge(sync, wish)
            if end is not None:
                return _say(namespace, name, end, quiet=quiet)
            text = standing(sync or {}, wish)
            if text != last:
                step(text)
                if not quiet and not output.shows_progress():
                    output.note(f"{namespace}/{name}: {text}")
            last = text
    raise Unavailable(
        f"{namespace}/{name}: {wish} is not {condition} after {timeout_s:.0f} s: {last}",
        hint=f"ocisync status {name} --namespace {namespace}; is an agent running?",
    )


def judge(sync: JsonObject | None, wish: Wish) -> End | None:
    """Whether the waiting is over. Pure."""
    if sync is None:
        code = ExitCode.OK if wish.condition == "Deleted" else ExitCode.NOT_FOUND
        return End(code, "the sync was deleted")
    if wish.condition == "Deleted":
        return None
    status: Mapping[str, Any] = sync.get("status") or {}
    found = conditions(sync)
    ready = found.get("Ready") or {}
    words = f"{ready.get('reason')}: {ready.get('message')}"
    if status.get("observedGeneration") != sync["metadata"].get("generation"):
        return None
    if wish.condition != "Ready":
        good = (found.get(wish.condition) or {}).get("status") == "True"
        if good and (not wish.named or wish.means(status.get("applied"))):
            return End(ExitCode.OK, str((found.get(wish.condition) or {}).get("message")))
    elif ready_word(sync) == "True" and (not wish.named or wish.means(status.get("applied"))):
        return End(ExitCode.OK, words)
    return _past(status, wish) or _refused(status, found, wish, words)


def _past(status: Mapping[str, Any], wish: Wish) -> End | None:
    """What became of an artifact that is not the present one."""
    left: Mapping[str, Any] = status.get("quarantine") or {}
    if wish.named and wish.means(left):
        return End(ExitCode.FAILED, f"{left.get('reason')}: {left.get('message')}; it was gone back from")
    if not wish.named or wish.means(status.get("source")):
        return None
    for item in status.get("history") or ():
        if wish.means(item) and item.get("outcome") == "Succeeded":
            now = (status.get("applied") or {}).get("digest")
            return End(ExitCode.OK, f"it was applied and healthy at {item.get('time')}; {now} came after it")
        if wish.means(item) and item.get("outcome") in {"Failed", "Left"}:
            return End(ExitCode.FAILED, f"it was applied at {item.get('time')}, and gone back from")
    return None


def _refused(status: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]], wish: Wish, words: str) -> End | None:
    ready = found.get("Ready") or {}
    if ready.get("reason") in _NOTHING_MOVES:
        return End(ExitCode.FAILED, words)
    meant = not wish.named or wish.means(status.get("lastAttempted")) or wish.means(status.get("source"))
    if not meant:
        return None
    if (found.get("Stalled") or {}).get("status") == "True":
        refused = (found.get("Verified") or {}).get("status") == "False"
        return End(ExitCode.REFUSED if refused else ExitCode.FAILED, words)
    if ready.get("status") == "False" and ready.get("reason") in _ENDS:
        return End(ExitCode.FAILED, words)
    return None


def standing(sync: JsonObject, wish: Wish) -> str:
    """How it stands, in one line."""
    status: Mapping[str, Any] = sync.get("status") or {}
    if status.get("observedGeneration") != (sync.get("metadata") or {}).get("generation"):
        return "the agent has not seen this spec yet"
    source, inventory = status.get("source") or {}, status.get("inventory") or {}
    if wish.named and source and not wish.means(source) and not wish.means(status.get("lastAttempted")):
        return f"the registry offers {source.get('revision') or source.get('digest')}; waiting for {wish}"
    message = str((conditions(sync).get("Ready") or {}).get("message") or "not seen by an agent yet")
    if "objects healthy" in message:
        return message
    return f"{message} ({inventory.get('ready', 0)} of {inventory.get('objects', 0)} objects healthy)"


def _say(namespace: str, name: str, end: End, *, quiet: bool) -> int:
    text = f"{namespace}/{name}: {end.text}"
    if end.code is not ExitCode.OK:
        output.error_text(text)
        output.hint_text(f"ocisync status {name} --namespace {namespace}")
    elif not quiet:
        output.note(text)
    return int(end.code)
