"""What a pass deletes, forgets, keeps and holds."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocisync.cluster.guard import Guard, Loss, allowance, hold, plan_hash
from ocisync.cluster.inventory import Entry, EntryState
from ocisync.cluster.normalise import Desired, Prepared, Rejected
from ocisync.cluster.outcome import ErrorClass, failed
from ocisync.cluster.plan import Fate, Observed, candidates, judge, make_plan
from ocisync.model.resource import Gvk, JsonObject, ObjectId
from ocisync.model.spec import PART_OF_LABEL

OURS, THEIRS = "applyset-ours-v1", "applyset-theirs-v1"


def id_of(name: str, kind: str = "ConfigMap", namespace: str = "n") -> ObjectId:
    return ObjectId("", kind, namespace, name)


def desired(name: str, namespace: str = "n") -> Desired:
    return Desired(id_of(name, namespace=namespace), Gvk("", "v1", "ConfigMap"), b"", "f:1")


def live(uid: str = "u", *, label: str = OURS, applied: bool = True, **metadata: object) -> JsonObject:
    entry: JsonObject = {
        "manager": "ocisync",
        "operation": "Apply" if applied else "Update",
        "fieldsV1": {"f:data": {}},
    }
    labels = {PART_OF_LABEL: label} if label else {}
    return {"metadata": {"uid": uid, "resourceVersion": "7", "labels": labels, "managedFields": [entry], **metadata}}


@pytest.mark.parametrize(
    ("entry_uid", "state", "found", "fate"),
    [
        ("u", EntryState.APPLIED, None, Fate.FORGET),
        ("u", EntryState.APPLIED, live(), Fate.PRUNE),
        ("", EntryState.ADDED, live(), Fate.PRUNE),  # killed after the apply: label and entry prove it
        ("", EntryState.ADDED, live(applied=False), Fate.FORGET),  # killed before: someone else made it
        ("", EntryState.ADDED, live(label=""), Fate.FORGET),
        ("u", EntryState.APPLIED, live("other"), Fate.KEEP),  # restored, perhaps: unproven until an artifact names it
        ("u", EntryState.APPLIED, live("other", label=""), Fate.FORGET),
        ("u", EntryState.APPLIED, live("other", applied=False), Fate.FORGET),
        ("u", EntryState.APPLIED, live(label=""), Fate.PRUNE),  # label stripped, uid and entry match
        ("u", EntryState.APPLIED, live(label=THEIRS), Fate.FORGET),
        ("u", EntryState.APPLIED, live(applied=False), Fate.FORGET),  # a copied label proves nothing
        ("u", EntryState.UNPROVEN, live(), Fate.KEEP),
        ("u", EntryState.DELETING, live(deletionTimestamp="2026-01-01T00:00:00Z"), Fate.ENDING),
        ("u", EntryState.APPLIED, live(annotations={"ocisync.dev/prune": "disabled"}), Fate.KEEP),
    ],
)
def test_the_fate_of_a_candidate(entry_uid: str, state: EntryState, found: JsonObject | None, fate: Fate) -> None:
    assert judge(Observed(Entry(id_of("a"), entry_uid, state), found), OURS)[0] is fate


def test_a_uid_applied_in_this_revision_is_forgotten_not_deleted() -> None:
    observed = Observed(Entry(id_of("a"), "u", EntryState.APPLIED), live())
    assert judge(observed, OURS, frozenset({"u"}))[0] is Fate.FORGET


def test_what_cannot_be_read_is_kept() -> None:
    fate, why = judge(Observed(Entry(id_of("a"), "u"), None, unreadable="403"), OURS)
    assert fate is Fate.KEEP
    assert why is not None
    assert why.reason == "Unreadable"


def test_kinds_that_the_server_lacks_and_rejected_objects_are_no_candidates() -> None:
    inventory = {entry.id: entry for entry in (Entry(id_of("x", "Foo")), Entry(id_of("bad")), Entry(id_of("old")))}
    rejected = Rejected(id_of("bad"), "f:1", failed(ErrorClass.PERMANENT, "Invalid", ""))
    prepared = Prepared((), (rejected,), frozenset({("", "Foo")}))
    assert [entry.id.name for entry in candidates(prepared, inventory)] == ["old"]


@pytest.mark.parametrize(
    ("text", "owned", "expected"),
    [("50%", 8, 5), ("50%", 11, 6), ("50%", 1000, 500), ("1%", 1001, 11), ("0%", 10, 0), ("0", 10, 0), ("3", 10, 3)],
)
def test_the_allowance_rounds_up_and_a_percentage_is_never_below_five(text: str, owned: int, expected: int) -> None:
    assert allowance(Guard(text), owned) == expected


def test_the_guard_counts_recreations_and_knows_protected_kinds_and_empty_artifacts() -> None:
    losses = tuple(Loss(id_of(f"c{n}"), "u", recreated=n % 2 == 0) for n in range(6))
    assert hold(Guard(), losses, owned=8, desired=8).startswith("it deletes 6 of 8 objects")
    assert hold(Guard(), losses[:5], owned=8, desired=8) == ""
    assert hold(Guard(), losses[:1], owned=8, desired=0).startswith("the artifact is empty")
    assert hold(Guard(), (), owned=8, desired=0) == ""
    space = Loss(id_of("n", "Namespace", ""), "u")
    assert hold(Guard(), (space,), owned=80, desired=8) == "it deletes protected objects: Namespace n"
    assert hold(Guard(protect=()), (space,), owned=80, desired=8) == ""


def test_the_hash_covers_sync_digest_and_every_loss_but_not_their_order() -> None:
    one, two = Loss(id_of("a"), "1"), Loss(id_of("b"), "2")
    base = plan_hash("s", "d", (one, two))
    assert plan_hash("s", "d", (two, one)) == base
    others = {
        plan_hash("t", "d", (one, two)), plan_hash("s", "e", (one, two)), plan_hash("s", "d", (one,)),
        plan_hash("s", "d", (one, Loss(id_of("b"), "3"))), plan_hash("s", "d", (one, Loss(id_of("b"), "2", True))),
    }  # fmt: skip
    assert base not in others
    assert len(others) == 5


def test_a_namespace_that_git_dropped_but_still_fills_is_kept() -> None:
    entry = Entry(id_of("n", "Namespace", ""), "u", EntryState.APPLIED)
    plan = make_plan(
        Prepared((desired("inside"),)), [Observed(entry, live())],
        sync_id=OURS, sync_uid="s", digest="d", guard=Guard(), owned=2,
    )  # fmt: skip
    assert [kept.reason for kept in plan.prune_held] == ["PruneHeld"]
    assert plan.prunes == ()


NAMES = st.sampled_from([f"o{n}" for n in range(12)])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.frozensets(NAMES),
    st.dictionaries(NAMES, st.sampled_from(list(EntryState))),
    st.dictionaries(NAMES, st.tuples(st.sampled_from([OURS, THEIRS, ""]), st.booleans(), st.sampled_from(["u", "v"]))),
)
def test_a_plan_carried_out_leaves_nothing_to_plan_and_never_deletes_what_is_not_ours(
    wanted: frozenset[str], states: dict[str, EntryState], cluster: dict[str, tuple[str, bool, str]]
) -> None:
    inventory = {
        id_of(name): Entry(id_of(name), "" if state is EntryState.ADDED else "u", state)
        for name, state in states.items()
    }
    objects = {id_of(name): live(uid, label=label, applied=ours) for name, (label, ours, uid) in cluster.items()}
    prepared = Prepared(tuple(desired(name) for name in sorted(wanted)))

    def planned() -> tuple[set[ObjectId], set[ObjectId]]:
        observed = [Observed(entry, objects.get(entry.id)) for entry in candidates(prepared, inventory)]
        plan = make_plan(
            prepared, observed, sync_id=OURS, sync_uid="s", digest="d", guard=Guard("100%", ()), owned=len(inventory)
        )
        return {prune.id for prune in plan.prunes}, set(plan.forgets)

    deleted, forgotten = planned()
    for id_ in deleted:
        label, ours, uid = cluster[id_.name]
        assert ours
        assert label != THEIRS
        assert id_.name not in wanted
        assert id_ in inventory
        assert uid == "u" or not inventory[id_].uid
    for id_ in deleted:
        del objects[id_]
    for id_ in deleted | forgotten:
        del inventory[id_]
    for name in wanted:
        objects[id_of(name)] = live()
        inventory[id_of(name)] = Entry(id_of(name), "u", EntryState.APPLIED)
    assert planned() == (set(), set())
