"""Whatever the inventory says, whatever lives, whatever the artifact has: only proven members are ever deleted.

What is proven is decided here from how each object was made, not from the engine's own rules.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ocisync.cluster.apply import Action
from ocisync.cluster.inventory import EntryState
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import FIELD_MANAGER, PART_OF_LABEL
from tests.contract.conftest import real_kubeconfig
from tests.support.engine import EngineDriver, driver

HEAVY = os.environ.get("OCISYNC_HEAVY") == "1"
THEIRS = "applyset-theirs-v1"


@dataclass(frozen=True, slots=True)
class Case:
    """One object: how it was made, what the inventory holds of it, whether the artifact has it.

    `made`: who applied it with which label; `noted`: what the inventory says.
    """

    made: str
    noted: str
    wanted: bool

    @property
    def proven(self) -> bool:
        """Whether it must go, once the artifact does not have it."""
        if self.made == "by us":
            return self.noted in ("ahead", "with uid")
        return self.made == "by us, label stripped" and self.noted == "with uid"


CASES = st.builds(
    Case,
    made=st.sampled_from(
        ["never", "by us", "by us, label stripped", "by us, label of another", "label copied by hand", "by hand"]
    ),
    noted=st.sampled_from(["not", "ahead", "with uid", "with another uid", "unproven"]),
    wanted=st.booleans(),
)


@pytest.fixture(scope="module", params=["sandbox", "real"])
def shared_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineDriver]:
    """One driver for all examples; each has a sync and names of its own."""
    if request.param == "real":
        kubeconfig, installed = real_kubeconfig(request), tmp_path_factory.mktemp("installed")
    else:
        kubeconfig, installed = request.getfixturevalue("sandbox_cluster").kubeconfig, None
    with driver(kubeconfig, "property", installed=installed) as made:
        yield made


@settings(max_examples=500 if HEAVY else 15, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(cases=st.lists(CASES, min_size=3, max_size=10))
def test_a_prune_set_is_always_a_subset_of_proven_members(shared_engine: EngineDriver, cases: list[Case]) -> None:
    engine = shared_engine.other()
    named = {f"c{number}-{secrets.token_hex(3)}": case for number, case in enumerate(cases)}
    for name, case in named.items():
        _make(engine, name, case)
    _note(engine, named)
    before = {name: engine.live("ConfigMap", name) for name in named}
    wanted = [engine.config_map(name, git="yes") for name, case in named.items() if case.wanted]
    report = engine.sync(engine.config_map(f"anchor-{secrets.token_hex(3)}"), *wanted)
    deleted = {result.id.name for result in report.results if result.action is Action.DELETED}
    assert deleted <= {name for name, case in named.items() if case.proven and not case.wanted}, (named, deleted)
    if report.all_applied:
        assert deleted == {name for name, case in named.items() if case.proven and not case.wanted}, (named, deleted)
    for name, case in named.items():
        if not case.wanted and name not in deleted:
            assert engine.live("ConfigMap", name) == before[name], (name, case)


def _make(engine: EngineDriver, name: str, case: Case) -> None:
    labels = {
        "by us": engine.target.sync_id, "by us, label stripped": "", "by us, label of another": THEIRS,
        "label copied by hand": engine.target.sync_id, "by hand": "",
    }  # fmt: skip
    if case.made == "never":
        return
    obj: JsonObject = engine.config_map(name)
    if labels[case.made]:
        obj["metadata"]["labels"] = {PART_OF_LABEL: labels[case.made]}
    if case.made.startswith("by us"):
        engine.apply_as(FIELD_MANAGER, obj)
    else:
        engine.create_as("kubectl-create", obj)


def _note(engine: EngineDriver, named: dict[str, Case]) -> None:
    store = engine.engine().inventory(engine.target)
    ids = {name: ObjectId("", "ConfigMap", engine.namespace, name) for name in named}
    store.claim("test", "")
    store.add([ids[name] for name, case in named.items() if case.noted in ("ahead", "with uid", "with another uid")])
    uids = {}
    for name, case in named.items():
        live = engine.live("ConfigMap", name)
        uid = str(live["metadata"]["uid"]) if live is not None else "uid-of-what-is-gone"
        if case.noted == "with uid":
            uids[ids[name]] = uid
        elif case.noted == "with another uid":
            uids[ids[name]] = "uid-of-a-predecessor"
        elif case.noted == "unproven":
            store.adopt_found({ids[name]: uid})
            assert store.entries[ids[name]].state is EntryState.UNPROVEN
    store.record(uids)
