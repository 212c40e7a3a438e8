"""Registries without measure: bounded memory and requests, a reason, and what is good still counts."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic

import pytest

from ocisync.flows.trust import trust_keys
from ocisync.flows.verify import Judgement, Request, examine_reference
from ocisync.model.artifact import VerdictReason
from ocisync.model.errors import Unavailable
from ocisync.model.limits import BUNDLE_BYTES, EVIDENCE_BYTES, EVIDENCE_MANIFESTS, MANIFEST_BYTES, MIB
from ocisync.model.spec import SelectorKind
from ocisync.oci.client import open_store
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.oci.referrers import REFERRER_PAGES
from tests.support.hostileregistry import TAG, Answer, HostileRegistry, endless_pages, index
from tests.support.images import quick
from tests.support.process import clean_environment

CHECKOUT = Path(__file__).parents[2]
PROGRAM = """
import re, sys
from ocisync.cli.app import run
code = run(sys.argv[1:])
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read()).group(1)
print(f"peak={peak}", file=sys.stderr)
sys.exit(code)
"""
MANY = 10_000
HUGE = 200 * MIB
ROOM_MIB = 40  # above an honest verification: a list of 4 MiB, parsed, and 8 MiB of evidence


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    with HostileRegistry() as server:
        yield server


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    text: str
    peak_mib: float


def verify(registry: HostileRegistry, directory: Path) -> Ended:
    """`ocisync verify`, in a process of its own."""
    key = directory / "ci.pub"
    key.write_text(registry.key.public.pem)
    reference = f"oci://{registry.repository}:{TAG}"
    command = [sys.executable, "-c", PROGRAM, "verify", reference, "--key", str(key)]
    environment = clean_environment(directory, PYTHONPATH=str(CHECKOUT))
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    peak = re.search(r"peak=(\d+)", done.stderr)
    assert peak is not None, done.stderr
    return Ended(done.returncode, done.stdout + done.stderr, int(peak.group(1)) / 1024)


def many(registry: HostileRegistry) -> None:
    registry.lists(*(registry.junk(number) for number in range(MANY)))


def huge_by_its_word(registry: HostileRegistry) -> None:
    registry.lists(registry.put_bundle(b"huge", served=Answer(b"x" * MIB, size=HUGE), size=HUGE))


def huge_against_its_word(registry: HostileRegistry) -> None:
    small = registry.put_bundle(b"y" * 1000, served=Answer(b"y" * MIB, size=HUGE))
    manifest = registry.put_manifest(b'{"n":1}', served=Answer(b"z" * MIB, "application/json", endless=True))
    registry.lists(small, manifest)


def endless(registry: HostileRegistry) -> None:
    registry.page = endless_pages([registry.junk(0)])


def endless_page(registry: HostileRegistry) -> None:
    registry.page = lambda _path: Answer(b" " * MIB, "application/vnd.oci.image.index.v1+json", endless=True)


def null(registry: HostileRegistry) -> None:
    answer = index(None)
    registry.page = lambda _path: answer


@pytest.mark.parametrize(
    ("attack", "code", "reason", "requests"),
    [
        (many, 4, "there is more evidence for", EVIDENCE_MANIFESTS + 10),
        (huge_by_its_word, 4, f"more than the limit of {BUNDLE_BYTES}", 10),
        (huge_against_its_word, 4, "could not be used", 12),
        (endless, 4, "there is more evidence for", REFERRER_PAGES + 10),
        (endless_page, 4, "there is more evidence for", 10),
        (null, 4, "has no signature", 10),
    ],
    ids=["ten-thousand-referrers", "200-MB-bundle", "sizes-that-lie", "endless-pages", "endless-page", "null"],
)
def test_the_command_line_refuses_in_bounded_memory_and_says_why(
    registry: HostileRegistry,
    tmp_path: Path,
    attack: Callable[[HostileRegistry], None],
    code: int,
    reason: str,
    requests: int,
) -> None:
    registry.lists(registry.good)
    honest = verify(registry, tmp_path)
    assert honest.code == 0, honest.text
    registry.requests.clear()
    attack(registry)
    found = verify(registry, tmp_path)
    assert (found.code, reason in found.text) == (code, True), found.text
    assert registry.asked() <= requests
    assert found.peak_mib < honest.peak_mib + ROOM_MIB


def judged(registry: HostileRegistry, seconds: float = 240.0) -> Judgement:
    reader = partial(collect, budget=EvidenceBudget(monotonic, seconds=seconds))
    trust = trust_keys([registry.key.public], registry.repository)
    request = Request(registry.repository, SelectorKind.TAG, TAG)
    with open_store(registry.repository, quick(timeout_s=60)) as store:
        return examine_reference(store, trust, request, now=datetime.now(UTC), collect=reader)


def beside_many(registry: HostileRegistry) -> None:
    junk = [{**registry.junk(number), "artifactType": "x/junk"} for number in range(990)]
    registry.lists(*junk, registry.good)


def after_junk(registry: HostileRegistry) -> None:
    registry.lists(*(registry.junk(number) for number in range(EVIDENCE_MANIFESTS - 5)), registry.good)


def beside_huge(registry: HostileRegistry) -> None:
    registry.lists(
        registry.put_bundle(b"huge", served=Answer(b"x" * MIB, size=HUGE), size=HUGE),
        registry.put_bundle(b"y" * 1000, served=Answer(b"y" * MIB, size=HUGE)),
        registry.good,
    )


def before_endless_pages(registry: HostileRegistry) -> None:
    registry.page = endless_pages([registry.good])


def before_a_page_that_is_none(registry: HostileRegistry) -> None:
    pages = iter([index([registry.good], link='</v2/shop/config/referrers/x?n=1>; rel="next"'), Answer(b"<html>")])
    registry.page = lambda _path: next(pages, Answer(b"<html>"))


def legacy_beside_null(registry: HostileRegistry) -> None:
    null(registry)
    registry.put_legacy()


@pytest.mark.parametrize(
    "surround",
    [beside_many, after_junk, beside_huge, before_endless_pages, before_a_page_that_is_none, legacy_beside_null],
)
def test_good_evidence_inside_the_budget_counts(
    registry: HostileRegistry, surround: Callable[[HostileRegistry], None]
) -> None:
    surround(registry)
    verdict = judged(registry).verdict
    assert (verdict.allowed, verdict.reason) == (True, VerdictReason.VERIFIED), verdict.message


def slow_bundle(registry: HostileRegistry) -> None:
    slow = registry.put_bundle(b"s" * 9000, served=Answer(b"s" * 9000, drops=True))
    registry.lists(slow, registry.good)


def slow_manifest(registry: HostileRegistry) -> None:
    slow = registry.put_manifest(b'{"slow":1}', served=Answer(b"m" * 9000, drops=True))
    registry.lists(slow, registry.good)


def slow_second_page(registry: HostileRegistry) -> None:
    """What the first one said is read."""
    pages = iter([index([registry.good], link='</v2/shop/config/referrers/x?n=1>; rel="next"')])
    registry.page = lambda _path: next(pages, Answer(b" " * 10_000, index([]).media_type, drops=True))


def test_slow_bodies_cost_their_share_of_the_time_and_not_the_good_signature() -> None:
    # What is left for the good one outlasts a machine that stands still for a while; all wait at once.
    def allowed(surround: Callable[[HostileRegistry], None]) -> bool:
        with HostileRegistry() as registry:
            surround(registry)
            return judged(registry, seconds=30.0).verdict.allowed

    attacks = (slow_bundle, slow_manifest, slow_second_page)
    with ThreadPoolExecutor(len(attacks)) as workers:
        assert list(workers.map(allowed, attacks)) == [True] * len(attacks)


def test_nothing_but_slow_bodies_is_an_outage_or_truncated_and_never_unsigned(registry: HostileRegistry) -> None:
    registry.lists(*(registry.put_bundle(bytes([n]) * 900, served=Answer(b"s" * 900, drops=True)) for n in range(9)))
    with pytest.raises(Unavailable):
        judged(registry, seconds=12.0)
    assert registry.asked("blobs") <= 4


def test_the_time_of_the_budget_is_that_of_the_callers_clock(registry: HostileRegistry) -> None:
    registry.lists(*(registry.junk(number) for number in range(50)))
    ticks = iter(range(0, 10_000, 2))
    reader = partial(collect, budget=EvidenceBudget(lambda: float(next(ticks))))
    request = Request(registry.repository, SelectorKind.TAG, TAG)
    trust = trust_keys([registry.key.public], registry.repository)
    with open_store(registry.repository, quick()) as store:
        judgement = examine_reference(store, trust, request, now=datetime.now(UTC), collect=reader)
    assert judgement.verdict.reason is VerdictReason.EVIDENCE_TRUNCATED
    assert registry.asked("manifests") < 12  # 30 s of 2 s each, two looks at the clock for each


def test_manifests_larger_than_their_list_says_use_up_the_bytes(registry: HostileRegistry) -> None:
    filler = b'{"layers":[],"x":"' + b"a" * (MANIFEST_BYTES - 100) + b'"}'
    fat = [registry.put_manifest(filler.replace(b'"x"', f'"x{n}"'.encode())) for n in range(8)]
    registry.lists(*({**entry, "size": 10} for entry in fat))
    judgement = judged(registry)
    assert judgement.verdict.reason is VerdictReason.EVIDENCE_TRUNCATED
    fetched = sum(entry["digest"] in path for entry in fat for _, path in registry.requests)
    assert fetched <= EVIDENCE_BYTES // MANIFEST_BYTES + 1
