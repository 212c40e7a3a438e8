"""Watching: initial events, bookmarks, selectors, resumption; the sandbox as the real server."""

from __future__ import annotations

from itertools import islice
from typing import Any
from urllib.parse import quote

import pytest

from tests.contract.rawapi import METADATA, RawApi
from tests.support.waiting import eventually

STREAMING_LIST = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


@pytest.fixture
def maps(raw: RawApi, home: str) -> str:
    collection = f"/api/v1/namespaces/{home}/configmaps"
    # The controllers' own goes into every new namespace, and would be seen by a watch that began before it.
    eventually(lambda: raw.get(f"{collection}/kube-root-ca.crt").status == 200, what="the namespace is furnished")
    return collection


def put_map(raw: RawApi, maps: str, name: str, tier: str = "", **data: str) -> dict[str, Any]:
    labels = {"tier": tier} if tier else {}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}
    return raw.apply(f"{maps}/{name}", body, force=True).ok()


def version(raw: RawApi, maps: str) -> str:
    return str(raw.get(maps).ok()["metadata"]["resourceVersion"])


def seen(raw: RawApi, path: str, count: int, accept: str = "application/json") -> list[dict[str, Any]]:
    return list(islice(raw.lines(path, accept=accept), count))


def test_a_streaming_list_sends_what_is_there_and_then_its_bookmark(raw: RawApi, maps: str) -> None:
    put_map(raw, maps, "a", "web")
    put_map(raw, maps, "b", "web")
    put_map(raw, maps, "c")
    events = seen(raw, f"{maps}?{STREAMING_LIST}&labelSelector=tier", 3)
    assert [event["type"] for event in events] == ["ADDED", "ADDED", "BOOKMARK"]
    end = events[2]["object"]
    assert end["kind"] == "ConfigMap"
    assert end["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(end["metadata"]["resourceVersion"]) >= int(events[1]["object"]["metadata"]["resourceVersion"])


def test_an_empty_streaming_list_is_a_bookmark_at_once(raw: RawApi, maps: str) -> None:
    assert seen(raw, f"{maps}?{STREAMING_LIST}&labelSelector=none", 1)[0]["type"] == "BOOKMARK"


def test_metadata_only_watches_carry_no_data(raw: RawApi, maps: str) -> None:
    put_map(raw, maps, "a", "web", secret="value")
    events = seen(raw, f"{maps}?{STREAMING_LIST}&labelSelector=tier", 2, accept=METADATA)
    assert [event["object"]["kind"] for event in events] == ["PartialObjectMetadata"] * 2
    assert set(events[0]["object"]) == {"kind", "apiVersion", "metadata"}
    assert events[0]["object"]["metadata"]["managedFields"]


def test_a_watch_without_version_starts_with_what_is_there(raw: RawApi, maps: str) -> None:
    put_map(raw, maps, "a", "web")
    event = seen(raw, f"{maps}?watch=true&labelSelector=tier", 1)[0]
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "a")


def test_a_watch_from_a_version_sees_everything_after_it(raw: RawApi, maps: str) -> None:
    put_map(raw, maps, "a", x="1")
    start = version(raw, maps)
    put_map(raw, maps, "a", x="2")
    put_map(raw, maps, "b")
    raw.request("DELETE", f"{maps}/a").ok()
    events = seen(raw, f"{maps}?watch=1&resourceVersion={start}", 3)
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("MODIFIED", "a"),
        ("ADDED", "b"),
        ("DELETED", "a"),
    ]
    numbers = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert numbers == sorted(numbers)
    assert numbers[0] > int(start)


