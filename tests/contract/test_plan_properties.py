"""Random clusters and random artifacts: a pass does what its preview says, and leaves nothing to plan.

On the sandbox, in this process. `OCISYNC_HEAVY=1` looks a hundred times further.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from ocisync.cluster.changes import CHANGES, Verb
from ocisync.cluster.guard import Guard
from ocisync.cluster.inventory import InventoryStore
from ocisync.model.resource import JsonObject, gvk_of, id_of
from ocisync.model.spec import PART_OF_LABEL
from ocisync.sandbox import Sandbox
from tests.support.engine import GENEROUS, EngineDriver, driver
from tests.support.previews import look, previewed_sync, reported

KINDS = ("ConfigMap", "Secret", "Service", "Deployment", "ServiceAccount")
MANAGERS = ("operator", "kubectl-create", "kubectl-edit", "kubectl-client-side-apply")
ANNOTATIONS: tuple[dict[str, str], ...] = (
    {}, {}, {}, {},
    {"ocisync.dev/prune": "disabled"},
    {"ocisync.dev/force": "enabled"},
    {"ocisync.dev/apply": "IfNotPresent"},
    {"ocisync.dev/wave": "1"},
    {"ocisync.dev/protect": "confirm"},
    {"ocisync.dev/wave": "no number"},
)  # fmt: skip


@dataclass(frozen=True)
class Written:
    """One manifest: which object, in which of its variants."""

    kind: str
    number: int
    variant: int
    annotations: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind.lower()}-{self.number}"

    def body(self, *, annotated: bool = True) -> JsonObject:
        """The object."""
        made: JsonObject = {"apiVersion": "v1", "kind": self.kind, "metadata": {"name": self.name}}
        made |= _content(self.kind, self.variant)
        chosen = ANNOTATIONS[self.annotations] if annotated else {}
        if chosen:
            made["metadata"]["annotations"] = dict(chosen)
        return made


def _content(kind: str, variant: int) -> JsonObject:
    text = str(variant)
    if kind == "ConfigMap":
        content: JsonObject = {"data": {"a": text, f"k{text}": "x"}}
        return {**content, "immutable": True} if variant == 3 else content
    if kind == "Secret":
        return {"stringData": {"a": text}} if variant % 2 else {"data": {"a": base64.b64encode(text.encode()).decode()}}
    if kind == "Service":
        ports = [{"name": "web", "port": 80 + variant // 2}, {"name": "metrics", "port": 90, "protocol": "TCP"}]
        return {"spec": {"selector": {"app": "x"}, "ports": ports[:: -1 if variant % 2 else 1]}}
    if kind == "Deployment":
        env = [{"name": "ONE", "value": text}, {"name": "TWO", "value": "2"}]
        container = {
            "name": "web", "image": "web:1", "env": env[:: -1 if variant % 2 else 1], "args": ["run", text],
            "resources": {"limits": {"cpu": ("1000m", "1", "500m", "0.5")[variant]}},
        }  # fmt: skip
        template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [container]}}
        spec = {"replicas": variant, "selector": {"matchLabels": {"app": "x"}}, "template": template}
        return {"apiVersion": "apps/v1", "spec": spec}
    return {"automountServiceAccountToken": bool(variant % 2)}


manifests = st.builds(
    Written, st.sampled_from(KINDS), st.integers(0, 1), st.integers(0, 3), st.integers(0, len(ANNOTATIONS) - 1)
)
artifacts = st.lists(manifests, max_size=6, unique_by=lambda item: (item.kind, item.number))
events = st.lists(
    st.one_of(
        st.tuples(st.just("stranger"), manifests, st.sampled_from(MANAGERS)),
        st.tuples(st.just("edit"), manifests, st.sampled_from(MANAGERS)),
        st.tuples(st.just("apply"), manifests, st.just("argo")),
        st.tuples(st.sampled_from(["delete", "hold", "steal", "strip", "forget"]), manifests, st.just("")),
    ),
    max_size=6,
)
guards = st.sampled_from([GENEROUS, GENEROUS, Guard(max_prune="1"), Guard(protect=("Secret",))])


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A sandbox without controllers: nothing moves between a preview and its pass."""
    with Sandbox(tmp_path_factory.mktemp("sandbox"), controllers=False, persistent=False) as sandbox:
        yield sandbox.kubeconfig


