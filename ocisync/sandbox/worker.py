"""A background thread that works off keys, each at most once in the queue; what the sandbox's controllers run on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from ocisync.sandbox.apierrors import ApiError


class Worker:
    """Calls `handle(key)` for each key that was added; a key added again while waiting counts once.

    A key whose handling ends in an ApiError (somebody else wrote first, the namespace is going) is dropped: the change
    that made it fail adds it again.
    """

    def __init__(self, name: str, handle: Callable[[Hashable], None]) -> None:
        """Prepare; nothing runs until `start`."""
        self._name = name
        self._handle = handle
        self._wake = threading.Condition()
        self._keys: dict[Hashable, float] = {}  # key -> monotonic time from which it may be handled
        self._busy = False
        self._stopped = True
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the key in hand."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def add(self, key: Hashable, delay_s: float = 0.0) -> None:
        """Ask for a key to be handled, now or after a delay; the earlier of two requests counts."""
        due = time.monotonic() + delay_s
        with self._wake:
            if due < self._keys.get(key, due + 1):
                self._keys[key] = due
                self._wake.notify_all()

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is in hand."""
        with self._wake:
            return not self._busy and not self._keys

    def clear(self) -> None:
        """Drop all waiting keys."""
        with self._wake:
            self._keys.clear()

    def _next(self) -> Hashable | None:
        with self._wake:
            self._busy = False
            self._wake.notify_all()
            while not self._stopped:
                now = time.monotonic()
                ready = next((key for key, due in self._keys.items() if due <= now), None)
                if ready is not None:
                    del self._keys[ready]
                    self._busy = True
                    return ready
                pause = min(self._keys.values()) - now if self._keys else None
                self._wake.wait(pause)
        return None

    def _run(self) -> None:
        while (key := self._next()) is not None:
            try:
                self._handle(key)
            except ApiError:
                continue
