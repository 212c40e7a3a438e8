"""What shows that etcd was restored from a backup, and what does not."""

from __future__ import annotations

from ocisync.agent.witness import Witness
from ocisync.cluster.watch import GroupKind
from ocisync.model.resource import JsonObject
from tests.unit.cluster.test_watch import Notes

KIND = GroupKind("", "ConfigMap")


class Inner(Notes):
    """The handler behind, which writes down everything in one order."""

    def problem(self, kind: GroupKind, message: str) -> None:
        self.told.append(f"problem {message}")


def obj(name: str, version: int, uid: str = "u-1") -> JsonObject:
    return {"metadata": {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": str(version)}}


def witnessed(*listed: JsonObject) -> tuple[Witness, Inner, list[str]]:
    inner, found = Inner(), list[str]()
    witness = Witness(inner, found.append)
    witness.started(KIND)
    for one in listed:
        witness.event(KIND, "ADDED", one)
    witness.synced(KIND)
    return witness, inner, found


def test_an_object_whose_version_fell_in_a_list_shows_a_restore_once_and_nothing_more_is_passed_on() -> None:
    witness, inner, found = witnessed(obj("a", 5), obj("b", 6))
    witness.event(KIND, "MODIFIED", obj("a", 9))
    witness.started(KIND)
    witness.event(KIND, "ADDED", obj("b", 6))
    assert found == []
    before = list(inner.told)
    witness.event(KIND, "ADDED", obj("a", 8))
    assert found == ["ConfigMap ns/a is of version 8 again, after 9"]
    witness.synced(KIND)
    witness.started(KIND)
    witness.event(KIND, "ADDED", obj("a", 1))
    assert len(found) == 1
    assert inner.told == before
    witness.problem(KIND, "away")
    assert inner.told == [*before, "problem away"]


def test_a_restore_that_raised_all_numbers_shows_in_what_was_written_since_the_backup() -> None:
    witness, _, found = witnessed(obj("a", 5))
    witness.event(KIND, "MODIFIED", obj("a", 9))
    witness.event(KIND, "MODIFIED", obj("b", 1_000_000_000))
    witness.started(KIND)
    witness.event(KIND, "ADDED", obj("a", 5))
    assert len(found) == 1


def test_late_events_successors_and_what_came_or_went_show_nothing() -> None:
    witness, inner, found = witnessed(obj("a", 5), obj("b", 6), obj("c", 7))
    witness.event(KIND, "MODIFIED", obj("a", 4))  # a late one, not of a list
    witness.event(KIND, "DELETED", obj("b", 8))
    witness.started(KIND)
    witness.event(KIND, "ADDED", obj("b", 2, uid="u-2"))
    witness.event(KIND, "ADDED", obj("c", 3, uid="u-9"))
    witness.event(KIND, "ADDED", obj("d", 1))
    witness.synced(KIND)
    assert found == []
    assert inner.told[-1] == "synced"
