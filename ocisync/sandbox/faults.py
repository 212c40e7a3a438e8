"""Injected faults: what goes wrong on the wire, when, and how often.

A fault matches a method and a regular expression searched in the request target (path and query). The first
matching fault that still has counts left is taken. Faults are consumed in the order in which they were added:

    fault = registry.faults.add(r"/manifests/", method="GET", count=2, action=Status(503, {"Retry-After":
    "1"})) held = registry.faults.add(r"/blobs/", action=Delay())     # held until held.release()

| action | what the client sees |
|---|---|
| `Status` | this status, headers and body; the service never sees the request |
| `Delay` | nothing until `release()` (or the timeout), then the normal answer |
| `Reset` | a TCP reset before the service sees the request |
| `LoseAnswer` | the service does the work, then the connection is reset without an answer |
| `Truncate` | the right head, then only the first bytes of the body, then the end of the connection |
| `Corrupt` | the right answer with one byte of the body inverted |
| `Endless` | the body followed by more and more bytes, without end |
| `Relabel` | the right answer under other headers |
| `Misreport` | the right answer, but `Content-Length` is so many bytes off |
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Status:
    """Answer with a status of its own."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Delay:
    """Hold the request until released, at most `timeout_s` seconds."""

    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection before the request is handled."""


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """Handle the request, then reset the connection instead of answering."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Send only the first `after` bytes of the body, then hang up."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class Corrupt:
    """Invert the byte at `offset` of the body."""

    offset: int = 0


@dataclass(frozen=True, slots=True)
class Endless:
    """Follow the body with this chunk again and again."""

    chunk: bytes = b"\0" * 65536


@dataclass(frozen=True, slots=True)
class Relabel:
    """Replace or add headers of the answer."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Misreport:
    """Add `by` to the announced length; the body is not changed. The connection is closed behind it."""

    by: int = -1


Action = Status | Delay | Reset | LoseAnswer | Truncate | Corrupt | Endless | Relabel | Misreport


class Fault:
    """One programmed fault; `hits` tells how often it struck."""

    def __init__(self, path: str, method: str | None, count: int | None, action: Action) -> None:
        """Program a fault; use `Faults.add`."""
        self.action = action
        self.method = method
        self.hits = 0
        self._pattern = re.compile(path)
        self._left = count
        self._released = threading.Event()

    def matches(self, method: str, target: str) -> bool:
        """Whether this fault still has counts and wants this request."""
        if self._left == 0 or (self.method is not None and self.method != method):
            return False
        return self._pattern.search(target) is not None

    def strike(self) -> None:
        """Use up one count."""
        self.hits += 1
        if self._left is not None:
            self._left -= 1

    def release(self) -> None:
        """Let held requests go on, now and later."""
        self._released.set()

    def wait(self, timeout_s: float) -> None:
        """Block until released."""
        self._released.wait(timeout_s)


class Faults:
    """The programmed faults of one server."""

    def __init__(self) -> None:
        """Start without faults."""
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, path: str, *, action: Action, method: str | None = None, count: int | None = 1) -> Fault:
        """Program a fault for the next `count` matching requests (None: until removed)."""
        fault = Fault(path, method, count, action)
        with self._lock:
            self._faults.append(fault)
        return fault

    def take(self, method: str, target: str) -> Fault | None:
        """Return the fault that strikes this request, using up one count."""
        if not self._faults:
            return None
        with self._lock:
            for fault in self._faults:
                if fault.matches(method, target):
                    fault.strike()
                    return fault
        return None

    def remove(self, fault: Fault) -> None:
        """Forget one fault and release what it holds."""
        with self._lock:
            if fault in self._faults:
                self._faults.remove(fault)
        fault.release()

    def clear(self) -> None:
        """Forget all faults and release what they hold."""
        self.release_all()
        with self._lock:
            self._faults.clear()

    def release_all(self) -> None:
        """Let all held requests go on."""
        with self._lock:
            for fault in self._faults:
                fault.release()
