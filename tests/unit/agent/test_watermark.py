from __future__ import annotations

import copy
from typing import Any

import pytest

from ocisync.agent.watermark import ConfigMapWatermarks
from ocisync.flows.memory import Mark
from ocisync.model.errors import ClusterRefused, Unavailable
from ocisync.model.spec import SyncSpec, parse_sync
from tests.unit.agent.fakes import FakeCluster


def spec(tag: str = "production", uid: str = "u-1") -> SyncSpec:
    source = {"repository": "registry.example/shop", "tag": tag}
    return parse_sync({"metadata": {"name": "shop", "namespace": "apps", "uid": uid}, "spec": {"source": source}})


class Store:
    """ConfigMaps with compare-and-swap."""

    def __init__(self) -> None:
        self.maps: dict[str, dict[str, Any]] = {}
        self.conflicts = 0

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        name = path.rpartition("/")[2]
        if method == "GET":
            return (200, self.maps[name]) if name in self.maps else (404, {})
        if self.conflicts:
            self.conflicts -= 1
            return 409, {}
        name = body["metadata"]["name"]
        version = int(self.maps.get(name, {}).get("metadata", {}).get("resourceVersion", 0))
        if method == "POST" and name in self.maps:
            return 409, {}
        body["metadata"]["resourceVersion"] = str(version + 1)
        self.maps[name] = body
        return 200, body


def marks(store: Store) -> tuple[ConfigMapWatermarks, FakeCluster]:
    cluster = FakeCluster(store.answer)
    return ConfigMapWatermarks(cluster, "ocisync-system"), cluster


def test_a_new_sync_has_no_mark() -> None:
    assert marks(Store())[0].read(spec()) == Mark()


def test_a_mark_survives_the_process_and_the_sync() -> None:
    store = Store()
    marks(store)[0].accept(spec(), Mark(100, "sha256:a"))
    assert marks(store)[0].read(spec(uid="u-2")) == Mark(100, "sha256:a", ("sha256:a",))


def test_marks_of_other_selectors_are_others() -> None:
    store = Store()
    marks(store)[0].accept(spec("production"), Mark(100, "sha256:a"))
    assert marks(store)[0].read(spec("staging")) == Mark()
    marks(store)[0].accept(spec("staging"), Mark(5, "sha256:b"))
    assert marks(store)[0].read(spec("production")) == Mark(100, "sha256:a", ("sha256:a",))


def test_a_mark_only_rises() -> None:
    store = Store()
    first, _ = marks(store)
    first.accept(spec(), Mark(100, "sha256:a"))
    first.accept(spec(), Mark(50, "sha256:b"))
    assert marks(store)[0].read(spec()) == Mark(100, "sha256:b", ("sha256:b", "sha256:a"))


def test_the_last_twenty_digests_that_were_accepted_are_remembered() -> None:
    store = Store()
    for number in range(30):
        marks(store)[0].accept(spec(), Mark(number, f"sha256:{number}"))
    marks(store)[0].accept(spec(), Mark(30, "sha256:25"))
    accepted = marks(store)[0].read(spec()).accepted
    assert accepted[:3] == ("sha256:25", "sha256:29", "sha256:28") and len(accepted) == 20


def test_an_equal_mark_writes_nothing_and_reads_nothing_twice() -> None:
    store = Store()
    watermarks, cluster = marks(store)
    watermarks.accept(spec(), Mark(100, "sha256:a"))
    before = len(cluster.asked)
    watermarks.accept(spec(), Mark(100, "sha256:a"))
    watermarks.read(spec())
    assert len(cluster.asked) == before


def test_a_mark_that_fell_behind_what_is_known_is_raised_again_before_it_is_believed() -> None:
    store = Store()
    before, _ = marks(store)
    before.accept(spec(), Mark(100, "sha256:a"))
    backup = copy.deepcopy(store.maps)
    before.accept(spec(), Mark(200, "sha256:b"))
    store.maps = backup  # etcd was restored
    after = ConfigMapWatermarks(FakeCluster(store.answer), "ocisync-system", before.known())
    known = Mark(200, "sha256:b", ("sha256:b", "sha256:a"))
    assert after.read(spec()) == known
    assert marks(store)[0].read(spec()) == known, "also for the next process"
    assert after.known() == before.known()


def test_a_mark_that_is_higher_than_what_was_known_stays() -> None:
    store = Store()
    before, _ = marks(store)
    before.accept(spec(), Mark(100, "sha256:a"))
    marks(store)[0].accept(spec(), Mark(300, "sha256:c"))
    after = ConfigMapWatermarks(FakeCluster(store.answer), "ocisync-system", before.known())
    assert after.read(spec()).sequence == 300


def test_a_lost_race_is_tried_again_and_an_endless_one_is_named() -> None:
    store = Store()
    store.conflicts = 2
    marks(store)[0].accept(spec(), Mark(100, "sha256:a"))
    store.conflicts = 99
    with pytest.raises(Unavailable, match="keeps changing"):
        marks(store)[0].accept(spec(), Mark(200, "sha256:a"))


def test_a_damaged_mark_is_not_taken_for_none() -> None:
    store = Store()
    marks(store)[0].accept(spec(), Mark(100, "sha256:a"))
    for found in store.maps.values():
        found["data"] = {key: "garbage" for key in found["data"]}
    with pytest.raises(ClusterRefused, match="damaged"):
        marks(store)[0].read(spec())
