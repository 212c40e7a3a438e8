"""What glibc's allocator is told, so that an agent is small again after a big pass. Elsewhere all of this does nothing.

musl and macOS have neither call: there the agent works the same and keeps more of the memory of its biggest pass.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from typing import Final

_M_ARENA_MAX: Final = -8  # of malloc.h
_ARENAS: Final = 2


def few_arenas() -> None:
    """Before threads start: each would get a heap of its own that never shrinks, for a few busy seconds."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return the garbage of a big pass to the system: an idle agent must be small again."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
