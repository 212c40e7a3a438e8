"""What a pass will do: which objects it applies, deletes, forgets, keeps. Pure: it decides on what was read before.

An object is deleted only if the inventory names it, the artifact does not, and the live object proves that it is ours:
our Apply entry, no other owner's label, and the uid we applied. Whatever is in doubt is kept or forgotten, not deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ocisync.cluster.guard import Guard, Loss, hold, plan_hash
from ocisync.cluster.inventory import Entry, EntryState
from ocisync.cluster.normalise import Desired, ObjectOptions, Prepared, options_of
from ocisync.cluster.ownership import applied_by_us, part_of
from ocisync.model.resource import JsonObject, ObjectId, annotations_of
from ocisync.model.spec import PROTECT, PRUNE


class Fate(StrEnum):
    """What becomes of an object that the artifact no longer has."""

    PRUNE = "Prune"
    FORGET = "Forget"  # drop the entry, leave whatever is there alone
    KEEP = "Keep"  # leave object and entry
    ENDING = "Ending"  # being deleted already: wait for its finalizers


@dataclass(frozen=True, slots=True)
class Observed:
    """A candidate for deletion as the server shows it.

    Attributes:
        live: its metadata; None if it does not exist.
        foreign: what a Namespace or definition holds that must not go with it.
        unreadable: why it could not be read; empty if it could.
        defines: group and kind that a definition brings.
    """

    entry: Entry
    live: JsonObject | None
    foreign: tuple[str, ...] = ()
    unreadable: str = ""
    defines: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Prune:
    """One deletion, with the version it was judged at, and what its annotations say of order."""

    id: ObjectId
    uid: str
    resource_version: str
    confirm: bool = False
    options: ObjectOptions = field(default_factory=ObjectOptions)


@dataclass(frozen=True, slots=True)
class Kept:
    """An object that stays although the artifact no longer has it, and why."""

    id: ObjectId
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one pass will do.

    Attributes:
        deferred: deletions wait because not every object of the artifact can be applied.
        held: why a person must approve `hash` first; empty if nothing is in the way.
        losses: what the hash covers.
    """

    applies: tuple[Desired, ...]
    prunes: tuple[Prune, ...]
    recreations: tuple[Loss, ...]
    forgets: tuple[ObjectId, ...]
    kept: tuple[Kept, ...]
    ending: tuple[ObjectId, ...]
    losses: tuple[Loss, ...]
    hash: str
    held: str = ""
    deferred: bool = False
    ending_options: Mapping[ObjectId, ObjectOptions] = field(default_factory=dict)

    @property
    def prune_held(self) -> tuple[Kept, ...]:
        """Namespaces and definitions that stay because they hold foreign objects."""
        return tuple(kept for kept in self.kept if kept.reason == "PruneHeld")


def candidates(prepared: Prepared, inventory: Mapping[ObjectId, Entry]) -> tuple[Entry, ...]:
    """Inventory entries that the artifact does not have, in a stable order.

    Entries of kinds that the server lacks are none: the artifact may well have them, under a scope that nobody knows.
    """
    wanted = {one.id for one in prepared.desired} | {one.id for one in prepared.rejected}
    return tuple(
        inventory[id_]
        for id_ in sorted(inventory)
        if id_ not in wanted and (id_.group, id_.kind) not in prepared.unknown_kinds
    )


def judge(observed: Observed, sync_id: str, applied_uids: frozenset[str] = frozenset()) -> tuple[Fate, Kept | None]:
    """Decide about one candidate. `applied_uids`: objects applied in this revision, under whatever kind or group."""
    entry, live = observed.entry, observed.live
    if observed.unreadable:
        return Fate.KEEP, Kept(entry.id, "Unreadable", f"kept: it cannot be read: {observed.unreadable}")
    if live is None:
        return Fate.FORGET, None
    metadata = live.get("metadata") or {}
    uid = str(metadata.get("uid") or "")
    owner, other = part_of(live), bool(entry.uid and uid != entry.uid)
    if uid in applied_uids or owner not in ("", sync_id) or not applied_by_us(live):
        return Fate.FORGET, None
    if not owner and (other or not entry.uid):
        return Fate.FORGET, None
    if other:
        message = "it is not the object that was applied, but one with its label: restored, perhaps; delete it by hand"
        return Fate.KEEP, Kept(entry.id, "Unproven", message)
    if entry.state is EntryState.UNPROVEN:
        message = "the inventory was lost and rebuilt; it is deleted once an artifact has named it and dropped it again"
        return Fate.KEEP, Kept(entry.id, "Unproven", message)
    if metadata.get("deletionTimestamp"):
        return Fate.ENDING, None
    if annotations_of(live).get(PRUNE) == "disabled":
        return Fate.KEEP, Kept(entry.id, "PruneDisabled", f"kept: annotated {PRUNE}: disabled")
    if observed.foreign:
        shown = ", ".join(observed.foreign[:3]) + (" …" if len(observed.foreign) > 3 else "")
        return Fate.KEEP, Kept(entry.id, "PruneHeld", f"kept: it holds objects that stay: {shown}")
    return Fate.PRUNE, None