def test_entering_and_leaving_a_selection_are_added_and_deleted(raw: RawApi, maps: str) -> None:
    put_map(raw, maps, "a", x="1")
    start = version(raw, maps)
    put_map(raw, maps, "a", "web", x="2")
    put_map(raw, maps, "a", "web", x="3")
    left = put_map(raw, maps, "a", x="4")
    put_map(raw, maps, "a", x="5")
    put_map(raw, maps, "b", "web")
    events = seen(raw, f"{maps}?watch=1&resourceVersion={start}&labelSelector=tier%3Dweb", 4)
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "a"),
        ("MODIFIED", "a"),
        ("DELETED", "a"),
        ("ADDED", "b"),
    ]
    gone = events[2]["object"]
    assert gone["data"] == {"x": "3"}  # as the watcher last knew it
    assert gone["metadata"]["labels"] == {"tier": "web"}
    assert gone["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]


def test_a_write_that_changes_nothing_is_no_event(raw: RawApi, maps: str) -> None:
    put_map(raw, maps, "a", x="1")
    start = version(raw, maps)
    put_map(raw, maps, "a", x="1")
    put_map(raw, maps, "b")
    event = seen(raw, f"{maps}?watch=1&resourceVersion={start}", 1)[0]
    assert event["object"]["metadata"]["name"] == "b"


def test_a_watch_ends_at_its_timeout(raw: RawApi, maps: str) -> None:
    start = version(raw, maps)
    # Of one name: in a new namespace the controllers may still be writing their own.
    one = f"{maps}?watch=1&resourceVersion={start}&timeoutSeconds=1&fieldSelector=metadata.name%3Dnone"
    assert list(raw.lines(one)) == []


def test_one_object_can_be_watched_by_field_selector(raw: RawApi, maps: str) -> None:
    start = version(raw, maps)
    put_map(raw, maps, "a")
    put_map(raw, maps, "b")
    selector = quote("metadata.name=b")
    event = seen(raw, f"{maps}?watch=1&resourceVersion={start}&fieldSelector={selector}", 1)[0]
    assert event["object"]["metadata"]["name"] == "b"


def test_initial_events_need_their_match(raw: RawApi, maps: str) -> None:
    answer = raw.get(f"{maps}?watch=1&sendInitialEvents=true")
    assert answer.status == 422
    assert answer.body["details"]["causes"][0]["field"] == "resourceVersionMatch"


def test_all_namespaces_can_be_watched_at_once(raw: RawApi, maps: str, home: str) -> None:
    start = version(raw, maps)
    put_map(raw, maps, "a", f"t-{home}"[:60])
    selector = quote(f"tier={f't-{home}'[:60]}")
    event = seen(raw, f"/api/v1/configmaps?watch=1&resourceVersion={start}&labelSelector={selector}", 1)[0]
    assert event["object"]["metadata"]["namespace"] == home


def test_a_list_at_exactly_one_version_shows_objects_as_they_were_just_then(raw: RawApi, maps: str) -> None:
    first = put_map(raw, maps, "a", colour="blue")["metadata"]["resourceVersion"]
    between = put_map(raw, maps, "b")["metadata"]["resourceVersion"]
    last = put_map(raw, maps, "a", colour="red")["metadata"]["resourceVersion"]
    raw.request("DELETE", f"{maps}/b").ok()

    def at(moment: str, name: str) -> list[tuple[str, Any]]:
        query = f"resourceVersion={moment}&resourceVersionMatch=Exact&fieldSelector=metadata.name%3D{name}"
        answer = raw.get(f"{maps}?{query}").ok()
        assert answer["metadata"]["resourceVersion"] == moment
        items = answer["items"]
        return [(item["metadata"]["resourceVersion"], (item.get("data") or {}).get("colour")) for item in items]

    assert at(str(int(first) - 1), "a") == []
    assert at(first, "a") == [(first, "blue")]
    assert at(str(int(last) - 1), "a") == [(first, "blue")]
    assert at(last, "a") == [(last, "red")]
    assert at(first, "b") == [] and at(between, "b") == [(between, None)] and at(last, "b") == [(between, None)]


def test_a_list_at_exactly_one_version_needs_that_version(raw: RawApi, maps: str) -> None:
    for query in ("resourceVersionMatch=Exact", "resourceVersion=0&resourceVersionMatch=Exact"):
        refused = raw.get(f"{maps}?{query}")
        assert refused.status == 422, query
        assert [cause["field"] for cause in refused.body["details"]["causes"]] == ["resourceVersionMatch"]
