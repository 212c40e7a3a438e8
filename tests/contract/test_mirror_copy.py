"""`mirror copy` between registries in every direction: nothing is lost or changed, and nothing moves twice."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocisync.cli.app import run
from ocisync.model.ref import LayoutReference, legacy_signature_tag
from ocisync.oci.client import open_store
from ocisync.oci.layout import open_layout
from ocisync.signing.keys import Signer, generate
from tests.support.closures import attach_other, everything, push_platforms, push_signed, sign_legacy
from tests.support.cosign import Cosign
from tests.support.images import quick
from tests.support.registries import Registry
from tests.support.wiretap import Wiretap

HEAVY = os.environ.get("OCISYNC_HEAVY") == "1"
ARTIFACTS, IMAGES = (100, 30) if HEAVY else (10, 3)
DIRECTIONS = [
    ("sandbox_registry", "distribution"),
    ("distribution", "olareg"),
    ("olareg", "distribution"),
    ("olareg", "sandbox_registry"),
]


class Pair:
    """Two registries, a repository on each, and a wiretap before the second."""

    def __init__(self, source: Registry, destination: Registry, tap: Wiretap) -> None:
        name = secrets.token_hex(5)
        self.source_registry = source
        self.source = f"{source.host}/from/{name}"
        self.images = f"{source.host}/images/{name}"
        self.tap = tap
        self.direct = f"{destination.host}/to/{name}"
        self.destination = f"{tap.host}/to/{name}"
        self.images_to = f"{tap.host}/img-{name}"
        self.images_direct = f"{destination.host}/img-{name}"

    def copied_image(self, name: str) -> str:
        """Where an image is after a copy."""
        return f"{self.images_direct}/{self.images.replace(':', '-')}/{name}"


@pytest.fixture(params=DIRECTIONS[1:3], ids="-to-".join)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    source, destination = (request.getfixturevalue(name) for name in request.param)
    with Wiretap(destination.host) as tap:
        yield Pair(source, destination, tap)


@pytest.fixture(scope="module")
def signer() -> Signer:
    return generate()


def mirrored(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, object]:
    """Run a mirror command; its JSON answer."""
    capsys.readouterr()
    ended = run(["mirror", *arguments, "-o", "json", "-q"])
    out, err = capsys.readouterr()
    assert ended == code, err
    answer: dict[str, object] = json.loads(out) if out else {"error": err}
    return answer


def fill(pair: Pair, signer: Signer, artifacts: int, images: int) -> None:
    """Artifacts that name images, all of them signed."""
    names = []
    for number in range(images):
        with open_store(f"{pair.images}/i{number}", quick()) as store:
            push_platforms(store, f"image {number}", "2.0.0", signer)
        names.append(f"{pair.images}/i{number}:2.0.0")
    with open_store(pair.source, quick()) as store:
        for number in range(artifacts):
            wanted = tuple(names[at] for at in {number % images, (number * 7 + 1) % images}) if names else ()
            push_signed(store, number, signer, wanted, *(["production"] if number == artifacts - 1 else []))


@pytest.mark.parametrize("pair", DIRECTIONS, ids="-to-".join, indirect=True)
def test_a_closure_arrives_whole_and_a_second_copy_writes_nothing(
    pair: Pair, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(pair, signer, ARTIFACTS, IMAGES)
    arguments = ("copy", pair.source, pair.destination, "--tag", "*", "--images", "--images-to", pair.images_to)
    answer = mirrored(capsys, *arguments)
    assert answer["failed"] == []
    here, there = everything(pair.source), everything(pair.direct)
    assert there == here
    assert len(here.tags) == 2 * ARTIFACTS + 1  # versions with their signature tags, and one moving tag
    assert len(here.manifests) == 5 * ARTIFACTS
    for number in range(IMAGES):
        assert everything(pair.copied_image(f"i{number}")) == everything(f"{pair.images}/i{number}")

    pair.tap.quiet()
    again = mirrored(capsys, *arguments)
    assert not [one for one in pair.tap.exchanges if one.writes]
    assert not [one for one in pair.tap.exchanges if "/blobs/" in one.target]
    assert again["moved"] == dict.fromkeys(("blobs", "bytes", "linkedBlobs", "manifests", "signatureTags", "tags"), 0)


def test_a_plan_says_what_a_copy_then_does(pair: Pair, signer: Signer, capsys: pytest.CaptureFixture[str]) -> None:
    fill(pair, signer, 2, 1)
    arguments = (pair.source, pair.destination, "--newest", "2", "--images", "--images-to", pair.images_to)
    plan = mirrored(capsys, "plan", *arguments)
    assert not [one for one in pair.tap.exchanges if one.writes]
    copied = mirrored(capsys, "copy", *arguments)
    moved = copied["moved"]
    assert isinstance(moved, dict)
    assert plan["changes"] is True
    assert moved["bytes"] <= plan["bytesToMove"]  # what is linked is not moved
    after = mirrored(capsys, "plan", *arguments)
    assert (after["changes"], after["bytesToMove"]) == (False, 0)


def test_new_signatures_of_old_digests_are_all_that_moves(
    pair: Pair, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_store(pair.source, quick()) as store:
        digest = push_signed(store, 1, signer)
        mirrored(capsys, "copy", f"{pair.source}:1.1.0", pair.destination)
        sign_legacy(store, digest, generate())
        attach_other(store, b"found later", store.manifest(digest).descriptor)
    pair.tap.quiet()
    mirrored(capsys, "copy", f"{pair.source}:1.1.0", pair.destination)
    assert everything(pair.direct) == everything(pair.source)
    written = [one for one in pair.tap.exchanges if one.method == "PUT" and one.manifest]
    assert all(one.manifest.startswith("sha256") for one in written), written


def test_signatures_of_the_far_side_stay(pair: Pair, signer: Signer, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(pair.source, quick()) as here, open_store(pair.direct, quick()) as there:
        digest = push_signed(here, 1, signer)
        mirrored(capsys, "copy", f"{pair.source}:1.1.0", pair.destination)
        sign_legacy(there, digest, generate())
        sign_legacy(here, digest, generate())
        mirrored(capsys, "copy", f"{pair.source}:1.1.0", pair.destination)
        layers = json.loads(there.manifest(legacy_signature_tag(digest)).raw)["layers"]
        assert len(layers) == 3
        again = mirrored(capsys, "plan", f"{pair.source}:1.1.0", pair.destination)
    assert again["changes"] is False


def test_a_version_with_other_content_is_refused_before_anything_is_written(
    pair: Pair, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_store(pair.source, quick()) as here, open_store(pair.direct, quick()) as there:
        digest = push_signed(here, 1, signer)
        push_signed(there, 2, signer, (), "1.1.0")
    refused = mirrored(capsys, "copy", f"{pair.source}:1.1.0", pair.destination, code=4)
    assert "never moves" in str(refused["error"])
    assert not [one for one in pair.tap.exchanges if one.writes]
    mirrored(capsys, "copy", f"{pair.source}:1.1.0", pair.destination, "--force-tag")
    assert everything(pair.direct).tags["1.1.0"] == digest


def test_what_no_key_signed_is_refused_before_anything_is_written(
    pair: Pair, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ours.pub").write_text(signer.public.pem)
    (tmp_path / "other.pub").write_text(generate().public.pem)
    with open_store(pair.source, quick()) as store:
        push_signed(store, 1, signer)
    arguments = ("copy", f"{pair.source}:1.1.0", pair.destination, "--key")
    refused = mirrored(capsys, *arguments, str(tmp_path / "other.pub"), code=4)
    assert f"{pair.source}:1.1.0" in str(refused["error"])
    assert not [one for one in pair.tap.exchanges if one.writes]
    mirrored(capsys, *arguments, str(tmp_path / "ours.pub"))


def test_cosign_verifies_on_the_far_side(pair: Pair, cosign: Cosign, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(pair.source, quick()) as store:
        digest = push_signed(store, 1, generate())
    key = cosign.generate_key_pair()
    cosign.sign(f"{pair.source}@{digest}", key)
    mirrored(capsys, "copy", f"{pair.source}:1.1.0", pair.destination)
    assert digest in cosign.verify(f"{pair.direct}@{digest}", key.public)


def test_a_layout_carries_a_closure_between_registries(
    pair: Pair, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_store(pair.source, quick()) as store:
        for number in range(3):
            push_signed(store, number, signer)
    layout = f"oci-layout:{tmp_path / 'shop.tar'}"
    mirrored(capsys, "copy", pair.source, layout, "--semver", ">=1.0.0")
    with open_layout(LayoutReference(str(tmp_path / "shop.tar"))) as carried:
        assert {"1.0.0", "1.1.0", "1.2.0"} < set(carried.tags())
    mirrored(capsys, "copy", layout, pair.destination, "--semver", ">=1.0.0")
    assert everything(pair.direct) == everything(pair.source)
