"""Notice that files below a directory changed, in bursts: one wake-up for a save of many files.

The operating system tells (inotify and its like). Where it cannot (network file systems, a directory that was deleted
and made again), a look at names, sizes and times every few seconds does. Events are hints and nothing else: whoever is
woken reads the files anew. Files of editors, version control and tool caches do not count. No link is followed in a
look, so a loop of links costs nothing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ocisync.kit.stop import StopToken

# Milliseconds without another event that end a burst, and the longest burst: a save of 50 files is one of these.
QUIET_MS: Final = 150
BURST_MS: Final = 1_600
# Seconds after which the files are looked at although no event came.
LOOK_S: Final = 2.0

_REST = 100  # looks without an event take at most a hundredth of the time, however many files there are
_ABSENT_S = 0.2  # between two looks for a directory that is not there
_ENTRIES = 200_000  # twice what an artifact may hold; beyond it, only what lies within counts
_EDITORS = ("~", ".swp", ".swx", ".swo", ".tmp", ".bak")

Snapshot = frozenset[tuple[str, int, int, int]]


class Watcher:
    """Watches one directory in a thread. Use as a context manager; changes before it began do not count."""

    def __init__(self, directory: Path, *, look_s: float = LOOK_S) -> None:
        self._directory = directory
        self._look_s = look_s
        self._stop = StopToken()
        self._changed = threading.Event()
        self._error: BaseException | None = None
        self._known = snapshot(directory)
        self._next_look = 0.0
        self._thread = threading.Thread(target=self._run, name="watch-files", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.stop()
        self._thread.join(timeout=self._look_s + 5)

    @property
    def changed(self) -> bool:
        """Whether something changed since the last `wait` that said so."""
        return self._changed.is_set()

    def wait(self, seconds: float | None = None, *, keep: bool = False) -> bool:
        """Wait for a change, at most `seconds`; tell whether there was one. Interruptible by signals.

        With `keep`, the change is not taken: the next `wait` tells of it as well.

        Raises:
            RuntimeError: the watching thread died.
        """
        found = self._changed.wait(seconds)
        if not keep:
            self._changed.clear()
        if self._error is not None:
            raise RuntimeError(f"watching {self._directory} failed") from self._error
        return found

    def _run(self) -> None:
        try:
            while not self._stop.stopped:
                for told in _wakeups(self._directory, self._stop, self._look_s):
                    if told or time.monotonic() >= self._next_look:
                        self._look()
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits
            self._error = error
            self._changed.set()

    def _look(self) -> None:
        before = time.monotonic()
        seen = snapshot(self._directory)
        after = time.monotonic()
        self._next_look = after + (after - before) * _REST
        if seen != self._known:
            self._known = seen
            self._changed.set()


def snapshot(directory: Path) -> Snapshot:
    """Names, sizes, times and inodes of what lies below `directory` and counts; links are not followed."""
    found: set[tuple[str, int, int, int]] = set()
    pending = [str(directory)]
    while pending and len(found) < _ENTRIES:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if _counts(entry.name):
                        found.add(_look(entry, pending))
        except OSError:  # deleted while we look, or not ours to read: whoever reads the files will say so
            continue
    return frozenset(found)


def _look(entry: os.DirEntry[str], pending: list[str]) -> tuple[str, int, int, int]:
    if entry.is_dir(follow_symlinks=False):
        pending.append(entry.path)
        return entry.path, 0, 0, 0
    status = entry.stat(follow_symlinks=False)
    return entry.path, status.st_size, status.st_mtime_ns, status.st_ino


def _counts(name: str) -> bool:
    from watchfiles import DefaultFilter

    # 4913: how vim tries whether it may write here.
    return not (name in DefaultFilter.ignore_dirs or name.endswith(_EDITORS) or name.startswith(".#") or name == "4913")


def _wakeups(directory: Path, stop: StopToken, look_s: float) -> Iterator[bool]:
    """Yield after each burst of events (True) and each `look_s`, until stopped or the directory is another one."""
    identity = _identity(directory)
    if identity is None:
        stop.wait(_ABSENT_S)
        yield True
        return
    from watchfiles import watch

    try:
        for events in watch(
            directory,
            watch_filter=None,
            debounce=BURST_MS,
            step=QUIET_MS,
            rust_timeout=int(look_s * 1000),
            yield_on_timeout=True,
            stop_event=_Event(stop),
            ignore_permission_denied=True,
        ):
            same = _identity(directory) == identity
            yield bool(events) or not same
            if not same:
                return
    except (OSError, RuntimeError):  # no watches left, or it went away this moment: looking still works
        stop.wait(look_s)
        yield False


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        status = directory.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class _Event:
    """A stop token in the form that watchfiles asks for."""

    def __init__(self, stop: StopToken) -> None:
        self._stop = stop

    def is_set(self) -> bool:
        return self._stop.stopped
