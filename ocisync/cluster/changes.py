"""What a pass would do, as values: one change for each object, and all of them with what holds the plan.

A preview announces; the report of the pass says the same of each object afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ocisync.cluster.memory import Applied
from ocisync.model.resource import ObjectId


class Verb(StrEnum):
    """What happens to one object."""

    CREATE = "create"
    CONFIGURE = "configure"
    ADOPT = "adopt"  # configure an object that is there and belongs to no sync
    RECREATE = "recreate"
    UNCHANGED = "unchanged"
    PRUNE = "prune"
    ORPHAN = "orphan"  # the artifact no longer has it, and it stays
    FORGET = "forget"  # the inventory no longer names it: it is gone, or somebody else's
    ENDING = "ending"  # it is being deleted already
    SKIP = "skip"  # its own annotation says so
    CONFLICT = "conflict"
    WAIT = "wait"
    REFUSED = "refused"
    BLOCKED = "blocked"


CHANGES = frozenset({Verb.CREATE, Verb.CONFIGURE, Verb.ADOPT, Verb.RECREATE, Verb.PRUNE})
TROUBLE = frozenset({Verb.CONFLICT, Verb.WAIT, Verb.REFUSED, Verb.BLOCKED})


@dataclass(frozen=True, slots=True)
class Difference:
    """One field: `path` as people write it, values as JSON, what must not be seen already hidden."""

    action: str
    path: str
    old: Any = None
    new: Any = None


@dataclass(frozen=True, slots=True)
class Take:
    """Fields that a manager holds now and would lose."""

    manager: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What would happen to one object, and why.

    Attributes:
        reason: a word for machines: an error class, why it is kept.
        after: what has to be there first and comes with the same artifact.
        live: what the object is now, for `Engine.execute(previous=…)`; None if it does not exist or was not read.
    """

    id: ObjectId
    verb: Verb
    place: str = ""
    reason: str = ""
    message: str = ""
    differences: tuple[Difference, ...] = ()
    takes: tuple[Take, ...] = ()
    after: ObjectId | None = None
    live: Applied | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """A plan with what comes of it, in the order in which it is done.

    Attributes:
        held: why a person must approve `hash` first; empty if nothing is in the way.
        deferred: deletions wait, because not every object of the artifact can be applied.
    """

    changes: tuple[Change, ...]
    hash: str
    held: str = ""
    deferred: bool = False

    @property
    def differs(self) -> bool:
        """Whether the pass would write, or would have to and cannot."""
        return any(change.verb in CHANGES or change.verb in TROUBLE for change in self.changes)

    @property
    def troubles(self) -> tuple[Change, ...]:
        """What cannot be applied as things are."""
        return tuple(change for change in self.changes if change.verb in TROUBLE)

    def counts(self) -> dict[str, int]:
        """How many objects meet which end, in the order of the verbs; those that none meets are left out."""
        found = {verb.value: sum(1 for change in self.changes if change.verb is verb) for verb in Verb}
        return {word: count for word, count in found.items() if count}
