from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from ocisync.agent.trustaudit import RECORD, State, TrustRecord, changes, key_item, policy_item, root_item
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import Unavailable
from tests.support.trust import signer
from tests.unit.agent.fakes import FakeCluster

PEM = signer("ci").public.pem.encode()


def document(**spec: Any) -> dict[str, Any]:
    fields = [
        {"manager": "kubectl-edit", "time": "2026-11-23T10:00:00Z"},
        {"manager": "ocisync", "time": "2026-11-23T11:00:00Z", "subresource": "status"},
        {"manager": "helm", "time": "2026-11-20T10:00:00Z"},
    ]
    return {
        "metadata": {"name": "shop", "managedFields": fields},
        "spec": {
            "threshold": 1,
            "authorities": [{"name": "ci", "key": {"pem": "A"}}, {"name": "qa", "key": {"pem": "B"}}],
            "rollback": {"maxAge": "720h"},
            **spec,
        },
    }


def state(**spec: Any) -> State:
    return {"policy/shop": policy_item(document(**spec))}


def test_a_change_names_its_fields_the_hashes_and_who_wrote_it() -> None:
    authorities = [{"name": "ci", "key": {"pem": "A"}}, {"name": "qa", "key": {"pem": "C"}}]
    (change,) = changes(state(), state(threshold=2, authorities=authorities, rollback={}))
    assert change.fields == ("authorities[qa].key.pem", "rollback", "rollback.maxAge", "threshold")
    assert (change.what, change.name, change.action) == ("policy", "shop", "changed")
    assert change.old != change.new and change.old.startswith("sha256:") and change.new.startswith("sha256:")
    assert (change.by, change.at) == ("kubectl-edit", "2026-11-23T10:00:00Z")


def test_the_hash_is_that_of_the_canonical_content() -> None:
    spec = {"threshold": 1, "match": [{"repository": "ü/x"}]}
    text = '{"match":[{"repository":"ü/x"}],"threshold":1}'
    assert policy_item({"spec": spec}).hash == sha256_digest(text.encode())
    assert policy_item({"spec": dict(reversed(spec.items()))}).hash == sha256_digest(text.encode())
    odds: tuple[Any, ...] = (None, [], 7, "x", {"a": "\ud800"})
    for odd in odds:
        assert policy_item({"spec": odd}).hash.startswith("sha256:")


def test_appearing_and_going_have_one_hash_each() -> None:
    assert [change.action for change in changes({}, state())] == ["added"]
    assert [change.action for change in changes(state(), {})] == ["removed"]
    assert changes(state(), state()) == ()


def test_a_key_is_known_by_its_fingerprint_and_private_parts_are_not_looked_at() -> None:
    item = key_item({"cosign.pub": PEM, "cosign.key": b"private", "cosign.password": b"1234"})
    assert item is not None and item.hash == signer("ci").public.fingerprint
    assert set(item.parts) == {"cosign.pub"}
    assert key_item(None) is None
    broken = key_item({"cosign.pub": b"none"})
    assert broken is not None and broken.hash == sha256_digest(b"none")
    root = root_item({"trusted_root.json": b"{}", "note": b"x"})
    assert root is not None and root.hash == sha256_digest(b"{}")


class Maps:
    """One ConfigMap, or an API server that is away."""

    def __init__(self) -> None:
        self.data: dict[str, Any] | None = None
        self.status = 200
        self.away = False

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.away:
            raise Unavailable("away")
        if method == "GET":
            return (200, {"data": self.data}) if self.data is not None else (404, {})
        if method == "PUT" and (self.data is None or self.status != 200):
            return (404 if self.status == 200 else self.status), {}
        assert body["metadata"]["name"] == RECORD
        self.data = body["data"]
        return 200, body


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = [record.__dict__["fields"] for record in caplog.records if record.getMessage() == "trust changed"]
    caplog.clear()
    return found


def test_what_changed_while_no_agent_ran_is_told_at_the_next_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ocisync")
    maps = Maps()
    cluster = FakeCluster(maps.answer)
    assert TrustRecord(cluster, "system").update(state()) == 1
    assert lines(caplog)[0]["old"] == "none"
    again = TrustRecord(cluster, "system")
    assert again.update(state()) == 0 and lines(caplog) == []
    asked = len(cluster.asked)
    assert again.update(state()) == 0 and len(cluster.asked) == asked  # nothing is read or written twice
    assert TrustRecord(cluster, "system").update(state(threshold=2)) == 1
    (line,) = lines(caplog)
    assert (line["action"], line["fields"]) == ("changed", ("threshold",))
    assert line["old"] == state()["policy/shop"].hash


@pytest.mark.parametrize("text", ["", "[]", "7", '{"policy/x": 1}', '{"policy/x": {"hash": "a", "parts": 1}}', "[" * 9])
def test_a_record_of_nonsense_is_told_and_replaced(text: str, caplog: pytest.LogCaptureFixture) -> None:
    maps = Maps()
    maps.data = {"trust.json": text}
    TrustRecord(FakeCluster(maps.answer), "system").update(state())
    assert lines(caplog)[0]["action"] == "added"
    assert "policy/shop" in json.loads(maps.data["trust.json"])


def test_an_api_server_that_is_away_or_says_no_costs_the_record_only(caplog: pytest.LogCaptureFixture) -> None:
    maps = Maps()
    maps.away = True
    record = TrustRecord(FakeCluster(maps.answer), "system")
    assert record.update(state()) == 1
    maps.away, maps.status = False, 403
    assert record.update(state(threshold=2)) == 1
    assert [line["action"] for line in lines(caplog)] == ["added", "changed"]
