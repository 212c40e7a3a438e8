"""Corrections that make an object anew, and the inventory that must know of it whatever goes wrong between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from ocisync.agent.corrections import Corrections
from ocisync.cluster.correction import Corrected, Correction, CorrectionReason, CorrectionStatus
from ocisync.cluster.memory import Applied
from ocisync.model.errors import ClusterRefused
from ocisync.model.resource import ObjectId
from tests.support.engine import EngineDriver, manifest


@dataclass
class Broken:
    """Breaks inventory writes: the n-th and no other."""

    fails: int
    written: list[str] = field(default_factory=list)

    def __call__(self, step: str) -> None:
        self.written.append(step)
        if len(self.written) == self.fails:
            raise ClusterRefused("no")


def test_an_object_that_a_correction_makes_anew_is_written_down_before_and_after(engine: EngineDriver) -> None:
    note = Broken(0)
    made = _deleted_and_corrected(engine, note)
    assert (made.status, note.written) == (CorrectionStatus.DONE, ["record", "record"])
    entry = engine.engine().inventory(engine.target).entries[ObjectId("", "ConfigMap", engine.namespace, "b")]
    assert entry.uid == engine.must("ConfigMap", "b")["metadata"]["uid"]


def test_an_object_is_not_made_anew_when_that_cannot_be_written_ahead(engine: EngineDriver) -> None:
    made = _deleted_and_corrected(engine, Broken(1))
    assert made.status is CorrectionStatus.FAILED
    assert engine.live("ConfigMap", "b") is None


def test_an_object_that_was_made_anew_is_corrected_and_ours_even_if_its_uid_could_not_be_noted(
    engine: EngineDriver,
) -> None:
    made = _deleted_and_corrected(engine, Broken(2))
    assert made.status is CorrectionStatus.DONE
    assert made.applied is not None
    assert made.applied.uid == engine.must("ConfigMap", "b")["metadata"]["uid"]
    engine.sync(engine.config_map("a"), digest="sha256:two")
    assert engine.live("ConfigMap", "b") is None
    assert engine.owned() == ["a"]


def test_a_correction_that_finds_its_object_gone_writes_ahead_too(engine: EngineDriver) -> None:
    note = Broken(1)
    assert _deleted_and_corrected(engine, note, knowing=False).status is CorrectionStatus.FAILED
    assert engine.live("ConfigMap", "b") is None


@pytest.mark.parametrize("knowing", [True, False], ids=["seen-as-gone", "found-gone"])
def test_what_the_inventory_lacks_is_not_created_and_its_sync_needs_a_full_pass(
    engine: EngineDriver, *, knowing: bool
) -> None:
    told: list[str] = []
    made = _deleted_and_corrected(engine, Broken(0), knowing=knowing, unlisted=told)
    assert (made.status, told) == (CorrectionStatus.WAITING, [engine.target.sync_id])
    assert engine.live("ConfigMap", "b") is None


def _deleted_and_corrected(
    engine: EngineDriver, hook: Callable[[str], None], *, knowing: bool = True, unlisted: list[str] | None = None
) -> Corrected:
    """Apply two objects, delete one by hand, correct that; `knowing`: the tracker has seen that it is gone.

    With `unlisted` the inventory has fallen behind, as after a restore; who is told of it.
    """
    applied: dict[str, Applied] = {}
    objects = (engine.config_map("a"), engine.config_map("b"))
    engine.sync(*objects, on_applied=lambda id_, answer: applied.update({id_.name: answer}))
    engine.delete("ConfigMap", "b")
    if unlisted is not None:
        engine.engine().inventory(engine.target).remove([ObjectId("", "ConfigMap", engine.namespace, "b")])
    desired = engine.engine().prepare([manifest(objects[1])], engine.target).desired[0]
    corrections = Corrections(
        engine.own,
        engine.discovery,
        engine.engine(hook),
        lambda _: (engine.target, False),
        ([] if unlisted is None else unlisted).append,
    )
    uid = "" if knowing else applied["b"].uid
    return corrections.correct(Correction(engine.target.sync_id, desired, uid, CorrectionReason.RECREATE, applied["b"]))
