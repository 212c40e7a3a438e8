"""Mirror files between registries: saved, judged, loaded, refused; nothing is lost, nothing half done."""

from __future__ import annotations

import io
import json
import os
import random
import secrets
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ocisync.cli.app import run
from ocisync.oci.client import open_store
from ocisync.signing.keys import Signer, dump_private, generate
from tests.support.closures import (
    attach_bundle,
    attach_other,
    everything,
    push_platforms,
    push_signed,
    sign_legacy,
)
from tests.support.cosign import Cosign
from tests.support.images import quick
from tests.support.ocitools import Oras, Skopeo
from tests.support.registries import Registry
from tests.support.wiretap import Wiretap

HEAVY = os.environ.get("OCISYNC_HEAVY") == "1"
ARTIFACTS, IMAGES = (100, 30) if HEAVY else (3, 2)
KILLS = 50 if HEAVY else 3
DIRECTIONS = [("distribution", "olareg"), ("olareg", "distribution")]


@dataclass(frozen=True)
class Sides:
    """Two registries that never see each other, a file between them, and keys."""

    near: str
    far: str
    images: str
    images_to: str
    file: Path
    directory: Path
    signer: Signer
    tap: Wiretap

    @property
    def through_tap(self) -> str:
        """The far repository, as it is reached through the wiretap."""
        return f"{self.tap.host}/{self.far.partition('/')[2]}"

    def fill(self, artifacts: int, images: int = 0) -> None:
        """Put signed artifacts, and images that they name, on the near side."""
        names = []
        for number in range(images):
            with open_store(f"{self.images}/i{number}", quick()) as store:
                push_platforms(store, f"image {number}", "2.0.0", self.signer)
            names.append(f"{self.images}/i{number}:2.0.0")
        with open_store(self.near, quick()) as store:
            for number in range(artifacts):
                wanted = (names[number % images],) if images else ()
                push_signed(store, number, self.signer, wanted, *(["production"] if number == artifacts - 1 else []))

    def key(self) -> str:
        """The public key file of the artifacts' signer."""
        return str(self.directory / "release.pub")

    def save(self, *arguments: str, code: int = 0) -> None:
        """Save the near side, all of it unless arguments say otherwise."""
        given = (
            arguments if any(one.startswith(self.near) for one in arguments) else (self.near, "--tag", "*", *arguments)
        )
        ran("save", *given, "-o", str(self.file), code=code)

    def load(self, *arguments: str, code: int = 0, to: str = "") -> None:
        """Load the file to the far side, judged by the artifacts' key."""
        ran("load", str(self.file), to or self.far, "--key", self.key(), "-q", *arguments, code=code)

    def loaded(self, capsys: pytest.CaptureFixture[str], *arguments: str, to: str = "") -> dict[str, Any]:
        """The same, and its JSON answer."""
        capsys.readouterr()
        self.load(*arguments, "-o", "json", to=to)
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer


def ran(*arguments: str, code: int = 0) -> None:
    assert run(["mirror", *arguments]) == code, arguments


@pytest.fixture(scope="module")
def signer() -> Signer:
    return generate()


def make_sides(near: Registry, far: Registry, directory: Path, signer: Signer, tap: Wiretap) -> Sides:
    name = secrets.token_hex(5)
    (directory / "release.pub").write_text(signer.public.pem)
    sender = generate()
    (directory / "sender.pub").write_text(sender.public.pem)
    (directory / "sender.key").write_bytes(dump_private(sender, password=None))
    return Sides(
        f"{near.host}/from/{name}", f"{far.host}/to/{name}", f"{near.host}/images/{name}", f"{far.host}/img-{name}",
        directory / "mirror.tar", directory, signer, tap,
    )  # fmt: skip


@pytest.fixture(params=DIRECTIONS, ids="-to-".join)
def sides(request: pytest.FixtureRequest, tmp_path: Path, signer: Signer) -> Iterator[Sides]:
    near, far = (request.getfixturevalue(name) for name in request.param)
    with Wiretap(far.host) as tap:
        yield make_sides(near, far, tmp_path, signer, tap)


