"""`ocisync policy`: what owners of policies are told before any cluster is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocisync.flows import impact
from ocisync.flows.trust import load_policies
from ocisync.kit import yamlio
from ocisync.model.errors import InvalidInput
from ocisync.model.evidence import EvidenceSet, RawSignature
from ocisync.policy.rules import parse_policy
from tests.cli.conftest import Cli
from tests.support.artifacts import artifact
from tests.support.trust import bundle_of, claims, policy, signer

EXAMPLES = Path(__file__).parents[2] / "examples" / "policies"
Golden = Callable[[str, str], None]
GITHUB = ("--certificate-oidc-issuer", "https://token.actions.githubusercontent.com")
GLOB = "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v*"


def _keys(directory: Path, *names: str) -> list[str]:
    for name in names:
        (directory / f"{name}.pub").write_text(signer(name).public.pem)
    return [word for name in names for word in ("--key", f"{name}.pub")]


# init ---------------------------------------------------------------------------------------------------------------


def test_a_drafted_policy_is_accepted_and_says_what_was_asked(cli: Cli, tmp_path: Path) -> None:
    keys = _keys(tmp_path, "ci", "release")
    where = ("--repository", "registry.example/shop/*", "--repository", "registry.example/exact")
    ran = cli("policy", "init", *where, *keys, "--threshold", "2", "--max-age", "720h")
    assert ran.exit_code == 0
    rules = parse_policy(yaml.safe_load(ran.out))
    assert (rules.name, rules.threshold, rules.rollback.max_age_s) == ("shop", 2, 720 * 3600)
    assert rules.match == ("registry.example/shop/*", "registry.example/exact")
    assert [authority.name for authority in rules.authorities] == ["ci", "release"]
    (tmp_path / "policy.yaml").write_text(ran.out)
    checked = cli("policy", "check", "policy.yaml")
    assert (checked.exit_code, checked.out) == (0, "")


def test_a_drafted_policy_decides_as_it_says(cli: Cli, tmp_path: Path) -> None:
    from tests.support.trust import judged

    keys = _keys(tmp_path, "ci", "release")
    ran = cli("policy", "init", "--repository", "registry.example/shop/*", *keys, "--threshold", "2")
    made = [yaml.safe_load(ran.out)]
    assert judged(made, bundle_of(signer("ci")), bundle_of(signer("release"))).allowed
    assert not judged(made, bundle_of(signer("ci"))).allowed


def test_a_draft_may_name_an_identity(cli: Cli) -> None:
    identity = ("--certificate-identity-glob", GLOB, "--source-repository", "https://github.com/acme/shop")
    ran = cli("policy", "init", "--repository", "ghcr.io/acme/*", *GITHUB, *identity, "--name", "acme")
    keyless = parse_policy(yaml.safe_load(ran.out)).authorities[0].keyless
    assert keyless is not None
    assert (keyless.subject_glob, keyless.root_ref) == (GLOB, "sigstore-root")


def test_a_draft_for_a_mirror_accepts_the_name_that_was_signed(cli: Cli, tmp_path: Path) -> None:
    keys = _keys(tmp_path, "ci")
    here = ("--repository", "mirror.site.local/shop", *keys)
    ran = cli("policy", "init", *here, "--remap", "registry.example/shop=mirror.site.local/shop")
    claim = yaml.safe_load(ran.out)["spec"]["repositoryClaim"]
    assert claim == {
        "mode": "Require",
        "remap": [{"signed": "registry.example/shop", "here": "mirror.site.local/shop"}],
    }
    assert cli("policy", "init", *here, "--remap", "registry.example/shop").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 2, "a policy without authorities would allow nothing"),
        (("--certificate-identity", "dev@example.com"), 2, "an identity is an issuer and one subject"),
        ((*GITHUB, "--certificate-identity-glob", GLOB), 1, "not for which repository it ran"),
        (("--key", "ci.pub", "--threshold", "2"), 1, "2 of 1 authorities can never be reached"),
        (("--key", "ci.pub", "--key", "ci.pub", "--threshold", "2"), 1, "are the same key"),
        (("--key", "ci.pub", "--max-age", "30 days"), 1, "is not a duration"),
        (("--key", "none.pub"), 5, "no key file none.pub"),
    ],
    ids=["nobody", "no issuer", "no repository", "threshold", "twice", "age", "missing"],
)
def test_a_draft_that_would_be_refused_is_not_printed(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    _keys(tmp_path, "ci")
    ran = cli("policy", "init", "--repository", "registry.example/shop", *arguments)
    assert (ran.exit_code, ran.out) == (code, "")
    assert told in ran.err


# check --------------------------------------------------------------------------------------------------------------


def test_all_problems_are_told_with_their_places(cli: Cli, golden: Golden, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / "golden" / "policy-broken.yaml", tmp_path / "broken.yaml")
    ran = cli("policy", "check", "broken.yaml")
    assert ran.exit_code == 1
    golden("policy-broken.txt", ran.out)


def test_risky_settings_are_warnings_with_their_places(cli: Cli, golden: Golden, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / "golden" / "policy-risky.yaml", tmp_path / "risky.yaml")
    ran = cli("policy", "check", "risky.yaml")
    assert ran.exit_code == 0, ran.err
    golden("policy-risky.txt", ran.out)


def _write(directory: Path, name: str, *documents: Any) -> str:
    (directory / name).write_text(yamlio.dump_all(documents))
    return name


def test_the_same_pattern_in_two_files_is_an_error_at_both(cli: Cli, tmp_path: Path) -> None:
    first, second = _write(tmp_path, "a.yaml", policy("a")), _write(tmp_path, "b.yaml", policy("b"))
    ran = cli("policy", "check", first, second, "-o", "json")
    assert ran.exit_code == 1
    found = json.loads(ran.out)["errors"]
    assert [(one["file"], one["line"], one["rule"]) for one in found] == [
        ("a.yaml", 7, "duplicate"),
        ("b.yaml", 7, "duplicate"),
    ]
    assert "policy 'b' matches 'registry.example/shop/*', too: both refuse it" in found[0]["message"]


def test_one_name_twice_is_an_error(cli: Cli, tmp_path: Path) -> None:
    other = policy("a", match=[{"repository": "other.example/x"}])
    ran = cli("policy", "check", _write(tmp_path, "a.yaml", policy("a"), other))
    assert (ran.exit_code, "is also the name of a policy" in ran.out) == (1, True)


def test_what_kubectl_prints_is_read_too(cli: Cli, tmp_path: Path) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [policy("a"), policy("b", thresold=1)]}
    ran = cli("policy", "check", _write(tmp_path, "live.yaml", listed), "-o", "json")
    answer = json.loads(ran.out)
    assert (ran.exit_code, answer["policies"], len(answer["errors"])) == (1, ["a"], 1)
    assert answer["errors"][0]["line"] > 10


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "a.yaml:"),
        ("kind: Other\n", "holds no TrustPolicy"),
        ("", "holds no TrustPolicy"),
        ("kind: List\nitems: [1, {kind: TrustPolicy}]\n", "policy: expected kind TrustPolicy"),
        ("kind: TrustPolicy\napiVersion: ocisync.dev/v1alpha1\n", "spec: expected an object"),
        ("kind: TrustPolicy\napiVersion: ocisync.dev/v1alpha1\nspec: []\nmetadata: 3\n", "metadata.name: required"),
    ],
)
def test_a_file_that_is_no_policy_is_invalid(cli: Cli, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    ran = cli("policy", "check", "a.yaml")
    assert (ran.exit_code, told in ran.out) == (1, True), ran.out + ran.err


# test ---------------------------------------------------------------------------------------------------------------


def test_the_example_s_cases_are_as_expected(cli: Cli, golden: Golden) -> None:
    ran = cli("policy", "test", str(EXAMPLES / "shop.yaml"), "--cases", str(EXAMPLES / "cases.yaml"))
    assert ran.exit_code == 0, ran.out
    golden("policy-test.txt", ran.out)


def test_a_policy_that_was_weakened_fails_the_cases_and_says_where(cli: Cli, golden: Golden, tmp_path: Path) -> None:
    weak = (
        (EXAMPLES / "shop.yaml")
        .read_text()
        .replace("threshold: 2", "threshold: 1")
        .replace("mode: Require", "mode: IfPresent")
    )
    (tmp_path / "shop.yaml").write_text(weak)
    shutil.copy(EXAMPLES / "cases.yaml", tmp_path)
    ran = cli("policy", "test", "shop.yaml", "--cases", "cases.yaml")
    assert ran.exit_code == 1
    golden("policy-test-weak.txt", ran.out)


def test_every_typical_refusal_explains_itself_and_names_a_command(cli: Cli, golden: Golden) -> None:
    ran = cli("policy", "test", str(EXAMPLES / "shop.yaml"), "--cases", str(EXAMPLES / "cases.yaml"), "--explain")
    assert ran.exit_code == 0
    golden("policy-explain.txt", ran.out)
    reasons = {
        line.split("refused: ")[1].split()[0].rstrip(":") for line in ran.out.splitlines() if "refused: " in line
    }
    assert len(reasons) >= 10
    hints = [line for line in ran.out.splitlines() if line.strip().startswith("hint: ")]
    assert len(hints) == ran.out.count("refused: ")


def test_a_broken_policy_fails_cases_instead_of_leaving_them_out(cli: Cli, tmp_path: Path) -> None:
    name = _write(tmp_path, "p.yaml", policy(thresold=1))
    (tmp_path / "c.yaml").write_text(CASES.format("evidence: [{key: 'sha256:" + "0" * 64 + "'}]", "{reason: Verified}"))
    ran = cli("policy", "test", name, "--cases", "c.yaml", "-o", "json")
    assert (ran.exit_code, json.loads(ran.out)["cases"][0]["reason"]) == (1, "InvalidPolicy")


CASES = """apiVersion: ocisync.dev/v1alpha1
kind: TrustPolicyCases
cases:
- name: one
  repository: registry.example/shop/config
  tag: production
  {}
  expect: {}
