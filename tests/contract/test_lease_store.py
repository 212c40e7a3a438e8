"""The Lease object, as the sandbox and a real API server keep it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ocisync.agent.lease import LeaseStore, Record
from ocisync.cluster.client import connect
from ocisync.kit.stop import StopToken
from ocisync.model.errors import Unavailable
from tests.support.controlplane import ControlPlane
from tests.support.engine import EngineDriver
from tests.support.waiting import eventually

HELD = Record("a", 15.0, "2026-11-23T12:00:00.000001Z", "2026-11-23T12:00:00.000001Z", 0)

PATIENT_S = 60.0  # an agent has to hurry, the test of what a Lease is has not


@pytest.fixture
def store(engine: EngineDriver) -> Iterator[LeaseStore]:
    """With the rights of the installed agent."""
    cluster = connect(str(engine.kubeconfig), user_agent="ocisync/lease", connections=2)
    made = LeaseStore(cluster, engine.agent_namespace, request_s=PATIENT_S)
    assert made.read() is None  # and there is a connection: writes are tried only once
    yield made
    cluster.close()


def test_a_lease_that_does_not_exist_is_created_by_one_and_not_by_two(store: LeaseStore) -> None:
    assert store.read() is None
    taken = store.swap(HELD, "")
    assert taken is not None
    assert taken[0] == HELD
    assert store.swap(replace(HELD, holder="b"), "") is None
    assert store.read() == taken


def test_a_lease_is_swapped_only_where_it_is_as_it_was_read(store: LeaseStore) -> None:
    taken = store.swap(HELD, "")
    assert taken is not None
    renewed = store.swap(replace(HELD, renewed="2026-11-23T12:00:02.000000Z"), taken[1])
    assert renewed is not None
    assert store.swap(replace(HELD, holder="b", transitions=1), taken[1]) is None
    found = store.read()
    assert found is not None
    assert found[0].holder == "a"


def test_a_released_lease_keeps_its_count(store: LeaseStore) -> None:
    taken = store.swap(replace(HELD, transitions=7), "")
    assert taken is not None
    assert store.swap(replace(taken[0], holder="", duration_s=1.0), taken[1]) is not None
    found = store.read()
    assert found is not None
    assert (found[0].holder, found[0].transitions) == ("", 7)


def test_a_watch_tells_of_each_change_and_ends_when_it_is_told_to(store: LeaseStore) -> None:
    taken = store.swap(HELD, "")
    assert taken is not None
    stop, woken = StopToken(), threading.Semaphore(0)

    def listen() -> None:
        while not stop.stopped:
            with contextlib.suppress(Unavailable):  # a server that stands still for a while is asked again
                store.watch(lambda: woken.release(), stop)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert woken.acquire(timeout=PATIENT_S), "what is there already"
    assert store.swap(replace(HELD, holder=""), taken[1]) is not None
    assert woken.acquire(timeout=PATIENT_S), "the change"

    def ended() -> bool:
        stop.stop()
        store.end_watch()
        return not thread.is_alive()

    eventually(ended, what="the watch ends")


@pytest.mark.real
def test_without_the_right_to_leases_nobody_holds_one_and_the_reason_says_what_to_allow(
    control_plane: ControlPlane,
) -> None:
    kubeconfig = control_plane.kubeconfig_for_user("somebody-without-rights")
    cluster = connect(str(kubeconfig), user_agent="ocisync/lease")
    with pytest.raises(Unavailable, match=r"lease default/ocisync-agent: HTTP 403") as refused:
        LeaseStore(cluster, "default", request_s=PATIENT_S).read()
    assert "Role must allow leases" in refused.value.hint
    cluster.close()
