"""Waiting for something to become true, with a deadline and a message that says what was seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def eventually(
    predicate: Callable[[], Seen],
    timeout_s: float = 120.0,
    what: str = "",
    interval_s: float = 0.05,
) -> Seen:
    """Calls until the answer is truthy and returns that answer.

    An ``AssertionError``, ``OSError`` or ``LookupError`` from the predicate counts as "not yet": a
    server that is starting refuses connections, an object that is coming has no status. Anything
    else is a mistake in the test and passes through at once.

    Raises:
        AssertionError: The deadline passed; names what was awaited and what was last seen.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        last: object
        try:
            seen = predicate()
        except (AssertionError, OSError, LookupError) as error:
            last = error
        else:
            if seen:
                return seen
            last = seen
        if time.monotonic() >= deadline:
            awaited = what or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"not within {timeout_s:g} s: {awaited}; last seen: {last!r}")
        time.sleep(interval_s)
