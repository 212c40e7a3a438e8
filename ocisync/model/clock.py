"""Time comes in as a value: `Clock` is what front ends pass down and what tests replace."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall and monotonic time."""

    def now(self) -> datetime:
        """Aware UTC wall-clock time."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        ...


def parse_rfc3339(text: str) -> datetime | None:
    """Parse an RFC 3339 time into aware UTC; None if it is not one."""
    try:
        parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return parsed.astimezone(UTC) if parsed.tzinfo else None
    except (ValueError, OverflowError):  # overflow: year 1 or 9999 with an offset that leaves the calendar
        return None


def format_rfc3339(moment: datetime) -> str:
    """Format as Kubernetes does: seconds, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
