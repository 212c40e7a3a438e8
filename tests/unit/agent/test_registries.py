"""What registries say is logged once, not with each poll."""

from __future__ import annotations

import logging

import pytest

from ocisync.agent.registries import Registries
from ocisync.kit.stop import StopToken
from ocisync.model.spec import parse_sync
from ocisync.sandbox.faults import Relabel
from ocisync.sandbox.registry import Registry as Sandbox
from tests.unit.agent.fakes import FakeCluster


def test_a_warning_of_a_registry_is_logged_once_for_all_polls(caplog: pytest.LogCaptureFixture) -> None:
    with Sandbox() as sandbox:
        sandbox.faults.add("/manifests/", count=None, action=Relabel({"Warning": '299 - "this registry moves in May"'}))
        sync = {
            "metadata": {"name": "shop", "namespace": "apps", "uid": "u", "generation": 1},
            "spec": {"source": {"repository": f"{sandbox.address}/shop/config", "tag": "production"}},
        }
        registries = Registries(FakeCluster(lambda *_: (404, {})), StopToken(), {})
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                store = registries.open(parse_sync(sync))
                assert store.resolve("production") is None
                store.close()
    assert [record.getMessage() for record in caplog.records].count("registry") == 1