@pytest.fixture
def local(sandbox_registry: Registry, tmp_path: Path, signer: Signer) -> Iterator[Sides]:
    """Both sides on the sandbox's registry: for what does not depend on the registry."""
    with Wiretap(sandbox_registry.host) as tap:
        yield make_sides(sandbox_registry, sandbox_registry, tmp_path, signer, tap)


def test_a_closure_crosses_in_a_file_whole(sides: Sides, capsys: pytest.CaptureFixture[str]) -> None:
    sides.fill(ARTIFACTS, IMAGES)
    sides.save("--images", "--sign-key", str(sides.directory / "sender.key"))
    flags = ("--images-to", sides.images_to, "--sender-key", str(sides.directory / "sender.pub"))
    answer = sides.loaded(capsys, *flags)
    assert answer["failed"] == [] and answer["refused"] == []
    assert (
        sum(one["judged"] for one in answer["judged"]) == ARTIFACTS + 1
    )  # and the moving tag; keys say nothing of images
    here, there = everything(sides.near), everything(sides.far)
    assert there == here
    assert len(here.manifests) == 5 * ARTIFACTS
    for number in range(IMAGES):
        path = sides.images.replace(":", "-")
        assert everything(f"{sides.images_to}/{path}/i{number}") == everything(f"{sides.images}/i{number}")
    again = sides.loaded(capsys, *flags)
    assert again["moved"] == dict.fromkeys(("blobs", "bytes", "linkedBlobs", "manifests", "signatureTags", "tags"), 0)


def test_cosign_verifies_what_a_file_brought(sides: Sides, cosign: Cosign) -> None:
    sides.fill(1)
    with open_store(sides.near, quick()) as store:
        found = store.resolve("1.0.0")
        assert found is not None
    key = cosign.generate_key_pair()
    cosign.sign(f"{sides.near}@{found.digest}", key)
    cosign.sign_legacy(f"{sides.near}@{found.digest}", key)
    sides.save()
    sides.load()
    assert found.digest in cosign.verify(f"{sides.far}@{found.digest}", key.public)


def test_a_delta_holds_what_is_new_and_needs_its_base(sides: Sides, capsys: pytest.CaptureFixture[str]) -> None:
    sides.fill(3)
    sides.save()
    full = sides.file.stat().st_size
    receipt = sides.directory / "receipt.json"
    sides.load("--receipt", str(receipt), "--sign-key", str(sides.directory / "sender.key"))
    with open_store(sides.near, quick()) as store:
        digest = push_signed(store, 7, sides.signer)
    since = ("--since", str(receipt), "--since-key", str(sides.directory / "sender.pub"))
    sides.save(*since)
    assert sides.file.stat().st_size < full
    sides.load("--receipt", str(receipt), code=4, to=f"{sides.far}-empty")
    assert "is a delta" in capsys.readouterr().err
    sides.load("--receipt", str(receipt))
    assert everything(sides.far) == everything(sides.near)
    assert digest in receipt_of(receipt)["repositories"][0]["manifests"]
    sides.save("--since", str(receipt))
    assert contents_of(sides.file)["repositories"][0]["manifests"] == []


def test_after_a_new_signature_only_the_signature_moves(sides: Sides, capsys: pytest.CaptureFixture[str]) -> None:
    sides.fill(1)
    sides.save()
    sides.load()
    first = sides.directory / "first.tar"
    sides.file.rename(first)
    with open_store(sides.near, quick()) as store:
        found = store.resolve("1.0.0")
        assert found is not None
        from ocisync.signing import bundle

        attach_bundle(store, bundle.make(generate(), found.digest, {}), found)
        sign_legacy(store, found.digest, generate())
    sides.save("--since", str(first))
    part = contents_of(sides.file)["repositories"][0]
    assert [item["role"] for item in part["manifests"]] == ["Referrer", "Referrer"]
    answer = sides.loaded(capsys)
    assert (answer["moved"]["manifests"], answer["moved"]["signatureTags"], answer["moved"]["tags"]) == (1, 1, 0)
    assert everything(sides.far) == everything(sides.near)


