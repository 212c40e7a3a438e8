from __future__ import annotations

import pytest

from ocisync.flows.refusal import failed_rule, refusal_text, signers_found
from ocisync.flows.trust import load_policies
from ocisync.model.artifact import Verdict, VerdictReason, VerdictStep
from ocisync.model.evidence import Evidence, SignatureFormat
from tests.support.trust import policy, signer

REPOSITORY = "registry.example/shop"
DIGEST = "sha256:" + "a" * 64
SELECTION = load_policies([policy(by=("ci",), match=[{"repository": REPOSITORY}])]).select(REPOSITORY)


def evidence(**fields: str | bool) -> Evidence:
    return Evidence("sha256:s", SignatureFormat.BUNDLE, **fields)  # type: ignore[arg-type]


def test_a_signer_is_named_as_far_as_it_is_proven() -> None:
    ours, known = signer("ci").public.fingerprint, "sha256:" + "b" * 64
    found = signers_found(
        [evidence(signer=ours), evidence(signer=ours), evidence(key_hint=known), evidence()], SELECTION
    )
    assert found == (f"ci ({ours})", f"an unknown key that calls itself {known}", "an unknown key")
    assert signers_found([evidence(certified=True)], SELECTION) == (
        "a certificate that no trusted root in force proves",
    )


def test_many_signers_are_counted_and_long_names_are_cut() -> None:
    found = signers_found([evidence(key_hint=f"{number}" * 400) for number in range(9)], SELECTION)
    assert len(found) == 4 and found[-1] == "6 more"
    assert all(len(name) <= 150 for name in found)


@pytest.mark.parametrize(
    ("reason", "rule"),
    [
        (VerdictReason.UNSIGNED, "signature"),
        (VerdictReason.TAG_MUTATED, "immutable tag"),
        (VerdictReason.EVIDENCE_TRUNCATED, "budget"),
    ],
)
def test_a_refusal_without_a_nearest_miss_has_a_rule_too(reason: VerdictReason, rule: str) -> None:
    assert failed_rule(Verdict(False, reason, "no")) == rule


def test_the_rule_is_that_of_the_nearest_miss() -> None:
    steps = (VerdictStep("a", "signer", False, "made by nobody"), VerdictStep("b", "tag", False, "for the tag x"))
    verdict = Verdict(False, VerdictReason.WRONG_TAG, "signed by ci, but for the tag x", steps=steps)
    assert failed_rule(verdict) == "tag"
    assert failed_rule(Verdict(True, VerdictReason.VERIFIED, "fine", steps=steps)) == ""


def test_the_command_is_whole_even_when_much_was_found() -> None:
    command = "sign it with the key of ci: " + "c" * 500
    verdict = Verdict(False, VerdictReason.UNKNOWN_SIGNER, "m" * 200, hint=command, found=("f" * 150,) * 4)
    text = refusal_text(verdict, DIGEST)
    assert text.endswith(command) and len(text) < 1024 and text.startswith(f"{DIGEST} is refused (rule signature): m")
    short = refusal_text(Verdict(False, VerdictReason.UNKNOWN_SIGNER, "m", hint="h", found=("f",)), DIGEST)
    assert short == f"{DIGEST} is refused (rule signature): m; found: f; h"
