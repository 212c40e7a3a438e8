"""What moves and what is asked by second copies, deltas and rotated keys: counted on the wire of real registries."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocisync.cli.app import run
from ocisync.oci.client import open_store
from ocisync.oci.store import Store
from ocisync.signing import bundle
from ocisync.signing.keys import Signer, generate
from tests.support.artifacts import artifact
from tests.support.closures import attach_bundle, everything, push_signed, sign_legacy
from tests.support.images import quick
from tests.support.registries import Registry
from tests.support.wiretap import Exchange, Wiretap

HEAVY = os.environ.get("OCISYNC_HEAVY") == "1"
ARTIFACTS = 100 if HEAVY else 4
COMMIT_FILES = 1_000  # of 600 bytes that do not compress: about half a megabyte, as a commit of a real repository has
# Questions for an artifact with two bundles, provenance and a legacy signature, of a copy that finds everything there.
# Source: the tag, the lists of four manifests (or one tag for each that has referrers), three of them, three signature
# tags. Destination: the tag, the lists of two manifests, the signature tag; by fallback tags three manifests more.
PER_ARTIFACT = {"distribution-to-olareg": 13, "olareg-to-distribution": 18}
ONCE = 12  # lists of tags, and finding out that there is no referrers API
DIRECTIONS = [("distribution", "olareg"), ("olareg", "distribution")]


@dataclass(frozen=True)
class Sides:
    """Repositories on two registries, each also behind a wiretap, and a file between them."""

    near: str
    far: str
    near_tap: Wiretap
    far_tap: Wiretap
    directory: Path
    name: str

    @property
    def tapped(self) -> tuple[str, str]:
        """Both, through the taps."""
        return tuple(  # type: ignore[return-value]
            f"{tap.host}/{place.partition('/')[2]}"
            for tap, place in ((self.near_tap, self.near), (self.far_tap, self.far))
        )

    def file(self, name: str) -> str:
        """A file of this test."""
        return str(self.directory / name)

    def asked(self) -> list[Exchange]:
        """Everything that was asked of both, which is then forgotten."""
        found = [*self.near_tap.exchanges, *self.far_tap.exchanges]
        self.near_tap.quiet()
        self.far_tap.quiet()
        return found


@pytest.fixture(scope="module")
def signer() -> Signer:
    return generate()


@pytest.fixture(params=DIRECTIONS, ids="-to-".join)
def sides(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sides]:
    near, far = (request.getfixturevalue(name) for name in request.param)
    assert isinstance(near, Registry) and isinstance(far, Registry)
    name = secrets.token_hex(5)
    with Wiretap(near.host) as near_tap, Wiretap(far.host) as far_tap:
        yield Sides(
            f"{near.host}/e{name}", f"{far.host}/e{name}", near_tap, far_tap, tmp_path, "-to-".join(request.param)
        )


def ran(*arguments: str, code: int = 0) -> None:
    assert run(["mirror", *arguments, "-q"]) == code, arguments


def commit(store: Store, signer: Signer, number: int) -> None:
    """A signed artifact of the size that a real repository has, under a version and a moving tag."""
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a{}}}\ndata: {{x: {}}}\n"
    texts = {f"app{at}.yaml": text.format(at, noise(number, at)) for at in range(COMMIT_FILES)}
    built = artifact(texts)
    store.put_blob(built.layer_descriptor, built.layer)
    store.put_blob(built.config_descriptor, built.config)
    subject = built.descriptor
    store.put_manifest(built.manifest, subject.media_type, subject.digest)
    attach_bundle(store, bundle.make(signer, subject.digest, {}), subject)
    for tag in (f"2.{number}.0", "production"):
        store.put_manifest(built.manifest, subject.media_type, tag)


def noise(number: int, at: int) -> str:
    """Text that does not compress to less than half."""
    return "".join(hashlib.sha256(f"{number}.{at}.{part}".encode()).hexdigest() for part in range(16))


def test_a_second_copy_only_asks_and_no_more_than_it_must(sides: Sides, signer: Signer) -> None:
    with open_store(sides.near, quick()) as store:
        for number in range(ARTIFACTS):
            push_signed(store, number, signer)
    near, far = sides.tapped
    ran("copy", near, far, "--tag", "*")
    sides.asked()
    ran("copy", near, far, "--tag", "*")
    asked = sides.asked()
    assert {one.method for one in asked} == {"GET", "HEAD"}
    assert not [one.target for one in asked if "/blobs/" in one.target]
    assert len(asked) <= PER_ARTIFACT[sides.name] * ARTIFACTS + ONCE, len(asked)


def test_after_one_commit_a_delta_and_a_copy_move_its_bytes_and_hardly_more(sides: Sides, signer: Signer) -> None:
    with open_store(sides.near, quick()) as store:
        commit(store, signer, 0)
        ran("save", sides.near, "--tag", "*", "-o", sides.file("full.tar"))
        ran("load", sides.file("full.tar"), sides.far, "--receipt", sides.file("receipt.json"))
        ran("copy", sides.near, f"{sides.far}-copied", "--tag", "*")
        before = everything(sides.near)
        commit(store, signer, 1)
        after = everything(sides.near)
        new = sum(len(raw) for digest, raw in after.manifests.items() if digest not in before.manifests)
        new += sum(size_of(raw) for digest, raw in after.manifests.items() if digest not in before.manifests)
    for base in ("receipt.json", "full.tar"):
        delta = sides.file("delta.tar")
        ran("save", sides.near, "--tag", "*", "-o", delta, "--since", sides.file(base))
        size = Path(delta).stat().st_size
        print(f"{sides.name}: {new} new bytes, a delta to {base} of {size}: {(size / new - 1) * 100:.2f} % more")
        assert new < size <= 1.05 * new
    sides.asked()
    ran("load", sides.file("delta.tar"), sides.tapped[1])
    loaded = sum(len(one.body) for one in sides.asked())
    ran("copy", sides.near, f"{sides.tapped[1]}-copied", "--tag", "*")
    copied = sum(len(one.body) for one in sides.asked())
    print(f"{sides.name}: a load sends {loaded}, a copy {copied}")
    # A tag is set by sending its manifest again, and lists of referrers are documents of their own.
    assert loaded <= 1.05 * new and copied <= 1.05 * new
    assert everything(sides.far) == after == everything(f"{sides.far}-copied")


def size_of(manifest: bytes) -> int:
    """The bytes of the blobs that nobody else has: not the empty config, which every signature shares."""
    document = json.loads(manifest)
    return sum(part["size"] for part in [document["config"], *document["layers"]] if part["size"] > 2)


def test_after_a_rotation_of_keys_only_signatures_move(sides: Sides, signer: Signer) -> None:
    with open_store(sides.near, quick()) as store:
        digests = [push_signed(store, number, signer) for number in range(ARTIFACTS)]
        ran("save", sides.near, "--tag", "*", "-o", sides.file("full.tar"))
        ran("load", sides.file("full.tar"), sides.far, "--receipt", sides.file("receipt.json"))
        before = everything(sides.near)
        rotated = generate()
        for digest in digests:
            subject = store.manifest(digest).descriptor
            attach_bundle(store, bundle.make(rotated, digest, {}), subject)
            sign_legacy(store, digest, rotated)
    new = everything(sides.near)
    ran("save", sides.near, "--tag", "*", "-o", sides.file("delta.tar"), "--since", sides.file("receipt.json"))
    sides.asked()
    ran("load", sides.file("delta.tar"), sides.tapped[1])
    put = [one for one in sides.asked() if one.method == "PUT"]
    manifests = {one.manifest for one in put if one.manifest}
    expected = {digest for digest in new.manifests if digest not in before.manifests}
    assert {name for name in manifests if name.startswith("sha256:")} <= expected
    assert {name for name in manifests if not name.startswith("sha256")} == set()  # no tag of anybody
    assert sum("/blobs/" in one.target for one in put) == len(new.blobs - before.blobs)
    assert everything(sides.far) == new


def test_a_delta_without_its_base_is_refused_before_anything_is_written(
    sides: Sides, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_store(sides.near, quick()) as store:
        digest = push_signed(store, 0, signer)
        ran("save", f"{sides.near}:1.0.0", "-o", sides.file("full.tar"))
        attach_bundle(store, bundle.make(generate(), digest, {}), store.manifest(digest).descriptor)
        ran("save", f"{sides.near}:1.0.0", "-o", sides.file("delta.tar"), "--since", sides.file("full.tar"))
    capsys.readouterr()
    ran("load", sides.file("delta.tar"), sides.tapped[1], code=4)
    told = capsys.readouterr().err
    assert f"is a delta, and {sides.tapped[1]} lacks manifest {digest}" in told
    assert "next:  load the file that it builds on first" in told
    assert not [one for one in sides.asked() if one.writes]


def test_a_load_judges_by_the_head_alone_before_its_first_write(
    sides: Sides, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file ends behind its head, and the refusal is still the policy's: nothing behind it was needed."""
    (sides.directory / "other.pub").write_text(generate().public.pem)
    (sides.directory / "release.pub").write_text(signer.public.pem)
    with open_store(sides.near, quick()) as store:
        commit(store, signer, 0)
    ran("save", f"{sides.near}:2.0.0", "-o", sides.file("full.tar"))
    whole = Path(sides.file("full.tar")).read_bytes()
    Path(sides.file("head.tar")).write_bytes(whole[:40_000])  # half a megabyte of layer is cut off
    capsys.readouterr()
    ran("load", sides.file("head.tar"), sides.tapped[1], "--key", sides.file("other.pub"), code=4)
    assert ":2.0.0 is refused" in capsys.readouterr().err
    assert not [one for one in sides.asked() if one.writes]
    ran("load", sides.file("head.tar"), sides.tapped[1], "--key", sides.file("release.pub"), code=4)
    assert "it is cut off" in capsys.readouterr().err
    assert not [one for one in sides.asked() if one.manifest and one.writes]
