"""The real cosign and we agree on key signatures, in both directions, on both registries, in both formats.

cosign runs offline behind a dead proxy. Whatever cosign refuses, we refuse too; what we additionally refuse is
listed in docs/trust.md.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from ocisync.flows.trust import TrustSet, load_policies, trust_keys
from ocisync.model.artifact import VerdictReason
from ocisync.signing.keys import KeyAlgorithm, Signer, dump_private, load_private, load_public
from tests.support.artifacts import artifact
from tests.support.cosign import Cosign, CosignError, CosignKey
from tests.support.signedrepository import SignedRepository
from tests.support.trust import signer

# Two objects, so that the artifact differs from other tests' and is still the same on every run.
FILES = {"app.yaml": "kind: ConfigMap\n", "more.yaml": "kind: Secret\n"}


@pytest.fixture
def repo(repository: str) -> SignedRepository:
    return SignedRepository(repository)


def _reference(repo: SignedRepository, digest: str) -> str:
    return f"{repo.repository}@{digest}"


def _public_file(by: Signer, directory: Path) -> Path:
    path = directory / "public.pem"
    path.write_text(by.public.pem)
    return path


def _trust_of(key: CosignKey, repo: SignedRepository) -> TrustSet:
    return trust_keys([load_public(key.public.read_bytes())], repo.repository)


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
@pytest.mark.parametrize("form", ["bundle", "legacy"])
def test_cosign_accepts_what_we_sign(
    repo: SignedRepository, cosign: Cosign, tmp_path: Path, algorithm: str, form: str
) -> None:
    built, by = repo.push(FILES, "production"), signer("any", algorithm)
    (repo.sign if form == "bundle" else repo.sign_legacy)(built.descriptor, by, {**repo.claims(), "env": "prod"})
    reference, public = _reference(repo, built.descriptor.digest), _public_file(by, tmp_path)
    # One annotation that only cosign asks for and one of ours: both are in the signed part.
    wanted = {"env": "prod", "dev.ocisync.repository": repo.repository}
    assert built.descriptor.digest in cosign.verify(reference, public, annotations=wanted)


@pytest.mark.parametrize("form", ["bundle", "legacy"])
def test_cosign_refuses_another_key_and_other_annotations(
    repo: SignedRepository, cosign: Cosign, tmp_path: Path, form: str
) -> None:
    built = repo.push(FILES, "production")
    (repo.sign if form == "bundle" else repo.sign_legacy)(built.descriptor, signer("interop"), {"env": "prod"})
    reference = _reference(repo, built.descriptor.digest)
    with pytest.raises(CosignError):
        cosign.verify(reference, _public_file(signer("interop"), tmp_path), annotations={"env": "test"})
    with pytest.raises(CosignError):
        cosign.verify(reference, _public_file(signer("stranger"), tmp_path))


@pytest.mark.parametrize("form", ["bundle", "legacy"])
def test_we_accept_what_cosign_signs(repo: SignedRepository, cosign: Cosign, form: str) -> None:
    built, key = repo.push(FILES, "production"), cosign.generate_key_pair("secret")
    sign = cosign.sign if form == "bundle" else cosign.sign_legacy
    sign(_reference(repo, built.descriptor.digest), key)
    assert repo.verify(_trust_of(key, repo)).digest == built.descriptor.digest
    stranger = trust_keys([signer("stranger").public], repo.repository)
    assert repo.judge(stranger).verdict.reason is VerdictReason.UNKNOWN_SIGNER


@pytest.mark.parametrize("form", ["bundle", "legacy"])
def test_cosign_can_write_every_claim_that_a_policy_wants(repo: SignedRepository, cosign: Cosign, form: str) -> None:
    built, key = repo.push(FILES, "production"), cosign.generate_key_pair()
    sign = cosign.sign if form == "bundle" else cosign.sign_legacy
    sign(_reference(repo, built.descriptor.digest), key, annotations=repo.claims(tags="1.2.3 production"))
    policy = repo.policy(
        authorities=[{"name": "cosign", "key": {"pem": key.public.read_text()}}], formats=["Bundle", "Legacy"]
    )
    assert repo.verify(load_policies([policy])).verdict.signers == ("cosign",)


@pytest.mark.parametrize("formats", [["Bundle"], ["Legacy"]], ids=["bundle", "legacy"])
def test_the_command_in_a_refusal_makes_the_artifact_acceptable(
    repo: SignedRepository, cosign: Cosign, formats: list[str]
) -> None:
    built, key = repo.push(FILES, "production"), cosign.generate_key_pair()
    authorities = [{"name": "cosign", "key": {"pem": key.public.read_text()}}]
    spec = {"annotations": {"env": "eu prod"}, "rollback": {"maxAge": "1h"}}
    trust = load_policies([repo.policy(authorities=authorities, formats=formats, **spec)])
    refused = repo.judge(trust).verdict
    program, *arguments = shlex.split(refused.hint.partition(": ")[2])
    assert program == "cosign"
    cosign.run(*[str(key.private) if word == "KEY" else word for word in arguments])
    assert repo.verify(trust).digest == built.descriptor.digest


def test_signatures_of_both_tools_live_beside_each_other(
    repo: SignedRepository, cosign: Cosign, tmp_path: Path
) -> None:
    built, key = repo.push(FILES, "production"), cosign.generate_key_pair()
    reference, ours = _reference(repo, built.descriptor.digest), signer("ours")
    cosign.sign(reference, key)
    repo.sign(built.descriptor, ours)
    cosign.sign_legacy(reference, key)
    repo.sign_legacy(built.descriptor, ours)
    cosign.verify(reference, key.public)
    cosign.verify(reference, _public_file(ours, tmp_path))
    evidence = repo.judge(trust_keys([ours.public, load_public(key.public.read_bytes())], repo.repository)).examined
    assert sorted((item.format.value, item.signer == ours.fingerprint) for item in evidence) == [
        ("Bundle", False), ("Bundle", True), ("Legacy", False), ("Legacy", True)
    ]  # fmt: skip


def test_an_attestation_by_cosign_is_no_signature_for_us(
    repo: SignedRepository, cosign: Cosign, tmp_path: Path
) -> None:
    built, key = repo.push(FILES, "production"), cosign.generate_key_pair()
    predicate = tmp_path / "predicate.json"
    predicate.write_text(json.dumps({"buildDefinition": {"buildType": "x"}, "runDetails": {"builder": {"id": "x"}}}))
    cosign.run(
        "attest", "--yes", "--key", str(key.private), "--use-signing-config=false", "--tlog-upload=false",
        "--type", "slsaprovenance1", "--predicate", str(predicate), _reference(repo, built.descriptor.digest),
    )  # fmt: skip
    verdict = repo.judge(_trust_of(key, repo)).verdict
    assert (verdict.allowed, verdict.reason) == (False, VerdictReason.BAD_SIGNATURE)
    assert "not a signature" in verdict.message


def test_a_changed_bundle_is_refused_by_both(repo: SignedRepository, cosign: Cosign, tmp_path: Path) -> None:
    good, evil, by = repo.push(FILES), repo.push({"app.yaml": "evil"}, "production"), signer("changed")
    made = repo.sign(good.descriptor, by)
    repo.attach_bundle(evil.descriptor, made)
    repo.attach_bundle(evil.descriptor, re.sub(rb'"sig":"[^"]{8}', b'"sig":"AAAAAAAA', made))
    assert not repo.judge(trust_keys([by.public], repo.repository)).verdict.allowed
    with pytest.raises(CosignError):
        cosign.verify(_reference(repo, evil.descriptor.digest), _public_file(by, tmp_path))


# Key files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["", "correct horse"], ids=["no-password", "password"])
def test_we_read_the_key_files_of_cosign(cosign: Cosign, password: str) -> None:
    key = cosign.generate_key_pair(password)
    read = load_private(key.private.read_bytes(), password.encode())
    assert read.public == load_public(key.public.read_bytes())


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_cosign_reads_the_key_files_that_we_write(cosign: Cosign, tmp_path: Path, algorithm: str) -> None:
    by = signer("any", algorithm)
    path = tmp_path / "ours.key"
    path.write_bytes(dump_private(by, password=b"pw", key_format="cosign"))
    shown = cosign.run("public-key", "--key", str(path), password="pw")
    assert load_public(shown).fingerprint == by.fingerprint


def test_cosign_imports_our_pkcs8_keys_and_we_read_them_back(cosign: Cosign, tmp_path: Path) -> None:
    path = tmp_path / "ours.pem"
    path.write_bytes(dump_private(signer("import"), password=None))
    imported = cosign.import_key_pair(path, "pw")
    assert load_private(imported.private.read_bytes(), b"pw").fingerprint == signer("import").fingerprint


def test_a_key_file_of_ours_signs_with_cosign_for_us(repo: SignedRepository, cosign: Cosign, tmp_path: Path) -> None:
    built, by = repo.push(artifact(FILES), "production"), signer("file")
    private, public = tmp_path / "ours.key", _public_file(by, tmp_path)
    private.write_bytes(dump_private(by, password=b"", key_format="cosign"))
    cosign.sign(_reference(repo, built.descriptor.digest), CosignKey(private, public, ""))
    assert repo.verify(trust_keys([by.public], repo.repository)).digest == built.descriptor.digest
