"""What is remembered of an apply."""

from __future__ import annotations

import json

from hypothesis import given, settings

from ocisync.cluster.fields import Path
from ocisync.cluster.memory import NO_GENERATION, applied_of, applied_of_bytes, seen_of, version_of
from tests.unit.cluster.objects import OURS, REPLICAS, T0, entry, live, ours
from tests.unit.cluster.test_fields import path_sets


@settings(deadline=None, max_examples=60)
@given(path_sets)
def test_the_owned_paths_come_back_as_they_were(paths: frozenset[Path]) -> None:
    assert applied_of(live(entry("ocisync", *paths, operation="Apply"))).owned_paths() == paths


def test_an_answer_is_remembered_by_figures_and_digests() -> None:
    applied = applied_of_bytes(json.dumps(live(ours(), version=41, generation=2)).encode())
    assert (applied.uid, applied.resource_version, applied.generation, applied.entry_time) == ("u1", 41, 2, T0)
    assert applied.owned_paths() == frozenset(OURS)
    assert len(applied.owned_digest) == 12


def test_status_entries_are_not_among_the_others() -> None:
    plain = applied_of(live(ours(), generation=None))
    status = entry("kubelet", ("f:status", "f:phase"), subresource="status")
    assert applied_of(live(ours(), status, generation=None)).others_digest == plain.others_digest
    foreign = applied_of(live(ours(), entry("x", REPLICAS), generation=None))
    later = applied_of(live(ours(), entry("x", REPLICAS, time="2026-02-02T00:00:00Z"), generation=None))
    assert plain.generation == NO_GENERATION
    assert len({plain.others_digest, foreign.others_digest, later.others_digest}) == 3


def test_a_generation_makes_the_other_entries_superfluous() -> None:
    assert applied_of(live(ours(), entry("x", REPLICAS))).others_digest == b""


def test_only_our_apply_entry_counts_as_ours() -> None:
    for foreign in (
        entry("ocisync", *OURS),
        entry("ocisync", *OURS, operation="Apply", subresource="status"),
        entry("other", *OURS, operation="Apply"),
    ):
        seen = seen_of(live(foreign))
        assert seen.owned_digest == b""
        assert applied_of(live(foreign)).owned_paths() == frozenset()


def test_a_version_that_is_no_number_is_zero() -> None:
    assert version_of({"metadata": {"resourceVersion": "abc"}}) == 0
    assert version_of({}) == 0


def test_equal_field_sets_of_different_objects_are_kept_once() -> None:
    first, second = applied_of(live(ours(), version=1)), applied_of(live(ours(), version=2))
    assert first.owned is second.owned
    assert first.owned_digest is second.owned_digest


def test_what_is_remembered_of_an_answer_is_what_a_watch_shows_of_it() -> None:
    answer = live(ours(), entry("x", REPLICAS), version=7, generation=None)
    applied, seen = applied_of(answer), seen_of(answer)
    assert (applied.uid, applied.resource_version, applied.generation) == (seen.uid, 7, seen.generation)
    assert (applied.owned_digest, applied.entry_time) == (seen.owned_digest, seen.entry_time)
    assert applied.others_digest == seen.others_digest