def test_what_the_policy_refuses_keeps_everything_out(sides: Sides, capsys: pytest.CaptureFixture[str]) -> None:
    sides.fill(2)
    with open_store(sides.near, quick()) as store:
        push_signed(store, 5, generate())
    sides.save()
    sides.load(code=4, to=sides.through_tap)
    shown = capsys.readouterr().err
    assert ":1.5.0 is refused" in shown
    assert not [one for one in sides.tap.exchanges if one.writes]
    sides.load("--partial", code=4)
    there = everything(sides.far)
    assert set(there.tags) & {"1.0.0", "1.1.0", "1.5.0", "production"} == {"1.0.0", "1.1.0", "production"}
    assert len(there.manifests) == 10


def test_nothing_is_named_before_all_that_belongs_to_it_is_there(sides: Sides) -> None:
    sides.fill(2)
    sides.save()
    sides.load(to=sides.through_tap)
    writes = [one for one in sides.tap.exchanges if one.writes and one.method == "PUT"]
    kinds = ["blob" if "/blobs/" in one.target else "tag" if is_tag(one.target) else "manifest" for one in writes]
    assert "blob" not in kinds[kinds.index("manifest") :]
    assert "manifest" not in kinds[kinds.index("tag") :]


def is_tag(target: str) -> bool:
    name = target.rpartition("/")[2]
    return not name.startswith("sha256")


# -- streams and other tools ----------------------------------------------------------------------


