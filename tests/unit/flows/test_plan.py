"""Which objects are planned, for whom, and how a plan is told."""

from __future__ import annotations

import json

import pytest

from ocisync.cluster.changes import Change, Difference, Preview, Take, Verb
from ocisync.cluster.engine import Settings
from ocisync.cluster.normalise import Target
from ocisync.flows.compare import Side
from ocisync.flows.oneshot import fingerprint
from ocisync.flows.plan import NO_IMAGES, Planned, Scope, named, objects_of, scope_of_sync
from ocisync.flows.preview import differences
from ocisync.model.errors import InvalidInput, NotFound
from ocisync.model.image import ImageMap
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import parse_sync
from ocisync.model.tree import TreeFile

SYNC: JsonObject = {
    "metadata": {"name": "shop", "namespace": "apps", "uid": "u", "annotations": {"ocisync.dev/approved": "sha256:a"}},
    "spec": {
        "source": {"repository": "registry.example/shop", "tag": "production"}, "path": "eu",
        "target": {"namespace": "shop", "serviceAccountName": "deployer"}, "prune": False, "force": True,
        "guard": {"maxPrune": 3, "protect": ["Secret"]},
        "images": [{"from": "docker.io", "to": "mirror.site.local/hub"}],
    },
}  # fmt: skip
POD: JsonObject = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"image": "nginx:1"}]},
}  # fmt: skip


def side(**files: JsonObject | str) -> Side:
    data = {name: item if isinstance(item, str) else json.dumps(item) for name, item in files.items()}
    return Side("here", tuple(TreeFile(name, text.encode()) for name, text in sorted(data.items())))


def scope(path: str = "", images: ImageMap = NO_IMAGES) -> Scope:
    return Scope("x", Target("id", "n", "ns", ""), Settings(digest="sha256:d"), "agent", path, images)


def test_the_scope_of_a_sync_is_what_its_agent_goes_by() -> None:
    spec = parse_sync(SYNC)
    made = scope_of_sync(spec, "sha256:d", inventory="agent", impersonate=True)
    assert made.target.user == "system:serviceaccount:apps:deployer"
    assert (made.target.namespace, made.path, made.inventory) == ("shop", "eu", "agent")
    chosen = made.settings
    assert (chosen.digest, chosen.prune, chosen.force, chosen.approved) == ("sha256:d", False, True, "sha256:a")
    assert (chosen.guard.max_prune, chosen.guard.protect) == ("3", ("Secret",))
    assert scope_of_sync(spec, "sha256:d", inventory="agent", impersonate=False).target.user == ""


def test_objects_are_chosen_by_path_and_their_images_rewritten_as_the_agent_does() -> None:
    files = side(**{"eu/p.json": POD, "us/q.json": {**POD, "metadata": {"name": "q"}}})
    spec = parse_sync(SYNC)
    made = scope_of_sync(spec, "sha256:d", inventory="agent", impersonate=False)
    objects, _ = objects_of(files, made)
    assert [item.id.name for item in objects] == ["p"]
    assert objects[0].body["spec"]["containers"][0]["image"].startswith("mirror.site.local/hub/")
    with pytest.raises(NotFound, match="no manifests below 'asia'"):
        objects_of(files, scope("asia"))
    with pytest.raises(InvalidInput):
        objects_of(side(**{"a.yaml": "a: {"}), scope())


def test_a_directory_is_another_content_when_a_byte_or_a_name_is_another() -> None:
    before = fingerprint(side(**{"a.json": POD}))
    assert before == fingerprint(side(**{"a.json": POD}))
    assert before != fingerprint(side(**{"b.json": POD}))
    assert before != fingerprint(side(**{"a.json": {**POD, "metadata": {"name": "q"}}}))


def test_the_json_form_of_a_plan_has_everything() -> None:
    id_ = ObjectId("apps", "Deployment", "shop", "web")
    change = Change(
        id_, Verb.ADOPT, "web.yaml:1", differences=(Difference("changed", "/spec/replicas", 1, 2),),
        takes=(Take("kubectl", ("spec.replicas",)),), after=ObjectId("", "Namespace", "", "shop"),
    )  # fmt: skip
    preview = Preview((change, Change(id_, Verb.UNCHANGED)), "sha256:h", "it is held", deferred=True)
    told = Planned(side(), scope(), preview).as_json()
    assert told["differs"] is True and told["summary"] == {"adopt": 1, "unchanged": 1}
    assert (told["hash"], told["held"], told["deferred"]) == ("sha256:h", "it is held", True)
    assert told["changes"][0] == {
        "action": "adopt", "group": "apps", "kind": "Deployment", "namespace": "shop", "name": "web",
        "place": "web.yaml:1", "after": "Namespace shop",
        "takes": [{"manager": "kubectl", "fields": ["spec.replicas"]}],
        "fields": [{"path": "/spec/replicas", "action": "changed", "from": 1, "to": 2}],
    }  # fmt: skip


@pytest.mark.parametrize("verb", [Verb.UNCHANGED, Verb.ORPHAN, Verb.FORGET, Verb.ENDING, Verb.SKIP])
def test_what_stays_as_it_is_is_no_change(verb: Verb) -> None:
    assert not Preview((Change(ObjectId("", "ConfigMap", "n", "a"), verb),), "h").differs


@pytest.mark.parametrize("verb", [Verb.CREATE, Verb.PRUNE, Verb.CONFLICT, Verb.WAIT, Verb.REFUSED, Verb.BLOCKED])
def test_what_would_be_written_or_cannot_be_is_a_change(verb: Verb) -> None:
    assert Preview((Change(ObjectId("", "ConfigMap", "n", "a"), verb),), "h").differs


def test_owners_are_named_beside_their_ids() -> None:
    assert named("belongs to applyset-x-v1", {"applyset-x-v1": "apps/shop"}).endswith(
        "(that is ArtifactSync apps/shop)"
    )
    assert named("belongs to applyset-y-v1", {"applyset-x-v1": "apps/shop"}) == "belongs to applyset-y-v1"


SECRET = ObjectId("", "Secret", "n", "s")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"data": {"a": "OLD"}}, {"data": {"a": "NEW"}}),
        ({}, {"data": {"a": "NEW"}}),
        ({"stringData": {"a": "OLD"}}, {}),
        ({"metadata": {"annotations": {"tool/copy": "OLD"}}}, {"metadata": {"annotations": {"tool/copy": "NEW"}}}),
        ({"metadata": {}}, {"metadata": {"annotations": {"tool/copy": "NEW"}}}),
        ({}, {"metadata": {"annotations": {"tool/copy": "NEW"}}}),
    ],
)
def test_no_value_of_a_secret_is_in_its_differences(before: JsonObject, after: JsonObject) -> None:
    told = differences(SECRET, before, after)
    assert told and "OLD" not in repr(told) and "NEW" not in repr(told)


def test_a_copy_of_an_object_in_an_annotation_is_hidden_for_every_kind() -> None:
    key = "kubectl.kubernetes.io/last-applied-configuration"
    id_ = ObjectId("", "ConfigMap", "n", "c")
    told = differences(id_, {"metadata": {"annotations": {key: "OLD"}}}, {"metadata": {"annotations": {"plain": "x"}}})
    assert "OLD" not in repr(told) and "'x'" in repr(told)
