"""T2 where a sync goes back to its own history: no way round the watermark by moving a tag or forging a status."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.agent.test_going_back import BAD, GOOD, LEFT, World


def test_t02_a_forged_status_is_no_history() -> None:
    world = World(accepted=(BAD.digest,))  # the agent's own record; GOOD stands in the sync's status alone
    world.memory.quarantine = LEFT
    assert world.situation().request(digest=GOOD.digest).watermark == 7


def test_t02_a_tag_moved_back_to_what_ran_before_is_refused_after_a_restart_too() -> None:
    world = World()
    world.memory.enforced, world.recorded = None, replace(world.recorded, applied=GOOD.digest)
    world.memory.offered = GOOD
    assert world.situation().request(digest=GOOD.digest).watermark == 7


def test_t02_a_tag_moved_to_what_was_gone_back_to_needs_a_newer_signature() -> None:
    world = World()
    world.enforce(GOOD)
    assert world.memory.enforced is not None
    world.memory.enforced.own = True
    world.memory.offered = GOOD
    assert world.situation().request(digest=GOOD.digest).watermark == 7