@given(
    before=artifacts, first=artifacts, happened=events, second=artifacts, prune=st.booleans(), force=st.booleans(),
    guard=guards,
)  # fmt: skip
@example(  # everything is taken from another program, within the second of the sync before
    before=[Written("Deployment", 0, 1)], first=[Written("Deployment", 0, 1)], happened=[],
    second=[Written("Deployment", 0, 0)], prune=False, force=False, guard=GENEROUS,
)  # fmt: skip
@example(  # what is to be made anew is being deleted already
    before=[], first=[Written("ConfigMap", 1, 3)], happened=[("hold", Written("ConfigMap", 1, 0), "")],
    second=[Written("ConfigMap", 1, 2)], prune=True, force=True, guard=GENEROUS,
)  # fmt: skip
@settings(
    max_examples=settings.default.max_examples // 3 if settings.default else 16,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_a_pass_does_what_its_preview_says_and_leaves_nothing_to_plan(
    kubeconfig: Path,
    before: list[Written],
    first: list[Written],
    happened: list[tuple[str, Written, str]],
    second: list[Written],
    prune: bool,
    force: bool,
    guard: Guard,
) -> None:
    with driver(kubeconfig, "plan") as engine:
        for item in before:
            engine.create_as("operator" if item.variant % 2 else "kubectl-create", item.body(annotated=False))
        engine.sync(*(item.body() for item in first), force=item_force(first))
        for what, item, manager in happened:
            happen(engine, what, item, manager)
        chosen: dict[str, Any] = {"digest": "sha256:two", "prune": prune, "force": force, "guard": guard}
        wanted = [item.body() for item in second]
        looked, report = previewed_sync(engine, *wanted, **chosen)
        assert (looked.preview.held, looked.preview.hash) == (report.held, report.plan_hash)
        if report.held:
            event("held")
            chosen["approved"] = report.plan_hash
            looked, report = previewed_sync(engine, *wanted, **chosen)
            assert not looked.preview.held
        for verb in {change.verb.value for change in looked.preview.changes}:
            event(verb)
        assert looked.announced == reported(report)
        assert looked.preview.deferred == report.prune_deferred
        left = look(engine, *wanted, **chosen).preview
        allowed = {Verb.PRUNE} if looked.preview.deferred else set()
        again = [change for change in left.changes if change.verb in CHANGES - allowed]
        assert again == []


def item_force(items: list[Written]) -> bool:
    """Every other first sync takes what it needs."""
    return len(items) % 2 == 0


def happen(engine: EngineDriver, what: str, item: Written, manager: str) -> None:
    """Something that others do to a cluster between two passes; nothing, if there is nothing to do it to."""
    body = item.body(annotated=False)
    group = gvk_of(body).group
    there = engine.live(item.kind, item.name, group) is not None
    if what == "stranger" and not there:
        engine.create_as(manager, body)
    elif what == "forget":
        _forget(engine, body)
    if not there or what in ("stranger", "forget"):
        return
    patches: dict[str, JsonObject] = {
        "edit": _edit(item),
        "hold": {"metadata": {"finalizers": ["example.org/held"]}},
        "steal": {"metadata": {"labels": {PART_OF_LABEL: engine.other().target.sync_id}}},
        "strip": {"metadata": {"labels": {PART_OF_LABEL: None}}},
    }
    with contextlib.suppress(AssertionError):  # immutable objects refuse some of it
        if what in ("delete", "hold"):
            if what == "hold":
                engine.write_as("someone", item.kind, item.name, patches["hold"], group)
            engine.delete(item.kind, item.name, group)
        elif what == "apply":
            engine.apply_as(manager, body)
        else:
            engine.write_as(manager or "someone", item.kind, item.name, patches[what], group)


def _edit(item: Written) -> JsonObject:
    edits: dict[str, JsonObject] = {
        "ConfigMap": {"data": {"a": "edited", "theirs": "x"}},
        "Secret": {"stringData": {"a": "edited"}},
        "Deployment": {"spec": {"replicas": 7}},
    }
    return edits.get(item.kind, {"metadata": {"labels": {"edited": str(item.variant)}}})


def _forget(engine: EngineDriver, body: JsonObject) -> None:
    """Take an entry out of the inventory, as a restore of an old backup does."""
    store = InventoryStore(
        engine.kube, engine.agent_namespace, sync_namespace=engine.namespace, sync_name=engine.target.sync_name
    )
    store.load()
    wanted = id_of(body)
    store.remove([id_ for id_ in store.entries if (id_.kind, id_.name) == (wanted.kind, wanted.name)])


def test_the_property_is_shown_on_what_it_is_about(kubeconfig: Path) -> None:
    """One hand-made case with every verb that the property lives from."""
    with driver(kubeconfig, "plan") as engine:
        engine.create_as("operator", Written("ConfigMap", 0, 0).body())
        engine.create_as("kubectl-create", Written("Secret", 0, 0).body())
        engine.sync(Written("Deployment", 0, 0).body(), Written("Service", 0, 0).body(), Written("Secret", 1, 0).body())
        wanted = [
            Written("ConfigMap", 0, 1).body(), Written("Secret", 0, 2).body(), Written("Deployment", 0, 1).body(),
            Written("Service", 0, 0).body(), Written("ServiceAccount", 0, 0).body(),
        ]  # fmt: skip
        looked, report = previewed_sync(engine, *wanted, digest="sha256:two")
        assert set(looked.preview.counts()) == {"create", "configure", "adopt", "unchanged", "prune", "conflict"}
        assert looked.preview.deferred and looked.announced == reported(report)
        assert json.dumps(looked.verbs)
