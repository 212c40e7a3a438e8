"""What the API server was asked: its audit log, one event for each finished request.

    mark = audit.mark()
    …
    assert audit.count(since=mark, user_agent="ocisync", verb="patch") == 0

The log is written before a request is answered, so a count after an answer includes that request.
Watches are counted when they end.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
"""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One request as the API server saw it. ``resource`` is empty for paths like /version.

    Attributes:
        received: when its head had been read, by the server's clock.
        finished: when it was answered.
    """

    user: str
    user_agent: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    uri: str
    code: int
    received: datetime
    finished: datetime


class AuditLog:
    """Reads the audit log of a running API server."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mark(self) -> int:
        """The present end of the log, to count from later."""
        return self.path.stat().st_size if self.path.exists() else 0

    def events(
        self,
        *,
        since: int = 0,
        user_agent: str | None = None,
        user: str | None = None,
        verb: str | None = None,
        resource: str | None = None,
        namespace: str | None = None,
        name: str | None = None,
    ) -> tuple[AuditEvent, ...]:
        """Requests since a mark. ``user_agent`` and ``user`` match a part, the rest exactly."""
        exact = {"verb": verb, "resource": resource, "namespace": namespace, "name": name}
        parts = {"user_agent": user_agent, "user": user}
        return tuple(
            event
            for event in self._read(since)
            if all(value is None or getattr(event, key) == value for key, value in exact.items())
            and all(value is None or value in getattr(event, key) for key, value in parts.items())
        )

    def count(
        self,
        *,
        since: int = 0,
        user_agent: str | None = None,
        user: str | None = None,
        verb: str | None = None,
        resource: str | None = None,
        namespace: str | None = None,
        name: str | None = None,
    ) -> int:
        """How many requests match."""
        return len(
            self.events(
                since=since, user_agent=user_agent, user=user, verb=verb,
                resource=resource, namespace=namespace, name=name,
            )
        )  # fmt: skip

    def by_verb_and_resource(self, *, since: int = 0, user_agent: str | None = None) -> Counter[str]:
        """Counts such as ``{"patch configmaps": 3, "get /version": 1}``; for messages of asserts."""
        return Counter(
            f"{event.verb} {event.resource or event.uri.partition('?')[0]}"
            for event in self.events(since=since, user_agent=user_agent)
        )

    def _read(self, since: int) -> list[AuditEvent]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as log:
            if since:
                log.seek(since - 1)
                log.readline()  # a line that was in the making at the mark is from before it
            # The last line may still be in the making.
            return [_event(json.loads(line)) for line in log if line.endswith(b"\n")]


def _event(raw: dict[str, Any]) -> AuditEvent:
    reference = raw.get("objectRef", {})
    return AuditEvent(
        user=raw.get("user", {}).get("username", ""),
        user_agent=raw.get("userAgent", ""),
        verb=raw.get("verb", ""),
        group=reference.get("apiGroup", ""),
        resource=reference.get("resource", ""),
        subresource=reference.get("subresource", ""),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        uri=raw.get("requestURI", ""),
        code=int(raw.get("responseStatus", {}).get("code", 0)),
        received=datetime.fromisoformat(raw["requestReceivedTimestamp"]),
        finished=datetime.fromisoformat(raw["stageTimestamp"]),
    )
