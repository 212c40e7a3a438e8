"""How long a change by hand lives: scale of a Deployment → the server holds the right number again."""

from __future__ import annotations

import json
import time

from tests.bench import settled
from tests.bench.environment import Bench
from tests.bench.measure import Sample
from tests.bench.report import Line, Row
from tests.bench.settled import Settled

TITLE = "drift: `scale` → corrected"
_FLOOR = "scale and scale back by hand"
_PAUSE_S = 0.2


def run(bench: Bench) -> list[Row]:
    """One row for each number of owned objects."""
    sizes = bench.options.sizes(*((1_000, 10_000) if bench.options.heavy else (1_000,)))
    return [_row(bench, count) for count in sizes]


def _row(bench: Bench, count: int) -> Row:
    row = Row(f"drift-{count}", f"{TITLE}, one Deployment at a time among {count:,} owned objects")
    floor = row.line(_FLOOR)
    ours = row.line("ocisync agent", anchor=_FLOOR, goal="p50 ≤ 150 ms, p99 ≤ 1 s")
    with settled.settled(bench, count) as at_rest:
        names = [item["metadata"]["name"] for item in at_rest.objects if item["kind"] == "Deployment"]
        # Another namespace, which nobody guards.
        free = bench.control_plane.new_namespace("bench-floor")
        example = next(item for item in at_rest.objects if item["kind"] == "Deployment")
        bench.control_plane.api("POST", f"/apis/apps/v1/namespaces/{free}/deployments", example)
        before = at_rest.process.cpu_s()
        for name in names[: bench.options.times(50)]:
            floor.samples.append(_by_hand(bench, free, example["metadata"]["name"]))
            ours.samples.append(_corrected(bench, at_rest, name))
            time.sleep(_PAUSE_S)
        spent = at_rest.process.cpu_s() - before
    row.notes.append(
        f"p50 {_percentile(ours, 50):.0f} ms, p99 {_percentile(ours, 99):.0f} ms over {len(ours.samples)} rounds; "
        f"{spent / len(ours.samples) * 1000:.0f} ms CPU of the agent for each, report and Event included."
    )
    return row


def _corrected(bench: Bench, at_rest: Settled, name: str) -> Sample:
    """From sending the scale to the server's having the declared number again, as frequent reads see it."""
    path = f"/apis/apps/v1/namespaces/{at_rest.tenant.namespace}/deployments/{name}"
    started = time.monotonic()
    scaled = _scale(bench, path, 3)
    while time.monotonic() < started + 300.0:
        found = bench.control_plane.api("GET", path)
        if found["spec"]["replicas"] == 0 and found["metadata"]["generation"] > scaled:
            return Sample(time.monotonic() - started)
        time.sleep(0.005)
    raise AssertionError(f"{name} was not corrected within 300 s")


def _by_hand(bench: Bench, namespace: str, name: str) -> Sample:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    started = time.monotonic()
    _scale(bench, path, 3)
    _scale(bench, path, 0)
    return Sample(time.monotonic() - started)


def _scale(bench: Bench, path: str, replicas: int) -> int:
    """Set the number; the generation of the object before."""
    body = {"spec": {"replicas": replicas}}
    answer = bench.control_plane.api("PATCH", path, body, content_type="application/merge-patch+json")
    return int(json.dumps(answer["metadata"]["generation"]))


def _percentile(line: Line, percent: int) -> float:
    ordered = sorted(sample.seconds for sample in line.samples)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000
