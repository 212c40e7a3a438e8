"""Who asked for what: exact counters and the most recent requests.

Tests assert on counts ("a poll without change costs one HEAD", "the agent wrote nothing"), so the counters
never forget; only the list of single requests is bounded.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

KEPT: Final = 20_000  # single requests remembered; counters are exact beyond it


@dataclass(frozen=True, slots=True)
class Entry:
    """One answered request. `verb`, `resource`, `user` are empty where a service does not set them."""

    method: str
    target: str
    status: int  # 0: reset by a fault
    user_agent: str
    verb: str = ""
    resource: str = ""  # API: plural.group; registry: the route (blob, manifest, upload, tags, referrers, …)
    user: str = ""  # impersonated user
    namespace: str = ""
    name: str = ""


_Key = tuple[str, str, str, str, str, int]  # method, verb, resource, user agent, user, status


class RequestLog:
    """Thread-safe record of requests."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._counts: Counter[_Key] = Counter()
        self._recent: deque[Entry] = deque(maxlen=KEPT)

    def add(self, method: str, target: str, status: int, user_agent: str, labels: Mapping[str, str]) -> None:
        """Record one request."""
        entry = Entry(
            method,
            target,
            status,
            user_agent,
            labels.get("verb", ""),
            labels.get("resource", ""),
            labels.get("user", ""),
            labels.get("namespace", ""),
            labels.get("name", ""),
        )
        key = (method, entry.verb, entry.resource, user_agent, entry.user, status)
        with self._lock:
            self._counts[key] += 1
            self._recent.append(entry)

    def count(
        self,
        *,
        method: str | None = None,
        verb: str | None = None,
        resource: str | None = None,
        user_agent: str | None = None,
        user: str | None = None,
        status: int | None = None,
    ) -> int:
        """Count requests; `user_agent` matches as a prefix, the others exactly."""
        wanted = (method, verb, resource, None, user, status)
        with self._lock:
            return sum(
                number
                for key, number in self._counts.items()
                if all(want is None or want == have for want, have in zip(wanted, key, strict=True))
                and (user_agent is None or key[3].startswith(user_agent))
            )

    def entries(self) -> tuple[Entry, ...]:
        """Return the remembered requests, oldest first."""
        with self._lock:
            return tuple(self._recent)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._counts.clear()
            self._recent.clear()

    def snapshot(self) -> dict[str, object]:
        """Return the counters as JSON-able rows, for `GET /_sandbox/requests`."""
        columns = ("method", "verb", "resource", "userAgent", "user", "status")
        with self._lock:
            rows = [
                dict(zip(columns, key, strict=True)) | {"count": number} for key, number in sorted(self._counts.items())
            ]
        return {"total": sum(int(str(row["count"])) for row in rows), "requests": rows}