def make_plan(
    prepared: Prepared,
    observed: Iterable[Observed],
    *,
    sync_id: str,
    sync_uid: str,
    digest: str,
    guard: Guard,
    owned: int,
    prune: bool = True,
    recreations: tuple[Loss, ...] = (),
    approved: str = "",
) -> Plan:
    """Put a pass together.

    Args:
        prepared: the artifact's objects.
        observed: the candidates for deletion, read from the server.
        sync_id: our ApplySet id.
        sync_uid: of the sync, for the hash.
        digest: of the artifact, for the hash.
        guard: what may be deleted unasked.
        owned: objects in the inventory whose uid is known. Those that a killed pass applied are added when proven.
        prune: whether the sync prunes at all; without, objects and entries stay.
        recreations: objects that can only be changed by a new one.
        approved: the hash a person approved.
    """
    prunes: list[Prune] = []
    forgets: list[ObjectId] = []
    kept: list[Kept] = []
    ending: list[ObjectId] = []
    ending_options: dict[ObjectId, ObjectOptions] = {}
    for item in observed:
        if sync_uid and _uid(item.live) == sync_uid:
            # Its end would be the end of all that it owns; and while it ends, it must not wait for itself.
            kept.append(Kept(item.entry.id, "Self", "kept: it is this sync itself"))
            continue
        fate, why = judge(_with_wanted(item, prepared), sync_id)
        if fate is Fate.FORGET:
            forgets.append(item.entry.id)
        elif fate is Fate.ENDING:
            ending.append(item.entry.id)
            ending_options[item.entry.id] = options_of(item.live or {})
        elif why is not None:
            kept.append(why)
        elif not prune:
            kept.append(Kept(item.entry.id, "PruneOff", "kept: spec.prune is false"))
        elif item.live is not None:
            owned += not item.entry.uid
            prunes.append(prune_of(item.entry.id, item.live))
    losses = (*(Loss(one.id, one.uid, confirm=one.confirm) for one in prunes), *recreations)
    hash_ = plan_hash(sync_uid, digest, losses)
    desired = len(prepared.desired) + len(prepared.rejected)
    held = hold(guard, losses, owned=owned, desired=desired)
    return Plan(
        applies=prepared.desired,
        prunes=tuple(prunes),
        recreations=recreations,
        forgets=tuple(forgets),
        kept=tuple(kept),
        ending=tuple(ending),
        losses=losses,
        hash=hash_,
        held="" if approved == hash_ else held,
        deferred=bool(prunes) and not prepared.complete,
        ending_options=ending_options,
    )


def _with_wanted(item: Observed, prepared: Prepared) -> Observed:
    """A Namespace or definition that the artifact dropped still holds what the artifact has inside or of it."""
    id_ = item.entry.id
    wanted = [one.id for one in prepared.desired] + [one.id for one in prepared.rejected]
    if id_.kind == "Namespace" and not id_.group:
        inside = tuple(str(other) for other in wanted if other.namespace == id_.name)
    else:
        inside = tuple(str(other) for other in wanted if (other.group, other.kind) == item.defines)
    return replace(item, foreign=(*item.foreign, *inside)) if inside else item


def _uid(live: JsonObject | None) -> str:
    return str(((live or {}).get("metadata") or {}).get("uid") or "")


def prune_of(id_: ObjectId, live: JsonObject) -> Prune:
    """The deletion of a live object at the version it was read."""
    metadata = live.get("metadata") or {}
    confirm = annotations_of(live).get(PROTECT) == "confirm"
    version = str(metadata.get("resourceVersion") or "")
    return Prune(id_, str(metadata.get("uid") or ""), version, confirm, options_of(live))
