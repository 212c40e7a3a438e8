"""The table of what cosign and we accept, measured: every case on a real registry, judged by the real cosign and by us.

A case whose column differs from what is written in tests/support/acceptance.py is a cosign that changed, or a check of
ours that did; docs/trust.md ("Stricter than cosign") is to be corrected with it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ocisync.flows.trust import trust_keys
from ocisync.model.descriptor import (
    BUNDLE_V03_PARAMETER,
    EMPTY_JSON,
    EMPTY_JSON_DIGEST,
    OCI_EMPTY,
    OCI_MANIFEST,
    SIMPLE_SIGNING,
    Descriptor,
)
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import InvalidInput
from ocisync.model.evidence import RawSignature, SignatureFormat
from ocisync.model.ref import legacy_signature_tag
from ocisync.signing import bundle, legacy
from ocisync.signing.keys import load_public
from tests.support.acceptance import ARTIFACT, CASES, KEY, Case
from tests.support.cosign import Cosign, CosignError
from tests.support.registries import Registry
from tests.support.signedrepository import CREATED, SignedRepository
from tests.support.trust import bundle_of, legacy_of, signer

SUBJECT = ARTIFACT.descriptor


@pytest.fixture
def repo(olareg: Registry) -> SignedRepository:
    made = SignedRepository(f"{olareg.host}/acceptance/{secrets.token_hex(6)}")
    made.push(ARTIFACT, "production")
    return made


def _put(repo: SignedRepository, raw: RawSignature) -> None:
    if raw.format is SignatureFormat.BUNDLE:
        repo.attach_bundle(SUBJECT, raw.payload)
        return
    annotations = {legacy.SIGNATURE_ANNOTATION: raw.signature}
    layer = Descriptor(SIMPLE_SIGNING, sha256_digest(raw.payload), len(raw.payload), annotations=annotations)
    made = legacy.LegacySignature(raw.payload, raw.signature, layer)
    manifest, config = legacy.merge(None, made)
    repo.store.put_blob(Descriptor("", sha256_digest(config), len(config)), config)
    repo.store.put_blob(layer, raw.payload)
    repo.store.put_manifest(manifest, OCI_MANIFEST, legacy_signature_tag(SUBJECT.digest))


def _cosign_accepts(cosign: Cosign, repo: SignedRepository, pem: str, directory: Path) -> bool:
    public = directory / "key.pub"
    public.write_text(pem)
    try:
        cosign.verify(f"{repo.repository}@{SUBJECT.digest}", public)
    except CosignError:
        return False
    return True


def _we_accept(repo: SignedRepository, pem: str) -> bool:
    try:
        key = load_public(pem)
    except InvalidInput:
        return False
    return repo.judge(trust_keys([key], repo.repository)).verdict.allowed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_table_is_what_cosign_and_we_do(repo: SignedRepository, cosign: Cosign, tmp_path: Path, case: Case) -> None:
    _put(repo, case.make())
    wanted = case.ours if case.whole is None else case.whole
    assert _we_accept(repo, case.pem()) is wanted
    assert _cosign_accepts(cosign, repo, case.pem(), tmp_path) is case.cosign


# How signatures lie in the registry -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placed:
    """Signatures put somewhere, and who accepts the artifact then."""

    name: str
    put: Callable[[SignedRepository], None]
    ours: bool
    cosign: bool


def _changed(change: Callable[[dict[str, Any]], None]) -> Callable[[SignedRepository], None]:
    """Our bundle in a referrer manifest that was changed."""

    def put(repo: SignedRepository) -> None:
        data = bundle_of(KEY, SUBJECT.digest, {}).payload
        raw, layer = bundle.bundle_manifest(data, SUBJECT, CREATED)
        document = json.loads(raw)
        change(document)
        repo.store.put_blob(Descriptor(OCI_EMPTY, EMPTY_JSON_DIGEST, len(EMPTY_JSON)), EMPTY_JSON)
        repo.store.put_blob(layer, data)
        repo.store.attach(json.dumps(document).encode(), SUBJECT)

    return put


def _all(*made: Callable[[], RawSignature]) -> Callable[[SignedRepository], None]:
    def put(repo: SignedRepository) -> None:
        for one in made:
            _put(repo, one())

    return put


def _junk() -> RawSignature:
    return RawSignature(SignatureFormat.BUNDLE, "", b'{"mediaType": "junk"}')


def _good() -> RawSignature:
    return bundle_of(KEY, SUBJECT.digest, {})


def _good_legacy() -> RawSignature:
    return legacy_of(KEY, SUBJECT.digest, {}, repository="")


def _foreign() -> RawSignature:
    return bundle_of(signer("foreign"), SUBJECT.digest, {})


def _layer_type(text: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["layers"][0].update(mediaType=text)


PLACED = [
    Placed("as we put it", _changed(lambda document: None), True, True),
    Placed("layer of another type", _changed(_layer_type("application/json")), False, False),
    Placed("layer type with a parameter", _changed(_layer_type(BUNDLE_V03_PARAMETER)), True, True),
    Placed("no annotations", _changed(lambda document: document.pop("annotations")), True, True),
    Placed(
        "another artifactType", _changed(lambda document: document.update(artifactType="application/x")), True, True
    ),
    Placed("junk, a foreign signature and a good one", _all(_junk, _foreign, _good), True, True),
    Placed("a foreign bundle beside a good legacy signature", _all(_good_legacy, _foreign), True, False),
    Placed("a foreign bundle alone", _all(_foreign), False, False),
    Placed("nothing", _all(), False, False),
]


@pytest.mark.parametrize("case", PLACED, ids=lambda case: case.name)
def test_where_it_lies_is_judged_as_the_table_says(
    repo: SignedRepository, cosign: Cosign, tmp_path: Path, case: Placed
) -> None:
    case.put(repo)
    assert _we_accept(repo, KEY.public.pem) is case.ours
    assert _cosign_accepts(cosign, repo, KEY.public.pem, tmp_path) is case.cosign


def test_the_one_exception_to_being_stricter_is_the_documented_one() -> None:
    laxer = [case.name for case in PLACED if case.ours and not case.cosign]
    assert laxer == ["a foreign bundle beside a good legacy signature"]
