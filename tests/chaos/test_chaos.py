"""A sample of the schedules that `python -m tests.chaos --seeds 200` plays, and what a seed means."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.chaos.schedule import Action, draw
from tests.chaos.stage import Scene
from tests.support.agent import Installation
from tests.support.controlplane import ControlPlane
from tests.support.registries import Registry

SAMPLE = (38, 169)  # short, and between them every accident
HEAVY = tuple(range(1, 21))


def test_a_seed_is_always_the_same_schedule() -> None:
    assert [draw(seed) for seed in range(20)] == [draw(seed) for seed in range(20)]
    assert len({draw(seed) for seed in range(200)}) == 200


def test_two_hundred_seeds_hold_every_accident_often_and_mostly_in_the_middle_of_a_write() -> None:
    steps = [step for seed in range(1, 201) for step in draw(seed).steps]
    often = Counter(step.action for step in steps)
    assert min(often[action] for action in Action) >= 20
    assert sum(step.write > 0 for step in steps) > len(steps) / 3


def test_the_sample_holds_every_accident() -> None:
    assert {step.action for seed in SAMPLE for step in draw(seed).steps} == set(Action)


@pytest.fixture(scope="module")
def scene(control_plane: ControlPlane, distribution: Registry, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Where the sample is played: the control plane of all tests, with an installation of its own."""
    directory = tmp_path_factory.mktemp("chaos")
    return Scene(control_plane, Installation(control_plane, directory), distribution.host, directory)


@pytest.mark.timeout(1500)  # each wait has its own limit
@pytest.mark.parametrize("seed", HEAVY if os.environ.get("OCISYNC_HEAVY") == "1" else SAMPLE)
def test_after_any_accidents_the_cluster_is_the_last_revision_and_nothing_else_was_touched(
    scene: Scene, seed: int
) -> None:
    scene.play(draw(seed))
