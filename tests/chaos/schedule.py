"""What a seed means: a list of steps. Pure: the same seed is the same schedule on every machine."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Action(StrEnum):
    """One accident, or one change that people make."""

    REVISE = "revise"  # another revision is pushed
    KILL = "kill"  # kill -9 of the agent, and its restart
    API_RESTART = "api-restart"  # kill -9 of the API server, and its restart
    STORM = "storm"  # 429 to everything
    DROP = "drop"  # every watch breaks
    GONE = "gone"  # every watch breaks, and is too old when it returns
    SLOW = "slow"  # answers come late
    LOST = "lost"  # answers to writes never come
    EDIT = "edit"  # somebody changes objects
    DELETE = "delete"  # somebody deletes objects
    STRIP = "strip"  # somebody takes the label off objects
    COMPACT = "compact"  # etcd forgets its history, and every watch breaks
    LEASE = "lease"  # somebody else takes the lease: the agent ends, and is started again


_WEIGHTS: Final = {
    Action.REVISE: 20, Action.KILL: 18, Action.API_RESTART: 6, Action.STORM: 9, Action.DROP: 7, Action.GONE: 7,
    Action.SLOW: 7, Action.LOST: 9, Action.EDIT: 12, Action.DELETE: 10, Action.STRIP: 8, Action.COMPACT: 6,
    Action.LEASE: 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One action, and when.

    Attributes:
        write: it happens while this write of the agent, counted from the step before, is under way; 0: at once.
        after: the server has done that write, the agent does not know yet. Else the server has not seen it.
        pick: seeds every choice of the action: which objects, which content.
        level: how bad it is, from 0 to 1.
    """

    action: Action
    write: int
    after: bool
    pick: int
    level: float

    def __str__(self) -> str:
        when = f"@{self.write}{'+' if self.after else '-'}" if self.write else ""
        return f"{self.action}{when}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A whole run.

    Attributes:
        syncs: how many, in one namespace.
        definitions: the first of them brings a definition and its resources.
        lease: the agent works only while it holds its lease, as installations with a standby do.
    """

    seed: int
    syncs: int
    definitions: bool
    lease: bool
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        parts = [f"{self.syncs} syncs", *["definitions"] * self.definitions, *["lease"] * self.lease]
        return f"{', '.join(parts)}: {' '.join(map(str, self.steps))}"


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(seed)
    lease = rng.random() < 0.5
    steps = [_step(Action.REVISE, rng, busy=False)]
    length = rng.randint(7, 10)
    while len(steps) < length:
        # What goes wrong must mostly go wrong while something is being done.
        busy = steps[-1].action in (Action.REVISE, Action.KILL, Action.API_RESTART)
        action = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        if (action is steps[-1].action and action is not Action.REVISE) or (action is Action.LEASE and not lease):
            continue
        steps.append(_step(action, rng, busy=busy))
    return Schedule(seed, rng.choice((1, 2, 2)), rng.random() < 0.25, lease, tuple(steps))


def _step(action: Action, rng: random.Random, *, busy: bool) -> Step:
    write = rng.randint(1, 30) if rng.random() < (0.85 if busy else 0.3) else 0
    return Step(action, write, after=rng.random() < 0.5, pick=rng.getrandbits(32), level=rng.random())
