"""The list of contents: written and read back, changed in any way and refused; deltas as differences of sets."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.kit.strictjson import Malformed
from ocisync.mirror.archive import ArchiveReader, ArchiveWriter, header_of, read_head
from ocisync.mirror.closure import Closure, Named, RepositoryClosure, Role, Root, Selected, read_item
from ocisync.mirror.contents import Cargo, parse_contents
from ocisync.mirror.describe import Base, Known, base_of, describe, rebuild
from ocisync.model.descriptor import OCI_MANIFEST, Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import Refused
from ocisync.model.ref import Reference
from ocisync.oci.store import Manifest
from ocisync.signing import bundle
from ocisync.signing.envelope import seal, signers_among, unseal
from tests.support.artifacts import COMMIT_TIME, artifact
from tests.support.trust import signer

PLACE = Reference("registry.example", "shop/config")
BUILT = artifact({"a.yaml": "kind: A\n"})
BUNDLE = bundle.make(signer(), BUILT.descriptor.digest, {})
RAW, LAYER = bundle.bundle_manifest(BUNDLE, BUILT.descriptor, COMMIT_TIME)
DIGEST, SIGNATURE = BUILT.descriptor.digest, sha256_digest(RAW)


def closure(*, signed: bool = True) -> Closure:
    items = [read_item(Manifest(BUILT.descriptor, BUILT.manifest), Role.ARTIFACT)]
    if signed:
        items.append(read_item(Manifest(Descriptor(OCI_MANIFEST, SIGNATURE, len(RAW)), RAW), Role.REFERRER))
    part = RepositoryClosure(PLACE, tuple(items), (), (Named("1.0.0", DIGEST),))
    root = Root(Selected(PLACE, "1.0.0", DIGEST), Role.ARTIFACT, tuple(item.digest for item in items))
    return Closure((part,), (root,))


CONTENTS, INDEX = describe(closure(), "2026-11-23T00:00:00Z", cargo=[Cargo("a.pub", sha256_digest(b"a"), 1)])


def test_contents_are_read_as_they_were_written() -> None:
    assert parse_contents(CONTENTS.dump()) == CONTENTS


def test_manifests_and_signatures_come_before_layers() -> None:
    head = [digest for digest, _ in CONTENTS.head()]
    assert head[:2] == [DIGEST, SIGNATURE]
    assert {LAYER.digest, BUILT.config_descriptor.digest} <= set(head)
    assert [digest for digest, _ in CONTENTS.rest()] == [BUILT.layer_descriptor.digest]


def test_a_delta_to_everything_is_empty_and_a_new_signature_names_what_it_needs() -> None:
    everything = base_of(CONTENTS, "sha256:" + "0" * 64)
    nothing, _ = describe(closure(), CONTENTS.created, base=everything)
    assert not nothing.parts[0].manifests and not nothing.parts[0].blobs and not nothing.parts[0].tags
    before, _ = describe(closure(signed=False), CONTENTS.created)
    delta, _ = describe(closure(), CONTENTS.created, base=base_of(before, "sha256:" + "1" * 64))
    part = delta.parts[0]
    assert [item.digest for item in part.manifests] == [SIGNATURE]
    assert part.needs_manifests == (DIGEST,)
    assert parse_contents(delta.dump()) == delta


@given(
    st.sets(st.sampled_from([DIGEST, SIGNATURE])), st.sets(st.sampled_from(sorted(closure().repositories[0].blobs())))
)
def test_a_delta_and_its_base_are_the_whole(manifests: set[str], blobs: set[str]) -> None:
    known = Known(frozenset(manifests), frozenset(blobs), {})
    delta, _ = describe(closure(), CONTENTS.created, base=Base("sha256:" + "2" * 64, {PLACE.repository: known}))
    part, full = delta.parts[0], CONTENTS.parts[0]
    assert parse_contents(delta.dump()) == delta
    assert {item.digest for item in part.manifests} == {item.digest for item in full.manifests} - manifests
    assert not {blob.digest for blob in part.blobs} & blobs
    for item in closure().repositories[0].items:
        if item.digest not in manifests:
            here = {blob.digest for blob in part.blobs} | set(part.needs_blobs)
            assert {blob.digest for blob in item.blobs} <= here


PATHS = [
    ("created",), ("index",), ("cargo", 0, "name"), ("cargo", 0, "size"), ("repositories", 0, "name"),
    ("repositories", 0, "role"), ("repositories", 0, "manifests", 0, "digest"), ("repositories", 0, "tags", 0, "name"),
    ("repositories", 0, "manifests", 0, "mediaType"), ("repositories", 0, "roots", 0, "kind"),
    ("repositories", 0, "blobs", 0, "size"), ("repositories", 0, "needs"), ("repositories",),
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=str)
@given(
    value=st.one_of(
        st.none(), st.booleans(), st.integers(max_value=-1), st.just("../x"), st.just("\x1b[2J"), st.just({})
    )
)
def test_whatever_is_not_as_it_should_be_is_refused(path: tuple[Any, ...], value: Any) -> None:
    document: Any = copy.deepcopy(CONTENTS.as_json())
    place = document
    for step in path[:-1]:
        place = place[step]
    if path == ("created",) and value == "../x":
        return  # any printable text is a time by the sender's clock
    place[path[-1]] = value
    with pytest.raises(Malformed):
        parse_contents(json.dumps(document).encode())


@pytest.mark.parametrize("name", ["manifests", "tags", "blobs"])
def test_nothing_is_listed_twice(name: str) -> None:
    document: Any = copy.deepcopy(CONTENTS.as_json())
    document["repositories"][0][name] *= 2
    with pytest.raises(Malformed, match="twice"):
        parse_contents(json.dumps(document).encode())


def test_a_tag_of_something_else_is_refused() -> None:
    document: Any = copy.deepcopy(CONTENTS.as_json())
    document["repositories"][0]["tags"][0]["digest"] = "sha256:" + "9" * 64
    with pytest.raises(Malformed, match="neither here nor needed"):
        parse_contents(json.dumps(document).encode())


def test_cargo_cannot_take_the_name_of_the_record() -> None:
    document: Any = copy.deepcopy(CONTENTS.as_json())
    document["cargo"][0]["name"] = "adopted.json"
    with pytest.raises(Malformed):
        parse_contents(json.dumps(document).encode())


def test_a_manifest_whose_blob_is_left_out_makes_the_file_incomplete() -> None:
    part = CONTENTS.parts[0]
    lacking = type(part)(part.name, part.manifests, (), part.tags, part.roots, part.blobs[1:])
    with pytest.raises(Refused, match="not in the file"):
        rebuild(lacking, {DIGEST: BUILT.manifest, SIGNATURE: RAW}, (), "x.tar")


def test_a_signature_of_an_envelope_is_over_its_kind_too() -> None:
    by = signer("envelope")
    sealed = unseal(seal("application/one", b"{}", [by]), "application/one", max_bytes=10_000)
    assert signers_among(sealed, [by.public, signer("other").public]) == (by.fingerprint,)
    moved = seal("application/one", b"{}", [by]).replace(b"application/one", b"application/two")
    assert signers_among(unseal(moved, "application/two", max_bytes=10_000), [by.public]) == ()
    with pytest.raises(Malformed):
        unseal(moved, "application/one", max_bytes=10_000)


@given(st.binary(max_size=2048))
def test_garbage_is_refused_and_nothing_else(data: bytes) -> None:
    with pytest.raises(Refused):
        read_head(ArchiveReader(io.BytesIO(data), "x.tar"))


def test_sizes_beyond_eight_gibibytes_have_a_header() -> None:
    import tarfile

    info = tarfile.TarInfo.frombuf(header_of("blobs/sha256/" + "0" * 64, 20 * 1024**3), "utf-8", "strict")
    assert info.size == 20 * 1024**3


def test_a_source_that_gives_other_content_is_refused_while_it_is_written() -> None:
    blob = Descriptor("x", sha256_digest(b"right"), 5)
    with pytest.raises(Refused):
        ArchiveWriter(io.BytesIO()).copy(blob, io.BytesIO(b"wrong"), lambda _: None)
