"""Following one sync: what a server may do to a watch, and how often it is asked for that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from ocisync.cli.following import Following
from ocisync.cli.syncs import Syncs
from ocisync.model.errors import AccessDenied, NotFound, Unavailable


def sync(version: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "apps", "name": "shop", "resourceVersion": version}}


def event(kind: str, version: str) -> bytes:
    return json.dumps({"type": kind, "object": sync(version)}).encode()


class Server:
    """Answers lists and watches from tables, and moves the clock."""

    def __init__(self, lists: list[Any], watches: list[tuple[int, list[bytes]]]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[str] = []
        self.now = 0.0

    @property
    def cluster(self) -> Server:
        return self

    def listed(self, namespace: str, name: str) -> tuple[Any, str]:
        self.asked.append("list")
        found = self.lists.pop(0)
        if isinstance(found, Exception):
            raise found
        return found, "9"

    @contextmanager
    def stream(self, path: str, *, query: Any, **rest: Any) -> Iterator[tuple[int, Iterator[bytes]]]:
        self.asked.append(f"watch {dict(query)['resourceVersion']}")
        status, lines = self.watches.pop(0) if self.watches else (200, [])
        yield status, iter(lines)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def follow(self, timeout_s: float = 5.0) -> list[str]:
        following = Following(cast(Syncs, self), lambda: self.now, self.sleep)
        states = following.states("apps", "shop", timeout_s)
        return ["gone" if state is None else state["metadata"]["resourceVersion"] for state in states]


def test_it_is_one_list_and_one_watch_from_the_lists_version() -> None:
    server = Server([sync("1")], [(200, [event("MODIFIED", "10"), event("BOOKMARK", "20"), event("DELETED", "30")])])
    assert server.follow(timeout_s=1.0) == ["1", "10", "gone"]
    assert server.asked == ["list", "watch 9"]


def test_a_watch_that_ends_is_taken_up_where_it_ended() -> None:
    server = Server([sync("1")], [(200, [event("BOOKMARK", "20")]), (200, [event("MODIFIED", "30")])])
    assert server.follow(timeout_s=2.0) == ["1", "30"]
    assert server.asked == ["list", "watch 9", "watch 20"]


@pytest.mark.parametrize("broken", [event("ERROR", "x"), b"[]", b"{", b'"x"'])
def test_a_version_that_is_too_old_and_nonsense_lead_to_another_list(broken: bytes) -> None:
    server = Server([sync("1"), sync("2")], [(200, [broken]), (200, [event("MODIFIED", "30")])])
    assert server.follow(timeout_s=2.0) == ["1", "2", "30"]
    assert server.asked == ["list", "watch 9", "list", "watch 9"]


def test_a_server_that_is_away_meanwhile_is_asked_once_a_second() -> None:
    away = Unavailable("no answer")
    server = Server([sync("1"), away, away, None], [(503, []), (503, []), (503, []), (200, [])])
    assert server.follow(timeout_s=4.5) == ["1", "gone"]
    assert server.asked.count("list") == 4 and len(server.asked) <= 10


def test_a_server_that_ends_each_watch_at_once_is_not_asked_in_a_circle() -> None:
    server = Server([sync("1")], [])
    assert server.follow(timeout_s=5.0) == ["1"]
    assert len(server.asked) == 6


def test_nobody_may_watch_and_nothing_is_there() -> None:
    with pytest.raises(AccessDenied):
        Server([sync("1")], [(403, [])]).follow()
    with pytest.raises(NotFound):
        Server([None], []).follow()
