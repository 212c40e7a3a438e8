"""What a registry does not have is not asked for again and again: one API, remembered for a minute.

A registry without the referrers API answers 404 to each question for it, which is half of all requests of a mirror's
walk. One 404 proves little: a repository that does not exist yet, a manifest that is gone and a proxy with a bad moment
answer so, too. So several in a row are wanted, none of which speaks of something unknown but the address itself; one
good answer, ever, and nothing is remembered any more. The minute is for registries that are upgraded meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

MISSES = 3
REMEMBERED_S = 60.0
_ABOUT_CONTENT = ("NAME_UNKNOWN", "MANIFEST_UNKNOWN", "NOT_FOUND")


class Absence:
    """Whether the API is known to be missing; safe for many threads."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._misses = 0
        self._until = 0.0
        self._proven = False

    @property
    def known(self) -> bool:
        """Whether asking is in vain."""
        with self._lock:
            return self._misses >= MISSES and self._monotonic() < self._until

    def missed(self, said: str) -> None:
        """A question was answered with 404 and these words."""
        with self._lock:
            if self._proven or any(word in said for word in _ABOUT_CONTENT):
                return
            self._misses += 1
            self._until = self._monotonic() + REMEMBERED_S

    def there(self) -> None:
        """A question was answered."""
        with self._lock:
            self._proven, self._misses = True, 0
