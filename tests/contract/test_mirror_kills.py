"""Copies, saves and loads that end at any byte, for real: nothing is named too early, and the next run finishes them.

`OCISYNC_HEAVY=1` takes 50 moments of each command in each direction; the usual run takes a few of the same. A moment is
its seed: `OCISYNC_KILL_SEED=COMMAND:DIRECTION:NUMBER` runs one alone.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ocisync.cli.app import run
from ocisync.oci.client import open_store
from ocisync.signing.keys import Signer, generate
from tests.support.closures import Everything, everything, push_platforms, push_signed
from tests.support.images import push_image, quick
from tests.support.killing import Tripwire, tripped
from tests.support.pushes import FILE_BYTES, FILE_BYTES_KILL, FILE_USE, Ended, PushServer
from tests.support.registries import Registry
from tests.support.verifying import tagged, verified

HEAVY = os.environ.get("OCISYNC_HEAVY") == "1"
ALONE = os.environ.get("OCISYNC_KILL_SEED", "")
KILLS = 50 if HEAVY else 1
DIRECTIONS = [("distribution", "olareg"), ("olareg", "distribution")]
TAGS = ("1.0.0", "1.1.0", "production")
KILLED = (-9, -25)  # by us; by the kernel at a byte of a file
FILE_USES = 5  # of a save: its new file twice, the rename, the directory, the rest of an earlier run


@dataclass(frozen=True)
class Sides:
    """A near side with signed artifacts that name an image, and how both sides are reached."""

    near: str
    far: str
    image: str
    signer: Signer
    wanted: Everything
    wanted_image: Everything
    server: PushServer
    directory: Path
    seed: str
    killed: list[str] = field(default_factory=list)

    def moments(self, command: str) -> Iterator[tuple[int, random.Random]]:
        """Numbers and the chance that belongs to each."""
        for number in range(KILLS):
            name = f"{command}:{self.seed}:{number}"
            if ALONE in ("", name):
                yield number, random.Random(name)
        assert self.killed or not HEAVY or ALONE
        print(f"{command} {self.seed}: {len(self.killed)} of {KILLS} runs were killed")

    def images_at(self, prefix: str) -> str:
        """Where the image is below a prefix."""
        return f"{prefix}/{self.image.replace(':', '-')}"

    def start(
        self, name: str, arguments: Callable[[str, str], list[str]], wire: Tripwire, environ: Mapping[str, str] = {}
    ) -> Ended:
        """Run a command with both registries behind a wire; `arguments` takes their addresses."""
        with ExitStack() as stack:
            near, far = (stack.enter_context(tripped(one.partition("/")[0], wire)) for one in (self.near, self.far))
            push = self.server.start(arguments(near, far), self.directory / name, environ)
            wire.arm(push.kill)
            ended = push.wait()
        if ended.exit_code in KILLED:
            self.killed.append(name)
        return ended

    def check_no_tag_too_early(self, repository: str, images: str) -> None:
        """Whatever is tagged has its referrers, its signatures and its image."""
        for tag in TAGS:
            if digest := tagged(repository, tag):
                verified(repository, tag, self.signer.public)
                with open_store(repository, quick()) as store:
                    found = {item.digest for item in store.referrers(digest).descriptors}
                assert found == self.wanted.referrers[digest]
                assert everything(images).manifests.keys() >= self.wanted_image.manifests.keys()
        if tagged(images, "2.0.0"):
            assert everything(images) == self.wanted_image

    def check_equal(self, repository: str, images: str) -> None:
        """Both sides hold the same."""
        assert everything(repository) == self.wanted
        assert everything(images) == self.wanted_image


@pytest.fixture(scope="module")
def signer() -> Signer:
    return generate()


@pytest.fixture(scope="module")
def server() -> Iterator[PushServer]:
    with PushServer() as started:
        yield started


@pytest.fixture(params=DIRECTIONS, ids="-to-".join)
def sides(request: pytest.FixtureRequest, signer: Signer, server: PushServer, tmp_path: Path) -> Sides:
    near, far = (request.getfixturevalue(name) for name in request.param)
    assert isinstance(near, Registry) and isinstance(far, Registry)
    name = secrets.token_hex(4)
    image, repository = f"{near.host}/i{name}/web", f"{near.host}/k{name}"
    with open_store(image, quick()) as store:
        push_platforms(store, "web", "2.0.0", signer)
    with open_store(repository, quick()) as store:
        push_image(store, "9.0.0", random.Random(3).randbytes(300_000))  # some bytes to be killed in
        store.put_manifest(store.manifest("9.0.0").raw, store.manifest("9.0.0").descriptor.media_type, "9.0.0")
        for number in range(2):
            push_signed(store, number, signer, (f"{image}:2.0.0",), *(["production"] if number else []))
    (tmp_path / "release.pub").write_text(signer.public.pem)
    return Sides(
        repository, f"{far.host}/f{name}", image, signer, everything(repository), everything(image), server, tmp_path,
        "-to-".join(request.param),
    )  # fmt: skip


def behind(address: str, repository: str) -> str:
    """A repository, reached through another address."""
    return f"{address}/{repository.partition('/')[2]}"


@pytest.mark.timeout(3600)
def test_a_copy_that_is_killed_at_any_byte_names_nothing_too_early_and_is_finished_by_the_next(sides: Sides) -> None:
    def copying(place: str, *, through: bool = True) -> Callable[[str, str], list[str]]:
        def arguments(near: str, far: str) -> list[str]:
            source = behind(near, sides.near) if through else sides.near
            to = far if through else sides.far.partition("/")[0]
            own = f"{sides.image.partition('/')[0]}={near}" if through else ""
            return [
                "mirror", "copy", source, f"{to}/{place}", "--tag", "*", "--images", "--images-to", f"{to}/{place}-i",
                *(["--images-from", own] if own else []),
            ]  # fmt: skip

        return arguments

    name = sides.far.partition("/")[2]
    whole = Tripwire()
    assert sides.start("all", copying(f"{name}-all"), whole).exit_code == 0
    for number, chance in sides.moments("copy"):
        place = f"{name}-{number}"
        there = behind(sides.far.partition("/")[0], f"/{place}")
        ended = sides.start(f"kill{number}", copying(place), Tripwire(chance.randrange(whole.count)))
        assert ended.exit_code in (*KILLED, 0), ended.err
        images = sides.images_at(f"{there}-i")
        sides.check_no_tag_too_early(there, images)
        again = sides.server.run(copying(place, through=False)("", ""), sides.directory / f"again{number}")
        assert again.exit_code == 0, again.err
        sides.check_equal(there, images)


@pytest.mark.timeout(3600)
def test_a_save_that_is_killed_at_any_byte_leaves_no_file_and_the_next_ends_whole(sides: Sides) -> None:
    file = sides.directory / "mirror.tar"

    def saving(near: str, _far: str) -> list[str]:
        return [
            "mirror", "save", behind(near, sides.near), "--tag", "*", "-o", str(file), "--images",
            "--images-from", f"{sides.image.partition('/')[0]}={near}",
        ]  # fmt: skip

    whole = Tripwire()
    assert sides.start("all", saving, whole).exit_code == 0
    size, blobs = file.stat().st_size, blobs_of(file)
    for number, chance in sides.moments("save"):
        file.unlink(missing_ok=True)
        kind = chance.randrange(3)
        limit = chance.randrange(whole.count) if kind == 0 else None
        environ = {}
        if kind == 1:
            environ = {FILE_BYTES: str(chance.randrange(5_000, size)), FILE_BYTES_KILL: "1"}
        elif kind == 2:
            environ = {FILE_USE: f"{chance.randrange(FILE_USES)}:{file}"}
        ended = sides.start(f"kill{number}", saving, Tripwire(limit), environ)
        assert ended.exit_code in (*KILLED, 0), ended.err
        if file.exists():  # it was killed after the rename
            assert run(["mirror", "verify", str(file), "-q"]) == 0
            assert blobs_of(file) == blobs
        direct = sides.near.partition("/")[0]
        again = sides.server.run(saving(direct, ""), sides.directory / f"again{number}")
        assert again.exit_code == 0, again.err
        assert run(["mirror", "verify", str(file), "-q"]) == 0
        assert blobs_of(file) == blobs
        assert [path.name for path in sides.directory.glob("mirror.tar*")] == ["mirror.tar"]


@pytest.mark.timeout(3600)
def test_a_load_that_is_killed_at_any_byte_names_nothing_too_early_and_is_finished_by_the_next(sides: Sides) -> None:
    file = sides.directory / "mirror.tar"
    saved = ["mirror", "save", sides.near, "--tag", "*", "--images", "-o", str(file)]
    assert sides.server.run(saved, sides.directory / "saved").exit_code == 0

    def loading(place: str) -> Callable[[str, str], list[str]]:
        def arguments(_near: str, far: str) -> list[str]:
            return ["mirror", "load", str(file), f"{far}/{place}", "--images-to", f"{far}/{place}-i"]

        return arguments

    name, host = sides.far.partition("/")[2], sides.far.partition("/")[0]
    whole = Tripwire()
    assert sides.start("all", loading(f"{name}-all"), whole).exit_code == 0
    for number, chance in sides.moments("load"):
        place = f"{name}-{number}"
        ended = sides.start(f"kill{number}", loading(place), Tripwire(chance.randrange(whole.count)))
        assert ended.exit_code in (*KILLED, 0), ended.err
        there, images = f"{host}/{place}", sides.images_at(f"{host}/{place}-i")
        sides.check_no_tag_too_early(there, images)
        again = sides.server.run(loading(place)("", host), sides.directory / f"again{number}")
        assert again.exit_code == 0, again.err
        sides.check_equal(there, images)


def blobs_of(file: Path) -> frozenset[tuple[str, int]]:
    """What a file holds beside its lists, which have a date."""
    import tarfile

    with tarfile.open(file) as archive:
        return frozenset((info.name, info.size) for info in archive if info.name.startswith("blobs/"))
