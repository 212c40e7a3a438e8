"""The sandbox's shapes of the built-in kinds are those that the real server publishes."""

from __future__ import annotations

import json
from importlib import resources

from tests.assets.make_builtin_schema import compact
from tests.contract.rawapi import RawApi
from tests.support.cluster import Cluster


def test_the_shipped_shapes_are_what_the_generator_makes_of_the_real_servers_document(cluster: Cluster) -> None:
    raw = RawApi(cluster.kubeconfig)
    document = raw.get("/openapi/v2").ok()
    raw.close()
    shipped = json.loads(resources.files("ocisync.sandbox").joinpath("builtin.json").read_text())
    made = json.loads(compact(document))
    assert made["kinds"] == shipped["kinds"]
    assert made["defs"] == shipped["defs"]
