"""Whatever the bytes are, examining them ends with evidence, never with an exception or a signer."""

from __future__ import annotations

import base64
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.model.evidence import RawSignature, SignatureFormat
from ocisync.signing.check import examine
from tests.support.trust import DIGEST, bundle_of, bundle_with, legacy_of, signer

KEY = signer("survives")
BUNDLE = bundle_of(KEY)
LEGACY = legacy_of(KEY)

_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(payload=st.binary(max_size=400), signature=st.text(max_size=100), kind=st.sampled_from(SignatureFormat))
@settings(deadline=None)
def test_arbitrary_bytes(payload: bytes, signature: str, kind: SignatureFormat) -> None:
    assert not examine(RawSignature(kind, "s", payload, signature), [KEY.public], DIGEST).signer


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_one_changed_byte_never_counts(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from([BUNDLE, LEGACY]))
    at = data.draw(st.integers(0, len(good.payload) - 1))
    byte = data.draw(st.integers(0, 255))
    changed = good.payload[:at] + bytes([byte]) + good.payload[at + 1 :]
    found = examine(RawSignature(good.format, good.source, changed, good.signature), [KEY.public], DIGEST)
    if found.signer and not found.problem:
        # The change hit the unsigned wrapping (hint, white space): what counts is still exactly what was signed.
        assert (found.subject, found.claims) == _signed(good)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_json_in_any_place_of_a_bundle(data: st.DataObject) -> None:
    document = json.loads(BUNDLE.payload)
    places = ["mediaType", "verificationMaterial", "dsseEnvelope"]
    inner = ["payload", "payloadType", "signatures"]
    place = data.draw(st.sampled_from(places + inner))
    value = data.draw(_json_values)
    (document["dsseEnvelope"] if place in inner else document)[place] = value
    raw = RawSignature(SignatureFormat.BUNDLE, "s", json.dumps(document).encode())
    found = examine(raw, [KEY.public], DIGEST)
    assert not found.signer or found.problem or place == "verificationMaterial"


@given(value=_json_values)
@settings(max_examples=200, deadline=None)
def test_any_json_signed_by_a_trusted_key(value: object) -> None:
    found = examine(bundle_with(KEY, value), [KEY.public], DIGEST)
    assert found.problem


@given(value=_json_values)
@settings(max_examples=200, deadline=None)
def test_any_json_signed_by_a_trusted_key_in_the_legacy_format(value: object) -> None:
    payload = json.dumps(value).encode()
    signature = base64.b64encode(KEY.sign(payload)).decode()
    assert examine(RawSignature(SignatureFormat.LEGACY, "s", payload, signature), [KEY.public], DIGEST).problem


def _signed(good: RawSignature) -> tuple[str, tuple[tuple[str, str], ...]]:
    found = examine(good, [KEY.public], DIGEST)
    return found.subject, found.claims
