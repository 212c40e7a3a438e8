"""Start something now, take its result later: for work that waits or computes outside the interpreter's lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_Result = TypeVar("_Result")


class Background(Generic[_Result]):
    """One call in a thread of its own. The thread does not keep the process alive."""

    def __init__(self, function: Callable[[], _Result], *, name: str) -> None:
        self._function = function
        self._results: list[_Result] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._function())
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            self._error = error

    def result(self) -> _Result:
        """Wait for the end; the result, or the exception raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]
