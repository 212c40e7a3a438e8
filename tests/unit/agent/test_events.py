from __future__ import annotations

from typing import Any

from ocisync.agent.events import EventRecorder, Note, Subject, event_body
from ocisync.agent.metrics import Metrics
from tests.unit.agent.fakes import FakeClock, FakeCluster

SUBJECT = Subject("apps/v1", "Deployment", "shop", "web", "u-1")
NOTE = Note("apps/shop", SUBJECT, "DriftCorrected", "modified outside GitOps", warning=True)


def recorder(status: int = 201) -> tuple[EventRecorder, FakeCluster, FakeClock, Metrics]:
    clock, metrics = FakeClock(), Metrics()
    cluster = FakeCluster(lambda method, path, body: (status if method == "POST" else 200, {}))
    return EventRecorder(cluster, clock, metrics), cluster, clock, metrics


def test_an_event_is_about_its_object_and_in_its_namespace() -> None:
    body = event_body(NOTE, "web.1", FakeClock().now(), "host")
    assert body["metadata"]["namespace"] == "shop"
    assert body["involvedObject"]["uid"] == "u-1"
    assert (body["type"], body["reason"], body["count"]) == ("Warning", "DriftCorrected", 1)


def test_cluster_scoped_objects_have_their_events_in_default() -> None:
    note = Note("a/b", Subject("v1", "Namespace", "", "shop"), "R", "m")
    body = event_body(note, "n", FakeClock().now(), "")
    assert body["metadata"]["namespace"] == "default"
    assert "namespace" not in body["involvedObject"]


def test_an_equal_note_raises_the_count_instead_of_a_second_event() -> None:
    events, cluster, clock, _ = recorder()
    events.send(NOTE)
    clock.passed += 60
    events.send(NOTE)
    assert [item[0] for item in cluster.asked] == ["POST", "PATCH"]
    assert cluster.asked[1][2]["count"] == 2


def test_after_ten_quiet_minutes_a_new_event_begins() -> None:
    events, cluster, clock, _ = recorder()
    events.send(NOTE)
    clock.passed += 601
    events.send(NOTE)
    assert [item[0] for item in cluster.asked] == ["POST", "POST"]


def test_a_flood_is_cut_and_the_next_event_says_how_much_was_lost() -> None:
    events, cluster, clock, metrics = recorder()
    for number in range(50):
        events.send(Note("apps/shop", SUBJECT, "R", f"message {number}"))
    assert len(cluster.asked) == 30
    assert "ocisync_events_dropped_total 20" in metrics.render()
    clock.passed += 61
    events.send(Note("apps/shop", SUBJECT, "R", "later"))
    body: dict[str, Any] = cluster.asked[-1][2]
    assert body["message"] == "later (20 earlier messages were not sent)"


def test_one_loud_sync_does_not_silence_another() -> None:
    events, cluster, _, _ = recorder()
    for number in range(50):
        events.send(Note("apps/loud", SUBJECT, "R", f"message {number}"))
    events.send(Note("apps/quiet", SUBJECT, "R", "hello"))
    assert cluster.asked[-1][2]["message"] == "hello"


def test_secrets_and_long_texts_do_not_get_out() -> None:
    note = Note("a/b", SUBJECT, "R", "password=hunter2 " + "x" * 2000)
    message = event_body(note, "n", FakeClock().now(), "")["message"]
    assert "hunter2" not in message and len(message) == 1024


def test_a_namespace_that_takes_no_events_is_not_asked_for_a_count() -> None:
    events, cluster, _, _ = recorder(status=403)
    events.send(NOTE)
    events.send(NOTE)
    assert [item[0] for item in cluster.asked] == ["POST", "POST"]
