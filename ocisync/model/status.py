"""Conditions and the words in them. Times are RFC 3339 strings, as Kubernetes stores them."""

from __future__ import annotations

from enum import StrEnum

from ocisync.model.values import dataclass


class ConditionType(StrEnum):
    """Conditions of an `ArtifactSync`. `Reconciling` and `Stalled` exist only when True (kstatus)."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    VERIFIED = "Verified"
    HEALTHY = "Healthy"
    FRESH = "Fresh"
    SOURCE_STALE = "SourceStale"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. `status` is `True`, `False` or `Unknown`."""

    type: str
    status: str
    reason: str
    message: str
    observed_generation: int
    last_transition_time: str = ""

    def as_dict(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "type": self.type,
            "status": self.status,
            "reason": self.reason,
            "message": self.message,
            "observedGeneration": self.observed_generation,
            "lastTransitionTime": self.last_transition_time,
        }
