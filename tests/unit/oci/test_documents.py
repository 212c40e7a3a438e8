from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.model.descriptor import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import OcisyncError, Refused
from ocisync.oci.documents import (
    check_announced,
    check_manifest,
    descriptor_of,
    parse_json,
    referrer_descriptor,
    subject_digest,
    with_entry,
)

DIGEST = "sha256:" + "a" * 64
ENTRY = Descriptor(OCI_MANIFEST, DIGEST, 7, "a/b", {"k": "v"})


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"1",
        b"nope",
        b"\xff",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b"[" * 100_000,
        b'{"a":{"b":1,"b":1}}',
    ],
)
def test_json_that_two_readers_could_see_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused):
        parse_json(raw, "it")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_refused(raw: bytes) -> None:
    try:
        found = check_manifest(raw, ref="v1", content_type=OCI_MANIFEST, announced="", what="it")
    except OcisyncError:
        return
    assert found.descriptor.digest == sha256_digest(raw)


def test_a_manifest_without_a_media_type_takes_that_of_the_answer() -> None:
    raw = b'{"schemaVersion":2,"layers":[]}'
    found = check_manifest(raw, ref="v1", content_type=f"{OCI_MANIFEST}; charset=utf-8", announced="", what="it")
    assert found.descriptor == Descriptor(OCI_MANIFEST, sha256_digest(raw), len(raw))


@pytest.mark.parametrize(
    "announced", ["sha256:" + "0" * 64, "sha512:" + "0" * 128, "md5:d41d8cd98f00b204e9800998ecf8427e", "nonsense"]
)
def test_a_wrong_announcement_is_refused(announced: str) -> None:
    with pytest.raises(Refused):
        check_announced(announced, b"content", "it")


def test_a_right_announcement_is_accepted() -> None:
    check_announced(sha256_digest(b"content"), b"content", "it")
    check_announced("", b"content", "it")


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"mediaType": "a/b", "digest": DIGEST},
        {"mediaType": "a/b", "digest": DIGEST, "size": -1},
        {"mediaType": "a/b", "digest": DIGEST, "size": True},
        {"mediaType": "a/b", "digest": DIGEST, "size": "7"},
        {"mediaType": "a/b", "digest": DIGEST, "size": 7.0},
        {"mediaType": "a/b", "digest": "sha256:short", "size": 7},
        {"mediaType": 5, "digest": DIGEST, "size": 7},
    ],
)
def test_what_is_no_descriptor_is_none(value: object) -> None:
    assert descriptor_of(value) is None


def test_a_descriptor_keeps_only_text_annotations() -> None:
    found = descriptor_of({**ENTRY.as_dict(), "annotations": {"k": "v", "n": 1}, "artifactType": 5})
    assert found == Descriptor(OCI_MANIFEST, DIGEST, 7, "", {"k": "v"})


def test_a_referrer_is_described_by_its_own_type_or_its_config_s() -> None:
    raw = json.dumps(
        {"mediaType": OCI_MANIFEST, "config": {"mediaType": OCI_CONFIG}, "annotations": {"k": "v"}}
    ).encode()
    assert referrer_descriptor(raw) == Descriptor(OCI_MANIFEST, sha256_digest(raw), len(raw), OCI_CONFIG, {"k": "v"})


@pytest.mark.parametrize("subject", [None, {}, "x", {"digest": 5}, {"digest": "sha256:x"}])
def test_a_manifest_without_a_subject_has_none(subject: object) -> None:
    assert subject_digest(json.dumps({"subject": subject}).encode()) == ""


def test_a_new_index_holds_the_entry() -> None:
    made = with_entry(None, ENTRY, "it")
    assert made is not None
    assert json.loads(made) == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [ENTRY.as_dict()]}


def test_an_entry_that_is_there_changes_nothing() -> None:
    made = with_entry(None, ENTRY, "it")
    assert with_entry(made, Descriptor(OCI_MANIFEST, DIGEST, 7), "it") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4), st.lists(JSON, max_size=5))
def test_everything_that_others_wrote_is_kept(fields: dict[str, object], entries: list[object]) -> None:
    before = {**fields, "manifests": entries}
    made = with_entry(json.dumps(before).encode(), ENTRY, "it")
    assert made is not None
    after = json.loads(made)
    assert after == {**before, "manifests": [*entries, ENTRY.as_dict()]}
    assert list(after) == list(before)


@pytest.mark.parametrize("raw", [b"[]", b'{"manifests":{}}', b'{"manifests":"x"}'])
def test_what_is_no_index_is_not_extended(raw: bytes) -> None:
    with pytest.raises(Refused):
        with_entry(raw, ENTRY, "it")


@pytest.mark.parametrize("value", [b'"\\ud800"', b"1e999"])
def test_an_index_that_cannot_be_written_again_is_left_alone(value: bytes) -> None:
    with pytest.raises(Refused, match=r"surrogate|too large"):
        with_entry(b'{"manifests":[{"x":' + value + b"}]}", ENTRY, "index")
