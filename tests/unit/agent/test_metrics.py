from __future__ import annotations

import pytest

from ocisync.agent.metrics import Metrics


def test_the_text_form_is_sorted_and_escaped() -> None:
    metrics = Metrics()
    metrics.count("ocisync_reconcile_total", sync='a/"b"', outcome="Done")
    metrics.count("ocisync_reconcile_total", 2, sync="a/a", outcome="Failed")
    metrics.observe("ocisync_reconcile_seconds", 0.25, sync="a/a")
    metrics.observe("ocisync_reconcile_seconds", 0.5, sync="a/a")
    text = metrics.render()
    assert "# TYPE ocisync_reconcile_total counter" in text
    assert 'ocisync_reconcile_total{outcome="Done",sync="a/\\"b\\""} 1' in text
    assert 'ocisync_reconcile_seconds_sum{sync="a/a"} 0.750000' in text
    assert 'ocisync_reconcile_seconds_count{sync="a/a"} 2' in text


def test_a_forgotten_sync_leaves_no_series() -> None:
    metrics = Metrics()
    metrics.gauge("ocisync_ready", 1, sync="a/a")
    metrics.gauge("ocisync_ready", 0, sync="a/b")
    metrics.observe("ocisync_reconcile_seconds", 1, sync="a/a")
    metrics.forget("a/a")
    assert "a/a" not in metrics.render()
    assert "a/b" in metrics.render()


def test_unknown_names_are_defects() -> None:
    with pytest.raises(KeyError):
        Metrics().count("ocisync_typo_total")


def test_late_gauges_are_asked_when_rendered() -> None:
    metrics = Metrics()
    metrics.before_render(lambda: metrics.gauge("ocisync_queue_depth", 7))
    assert "ocisync_queue_depth 7" in metrics.render()