"""


@pytest.mark.parametrize(
    ("line", "expect", "told"),
    [
        ("evidnce: []", "{allowed: true}", "c.yaml:4: cases[0].evidnce: unknown field"),
        ("evidence: [{signer: nobody}]", "{allowed: true}", "no policy has an authority 'nobody'"),
        ("evidence: [{}]", "{allowed: true}", "set exactly one of signer"),
        ("evidence: [{key: abc}]", "{allowed: true}", "expected a fingerprint"),
        ("evidence: [{signer: ci, claims: {tags: [a]}}]", "{allowed: true}", "expected a string, or null"),
        ("evidence: [{signer: ci, format: bundle}]", "{allowed: true}", "is none of Bundle | Legacy"),
        ("version: 1.0.0", "{allowed: true}", "set tag, version or neither"),
        ("now: tomorrow", "{allowed: true}", "is no time like"),
        ("digest: abc", "{allowed: true}", "expected sha256:"),
        ("watermark: -1", "{allowed: true}", "expected a whole number"),
        ("evidence: []", "{}", "at least one of allowed, reason"),
        ("evidence: []", "{reason: Fine}", "'Fine' is none of"),
        ("evidence: []", "{allowd: true}", "cases[0].expect.allowd: unknown field"),
    ],
)
def test_a_case_that_cannot_be_meant_is_refused_with_its_place(
    cli: Cli, tmp_path: Path, line: str, expect: str, told: str
) -> None:
    (tmp_path / "c.yaml").write_text(CASES.format(line, expect))
    ran = cli("policy", "test", _write(tmp_path, "p.yaml", policy()), "--cases", "c.yaml")
    assert ran.exit_code == 1
    assert told in ran.err
    assert "c.yaml:4" in ran.err


def test_attestations_can_be_given_as_evidence(cli: Cli, tmp_path: Path) -> None:
    kind = "https://slsa.dev/provenance/v1"
    asked = [
        {"predicateType": kind, "authorities": ["ci"], "where": [{"path": "/buildDefinition/buildType", "equals": "x"}]}
    ]
    name = _write(tmp_path, "p.yaml", policy(attestations=asked))
    attestation = f"{{signer: ci, predicateType: '{kind}', predicate: {{buildDefinition: {{buildType: %s}}}}}}"
    for value, reason in (("x", "Verified"), ("y", "NoAttestation")):
        evidence = f"evidence: [{{signer: ci}}, {attestation % value}]"
        (tmp_path / "c.yaml").write_text(CASES.format(evidence, f"{{reason: {reason}}}"))
        ran = cli("policy", "test", name, "--cases", "c.yaml")
        assert ran.exit_code == 0, ran.out + ran.err


# impact -------------------------------------------------------------------------------------------------------------

REPOSITORY = "registry.example/shop/config"


def _kept(name: str, *by: str) -> impact.Kept:
    built = artifact({"app.yaml": f"kind: ConfigMap\n# {name}\n"})
    signatures: list[RawSignature] = [
        bundle_of(signer(one), built.descriptor.digest, claims(sequence="1700000000", signed="1700000000"))
        for one in by
    ]
    return impact.Kept(REPOSITORY, built.descriptor.media_type, built.manifest, EvidenceSet(tuple(signatures)))


def _sync(name: str, digest: str) -> dict[str, Any]:
    return {
        "apiVersion": "ocisync.dev/v1alpha1",
        "kind": "ArtifactSync",
        "metadata": {"name": name, "namespace": "apps"},
        "spec": {"source": {"repository": REPOSITORY, "tag": "production"}},
        "status": {"applied": {"digest": digest}} if digest else {},
    }


@pytest.fixture
def site(tmp_path: Path) -> list[str]:
    """Three running syncs and one idle: signed by ci, by release, by both. The flags that judge them offline."""
    kept = [_kept("a", "ci"), _kept("b", "release"), _kept("c", "ci", "release")]
    (tmp_path / "evidence.json").write_bytes(impact.save(kept))
    syncs = [_sync(name, one.digest) for name, one in zip("abc", kept, strict=True)]
    _write(tmp_path, "syncs.yaml", {"kind": "List", "items": [*syncs, _sync("idle", "")]})
    _write(tmp_path, "policy.yaml", policy(by=("ci", "release")))
    return ["policy", "impact", "policy.yaml", "--syncs", "syncs.yaml", "--evidence", "evidence.json"]


def _changes(out: str) -> dict[str, str]:
    return {one["name"]: one["change"] for one in json.loads(out)["artifacts"]}


def test_what_one_key_holds_up_is_listed(cli: Cli, site: list[str]) -> None:
    for flags in (("--without-authority", "ci"), ("--without-key", signer("ci").fingerprint)):
        ran = cli(*site, *flags, "-o", "json")
        assert ran.exit_code == 3, ran.err
        assert _changes(ran.out) == {"apps/a": "Loses", "apps/b": "Keeps", "apps/c": "Keeps"}
        assert json.loads(ran.out)["artifacts"][0]["after"]["reason"] == "UnknownSigner"


def test_the_list_for_people_says_what_to_do_first(cli: Cli, site: list[str]) -> None:
    ran = cli(*site, "--without-authority", "ci")
    assert "LOSES TRUST  apps/a" in ran.out
    assert "nothing applied yet: apps/idle" in ran.err
    assert f"ocisync sign oci://{REPOSITORY}@sha256:" in ran.err


def test_a_denied_key_distrusts_what_nobody_else_signed(cli: Cli, site: list[str]) -> None:
    ran = cli(*site, "--deny-key", signer("ci").fingerprint, "-o", "json")
    found = {one["name"]: one["after"]["distrusted"] for one in json.loads(ran.out)["artifacts"]}
    assert found == {"apps/a": True, "apps/b": False, "apps/c": False}


def test_a_new_policy_is_held_against_what_runs(cli: Cli, site: list[str], tmp_path: Path) -> None:
    both = _write(tmp_path, "new.yaml", policy(by=("ci", "release"), threshold=2))
    ran = cli(*site, "--against", both, "-o", "json")
    assert (ran.exit_code, _changes(ran.out)) == (3, {"apps/a": "Loses", "apps/b": "Loses", "apps/c": "Keeps"})
    back = ["policy", "impact", both, *site[3:], "--against", "policy.yaml", "-o", "json"]
    ran = cli(*back)
    assert (ran.exit_code, _changes(ran.out)) == (0, {"apps/a": "Gains", "apps/b": "Gains", "apps/c": "Keeps"})


def test_a_policy_that_nothing_can_satisfy_any_more_is_named(cli: Cli, site: list[str], tmp_path: Path) -> None:
    _write(tmp_path, "policy.yaml", policy(by=("ci", "release"), threshold=2))
    ran = cli(*site, "--without-authority", "ci", "-o", "json")
    assert json.loads(ran.out)["unreachablePolicies"] == ["shop"]


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        ((), 2, "nothing would change"),
        (("--without-authority", "nobody"), 5, "no usable policy has the authority 'nobody'"),
        (("--without-key", "sha256:0"), 5, "no usable policy has the key"),
        (("--against", "none.yaml"), 5, "no file none.yaml"),
        (("--without-authority", "ci", "--reference", f"{REPOSITORY}:x"), 2, "with saved evidence, name the digest"),
    ],
)
def test_a_question_that_means_nothing_is_refused(
    cli: Cli, site: list[str], flags: tuple[str, ...], code: int, told: str
) -> None:
    ran = cli(*site, *flags)
    assert (ran.exit_code, told in ran.err) == (code, True), ran.err


def test_what_cannot_be_judged_is_unknown_and_never_fine(cli: Cli, site: list[str], tmp_path: Path) -> None:
    (tmp_path / "evidence.json").write_bytes(impact.save([]))
    ran = cli(*site, "--without-authority", "ci", "-o", "json")
    assert (ran.exit_code, set(_changes(ran.out).values())) == (1, {"Unknown"})


def test_saved_evidence_that_was_changed_is_judged_and_refused(cli: Cli, site: list[str], tmp_path: Path) -> None:
    document = json.loads((tmp_path / "evidence.json").read_text())
    for one in document["artifacts"]:
        one["evidence"]["items"] = [{**item, "payload": "AAAA"} for item in one["evidence"]["items"]]
    (tmp_path / "evidence.json").write_text(json.dumps(document))
    ran = cli(*site, "--without-authority", "ci", "-o", "json")
    assert set(_changes(ran.out).values()) == {"Refused"}


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"version": 2}', b'{"version": 1, "artifacts": [1]}', b"\xff"])
def test_a_file_that_is_no_evidence_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        impact.load(data, "x")


def test_evidence_survives_being_saved() -> None:
    kept = _kept("a", "ci", "release")
    assert impact.load(impact.save([kept]), "x") == (kept,)


def test_removing_an_authority_leaves_broken_policies_broken() -> None:
    trust = load_policies([policy("good"), policy("bad", thresold=1)])
    assert impact.without(trust, authorities={"ci"}).unusable.keys() == {"bad"}
