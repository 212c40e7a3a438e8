"""The judge of chaos notices what it is there for: each kind of bad end, put before it by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from ocisync.model.resource import JsonObject
from ocisync.model.spec import FIELD_MANAGER, PART_OF_LABEL
from tests.chaos import oracle
from tests.chaos.world import Content, Key, Places, Revision, Strangers, as_stored, manifest
from tests.support.agent import USER_AGENT, Installation, Tenant
from tests.support.audit import AuditLog
from tests.support.cluster import Cluster

MAP, SECRET, WEB = Key("ConfigMap", "a-00"), Key("Secret", "a-03"), Key("Deployment", "a-07")
FOREIGN = Key("ConfigMap", "foreign-plain")


class Scene:
    """A sync of three objects as it should be, and one object of a stranger."""

    def __init__(self, directory: Path) -> None:
        installation = Installation.__new__(Installation)
        installation.cluster = Cluster(directory / "none", directory)
        self.content = Content(Tenant(installation, "space", "localhost/x", name="one"), "a")
        self.objects = {key: manifest(key, 5, "") for key in (MAP, SECRET, WEB)}
        self.content.revisions.append(Revision("sha256:1", self.objects))
        self.live = {key: self._applied(key) for key in self.objects}
        self.live[FOREIGN] = {"metadata": {"name": FOREIGN.name, "uid": "f", "resourceVersion": "3"}}
        self.strangers = Strangers(installation.cluster, Places("space", ""))
        self.strangers.own[FOREIGN] = ("f", "3")
        self.audit = AuditLog(directory / "audit.log")
        self._lines: list[str] = []

    def _applied(self, key: Key) -> JsonObject:
        made = copy.deepcopy(as_stored(self.objects[key]))
        made["metadata"]["labels"][PART_OF_LABEL] = self.content.sync_id
        made["metadata"] |= {"uid": key.name, "managedFields": [{"manager": FIELD_MANAGER, "operation": "Apply"}]}
        return made

    def unequal(self) -> str:
        return "; ".join(oracle.unequal(self.live, [self.content]))

    def touched(self) -> str:
        return "; ".join(oracle.touched(self.live, self.strangers))

    def asked(self, verb: str, key: Key, code: int, agent: str = USER_AGENT) -> None:
        resource = f"{key.kind.lower()}s"
        reference = {"resource": resource, "namespace": "space", "name": key.name}
        moment = "2026-11-23T12:00:00.000000Z"
        times = {"requestReceivedTimestamp": moment, "stageTimestamp": moment}
        event = times | {"userAgent": agent, "verb": verb, "objectRef": reference, "responseStatus": {"code": code}}
        self._lines.append(json.dumps(event) + "\n")
        self.audit.path.write_text("".join(self._lines))

    def audited(self) -> str:
        return "; ".join(oracle.audited(self.audit, 0, [self.content], self.strangers))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_cluster_as_it_should_be_is_found_good(scene: Scene) -> None:
    for key in scene.objects:
        scene.asked("patch", key, 201)
        scene.asked("patch", key, 200)
    assert (scene.unequal(), scene.touched(), scene.audited()) == ("", "", "")


def test_what_is_missing_different_left_over_or_without_label_is_noticed(scene: Scene) -> None:
    del scene.live[SECRET]
    scene.live[MAP]["data"] |= {"revision": "4", "extra-9": "from an older revision"}
    scene.live[WEB]["spec"]["replicas"] = 2
    del scene.live[WEB]["metadata"]["labels"][PART_OF_LABEL]
    said = scene.unequal()
    for part in ("Secret/a-03 is missing", '.data.revision is "4"', "data.extra-9 is left over", ".spec.replicas is 2",
                 "it does not carry our label"):  # fmt: skip
        assert part in said


def test_an_orphan_is_noticed_even_without_its_label(scene: Scene) -> None:
    scene.content.revisions.append(Revision("sha256:2", {MAP: scene.objects[MAP], WEB: scene.objects[WEB]}))
    scene.live[SECRET]["metadata"]["labels"].pop(PART_OF_LABEL)
    assert scene.unequal() == "Secret/a-03 is an orphan: we applied it, and no revision has it any more"


def test_what_strangers_own_or_added_is_watched_over(scene: Scene) -> None:
    scene.strangers.added[MAP, "stranger-1"] = MAP.name
    scene.strangers.added[SECRET, "stranger-2"] = "uid of an object that was deleted meanwhile"
    assert scene.touched() == "ConfigMap/a-00: stranger-1 was added by somebody else and is gone"
    scene.live[MAP]["data"]["stranger-1"] = "kept"
    assert (scene.touched(), scene.unequal()) == ("", "")
    scene.live[FOREIGN]["metadata"]["resourceVersion"] = "4"
    assert scene.touched() == "ConfigMap/foreign-plain is not ours and was changed"
    del scene.live[FOREIGN]
    assert scene.touched() == "ConfigMap/foreign-plain is not ours and was deleted"


def test_a_deletion_without_reason_a_second_one_and_one_of_a_stranger_are_noticed(scene: Scene) -> None:
    scene.asked("delete", MAP, 200)
    assert scene.audited() == "ConfigMap/a-00 was deleted 1 times, and left the revisions 0 times"
    scene.content.revisions.append(Revision("sha256:2", {SECRET: scene.objects[SECRET]}))
    assert scene.audited() == ""
    scene.asked("delete", MAP, 404)
    assert scene.audited() == ""
    scene.asked("delete", MAP, 200)
    assert "was deleted 2 times" in scene.audited()
    scene.asked("delete", FOREIGN, 409)
    assert "delete of ConfigMap/foreign-plain, which no revision ever had" in scene.audited()


def test_a_resurrection_is_noticed_and_what_somebody_deleted_may_come_back(scene: Scene) -> None:
    for _ in range(2):
        scene.asked("patch", MAP, 201)
    assert scene.audited() == "ConfigMap/a-00 was created 2 times, for 1 reasons: it came back from the dead"
    scene.strangers.deleted[MAP] += 1
    assert scene.audited() == ""


def test_what_others_than_the_agent_ask_for_is_no_business_of_the_judge(scene: Scene) -> None:
    scene.asked("delete", MAP, 200, agent="kubectl")
    assert scene.audited() == ""
