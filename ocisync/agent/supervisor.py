"""Groups of threads: started in order, stopped in the reverse order; a thread that dies ends the process.

A dead watch would hide drift for ever and a dead worker would stop syncs in silence, so both are worse than a restart:
the process exits non-zero and its orchestrator starts a new one, which begins with a full pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ocisync.kit.log import logger
from ocisync.kit.stop import StopToken
from ocisync.model.errors import LeaseLost

_LOG = logger("supervisor")
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Group:
    """Threads that begin and end together.

    Attributes:
        start: called before the threads run.
        loops: thread bodies by name; each returns when it is asked to stop.
        stop: makes the loops return; called from another thread.
        grace_s: how long their end is waited for.
    """

    name: str
    loops: Sequence[tuple[str, Callable[[], None]]] = ()
    start: Callable[[], None] | None = None
    stop: Callable[[], None] | None = None
    grace_s: float = 5.0


class Supervisor:
    """Runs groups until its stop token is set or a thread dies."""

    def __init__(self, groups: Sequence[Group], stop: StopToken) -> None:
        self._groups = tuple(groups)
        self._stop = stop
        self._lock = threading.Lock()
        self._crash = ""
        self._stopping = False
        self.stuck = False  # a thread did not end in time

    def run(self) -> int:
        """Start everything, wait, stop everything. Returns 0 after a stop that was asked for, else 1."""
        started: list[tuple[Group, list[threading.Thread]]] = []
        try:
            for group in self._groups:
                started.append((group, []))
                if group.start is not None:
                    group.start()
                for name, body in group.loops:
                    thread = threading.Thread(target=self._guard, args=(name, body), name=name, daemon=True)
                    started[-1][1].append(thread)
                    thread.start()
                if self._stop.stopped:
                    break
            while not self._stop.wait(1.0):
                pass
        finally:
            with self._lock:
                self._stopping = True
            for group, threads in reversed(started):
                self._end(group, threads)
        return 1 if self._crash else 0

    def crashed(self, name: str, error: BaseException) -> None:
        """Note that a thread died and stop everything; for threads that others started.

        A lost lease ends everything, too, but is no defect: it is one line, which says what happens next.
        """
        with self._lock:
            self._crash = self._crash or name
        if isinstance(error, LeaseLost):
            _LOG.warning("lease: lost", thread=name, text=error.message)
        else:
            _LOG.error("thread died", thread=name, error=error)
        self._stop.stop()

    def _guard(self, name: str, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - reported, and ends the process
            self.crashed(name, error)
            return
        with self._lock:
            expected = self._stopping or self._stop.stopped
        if not expected:
            self.crashed(name, RuntimeError("returned although nobody asked it to"))

    def _end(self, group: Group, threads: list[threading.Thread]) -> None:
        if group.stop is not None:
            group.stop()
        left_s = group.grace_s
        for thread in threads:
            left_s = ended(thread, left_s)
            if thread.is_alive():
                self.stuck = True
                _LOG.warning("thread did not end in time", thread=thread.name, group=group.name)


class Ending(Protocol):
    """What is asked of a thread."""

    def join(self, timeout: float) -> None:
        """Wait for its end."""

    def is_alive(self) -> bool:
        """Whether it still runs."""


def ended(thread: Ending, patience_s: float) -> float:
    """Wait for the end of a thread; the patience that is left.

    It is used up look by look and not by a clock: a process that was frozen meanwhile gave its threads no time to end.
    """
    while thread.is_alive() and patience_s > 0:
        thread.join(min(_LOOK_S, patience_s))
        if thread.is_alive():
            patience_s -= _LOOK_S
    return patience_s
