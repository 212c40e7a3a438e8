"""The brake: its existence counts, whoever made it, and whatever can't be read of it."""

from __future__ import annotations

from typing import Any

import pytest

from ocisync.agent.pause import PauseBoard, pause_text
from ocisync.cluster.client import Cluster, Endpoint
from ocisync.cluster.watch import GroupKind
from ocisync.model.errors import Interrupted, Paused, Unavailable
from tests.unit.agent.fakes import FakeCluster

MAPS = GroupKind("", "ConfigMap")
WORDS = {"by": "jane", "since": "2026-11-23T12:00:00Z", "reason": "incident 4711"}
TEXT = "paused by jane since 2026-11-23T12:00:00Z: incident 4711"


class Inner:
    """Whoever else is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def started(self, kind: GroupKind) -> None:
        self.told.append("started")

    def event(self, kind: GroupKind, event_type: str, obj: dict[str, Any]) -> None:
        self.told.append(event_type)

    def synced(self, kind: GroupKind) -> None:
        self.told.append("synced")

    def problem(self, kind: GroupKind, message: str) -> None:
        self.told.append(message)


def config_map(name: str = "ocisync-pause", version: str = "1") -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": version}}


def board(answer: Any = None) -> tuple[PauseBoard, Inner, list[str], FakeCluster]:
    inner, moved = Inner(), list[str]()
    cluster = FakeCluster(lambda *_: answer if isinstance(answer, tuple) else (200, {"data": answer or WORDS}))
    return PauseBoard(cluster, "ocisync-system", inner, moved.append), inner, moved, cluster


def test_a_pause_says_who_since_when_and_why_and_ends_with_its_config_map() -> None:
    it, inner, moved, cluster = board()
    it.started(MAPS)
    it.event(MAPS, "ADDED", config_map("something-else"))
    assert it.text() == ""
    it.event(MAPS, "ADDED", config_map())
    it.synced(MAPS)
    assert it.text() == TEXT
    it.event(MAPS, "MODIFIED", config_map())
    it.event(MAPS, "DELETED", config_map())
    assert it.text() == "" and moved == [TEXT, ""]
    assert inner.told == ["started", "ADDED", "ADDED", "synced", "MODIFIED", "DELETED"]
    assert [path for _, path, _ in cluster.asked] == ["/api/v1/namespaces/ocisync-system/configmaps/ocisync-pause"]


@pytest.mark.parametrize("answer", [(500, {}), (403, {}), (404, {}), (200, {}), (200, []), (200, {"data": "x"})])
def test_a_pause_whose_words_cannot_be_read_is_a_pause(answer: tuple[int, Any]) -> None:
    it, _, moved, _ = board(answer)
    it.event(MAPS, "ADDED", config_map())
    assert it.text() == "paused" and moved == ["paused"]


def test_a_pause_holds_while_the_watch_does_not_run_and_ends_when_a_new_list_has_none() -> None:
    it, _, moved, _ = board()
    it.event(MAPS, "ADDED", config_map())
    it.problem(MAPS, "gone")
    it.started(MAPS)
    assert it.text()
    it.event(MAPS, "ADDED", config_map("something-else"))
    it.synced(MAPS)
    assert it.text() == "" and moved == [TEXT, ""]


def test_a_longer_reason_is_cut() -> None:
    assert len(pause_text({"data": {"reason": "x" * 5000}})) == 300


def test_a_held_connection_lets_no_write_on_behalf_of_others_leave_and_everything_else() -> None:
    def nobody() -> Endpoint:
        return Endpoint("http://127.0.0.1:9", None, lambda: "")  # type: ignore[arg-type]

    cluster = Cluster(nobody, user_agent="test", sleep=lambda _: True)
    cluster.hold = lambda: "paused by jane"
    for method in ("PATCH", "POST", "PUT", "DELETE"):
        with pytest.raises(Paused, match="nothing is written: paused by jane"):
            cluster.request(method, "/x", as_user="system:serviceaccount:shop:deployer")
    assert issubclass(Paused, Interrupted)  # it says nothing about the object
    for method, user in (("GET", "system:serviceaccount:shop:deployer"), ("PATCH", "")):
        with pytest.raises((Unavailable, AttributeError)):  # they went out, to nobody
            cluster.request(method, "/x", as_user=user)
