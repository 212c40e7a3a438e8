"""Counters and gauges, and their Prometheus text form. Small on purpose: no library, no global state.

metrics = Metrics()
metrics.count("ocisync_drift_total", sync="apps/shop", kind="Modified")
metrics.gauge("ocisync_queue_depth", 0)
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_HELP: dict[str, tuple[str, str]] = {
    "ocisync_reconcile_total": ("counter", "Passes over a sync, by outcome."),
    "ocisync_reconcile_seconds": ("summary", "Duration of passes over a sync."),
    "ocisync_objects": ("gauge", "Objects that a sync holds."),
    "ocisync_objects_ready": ("gauge", "Objects of a sync that are healthy."),
    "ocisync_ready": ("gauge", "1 if the sync is Ready, else 0."),
    "ocisync_verified": ("gauge", "1 if the latest digest of the sync is allowed by policy, else 0."),
    "ocisync_distrusted": ("gauge", "1 if a deny list stops every write of the sync, else 0."),
    "ocisync_refused_total": ("counter", "Refusals as they became known, by reason."),
    "ocisync_trust_changes_total": ("counter", "Policies, keys and trusted roots that changed."),
    "ocisync_suspended": ("gauge", "1 if the sync is suspended, else 0."),
    "ocisync_quarantined": ("gauge", "1 if what the registry offers failed here and is not run, else 0."),
    "ocisync_paused": ("gauge", "1 while an operator lets nothing be written, else 0."),
    "ocisync_pod_watches": ("gauge", "Workloads whose pods are watched because they do not progress."),
    "ocisync_drift_total": ("counter", "Changes made outside GitOps, by kind, what was done, and class of manager."),
    "ocisync_drift_correction_seconds": ("histogram", "From the moment a drift is seen to its correction."),
    "ocisync_drift_open": ("gauge", "Recorded drift of a sync that is not corrected."),
    "ocisync_drift_checks_total": ("counter", "No-op applies that settle what watches cannot show, by reason."),
    "ocisync_drift_reowned_total": ("counter", "Fields of equal value that were owned again."),
    "ocisync_drift_record_dropped_total": ("counter", "Entries of the drift record that could not be kept."),
    "ocisync_applied_total": ("counter", "Objects applied or deleted by passes, by action."),
    "ocisync_events_dropped_total": ("counter", "Kubernetes Events not sent: limits or errors."),
    "ocisync_api_throttled_total": ("counter", "Requests that the API server answered with 429."),
    "ocisync_queue_depth": ("gauge", "Syncs that are due and wait for a worker."),
    "ocisync_watches": ("gauge", "Kinds that are watched."),
    "ocisync_watch_problems": ("gauge", "Watches of owned kinds that do not run."),
    "ocisync_restores_total": ("counter", "How often etcd was restored from a backup while this process ran."),
    "ocisync_leader": ("gauge", "1 if this process holds the lease and may write, else 0; absent without a lease."),
    "ocisync_trust_policies": ("gauge", "Trust policies, by whether they can be used."),
}

NAMES = tuple(sorted(_HELP))

_Labels = tuple[tuple[str, str], ...]

_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """Thread-safe. Unknown names are a defect and raise at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, dict[_Labels, float]] = {name: {} for name in _HELP}
        self._sums: dict[tuple[str, _Labels], tuple[float, int]] = {}
        self._buckets: dict[tuple[str, _Labels], list[int]] = {}
        self._late: list[Callable[[], None]] = []

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            series = self._values[name]
            series[key] = series.get(key, 0) + amount

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._values[name][tuple(sorted(labels.items()))] = value

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add one duration."""
        key = (name, tuple(sorted(labels.items())))
        with self._lock:
            total, number = self._sums.get(key, (0.0, 0))
            self._sums[key] = (total + seconds, number + 1)
            if _HELP[name][0] == "histogram":
                counts = self._buckets.setdefault(key, [0] * len(_BUCKETS_S))
                for place, limit in enumerate(_BUCKETS_S):
                    counts[place] += seconds <= limit

    def before_render(self, update: Callable[[], None]) -> None:
        """Call `update` before each rendering, to set gauges that are cheap to ask for."""
        self._late.append(update)

    def forget(self, sync: str) -> None:
        """Drop every series of a sync that is gone."""
        with self._lock:
            for series in self._values.values():
                for key in [key for key in series if ("sync", sync) in key]:
                    del series[key]
            for name, key in [item for item in self._sums if ("sync", sync) in item[1]]:
                del self._sums[name, key]
                self._buckets.pop((name, key), None)

    def render(self) -> str:
        """The Prometheus text format, sorted."""
        for update in self._late:
            update()
        lines: list[str] = []
        with self._lock:
            for name, (kind, text) in sorted(_HELP.items()):
                rows = [f"{name}{_braces(key)} {_number(value)}" for key, value in sorted(self._values[name].items())]
                for (owner, key), (total, number) in sorted(self._sums.items()):
                    if owner == name:
                        rows += self._bucket_rows(name, key, number)
                        rows += [f"{name}_sum{_braces(key)} {total:.6f}", f"{name}_count{_braces(key)} {number}"]
                if rows:
                    lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *rows]
        return "\n".join(lines) + "\n"

    def _bucket_rows(self, name: str, key: _Labels, number: int) -> list[str]:
        counts = self._buckets.get((name, key))
        if counts is None:
            return []
        limits = [*((f"{limit:g}", count) for limit, count in zip(_BUCKETS_S, counts, strict=True)), ("+Inf", number)]
        return [f"{name}_bucket{_braces((*key, ('le', limit)))} {count}" for limit, count in limits]


def _braces(labels: _Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
