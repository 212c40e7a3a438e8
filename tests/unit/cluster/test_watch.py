"""The watch loop against a played server: lists, resumes, gaps, refusals, silence."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ocisync.cluster.client import JSON, PARTIAL_METADATA, Response
from ocisync.cluster.watch import GroupKind, KindWatch, WatchGroup
from ocisync.kit.stop import StopToken
from ocisync.model.errors import Unavailable
from ocisync.model.resource import JsonObject

KIND = GroupKind("apps", "Deployment")
END = {"k8s.io/initial-events-end": "true"}


def line(event_type: str, version: int, name: str = "web", **metadata: object) -> bytes:
    obj = {"kind": "Deployment", "metadata": {"name": name, "resourceVersion": str(version), **metadata}}
    return json.dumps({"type": event_type, "object": obj}).encode()


def gone() -> bytes:
    return json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}).encode()


@dataclass
class PlayedServer:
    """Answers streams and requests from a script; stops the watch when the script is over."""

    stop: StopToken
    streams: list[tuple[int, list[bytes | Exception]]] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str], str]] = field(default_factory=list)

    def request(self, method: str, path: str, *, query: Sequence[tuple[str, str]] = (), accept: str = JSON) -> Response:
        self.asked.append(("list", dict(query), accept))
        return self.answers.pop(0)

    @contextlib.contextmanager
    def stream(
        self,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        accept: str = JSON,
        timeout_s: float = 0.0,
        stop: StopToken | None = None,
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        assert 0 < timeout_s < float("inf")
        self.asked.append(("watch", dict(query), accept))
        if not self.streams:
            self.stop.stop()
            raise Unavailable("the script is over")
        status, lines = self.streams.pop(0)
        yield status, self._lines(lines)

    @staticmethod
    def _lines(lines: list[bytes | Exception]) -> Iterator[bytes]:
        for item in lines:
            if isinstance(item, Exception):
                raise item
            yield item


@dataclass
class Notes:
    """A handler that writes everything down."""

    told: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def started(self, kind: GroupKind) -> None:
        self.told.append("started")

    def event(self, kind: GroupKind, event_type: str, obj: JsonObject) -> None:
        self.told.append(f"{event_type} {obj['metadata']['name']}")

    def synced(self, kind: GroupKind) -> None:
        self.told.append("synced")

    def problem(self, kind: GroupKind, message: str) -> None:
        self.problems.append(message)


def played(
    *streams: tuple[int, list[bytes | Exception]], answers: Sequence[Response] = (), full: bool = True
) -> tuple[PlayedServer, Notes, list[float]]:
    stop = StopToken()
    server, notes, slept = PlayedServer(stop, list(streams), list(answers)), Notes(), list[float]()

    def sleep(seconds: float) -> bool:
        slept.append(seconds)
        return stop.stopped

    KindWatch(server, KIND, lambda: "/path", notes, stop, full=full, rng=random.Random(1), sleep=sleep).run()
    return server, notes, slept


def test_the_initial_list_comes_as_a_stream_and_the_next_watch_resumes_after_it() -> None:
    server, notes, _ = played(
        (200, [line("ADDED", 7), line("ADDED", 5, "api"), line("BOOKMARK", 9, annotations=END), line("MODIFIED", 12)]),
        (200, [line("BOOKMARK", 20)]),
    )
    assert notes.told == ["started", "ADDED web", "ADDED api", "synced", "MODIFIED web"]
    first, second, third = (query for _, query, _ in server.asked)
    assert first["sendInitialEvents"] == "true"
    assert first["resourceVersionMatch"] == "NotOlderThan"
    assert first["labelSelector"] == "applyset.kubernetes.io/part-of"
    assert first["allowWatchBookmarks"] == "true"
    assert "resourceVersion" not in first
    assert second["resourceVersion"] == "12"
    assert third["resourceVersion"] == "20"
    assert 240 <= int(second["timeoutSeconds"]) <= 360


def test_a_list_that_breaks_off_is_never_complete_and_starts_anew() -> None:
    server, notes, _ = played(
        (200, [line("ADDED", 7), Unavailable("reset")]),
        (200, [line("BOOKMARK", 9, annotations=END)]),
    )
    assert notes.told == ["started", "ADDED web", "started", "synced"]
    assert "sendInitialEvents" in server.asked[1][1]


def test_a_version_that_is_too_old_means_list_again() -> None:
    for status, lines in ((200, [gone()]), (410, [b"{}"])):
        server, notes, _ = played(
            (200, [line("BOOKMARK", 9, annotations=END)]),
            (status, list(lines)),
            (200, [line("ADDED", 30), line("BOOKMARK", 31, annotations=END)]),
        )
        assert notes.told == ["started", "synced", "started", "ADDED web", "synced"]
        assert "sendInitialEvents" in server.asked[2][1]


def test_a_complete_list_of_an_earlier_time_is_told_as_a_rollback_and_a_later_one_is_not() -> None:
    def told(end: int) -> list[GroupKind]:
        stop, found = StopToken(), list[GroupKind]()
        server = PlayedServer(
            stop,
            [
                (200, [line("ADDED", 7), line("BOOKMARK", 9, annotations=END), line("MODIFIED", 40)]),
                (504, [b"{}"]),  # "Too large resource version"
                (200, [line("ADDED", 7), line("BOOKMARK", end, annotations=END)]),
                (200, [gone()]),
                (200, [line("BOOKMARK", end + 1, annotations=END)]),
            ],
        )
        watch = KindWatch(
            server, KIND, lambda: "/path", Notes(), stop, full=True, rng=random.Random(1),
            sleep=lambda _: stop.stopped, on_rollback=found.append,
        )  # fmt: skip
        watch.run()
        return found

    assert told(39) == [KIND]
    assert told(40) == []


def test_nothing_is_concluded_from_what_a_list_of_an_earlier_time_lacks() -> None:
    stop, found, notes = StopToken(), list[GroupKind](), Notes()
    lines = [line("ADDED", 7), line("BOOKMARK", 9, annotations=END), line("MODIFIED", 40)]
    earlier = [line("BOOKMARK", 12, annotations=END)]
    server = PlayedServer(stop, [(200, [*lines]), (410, [b"{}"]), (200, [*earlier]), (200, [*earlier])])
    KindWatch(
        server, KIND, lambda: "/path", notes, stop, full=True, rng=random.Random(1),
        sleep=lambda _: stop.stopped, on_rollback=found.append,
    ).run()  # fmt: skip
    assert found == [KIND]
    assert notes.told == ["started", "ADDED web", "synced", "MODIFIED web", "started", "started", "synced"]


def test_a_round_is_told_before_its_list_is_asked_for() -> None:
    stop, asked = StopToken(), list[int]()

    class Early(Notes):
        def started(self, kind: GroupKind) -> None:
            asked.append(len(server.asked))

    page = Response(200, {}, b'{"metadata":{"resourceVersion":"1"}}')
    server = PlayedServer(stop, [(200, [gone()]), (422, [b"{}"])], [page])
    KindWatch(
        server, KIND, lambda: "/path", Early(), stop, full=True, rng=random.Random(1), sleep=lambda _: stop.stopped
    ).run()
    assert asked == [0, 1, 2]


def test_a_watch_that_must_notice_a_restore_lists_anew_after_a_break_and_resumes_after_a_quiet_end() -> None:
    def listed(end: tuple[int, list[bytes | Exception]]) -> bool:
        stop = StopToken()
        server = PlayedServer(stop, [(200, [line("BOOKMARK", 9, annotations=END)]), end, (200, [])])
        KindWatch(
            server, KIND, lambda: "/path", Notes(), stop, full=True, rng=random.Random(1),
            sleep=lambda _: stop.stopped, resumes=False,
        ).run()  # fmt: skip
        assert "sendInitialEvents" in server.asked[0][1]
        assert server.asked[1][1].get("resourceVersion") == "9"
        return "sendInitialEvents" in server.asked[2][1]

    assert listed((200, [Unavailable("reset")]))
    assert listed((500, [b"{}"]))
    assert not listed((200, [line("BOOKMARK", 11)]))


def test_servers_without_streaming_lists_are_listed_in_pages_and_then_watched() -> None:
    def page(names: list[str], **metadata: str) -> Response:
        items = [{"metadata": {"name": name}} for name in names]
        body = {"apiVersion": "apps/v1", "kind": "DeploymentList", "metadata": metadata, "items": items}
        return Response(200, {}, json.dumps(body).encode())

    server, notes, _ = played(
        (422, [b'{"message":"sendInitialEvents is forbidden"}']),
        (200, [line("DELETED", 45, "b")]),
        answers=[page(["a"], **{"continue": "more"}), page(["b"], resourceVersion="40")],
    )
    assert notes.told == ["started", "started", "ADDED a", "ADDED b", "synced", "DELETED b"]
    assert [kind for kind, _, _ in server.asked[:4]] == ["watch", "list", "list", "watch"]
    assert server.asked[2][1]["continue"] == "more"
    assert server.asked[3][1]["resourceVersion"] == "40"
    assert notes.problems == ["the script is over"]


def test_kinds_without_health_ask_for_metadata_only() -> None:
    server, _, _ = played((200, [line("BOOKMARK", 9, annotations=END)]), full=False)
    assert server.asked[0][2] == PARTIAL_METADATA


def test_refusals_are_told_backed_off_and_told_to_be_over() -> None:
    refused: tuple[int, list[bytes | Exception]] = (500, [b'{"message":"etcd is away"}'])
    _, notes, slept = played(refused, refused, refused, (200, [line("BOOKMARK", 9, annotations=END)]))
    assert notes.problems[:3] == ["watch of Deployment.apps answered 500: etcd is away"] * 3
    assert notes.problems[3] == ""
    assert slept[0] < slept[1] < slept[2]


def test_missing_rights_are_asked_for_rarely() -> None:
    forbidden: tuple[int, list[bytes | Exception]] = (403, [b'{"message":"not allowed to watch"}'])
    _, _, slept = played(*[forbidden] * 6, (200, [line("BOOKMARK", 9, annotations=END)]))
    assert max(slept[:4]) <= 5  # an API server that has just started may not have read its roles yet
    assert min(slept[4:6]) >= 30


def test_after_a_long_outage_the_next_look_is_never_far_away() -> None:
    away: tuple[int, list[bytes | Exception]] = (500, [b"{}"])
    _, _, slept = played(*[away] * 12, (200, [line("BOOKMARK", 9, annotations=END)]))
    assert max(slept) <= 5


def test_the_server_may_ask_for_a_longer_pause() -> None:
    later: Mapping[str, str] = {"retry-after": "7"}
    _, _, slept = played(
        (400, [b"{}"]),
        answers=[Response(429, later, b"{}"), Response(200, {}, b'{"metadata":{"resourceVersion":"1"}}')],
    )
    assert 7 in slept


def test_backoff_starts_over_after_a_connection_that_worked() -> None:
    breaks: tuple[int, list[bytes | Exception]] = (200, [Unavailable("reset")])
    _, notes, slept = played(
        breaks, breaks, breaks, (200, [line("BOOKMARK", 9, annotations=END), Unavailable("silence")])
    )
    assert slept[3] <= 0.2 < slept[2]
    assert "silence" not in notes.problems


def test_garbage_on_the_wire_is_a_broken_connection_not_a_crash() -> None:
    _, notes, _ = played((200, [b"<html>"]), (200, [b"[]"]), (200, [b'{"type":"ADDED"}']))
    assert len(notes.problems) >= 3


def test_a_group_watches_exactly_the_kinds_it_is_given_and_reports_a_dead_thread() -> None:
    crashes: list[BaseException] = []
    stop = StopToken()

    class Defect(Notes):
        def started(self, kind: GroupKind) -> None:
            raise RuntimeError("defect")

    server = PlayedServer(stop, [(200, [])])
    group = WatchGroup(
        server, lambda kind: "/path", Defect(), full=lambda kind: True, rng=random.Random(1), on_crash=crashes.append
    )
    group.ensure(frozenset({KIND}))
    assert group.kinds() == {KIND}
    group.ensure(frozenset())
    assert group.kinds() == frozenset()
    group.ensure(frozenset({KIND}))
    group.stop(10.0)
    assert all(isinstance(crash, RuntimeError) for crash in crashes)
    group.ensure(frozenset({KIND}))
    assert group.kinds() == frozenset()
