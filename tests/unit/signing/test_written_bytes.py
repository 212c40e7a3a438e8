"""What we write, byte for byte as other tools expect it; and merging into what others wrote."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from ocisync.model.descriptor import BUNDLE_V03, OCI_MANIFEST, Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import InvalidInput
from ocisync.signing import bundle, legacy
from tests.support.trust import DIGEST, REPOSITORY, signer

MOMENT = datetime(2026, 11, 23, 4, 24, 33, tzinfo=UTC)


def test_the_bundle_is_the_one_of_cosign() -> None:
    key = signer()
    document = json.loads(bundle.make(key, DIGEST, {"env": "prod"}))
    envelope = document["dsseEnvelope"]
    assert document["mediaType"] == BUNDLE_V03
    assert document["verificationMaterial"] == {"publicKey": {"hint": key.public.hint}}
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert list(envelope["signatures"][0]) == ["sig"]
    assert json.loads(base64.b64decode(envelope["payload"])) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": DIGEST.removeprefix("sha256:")}, "annotations": {"env": "prod"}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    }


def test_the_referrer_manifest_is_the_one_of_cosign_and_deterministic() -> None:
    data = bundle.make(signer(), DIGEST, {})
    subject = Descriptor(OCI_MANIFEST, DIGEST, 441, annotations={"never": "copied"})
    raw, layer = bundle.bundle_manifest(data, subject, MOMENT)
    assert bundle.bundle_manifest(data, subject, MOMENT) == (raw, layer)
    assert json.loads(raw) == {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "size": 2,
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        },
        "layers": [{"mediaType": BUNDLE_V03, "size": len(data), "digest": sha256_digest(data)}],
        "annotations": {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
            "org.opencontainers.image.created": "2026-11-23T04:24:33Z",
        },
        "subject": {"mediaType": OCI_MANIFEST, "size": 441, "digest": DIGEST},
        "artifactType": BUNDLE_V03,
    }


def test_a_legacy_signature_is_added_behind_the_ones_of_others() -> None:
    foreign = {
        "mediaType": "x/y",
        "size": 3,
        "digest": sha256_digest(b"foreign"),
        "annotations": {"k": "v"},
        "urls": [],
    }
    existing = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [foreign], "annotations": {"a": "b"}}
    )
    made = legacy.make(signer(), DIGEST, REPOSITORY, {"env": "prod"})
    raw, config = legacy.merge(existing.encode(), made)
    document = json.loads(raw)
    assert document["layers"] == [foreign, made.layer.as_dict()]
    assert document["annotations"] == {"a": "b"}
    assert document["config"]["digest"] == sha256_digest(config)
    assert json.loads(config)["rootfs"]["diff_ids"] == [foreign["digest"], made.layer.digest]


def test_adding_the_same_legacy_signature_twice_changes_nothing() -> None:
    made = legacy.make(signer(), DIGEST, REPOSITORY, {})
    first, _ = legacy.merge(None, made)
    assert legacy.merge(first, made)[0] == first


@pytest.mark.parametrize(
    "existing",
    [b"", b"[]", b'{"layers": 1}', b'{"mediaType": "application/vnd.oci.image.index.v1+json", "layers": []}',
     b'{"layers": [{"digest": "md5:1"}]}'],
    ids=["empty", "list", "no-layers", "index", "bad-digest"],
)  # fmt: skip
def test_a_tag_with_something_else_is_never_overwritten(existing: bytes) -> None:
    with pytest.raises(InvalidInput, match="no signature manifest"):
        legacy.merge(existing, legacy.make(signer(), DIGEST, REPOSITORY, {}))
