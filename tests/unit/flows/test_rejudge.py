from __future__ import annotations

from ocisync.flows.rejudge import joined, proven
from ocisync.flows.verify import Judgement
from ocisync.model.artifact import Verdict, VerdictReason
from ocisync.model.evidence import Evidence, EvidenceSet, RawSignature, SignatureFormat
from ocisync.model.limits import EVIDENCE_BYTES, EVIDENCE_MANIFESTS, MIB


def raw(name: str, size: int = 10) -> RawSignature:
    return RawSignature(SignatureFormat.BUNDLE, f"sha256:{name}", name.encode().ljust(size))


def judgement(*signers: str, size: int = 10) -> Judgement:
    items = tuple(raw(str(number), size) for number in range(len(signers)))
    examined = tuple(Evidence(item.source, item.format, signer) for item, signer in zip(items, signers, strict=True))
    return Judgement(Verdict(True, VerdictReason.VERIFIED, ""), None, EvidenceSet(items), examined)


def test_signatures_of_strangers_are_not_kept_in_memory() -> None:
    assert proven(judgement("a", "", "b")).items == (raw("0"), raw("2"))


def test_what_is_kept_in_memory_is_bounded() -> None:
    assert len(proven(judgement(*"abcd", size=MIB // 2)).items) == 2


def test_what_the_registry_lost_is_added_once() -> None:
    found = EvidenceSet((raw("a"), raw("b")), truncated=True, problems=("p",))
    both = joined(found, EvidenceSet((raw("b"), raw("c"))))
    assert both == EvidenceSet((raw("b"), raw("c"), raw("a")), truncated=True, problems=("p",))


def test_a_registry_full_of_junk_does_not_push_out_what_was_kept_and_stays_within_the_budget() -> None:
    full = EvidenceSet(tuple(raw(str(number)) for number in range(EVIDENCE_MANIFESTS)))
    both = joined(full, EvidenceSet((raw("x"),)))
    assert both.items == (raw("x"), *full.items[:-1])
    assert both.truncated
    large = EvidenceSet((raw("a", EVIDENCE_BYTES), raw("b")))
    assert joined(large, EvidenceSet((raw("x"),))) == EvidenceSet((raw("x"), raw("b")), truncated=True)
