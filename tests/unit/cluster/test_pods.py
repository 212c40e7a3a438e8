"""When pods are looked at, which, and for how long."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ocisync.cluster.client import Response
from ocisync.cluster.health import Health, HealthStatus, PodQuery, progressing
from ocisync.cluster.pods import QUIET_S, PodScouts
from ocisync.kit.stop import StopToken
from ocisync.model.errors import Unavailable
from ocisync.model.resource import ObjectId
from tests.support.waiting import eventually
from tests.unit.agent.fakes import FakeClock
from tests.unit.cluster.test_health_pods import made, waiting

WEB = ObjectId("apps", "Deployment", "shop", "web")
QUERY = PodQuery("app=web", "uid-1", "2")


def late(query: PodQuery | None = QUERY, message: str = "0 of 1 replicas available") -> Health:
    return progressing(message, query)


class Source:
    """An API server with ReplicaSets and a watch of pods that stays open."""

    def __init__(self, *pods: dict[str, Any], status: int = 200) -> None:
        self.pods = pods
        self.status = status
        self.asked: list[str] = []
        self.watched: list[str] = []
        self.ended = threading.Event()

    def request(self, method: str, path: str, **rest: Any) -> Response:
        self.asked.append(f"{method} {path} {dict(rest.get('query') or ()).get('labelSelector')}")
        items = [self._set("old", "1"), self._set("new", "2"), self._set("stranger", "2", "uid-9")]
        return Response(200, {}, json.dumps({"items": items}).encode())

    @contextmanager
    def stream(self, path: str, *, stop: StopToken | None = None, **rest: Any) -> Iterator[tuple[int, Iterator[bytes]]]:
        self.watched.append(f"{path} {dict(rest['query'])['labelSelector']}")
        yield self.status, self._lines(stop or StopToken())

    def _lines(self, stop: StopToken) -> Iterator[bytes]:
        if self.status != 200:
            yield json.dumps({"kind": "Status", "message": "no"}).encode()
            return
        for item in self.pods:
            yield json.dumps({"type": "ADDED", "object": item}).encode()
        end = {"metadata": {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}}
        yield json.dumps({"type": "BOOKMARK", "object": end}).encode()
        while not stop.wait(0.01):
            pass
        self.ended.set()
        raise Unavailable("closed")

    @staticmethod
    def _set(label: str, revision: str, owner: str = "uid-1") -> dict[str, Any]:
        return {
            "metadata": {
                "labels": {"pod-template-hash": label}, "ownerReferences": [{"uid": owner}],
                "annotations": {"deployment.kubernetes.io/revision": revision},
            }
        }  # fmt: skip


class World:
    """Scouts on a source, with a clock that moves when told."""

    def __init__(self, source: Source) -> None:
        self.clock = FakeClock()
        self.source = source
        self.told: list[str] = []
        self.crashes: list[BaseException] = []
        self.scouts = PodScouts(source, self.clock, random.Random(1), self.told.append, self.crashes.append)

    def look(self, *waiting_now: tuple[ObjectId, Health]) -> dict[ObjectId, Health]:
        return dict(self.scouts.attend("sync", waiting_now))

    def known(self) -> Health:
        return eventually(lambda: self.look((WEB, late())).get(WEB), what="its pods are known")  # type: ignore[return-value]


def crashing(name: str = "web-new-1") -> dict[str, Any]:
    return {**made(waiting("CrashLoopBackOff", exitCode=3)), "metadata": {"name": name}}


def test_pods_are_not_looked_at_while_a_workload_progresses() -> None:
    world = World(Source(crashing()))
    for number in range(5):
        assert world.look((WEB, late(message=f"{number} of 5 replicas available"))) == {}
        assert world.scouts.due_s("sync") == QUIET_S
        world.clock.passed += QUIET_S - 0.1
    assert (world.source.asked, world.source.watched, world.scouts.count) == ([], [], 0)


def test_the_pods_of_the_newest_template_alone_tell_why_nothing_moves() -> None:
    world = World(Source(crashing()))
    world.look((WEB, late()))
    world.clock.passed += QUIET_S
    found = world.known()
    assert found.status is HealthStatus.FAILED
    assert found.message == ("0 of 1 replicas available; pod web-new-1, container main: CrashLoopBackOff, exit code 3")
    assert world.source.asked == ["GET /apis/apps/v1/namespaces/shop/replicasets app=web"]
    assert world.source.watched == ["/api/v1/namespaces/shop/pods app=web,pod-template-hash=new"]
    assert "sync" in world.told and not world.crashes
    world.look()
    assert world.source.ended.wait(10) and world.scouts.count == 0


def test_a_workload_of_another_revision_is_looked_at_anew() -> None:
    world = World(Source(crashing()))
    plain = PodQuery("app=web,controller-revision-hash=a")
    world.look((WEB, late(plain)))
    world.clock.passed += QUIET_S
    world.look((WEB, late(plain)))
    eventually(lambda: world.source.watched, what="a watch")
    world.look((WEB, late(PodQuery("app=web,controller-revision-hash=b"))))
    eventually(lambda: len(world.source.watched) == 2, what="another watch")
    assert world.source.asked == []
    world.scouts.stop()


def test_few_workloads_are_looked_at_at_once() -> None:
    world = World(Source())
    many = [(ObjectId("apps", "StatefulSet", "shop", f"db-{n}"), late(PodQuery(f"app=db-{n}"))) for n in range(20)]
    world.look(*many)
    world.clock.passed += QUIET_S
    world.look(*many)
    assert world.scouts.count == 3
    world.scouts.stop()


def test_an_account_that_may_not_read_pods_asks_once_and_says_so() -> None:
    world = World(Source(status=403))
    plain = late(PodQuery("app=web"))
    world.look((WEB, plain))
    world.clock.passed += QUIET_S
    found = eventually(lambda: world.look((WEB, plain)).get(WEB), what="the refusal is known")
    assert found is not None and found.message.endswith("its pods cannot be read")
    assert found.status is HealthStatus.IN_PROGRESS
    assert len(world.source.watched) == 1


def test_what_a_crashing_container_does_between_two_crashes_changes_nothing() -> None:
    running = {**made({"name": "main", "ready": False, "state": {"running": {}}}), "metadata": {"name": "web-new-1"}}
    pulls = {**made(waiting("ErrImagePull", "again")), "metadata": {"name": "web-new-1"}}
    world = World(Source(crashing(), running, pulls, crashing()))
    world.look((WEB, late()))
    world.clock.passed += QUIET_S
    assert "CrashLoopBackOff, exit code 3" in world.known().message
    world.scouts.stop()
