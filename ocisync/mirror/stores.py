"""The stores of one run: each repository and layout is opened once and closed at the end.

Used in a `with` block: a layout in a tar file is written at its end, and stays as it was after an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from ocisync.model.ref import Place

if TYPE_CHECKING:
    from ocisync.oci.client import RegistryStore
    from ocisync.oci.layout import LayoutStore

    OpenPlace = Callable[[Place], RegistryStore | LayoutStore]


class Stores:
    """Opened stores by location; safe for many threads."""

    def __init__(self, open_place: OpenPlace) -> None:
        self._open = open_place
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._opened: dict[str, RegistryStore | LayoutStore] = {}

    def __enter__(self) -> Stores:
        """Use and close."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close all of them."""
        self._stack.__exit__(kind, error, at)

    def at(self, place: Place) -> RegistryStore | LayoutStore:
        """The store of a place; its tag and digest do not matter."""
        with self._lock:
            found = self._opened.get(place.location)
            if found is None:
                found = self._opened[place.location] = self._open(place)
                self._stack.enter_context(found)
            return found
