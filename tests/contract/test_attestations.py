"""Attestations against the real cosign, both ways, on every registry; and as a user types them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ocisync.flows.attest import AttestRequest, attest
from ocisync.flows.trust import TrustSet, load_policies, trust_keys, with_attestations
from ocisync.model.artifact import VerdictReason
from ocisync.signing.keys import load_public
from tests.support.cosign import Cosign, CosignError, CosignKey
from tests.support.signedrepository import SignedRepository
from tests.support.trust import signer
from tests.unit.flows.test_attest import CLOCK

FILES = {"app.yaml": "kind: ConfigMap\n"}
SLSA = "https://slsa.dev/provenance/v1"
PROVENANCE: dict[str, Any] = {
    "buildDefinition": {
        "buildType": "https://build.example/v1",
        "externalParameters": {"workflow": "release"},
        "resolvedDependencies": [{"uri": "git+https://github.com/acme/shop@refs/tags/v1.4.0"}],
    },
    "runDetails": {"builder": {"id": "https://build.example/a"}},
}
TYPES: list[tuple[str, dict[str, Any]]] = [
    ("slsaprovenance1", PROVENANCE),
    ("spdxjson", {"spdxVersion": "SPDX-2.3"}),
    ("cyclonedx", {"bomFormat": "CycloneDX", "specVersion": "1.6"}),
    ("openvex", {"@context": "https://openvex.dev/ns/v0.2.0", "statements": []}),
    ("vuln", {"invocation": {"uri": "x"}, "scanner": {"uri": "y"}, "metadata": {}}),
    ("custom", {"passed": True, "größe": 3}),
    ("https://acme.example/report/v1", {"text": "☃"}),
]


@pytest.fixture
def repo(repository: str) -> SignedRepository:
    return SignedRepository(repository)


def _public_file(directory: Path) -> Path:
    path = directory / "ours.pub"
    path.write_text(signer("ci").public.pem)
    return path


def _verify(cosign: Cosign, repo: SignedRepository, digest: str, public: Path, kind: str) -> list[dict[str, Any]]:
    """The statements that cosign accepts."""
    out = cosign.run(
        "verify-attestation", "--key", str(public), "--insecure-ignore-tlog=true", "--type", kind,
        f"{repo.repository}@{digest}",
    )  # fmt: skip
    envelopes = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [json.loads(base64.b64decode(item["payload"])) for item in envelopes]


def _attest(
    cosign: Cosign, repo: SignedRepository, digest: str, key: CosignKey, kind: str, file: Path, *extra: str
) -> None:
    flags = extra or ("--use-signing-config=false", "--tlog-upload=false")
    cosign.run(
        "attest", "--yes", "--key", str(key.private), *flags, "--type", kind, "--predicate", str(file),
        f"{repo.repository}@{digest}", password=key.password,
    )  # fmt: skip


def _asking(key: CosignKey, repo: SignedRepository, kind: str) -> TrustSet:
    return with_attestations(
        trust_keys([load_public(key.public.read_bytes())], repo.repository), repo.repository, [kind]
    )


def test_cosign_accepts_what_we_attest(repo: SignedRepository, cosign: Cosign, tmp_path: Path) -> None:
    built, public = repo.push(FILES, "production"), _public_file(tmp_path)
    digest = built.descriptor.digest
    repo.sign(built.descriptor, signer("ci"))
    for kind, predicate in TYPES:
        attest(AttestRequest(repo.store, digest, (signer("ci"),), CLOCK, kind, predicate))
    for kind, predicate in TYPES:
        (found,) = _verify(cosign, repo, digest, public, kind)
        assert found["predicate"] == predicate
        assert found["subject"] == [{"name": repo.repository, "digest": {"sha256": digest.removeprefix("sha256:")}}]
    with pytest.raises(CosignError):
        _verify(cosign, repo, digest, public, "link")
    # And the signature beside them still is one.
    assert repo.verify(load_policies([repo.policy()])).digest == digest


def test_we_accept_what_cosign_attests(repo: SignedRepository, cosign: Cosign, tmp_path: Path) -> None:
    built, key, file = repo.push(FILES, "production"), cosign.generate_key_pair("secret"), tmp_path / "predicate.json"
    digest = built.descriptor.digest
    cosign.sign(f"{repo.repository}@{digest}", key, annotations=repo.claims())
    refused = repo.judge(_asking(key, repo, SLSA)).verdict
    assert refused.reason is VerdictReason.NO_ATTESTATION
    file.write_text(json.dumps(PROVENANCE))
    _attest(cosign, repo, digest, key, "slsaprovenance1", file)
    assert repo.verify(_asking(key, repo, SLSA)).digest == digest
    assert repo.judge(_asking(key, repo, "https://cyclonedx.org/bom")).verdict.reason is VerdictReason.NO_ATTESTATION

    def policy(**where: str) -> TrustSet:
        authorities = [{"name": "cosign", "key": {"pem": key.public.read_text()}}]
        rule = {"predicateType": SLSA, "authorities": ["cosign"], "where": [where]}
        return load_policies([repo.policy(authorities=authorities, attestations=[rule])])

    path = "/buildDefinition/resolvedDependencies/0/uri"
    assert repo.verify(policy(path=path, glob="git+https://github.com/acme/shop@refs/tags/*")).verdict.allowed
    other = repo.judge(policy(path=path, glob="git+https://github.com/acme/shop@refs/heads/*")).verdict
    assert (other.reason, path in other.message) == (VerdictReason.NO_ATTESTATION, True)


def test_an_attestation_in_the_form_of_cosign_2_is_not_read(
    repo: SignedRepository, cosign: Cosign, tmp_path: Path
) -> None:
    built, key, file = repo.push(FILES, "production"), cosign.generate_key_pair(), tmp_path / "predicate.json"
    digest = built.descriptor.digest
    cosign.sign(f"{repo.repository}@{digest}", key, annotations=repo.claims())
    file.write_text("{}")
    legacy = ("--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false")
    _attest(cosign, repo, digest, key, "slsaprovenance1", file, *legacy)
    assert repo.judge(_asking(key, repo, SLSA)).verdict.reason is VerdictReason.NO_ATTESTATION
