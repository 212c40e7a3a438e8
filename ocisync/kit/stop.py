"""One way to stop everything: a token that loops check and waits end early on."""

from __future__ import annotations

import threading

from ocisync.model.errors import Interrupted


class StopToken:
    """Set once, never cleared. Every loop takes one; every wait goes through `wait`."""

    def __init__(self) -> None:
        self._event = threading.Event()

    @property
    def stopped(self) -> bool:
        """Whether someone asked to stop."""
        return self._event.is_set()

    def stop(self) -> None:
        """Ask everything that holds this token to end."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Sleep up to `seconds`; True if stopped meanwhile."""
        return self._event.wait(seconds)

    def check(self) -> None:
        """Raise `Interrupted` when stopped."""
        if self._event.is_set():
            raise Interrupted("stopped before the work was done")
