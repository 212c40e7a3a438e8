"""A cluster connection that answers from a table, and a clock that stands still."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from ocisync.cluster.client import Cluster, Endpoint, Response


class FakeClock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 23, 12, 0, tzinfo=UTC) + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed


class FakeCluster(Cluster):
    """Requests are recorded as (method, path, body) and answered by a function."""

    def __init__(self, answer: Callable[[str, str, Any], tuple[int, Any]]) -> None:
        super().__init__(lambda: Endpoint("http://test", None, lambda: ""), user_agent="test")  # type: ignore[arg-type]
        self.asked: list[tuple[str, str, Any]] = []
        self._answer = answer

    def request(self, method: str, path: str, **rest: Any) -> Response:
        body = json.loads(rest["body"]) if rest.get("body") else None
        self.asked.append((method, path, body))
        status, document = self._answer(method, path, body)
        return Response(status, {}, json.dumps(document).encode())
