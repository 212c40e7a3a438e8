"""The pure parts of a mirror: selection, tags that move or not, signature lists brought together, names."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.manifests.lock import locked_images
from ocisync.mirror.beside import union
from ocisync.mirror.closure import Named, Role, read_item
from ocisync.mirror.images import moved
from ocisync.mirror.plan import TagAction, decide_tag
from ocisync.mirror.routing import artifact_routes, image_name, images_prefix, place_below
from ocisync.mirror.select import Selection, names_of
from ocisync.model.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import Finding, Refused, UsageError
from ocisync.model.ref import parse_place, parse_reference
from ocisync.model.semver import parse_range
from ocisync.model.tree import TreeFile
from ocisync.oci.store import Manifest
from tests.support.images import described, image, index

TAGS = ["1.0.0", "1.1.0", "2.0.0-rc.1", "2.0.0", "production", "v1.5.0", "sha-0123456789ab", "sha256-" + "0" * 64]


def manifest(raw: bytes, media_type: str = OCI_MANIFEST) -> Manifest:
    return Manifest(Descriptor(media_type, sha256_digest(raw), len(raw)), raw)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(newest=2), ["2.0.0", "2.0.0-rc.1"]),
        (Selection(within=parse_range(">=1.0.0 <2.0.0")), ["v1.5.0", "1.1.0", "1.0.0"]),
        (Selection(within=parse_range("^1"), newest=1), ["v1.5.0"]),
        (Selection(patterns=("prod*", "v*")), ["v1.5.0", "production"]),
        (Selection(patterns=("1.*",), within=parse_range(">=1.1.0")), ["1.1.0"]),
        (Selection(patterns=("*",), newest=100), ["2.0.0", "2.0.0-rc.1", "v1.5.0", "1.1.0", "1.0.0", "production",
                                                   "sha-0123456789ab"]),
    ],
)  # fmt: skip
def test_ranges_patterns_and_numbers_select_tags_but_never_those_of_digests(
    selection: Selection, expected: list[str]
) -> None:
    assert names_of(TAGS, selection) == expected


@pytest.mark.parametrize(
    ("name", "current", "force", "soft", "expected"),
    [
        ("1.0.0", "", False, False, TagAction.SET),
        ("1.0.0", "ours", False, False, TagAction.THERE),
        ("1.0.0", "other", False, False, TagAction.REFUSED),
        ("1.0.0", "other", True, False, TagAction.MOVE),
        ("1.0.0", "other", False, True, TagAction.KEPT),
        ("sha-0123456789ab", "other", False, False, TagAction.REFUSED),
        ("production", "other", False, False, TagAction.MOVE),
    ],
)
def test_versions_and_commits_never_move_without_force(
    name: str, current: str, force: bool, soft: bool, expected: TagAction
) -> None:
    assert decide_tag(Named(name, "ours", soft), current, force=force) is expected


def signatures(*numbers: int) -> Manifest:
    return manifest(image(*(described(f"signature {number}".encode()) for number in numbers)))


_numbers = st.lists(st.integers(0, 6), unique=True, max_size=7)


@given(_numbers, _numbers)
def test_the_union_of_signature_lists_has_all_of_both_and_needs_no_second_union(
    ours: list[int], theirs: list[int]
) -> None:
    here, there = signatures(*ours), signatures(*theirs)
    found = union(here, there)
    if found is None:
        assert set(ours) <= set(theirs)
        return
    layers = [layer["digest"] for layer in json.loads(found.raw)["layers"]]
    assert set(layers) == {sha256_digest(f"signature {number}".encode()) for number in (*ours, *theirs)}
    assert len(layers) == len(set(layers))
    assert (found.raw == here.raw) == (set(theirs) <= set(ours))
    merged = manifest(found.raw)
    assert union(here, merged) is None
    assert union(there, merged) is None
    if found.config:
        assert json.loads(found.raw)["config"]["digest"] == sha256_digest(found.config)


@pytest.mark.parametrize("raw", [b"{}", b'{"layers": {}}', b'{"layers": [{}]}', b'{"layers": ["x"]}'])
def test_a_signature_tag_that_is_no_list_is_left_alone(raw: bytes) -> None:
    with pytest.raises(Refused):
        union(signatures(1), manifest(raw))
    with pytest.raises(Refused):
        union(signatures(1), manifest(signatures(2).raw, OCI_INDEX))


def test_an_item_names_its_parts_blobs_and_subject_once() -> None:
    one, two = described(b"one"), described(b"two")
    subject = described(b"subject", OCI_MANIFEST)
    item = read_item(manifest(image(one, two, one, subject=subject)), Role.ARTIFACT)
    assert [blob.digest for blob in item.blobs][1:] == [one.digest, two.digest]
    assert item.subject == subject.digest
    listed = read_item(manifest(index(one.as_dict(), one.as_dict()), OCI_INDEX), Role.IMAGE)
    assert (listed.parts, listed.blobs) == ((one.digest,), ())


def test_foreign_layers_need_not_be_there_but_others_with_addresses_do() -> None:
    foreign = {**described(b"one").as_dict(), "urls": ["https://elsewhere.example"]}
    windows = {**foreign, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}
    document = json.loads(image())
    item = read_item(manifest(json.dumps({**document, "layers": [foreign, windows]}).encode()), Role.IMAGE)
    assert [blob.digest for blob in item.blobs][1:] == [described(b"one").digest]


@pytest.mark.parametrize(
    "layers", [[1], ["x"], [{"digest": "sha512:00"}], [{"mediaType": "a", "digest": "x", "size": 1}]]
)
def test_what_cannot_be_mirrored_whole_is_refused(layers: list[object]) -> None:
    with pytest.raises(Refused):
        read_item(manifest(json.dumps({**json.loads(image()), "layers": layers}).encode()), Role.ARTIFACT)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docker.io/library/nginx", "docker.io/library/nginx"),
        ("localhost:5000/a", "localhost-5000/a"),
        ("[::1]:5000/a/b", "1-5000/a/b"),
        ("REG.example/a", "reg.example/a"),
    ],
)
def test_an_image_is_called_by_its_host_and_path(name: str, expected: str) -> None:
    assert image_name(name) == expected
    assert place_below("mirror.site.local:5000/x", expected).location == f"mirror.site.local:5000/x/{expected}"


def test_prefixes_are_exchanged_on_whole_segments_and_the_longest_wins() -> None:
    moves = [("docker.io", "a.example/hub"), ("docker.io/library", "b.example/lib"), ("docker.io/lib", "c.example/x")]
    assert moved("docker.io/library/nginx", moves).location == "b.example/lib/nginx"
    assert moved("docker.io/libra/nginx", moves).location == "a.example/hub/libra/nginx"
    assert moved("quay.io/x", moves).location == "quay.io/x"


def test_one_source_becomes_the_destination_and_several_go_below_it() -> None:
    one, two = parse_reference("a.example/shop"), parse_reference("b.example/x/other")
    routes, tag = artifact_routes([one], "oci://m.example/y:1.0.0")
    assert (routes[one.location].location, tag) == ("m.example/y", "1.0.0")
    routes, _ = artifact_routes([one, two], "oci://m.example")
    assert [place.location for place in routes.values()] == ["m.example/shop", "m.example/x/other"]
    with pytest.raises(UsageError):
        artifact_routes([one, two], "m.example/y:1.0.0")
    with pytest.raises(UsageError):
        artifact_routes([one, parse_place("oci-layout:x")], "m.example")
    with pytest.raises(UsageError):
        artifact_routes([one], "m.example/y@sha256:" + "0" * 64)


def test_images_go_to_the_destinations_host_unless_told_otherwise() -> None:
    assert images_prefix("oci://m.example:5000/shop:1.0.0", "") == "m.example:5000"
    assert images_prefix("oci-layout:x", "oci://m.example/i") == "m.example/i"
    with pytest.raises(UsageError):
        images_prefix("oci-layout:x", "")


def test_a_lock_names_images_by_digest_or_is_a_finding() -> None:
    digest = "sha256:" + "1" * 64
    good = f"kind: ImagesLock\nimages:\n- {{image: index.docker.io/library/nginx@{digest}}}\n"
    findings: list[Finding] = []
    [(text, found)] = locked_images(TreeFile("l", good.encode()), findings).items()
    assert text == str(found) == f"docker.io/library/nginx@{digest}"
    assert not findings
    stands_for = good.replace("}}", "}").rstrip("}\n") + ", annotations: {kbld.carvel.dev/id: 'nginx:1'}}\n"
    assert list(locked_images(TreeFile("l", stands_for.encode()), findings)) == ["nginx:1"]
    assert not findings
    for bad in ("kind: Other", "kind: ImagesLock\nimages: [{image: 'a.example/b:1'}]", "kind: ImagesLock\nimages: x"):
        findings.clear()
        locked_images(TreeFile("l", bad.encode()), findings)
        assert findings