class Stream(io.RawIOBase):
    """A pipe: read once, in small pieces, never sought."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: Any) -> int:
        piece = self._data.read(min(len(buffer), 777))
        buffer[: len(piece)] = piece
        return len(piece)


class Stdio:
    """Standard input or output with bytes behind it."""

    closed = False

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        self.encoding = "utf-8"

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return None


def test_a_file_goes_through_pipes(local: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    local.fill(2)
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Stdio(out))
    ran("save", local.near, "--tag", "*", "-o", "-", "-q")
    monkeypatch.undo()
    monkeypatch.setattr(sys, "stdin", Stdio(Stream(out.getvalue())))
    ran("load", "-", local.far, "--key", local.key())
    assert everything(local.far) == everything(local.near)


def test_check_first_needs_a_file_that_can_be_read_twice(local: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    local.fill(1)
    local.save()
    local.load("--check-first")
    monkeypatch.setattr(sys, "stdin", Stdio(Stream(local.file.read_bytes())))
    ran("load", "-", f"{local.far}-other", "--check-first", code=2)


def test_skopeo_reads_images_of_the_file_and_oras_reads_referrers(
    local: Sides, skopeo: Skopeo, oras: Oras, tmp_path: Path
) -> None:
    local.fill(1, 1)
    local.save("--images")
    with open_store(local.near, quick()) as store:
        artifact = store.manifest("1.0.0")
    name = dashed(local.file, f"{local.near}:1.0.0")
    skopeo.copy(f"oci-archive:{local.file}:{name}", f"oci:{tmp_path / 'copied'}:x")
    assert skopeo.inspect(f"oci-archive:{local.file}:{name}", "--raw") == json.loads(artifact.raw)
    image = dashed(local.file, f"{local.images}/i0:2.0.0")
    skopeo.copy(f"oci-archive:{local.file}:{image}", f"oci:{tmp_path / 'image'}:x", "--all")
    listed = oras.json("discover", "--oci-layout", f"{local.file}:{name}", "--format", "json")
    assert len(listed["referrers"]) == 2
    oras.run("copy", "-r", "--from-oci-layout", "--to-plain-http", f"{local.file}:{name}", f"{local.far}:1.0.0")
    with open_store(local.far, quick()) as store:
        assert len(store.referrers(artifact.descriptor.digest).descriptors) == 2


def test_verify_reads_every_byte_and_judges_under_the_far_name(
    local: Sides, capsys: pytest.CaptureFixture[str]
) -> None:
    local.fill(2)
    local.save("--sign-key", str(local.directory / "sender.key"))
    ran("verify", str(local.file), "--key", local.key(), "--sender-key", str(local.directory / "sender.pub"))
    assert "complete by sha256:" in capsys.readouterr().out
    ran("verify", str(local.file), "--key", str(local.directory / "sender.pub"), "--at", local.far, code=4)
    assert f"{local.far}:" in capsys.readouterr().err
    ran("verify", str(local.file), "--sender-key", local.key(), code=4)
    data = bytearray(local.file.read_bytes())
    data[-3000] ^= 1
    local.file.write_bytes(data)
    ran("verify", str(local.file), code=4)


# -- killed, cut off, hostile ---------------------------------------------------------------------


def test_a_load_that_is_cut_off_anywhere_leaves_no_tag_and_ends_equal(local: Sides) -> None:
    local.fill(2)
    local.save()
    whole = local.file.read_bytes()
    rng = random.Random(7)
    for round_ in range(KILLS):
        local.file.write_bytes(whole[: rng.randrange(len(whole) - 1024)])
        local.load(code=4, to=f"{local.far}-{round_}")
        with open_store(f"{local.far}-{round_}", quick()) as store:
            assert store.resolve("1.0.0") is None and store.resolve("production") is None
        local.file.write_bytes(whole)
        local.load(to=f"{local.far}-{round_}")
        assert everything(f"{local.far}-{round_}") == everything(local.near)


def test_a_delta_can_be_looked_at_without_its_destination(local: Sides) -> None:
    local.fill(1)
    local.save()
    first = local.directory / "first.tar"
    local.file.rename(first)
    with open_store(local.near, quick()) as store:
        found = store.resolve("1.0.0")
        assert found is not None
        attach_other(store, b"later", found)
        push_signed(store, 3, local.signer)
    local.save("--since", str(first))
    ran("verify", str(local.file), "--key", local.key())


def test_a_file_is_loaded_into_a_layout(local: Sides, tmp_path: Path) -> None:
    local.fill(1)
    local.save()
    policy = "--key", local.key()
    ran("load", str(local.file), f"oci-layout:{tmp_path / 'there.tar'}", "--as", local.near, *policy, "-q")
    assert run(["verify", f"oci-layout:{tmp_path / 'there.tar'}:1.0.0", "--as", local.near, *policy]) == 0


def members(file: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(file) as archive:
        found = []
        for info in archive:
            opened = archive.extractfile(info)
            found.append((info, opened.read() if opened else b""))
        return found


def rewrite(file: Path, parts: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as archive:
        for info, data in parts:
            archive.addfile(info, io.BytesIO(data))


def renamed(info: tarfile.TarInfo, **changes: Any) -> tarfile.TarInfo:
    fresh = tarfile.TarInfo(changes.pop("name", info.name))
    fresh.size, fresh.mode = info.size, 0o644
    for name, value in changes.items():
        setattr(fresh, name, value)
    return fresh


Parts = list[tuple[tarfile.TarInfo, bytes]]


def _link(parts: Parts) -> Parts:
    info, _ = parts[-1]
    return [*parts[:-1], (renamed(info, type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0), b"")]


def _climbing(parts: Parts) -> Parts:
    return [*parts, (renamed(parts[-1][0], name="../../outside"), parts[-1][1])]


def _twice(parts: Parts) -> Parts:
    return [*parts, parts[-1]]


def _other_content(parts: Parts) -> Parts:
    info, data = parts[-1]
    return [*parts[:-1], (info, bytes(len(data)))]


def _out_of_order(parts: Parts) -> Parts:
    return [*parts[:-2], parts[-1], parts[-2]]


def _missing(parts: Parts) -> Parts:
    return parts[:-1]


def _larger(parts: Parts) -> Parts:
    info, data = parts[-1]
    return [*parts[:-1], (renamed(info, size=len(data) + 1), data + b"x")]


def _huge_index(parts: Parts) -> Parts:
    data = b'{"manifests":[' + b" " * (9 * 1024 * 1024) + b"]}"
    return [parts[0], (renamed(parts[1][0], size=len(data)), data), *parts[2:]]


def _other_index(parts: Parts) -> Parts:
    data = parts[1][1].replace(b'"manifests":[', b'"manifests":[ ')
    return [parts[0], (renamed(parts[1][0], size=len(data)), data), *parts[2:]]


def _hard_link(parts: Parts) -> Parts:
    info, _ = parts[-1]
    return [*parts[:-1], (renamed(info, type=tarfile.LNKTYPE, linkname=parts[0][0].name, size=0), b"")]


def _device(parts: Parts) -> Parts:
    return [*parts[:-1], (renamed(parts[-1][0], type=tarfile.CHRTYPE, size=0), b"")]


def _absolute(parts: Parts) -> Parts:
    return [*parts[:-1], (renamed(parts[-1][0], name="/" + parts[-1][0].name), parts[-1][1])]


def _huge_contents(parts: Parts) -> Parts:
    return [*parts[:2], (renamed(parts[2][0], size=13 * 1024 * 1024), bytes(13 * 1024 * 1024)), *parts[3:]]


def _nested_contents(parts: Parts) -> Parts:
    data = b'{"payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    return [*parts[:2], (renamed(parts[2][0], size=len(data)), data), *parts[3:]]


def _two_readings(parts: Parts) -> Parts:
    data = parts[2][1].replace(b'{"payloadType"', b'{"payload":"e30=","payloadType"', 1)
    return [*parts[:2], (renamed(parts[2][0], size=len(data)), data), *parts[3:]]


@pytest.mark.parametrize(
    "attack",
    [
        _link,
        _hard_link,
        _device,
        _climbing,
        _absolute,
        _twice,
        _other_content,
        _out_of_order,
        _missing,
        _larger,
        _huge_index,
        _other_index,
        _huge_contents,
        _nested_contents,
        _two_readings,
    ],
    ids=lambda one: one.__name__.strip("_"),
)
def test_a_hostile_file_imports_nothing(
    attack: Callable[[Parts], Parts], local: Sides, capsys: pytest.CaptureFixture[str]
) -> None:
    local.fill(1)
    local.save()
    rewrite(local.file, attack(members(local.file)))
    ran("verify", str(local.file), "-q", code=4)
    local.load(code=4)
    assert "mirror.tar" in capsys.readouterr().err
    with open_store(local.far, quick()) as store:
        assert store.resolve("1.0.0") is None
    assert not (local.directory.parent / "outside").exists()


def test_a_member_that_claims_to_be_huge_is_refused_before_it_is_read(local: Sides) -> None:
    """A terabyte in a header costs nothing to write; nobody waits for it, or makes room."""
    local.fill(1)
    local.save()
    data = bytearray(local.file.read_bytes())
    with tarfile.open(local.file) as archive:
        last = archive.getmembers()[-1]
    info = renamed(last)
    info.size = 2**40
    data[last.offset : last.offset + 512] = info.tobuf(tarfile.GNU_FORMAT)[:512]
    local.file.write_bytes(data)
    ran("verify", str(local.file), "-q", code=4)
    local.load(code=4)


def test_what_is_no_mirror_file_is_said_so(local: Sides, capsys: pytest.CaptureFixture[str]) -> None:
    import gzip

    local.fill(1)
    local.save()
    good = local.file.read_bytes()
    for data, said in ((b"", "cut off"), (b"no tar at all" * 100, "no tar file"), (gzip.compress(good), "gunzip")):
        local.file.write_bytes(data)
        local.load(code=4)
        assert said in capsys.readouterr().err


# -- looking into files ---------------------------------------------------------------------------


def payload_of(raw: bytes) -> dict[str, Any]:
    import base64

    found: dict[str, Any] = json.loads(base64.b64decode(json.loads(raw)["payload"]))
    return found


def receipt_of(path: Path) -> dict[str, Any]:
    return payload_of(path.read_bytes())


def contents_of(file: Path) -> dict[str, Any]:
    return payload_of(next(data for info, data in members(file) if info.name == "contents.json"))


def dashed(file: Path, full: str) -> str:
    index = json.loads(next(data for info, data in members(file) if info.name == "index.json"))
    names = {
        entry["annotations"]["io.containerd.image.name"]: entry["annotations"]["org.opencontainers.image.ref.name"]
        for entry in index["manifests"]
        if "annotations" in entry
    }
    assert len(set(names.values())) == len(names)
    return str(names[full])
