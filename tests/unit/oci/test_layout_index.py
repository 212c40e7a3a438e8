"""`index.json` of an image layout: tags as oras and skopeo keep them, foreign fields kept, nonsense refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.model.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from ocisync.model.errors import Refused
from ocisync.oci.layoutindex import REF_NAME, LayoutIndex, parse_index, with_manifest, without_tag
from tests.support.images import described

ONE, TWO = described(b"one", OCI_MANIFEST), described(b"two", OCI_MANIFEST)

digests = st.sampled_from([ONE, TWO, described(b"three", OCI_MANIFEST)])
tags = st.sampled_from(["", "a", "b", "1.0.0"])


def entry(descriptor: Descriptor, tag: str = "", **more: Any) -> dict[str, Any]:
    return {**descriptor.as_dict(), **({"annotations": {REF_NAME: tag}} if tag else {}), **more}


def index(*entries: dict[str, Any], **more: Any) -> LayoutIndex:
    return parse_index(json.dumps({"schemaVersion": 2, "manifests": entries, **more}).encode(), "index.json")


def added(before: LayoutIndex, descriptor: Descriptor, tag: str) -> LayoutIndex:
    raw = with_manifest(before, descriptor, tag, "index.json")
    return before if raw is None else parse_index(raw, "index.json")


def pairs(of: LayoutIndex) -> list[tuple[str, str]]:
    return [(item.tag, item.descriptor.digest) for item in of.entries]


def test_a_missing_index_is_empty() -> None:
    assert parse_index(None, "x").entries == ()


def test_a_tag_that_moves_leaves_its_manifest_untagged() -> None:
    assert pairs(added(index(entry(ONE, "a")), TWO, "a")) == [("", ONE.digest), ("a", TWO.digest)]


def test_a_tag_that_moves_leaves_nothing_where_another_tag_still_names_the_manifest() -> None:
    assert pairs(added(index(entry(ONE, "a"), entry(ONE, "b")), TWO, "a")) == [("b", ONE.digest), ("a", TWO.digest)]


def test_tagging_an_untagged_manifest_names_its_entry_and_keeps_its_fields() -> None:
    after = added(index(entry(ONE, platform={"os": "linux"}, annotations={"who": "else"})), ONE, "a")
    assert [item.raw for item in after.entries] == [
        entry(ONE, platform={"os": "linux"}, annotations={"who": "else", REF_NAME: "a"})
    ]


def test_what_is_listed_already_changes_nothing() -> None:
    assert with_manifest(index(entry(ONE, "a")), ONE, "a", "x") is None
    assert with_manifest(index(entry(ONE, "a")), ONE, "", "x") is None


def test_foreign_fields_stay() -> None:
    before = index(entry(ONE, "a", x=[1]), annotations={"k": "v"}, other=1.5)
    raw = with_manifest(before, TWO, "b", "x")
    assert raw is not None
    document = json.loads(raw)
    assert (document["annotations"], document["other"], document["manifests"][0]["x"]) == ({"k": "v"}, 1.5, [1])


def test_a_tag_is_removed_and_its_manifest_stays() -> None:
    after = parse_index(without_tag(index(entry(ONE, "a"), entry(TWO, "b")), "a", "x"), "x")
    assert pairs(after) == [("", ONE.digest), ("b", TWO.digest)]


def test_a_tag_for_two_manifests_is_refused_where_it_matters() -> None:
    torn = index(entry(ONE, "a"), entry(TWO, "a"), entry(TWO, "b"))
    with pytest.raises(Refused, match="tag a names 2 manifests"):
        torn.tagged("a", "x")
    assert torn.tagged("b", "x") == described(b"two", OCI_MANIFEST).__class__(
        OCI_MANIFEST, TWO.digest, TWO.size, "", {REF_NAME: "b"}
    )
    assert pairs(added(torn, ONE, "a")) == [("b", TWO.digest), ("a", ONE.digest)]


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"null", b"{", b'{"manifests": {}}', b'{"manifests": [1]}', b'{"manifests": [{}]}',
        b'{"manifests": [{"mediaType": "x", "digest": "sha512:00", "size": 1}]}',
        b'{"manifests": [{"mediaType": "x", "digest": "../../etc/passwd", "size": 1}]}',
        b'{"mediaType": "application/vnd.oci.image.manifest.v1+json"}',
        b'{"manifests": [], "manifests": []}', b'{"a": NaN}', b"[" * 100_000, b"\xff\xfe{}",
    ],
)  # fmt: skip
def test_what_is_no_index_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused):
        parse_index(raw, "index.json")


def test_an_index_with_too_many_entries_is_refused() -> None:
    one = json.dumps(entry(ONE)).encode()
    raw = b'{"manifests":[' + b",".join([one] * 30_001) + b"]}"
    with pytest.raises(Refused, match="30001 entries"):
        parse_index(raw, "index.json")


def test_the_media_type_of_an_index_may_be_there_or_not() -> None:
    assert index(mediaType=OCI_INDEX).entries == index().entries == ()


@given(st.lists(st.tuples(digests, tags, st.booleans()), max_size=12))
def test_whatever_is_done_each_tag_names_what_it_was_set_to_and_nothing_is_lost(
    steps: list[tuple[Descriptor, str, bool]],
) -> None:
    current = parse_index(None, "x")
    wanted: dict[str, str] = {}
    seen: set[str] = set()
    for descriptor, tag, remove in steps:
        if remove and tag in wanted:
            current = parse_index(without_tag(current, tag, "x"), "x")
            del wanted[tag]
        else:
            current = added(current, descriptor, tag)
            seen.add(descriptor.digest)
            if tag:
                wanted[tag] = descriptor.digest
    assert {tag: digest for tag, digest in pairs(current) if tag} == wanted
    assert {digest for _, digest in pairs(current)} == seen
    listed = pairs(current)
    assert len(listed) == len(set(listed))
    untagged = [digest for tag, digest in listed if not tag]
    assert len(untagged) == len(set(untagged))
