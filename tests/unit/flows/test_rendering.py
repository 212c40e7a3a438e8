"""What is told about rendered files names their sources, and environments are judged one by one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from ocisync.flows.check import check_units
from ocisync.flows.images import PinOptions
from ocisync.flows.publish import PublishRequest, publish
from ocisync.flows.rendering import explained, units
from ocisync.model.errors import Finding, InvalidInput
from ocisync.model.tree import Origin, Rendering, SourceTree
from tests.support.artifacts import COMMIT_TIME, tree_of
from tests.support.memory_store import MemoryStore

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers: [{name: c, image: gone:1}]\n"
OUTPUTS = ("eu/manifests.yaml", "us/manifests.yaml")
ORIGINS = tuple(Origin(name, line, f"templates/{line}.yaml") for name in OUTPUTS for line in (1, 7))


class Clock:
    def now(self) -> datetime:
        return COMMIT_TIME

    def monotonic(self) -> float:
        return 0.0


def rendered() -> SourceTree:
    tree = tree_of({**dict.fromkeys(OUTPUTS, POD), "plain/a.yaml": POD})
    return replace(tree, rendering=Rendering(("helm@v4.3.1",), (), ORIGINS))


def test_the_same_object_in_two_environments_is_no_mistake_and_twice_in_one_is() -> None:
    assert check_units(units(rendered())).errors == ()
    plain = replace(rendered(), rendering=None)
    assert len(check_units(units(plain)).errors) == 2


@pytest.mark.parametrize(("line", "source"), [(0, 1), (1, 1), (6, 1), (7, 7), (99, 7)])
def test_a_line_leads_to_the_last_source_above_it(line: int, source: int) -> None:
    (finding,) = explained([Finding(OUTPUTS[0], line, 1, "bad")], rendered().rendering)
    assert finding.message == f"bad (rendered from templates/{source}.yaml)"


def test_other_files_need_no_explanation() -> None:
    finding = Finding("plain/a.yaml", 3, 1, "bad")
    assert explained([finding], rendered().rendering) == (finding,)
    assert explained([finding], None) == (finding,)


def test_an_image_that_is_gone_is_told_at_the_rendered_file_and_its_source() -> None:
    pin = PinOptions(lambda image: MemoryStore(image.repository))
    request = PublishRequest(store=MemoryStore(), source=rendered(), clock=Clock(), pin=pin)
    with pytest.raises(InvalidInput) as caught:
        publish(request)
    assert str(caught.value.findings[0]) == (
        "eu/manifests.yaml:5:26: image 'gone:1' does not exist (docker.io/library/gone:1)"
        " (rendered from templates/1.yaml)"
    )
    assert len(caught.value.findings) == 3
