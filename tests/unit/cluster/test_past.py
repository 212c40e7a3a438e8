"""Whether an apply changed its object: by versions and owners; the server is asked only when these do not tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from ocisync.cluster.client import Response
from ocisync.cluster.memory import Applied, applied_of
from ocisync.cluster.past import Past
from ocisync.model.resource import JsonObject
from tests.unit.cluster.objects import IMAGE, REPLICAS, T0, T1, entry, live, ours

PATH = "/apis/apps/v1/namespaces/shop/deployments/web"
EVERYWHERE, HERE = "/apis/apps/v1/deployments", "/apis/apps/v1/namespaces/shop/deployments"
NOW, LATER = "Thu, 01 Jan 2026 00:01:01 GMT", "Thu, 01 Jan 2026 00:02:30 GMT"


class Server:
    """Answers lists, and writes down what was asked."""

    def __init__(self, before: JsonObject | None = None, *, version: int = 100, forbidden: str = "") -> None:
        self.before, self.version, self.forbidden = before, version, forbidden
        self.asked: list[tuple[str, Mapping[str, str], str]] = []

    def request(
        self, method: str, path: str, *, query: Any, accept: str, as_user: str = "", gentle: bool = False
    ) -> Response:
        assert (method, gentle) == ("GET", True)
        self.asked.append((path, dict(query), as_user))
        if path == self.forbidden and not as_user:
            return Response(403, {}, b"{}")
        items = [] if self.before is None else [self.before]
        return Response(
            200, {}, json.dumps({"metadata": {"resourceVersion": str(self.version)}, "items": items}).encode()
        )


def changed(
    server: Server, answer: JsonObject, *, previous: Applied | None = None, since: int = 100, date: str = NOW
) -> bool:
    past = Past(server, user="deployer", gentle=True)  # type: ignore[arg-type]
    return past.changed(PATH, answer, applied_of(answer), previous, since, date)


def test_a_version_from_before_the_pass_was_written_before_it_whatever_clocks_say() -> None:
    server = Server()
    for version in (99, 100):
        assert not changed(server, live(ours(time=T1), version=version))
    assert server.asked == []


def test_what_was_written_since_is_ours_if_our_entry_was_moved_by_that_write() -> None:
    answer = live(ours(time=T1), version=105)
    for before in (live(ours(time=T0), version=90), live(ours(REPLICAS, time=T1), version=90), live(entry("x"))):
        server = Server(before)
        assert changed(server, answer)
        query = {"fieldSelector": "metadata.name=web", "resourceVersion": "104", "resourceVersionMatch": "Exact"}
        assert server.asked == [(HERE, query, "")]


@pytest.mark.parametrize("generation", [3, None])
def test_what_was_written_since_is_anothers_if_our_entry_stood_still(generation: int | None) -> None:
    status = entry("controller", ("f:status", "f:phase"), subresource="status")
    answer = live(ours(time=T1), status, version=105, generation=generation)
    assert not changed(Server(live(ours(time=T1), version=104, generation=generation)), answer)


def test_a_change_within_the_second_of_our_last_one_is_ours_if_nobody_elses_entry_moved() -> None:
    for generation in (3, None):
        answer = live(ours(time=T1), version=105, generation=generation)
        assert changed(Server(live(ours(time=T1), version=104, generation=generation and 2)), answer)
    later = entry("controller", ("f:status", "f:phase"), subresource="status", time="2026-01-01T00:01:01Z")
    twice = live(ours(time=T1), later, version=105, generation=None)
    assert not changed(Server(live(ours(time=T1), later, version=104, generation=None)), twice)


def test_within_that_second_too_what_others_lost_of_ours_was_taken_by_us_and_not_written_by_them() -> None:
    whole, rest = entry("operator", REPLICAS, IMAGE, time=T0), entry("operator", IMAGE, time=T0)
    for generation in (3, None):
        before = live(ours(time=T1), whole, version=104, generation=generation and 2)
        for left in ([rest], []):
            assert changed(Server(before), live(ours(time=T1), *left, version=105, generation=generation))
        held = live(ours(time=T1), rest, version=104, generation=generation and 2)
        assert not changed(Server(held), live(ours(time=T1), whole, version=105, generation=generation)), "it took some"
    own = live(ours(time=T1), entry("operator", ("f:data", "f:own"), time=T0), version=104, generation=None)
    assert not changed(Server(own), live(ours(time=T1), version=105, generation=None)), "it took away its own"


def test_entries_a_minute_older_than_the_answer_are_not_asked_about() -> None:
    server = Server(live(ours(time=T0)))
    assert not changed(server, live(ours(time=T1), version=105), date=LATER)
    assert server.asked == []


def test_what_the_last_pass_left_tells_most_without_asking() -> None:
    server = Server()
    left = applied_of(live(ours(time=T0), version=101, generation=3))
    assert not changed(server, live(ours(time=T0), version=101, generation=3), previous=left, since=101)
    assert not changed(server, live(ours(time=T0), version=105, generation=3), previous=left, since=101)
    assert changed(server, live(ours(time=T1), version=105, generation=4), previous=left, since=101)
    assert changed(server, live(ours(REPLICAS, time=T0), version=105, generation=3), previous=left, since=101)
    assert server.asked == []


def test_when_in_doubt_it_was_changed() -> None:
    answer = live(ours(time=T1), version=105)
    assert changed(Server(None), answer), "the server has forgotten that version"
    assert changed(Server(live(ours(time=T1), uid="u0")), answer), "another object had that name"
    nothing_known = Server(live(ours(time=T1)))
    assert changed(nothing_known, answer, since=0) and nothing_known.asked == []


def test_after_a_restore_what_is_remembered_proves_nothing() -> None:
    left = applied_of(live(ours(time=T0), version=900))
    assert changed(Server(), live(ours(time=T1), version=105), previous=left, since=900)


def test_each_kind_is_asked_for_its_version_once_a_pass_and_where_that_is_forbidden_in_the_namespace() -> None:
    server = Server(version=77, forbidden=EVERYWHERE)
    past = Past(server, user="deployer", gentle=True)  # type: ignore[arg-type]
    assert [past.mark(EVERYWHERE, HERE) for _ in range(3)] == [77, 77, 77]
    assert server.asked == [(EVERYWHERE, {"limit": "1"}, ""), (HERE, {"limit": "1"}, "deployer")]
