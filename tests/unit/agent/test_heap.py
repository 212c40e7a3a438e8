"""What the allocator is told: garbage is collected, and a system whose allocator cannot be told loses nothing."""

from __future__ import annotations

import gc
import weakref

import pytest

from ocisync.agent import heap


class Node:
    """Something that refers to itself."""

    def __init__(self) -> None:
        self.myself = self


def test_giving_back_collects_what_refers_to_itself() -> None:
    heap.few_arenas()
    gc.disable()
    try:
        gone = weakref.ref(Node())
        assert gone() is not None
        heap.give_back()
        assert gone() is None
    finally:
        gc.enable()


def test_where_the_allocator_has_no_such_calls_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        """A C library without them."""

    monkeypatch.setattr("ctypes.CDLL", lambda _: Musl())
    heap.few_arenas()
    heap.give_back()
