"""A bounded parallel map on threads: order kept, first error raised after the running calls ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def map_bounded(function: Callable[[_In], _Out], items: Iterable[_In], *, workers: int) -> list[_Out]:
    """Return `[function(item) for item in items]`, at most `workers` at a time. Ctrl-C waits for no running call."""
    work = list(items)
    if len(work) <= 1 or workers <= 1:
        return [function(item) for item in work]
    executor = ThreadPoolExecutor(max_workers=min(workers, len(work)))
    try:
        results = list(executor.map(function, work))
    except BaseException as error:
        executor.shutdown(wait=not isinstance(error, KeyboardInterrupt), cancel_futures=True)
        raise
    executor.shutdown()
    return results
