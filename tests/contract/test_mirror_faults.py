"""What can go wrong around a mirror: a clear error with its exit code, nothing named, and the next run completes.

Registries that fail, fill up, forbid or forget; disks that are full; networks that break again and again.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocisync.cli.app import run
from ocisync.oci.client import open_store
from ocisync.sandbox import faults
from ocisync.sandbox.registry import Registry as Sandbox
from ocisync.signing.keys import Signer, generate
from tests.support import requirements
from tests.support.closures import everything, push_signed
from tests.support.flapping import flapping
from tests.support.images import quick
from tests.support.pushes import FILE_BYTES, PushServer
from tests.support.registries import Distribution, Olareg, Registry
from tests.support.verifying import tagged


@pytest.fixture(scope="module")
def signer() -> Signer:
    return generate()


@pytest.fixture(scope="module")
def server() -> Iterator[PushServer]:
    with PushServer() as started:
        yield started


@dataclass
class Sides:
    """Two registries of the sandbox with faults, and a file between them."""

    source: Sandbox
    destination: Sandbox
    file: Path
    digest: str = ""
    layer: str = ""
    referrer: str = ""

    @property
    def near(self) -> str:
        return f"{self.source.address}/shop"

    @property
    def far(self) -> str:
        return f"{self.destination.address}/shop"

    def fill(self, signer: Signer) -> None:
        with open_store(self.near, quick()) as store:
            self.digest = push_signed(store, 1, signer)
            self.layer = json.loads(store.manifest(self.digest).raw)["layers"][0]["digest"]
            self.referrer = store.referrers(self.digest).descriptors[0].digest

    def arguments(self, command: str) -> list[str]:
        """The command line of a step."""
        return {
            "copy": ["mirror", "copy", f"{self.near}:1.1.0", self.far, "-q"],
            "save": ["mirror", "save", f"{self.near}:1.1.0", "-o", str(self.file), "-q"],
            "load": ["mirror", "load", str(self.file), self.far, "-q"],
        }[command]

    def heal(self) -> None:
        """What went wrong is over."""
        self.source.faults.clear()
        self.destination.faults.clear()


@pytest.fixture
def sides(signer: Signer, tmp_path: Path) -> Iterator[Sides]:
    with Sandbox() as source, Sandbox() as destination:
        made = Sides(source, destination, tmp_path / "mirror.tar")
        made.fill(signer)
        yield made


# -- registries that misbehave -------------------------------------------------------------------------------


def at_source(path: str, action: faults.Action, method: str = "GET") -> Callable[[Sides], None]:
    """A fault for ever; `{layer}`, `{referrer}` and `{digest}` are replaced."""

    def program(sides: Sides) -> None:
        text = path.format(layer=sides.layer, referrer=sides.referrer, digest=sides.digest)
        sides.source.faults.add(text, method=method, count=None, action=action)

    return program


def at_destination(path: str, action: faults.Action, method: str = "PUT") -> Callable[[Sides], None]:
    """The same on the other side."""

    def program(sides: Sides) -> None:
        sides.destination.faults.add(path, method=method, count=None, action=action)

    return program


DENIED = b'{"errors":[{"code":"DENIED","message":"quota of project shop is used up"}]}'
ELSEWHERE = faults.Relabel({"Location": "ftp://elsewhere/x"})
NEAR, FAR = "copy save", "copy load"
UPLOADS, BY_DIGEST, TAG = "/blobs/uploads/", "/manifests/sha256:", "/manifests/1.1.0"
TROUBLES = {
    # what goes wrong: (commands that meet it, the fault, exit code, what the error says)
    "a blob is gone": (NEAR, at_source("/blobs/{layer}", faults.Status(404)), 5, "{layer}"),
    "a blob has other content": (NEAR, at_source("/blobs/{layer}", faults.Corrupt(9)), 4, "{layer}"),
    "a blob is announced shorter": (NEAR, at_source("/blobs/{layer}", faults.Misreport(-1)), 4, "{layer}"),
    "a blob never ends": (NEAR, at_source("/blobs/{layer}", faults.Endless()), 4, "{layer}"),
    "the tag is gone": (NEAR, at_source(TAG, faults.Status(404)), 5, "1.1.0"),
    "the login does not suffice": (NEAR, at_source(TAG, faults.Status(403)), 6, "log in with"),
    "uploads are forbidden": (FAR, at_destination(UPLOADS, faults.Status(403), "POST"), 6, "log in with"),
    "the project is full": (
        FAR,
        at_destination(UPLOADS, faults.Status(403, {}, DENIED), "POST"),
        6,
        "quota of project",
    ),
    "the disk is full": (FAR, at_destination(UPLOADS, faults.Status(507)), 7, "507"),
    "the registry is broken": (FAR, at_destination(UPLOADS, faults.Status(500)), 7, "500"),
    "the registry is read-only": (FAR, at_destination(UPLOADS, faults.Status(405), "POST"), 4, "405"),
    "uploads lead away": (FAR, at_destination(UPLOADS, ELSEWHERE, "POST"), 4, "no usable upload address"),
    "manifests are too large": (FAR, at_destination(BY_DIGEST, faults.Status(413)), 4, "413"),
    "manifests are refused": (FAR, at_destination(BY_DIGEST, faults.Status(400)), 4, "400"),
    "the disk is full of manifests": (FAR, at_destination(BY_DIGEST, faults.Status(507)), 7, "507"),
    "tags are refused": (FAR, at_destination(TAG, faults.Status(403)), 6, "1.1.0"),
    "tags never move": (FAR, at_destination(TAG, faults.Status(409)), 4, "does not let tag 1.1.0 move"),
}
CASES = [(name, command) for name, (commands, *_) in TROUBLES.items() for command in commands.split()]


@pytest.mark.parametrize(("trouble", "command"), CASES, ids=[f"{c}-{t.replace(' ', '-')}" for t, c in CASES])
def test_trouble_is_named_and_names_nothing_and_the_next_run_completes(
    trouble: str, command: str, sides: Sides, capsys: pytest.CaptureFixture[str]
) -> None:
    _, program, code, said = TROUBLES[trouble]
    if command == "load":
        assert run(sides.arguments("save")) == 0
    program(sides)
    capsys.readouterr()
    assert run(sides.arguments(command)) == code
    told = capsys.readouterr().err
    assert said.format(layer=sides.layer) in told, told
    if code:
        assert told.startswith("error: "), told
        assert "this is a defect" not in told and "Traceback" not in told
        assert not sides.file.exists() or command == "load"
    sides.heal()
    if code:
        assert tagged(sides.far, "1.1.0") == ""
    assert run(sides.arguments(command)) == 0
    if command == "save":
        assert run(sides.arguments("load")) == 0
    assert everything(sides.far) == everything(sides.near)


def test_each_step_says_what_to_type_next(sides: Sides, capsys: pytest.CaptureFixture[str]) -> None:
    steps = {
        "save": f"next:  ocisync mirror load {sides.file} DST --policy FILE",
        "load": f"next:  ocisync verify {sides.far}:1.1.0 --policy FILE",
        "copy": f"next:  ocisync verify {sides.far}:1.1.0 --policy FILE",
    }
    for command, hint in steps.items():
        assert run(sides.arguments(command)[:-1]) == 0
        assert capsys.readouterr().err.rstrip().endswith(hint)
    assert run(["mirror", "copy", f"{sides.near}-none", sides.far, "--tag", "*"]) == 5
    told = capsys.readouterr().err
    assert f"{sides.near}-none does not exist, or nothing was ever pushed to it" in told
    assert f"ocisync list {sides.near}-none" in told


def test_a_source_that_is_deleted_from_meanwhile_fails_what_is_gone_and_copies_the_rest(
    olareg: Registry, distribution: Registry, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Really deleted, by the registry's own API, after the artifact was read and before its blobs are."""
    from tests.support.wiretap import Exchange, Wiretap

    name = secrets.token_hex(5)
    with Wiretap(olareg.host) as tap, open_store(f"{olareg.host}/{name}", quick()) as store:
        gone = push_signed(store, 1, signer)
        push_signed(store, 2, signer)
        layer = json.loads(store.manifest(gone).raw)["layers"][0]["digest"]
        deleted: list[int] = []
        once = threading.Lock()

        def delete(exchange: Exchange) -> None:
            if "/blobs/" in exchange.target and once.acquire(blocking=False):
                deleted.append(raw_delete(olareg.host, f"/v2/{name}/manifests/{gone}"))
                deleted.append(raw_delete(olareg.host, f"/v2/{name}/blobs/{layer}"))

        tap.before = delete
        to = f"{distribution.host}/{name}"
        code = run(["mirror", "copy", f"{tap.host}/{name}", to, "--tag", "*", "-q", "--parallel", "1"])
        err = capsys.readouterr().err
    assert deleted == [202, 202]
    if code:  # the blob may have been read a moment before
        assert (code, layer in err) == (5, True), err
        assert tagged(to, "1.1.0") == ""
    assert tagged(to, "1.2.0")


def raw_delete(host: str, path: str) -> int:
    import http.client

    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        connection.request("DELETE", path)
        return connection.getresponse().status
    finally:
        connection.close()


# -- real registries that take nothing -----------------------------------------------------------------------


class ReadOnly(Distribution):
    """distribution in maintenance."""

    def _config(self) -> dict[str, object]:
        config = dict(super()._config())
        storage = config["storage"]
        assert isinstance(storage, dict)
        config["storage"] = {**storage, "maintenance": {"readonly": {"enabled": True}}}
        return config


class ReadOnlyOlareg(Olareg):
    """olareg that takes no pushes."""

    def _command(self, binary: Path) -> list[str]:
        return [*(one for one in super()._command(binary) if one != "--api-push"), "--api-push=false", "--store-ro"]


@pytest.mark.parametrize("kind", [ReadOnly, ReadOnlyOlareg], ids=["distribution", "olareg"])
def test_a_read_only_registry_is_told_of_and_left_as_it_is(
    kind: type[Registry], sides: Sides, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = kind(requirements.require(kind.server), tmp_path / "registry")
    registry.start()
    try:
        assert run(sides.arguments("save")) == 0
        for arguments in (
            ["mirror", "copy", f"{sides.near}:1.1.0", f"{registry.host}/shop", "-q"],
            ["mirror", "load", str(sides.file), f"{registry.host}/shop", "-q"],
        ):
            capsys.readouterr()
            code = run(arguments)
            err = capsys.readouterr().err
            assert code in (4, 6), err
            assert err.startswith("error: ") and registry.host in err, err
        assert tagged(f"{registry.host}/shop", "1.1.0") == ""
    finally:
        registry.stop()


@contextmanager
def small_disk(directory: Path, size: int) -> Iterator[Path]:
    """A file system of its own; skips where only root may have one."""
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here: run as root")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.parametrize("kind", [Distribution, Olareg], ids=["distribution", "olareg"])
def test_a_registry_whose_disk_is_full_is_told_of_and_completed_when_it_has_room(
    kind: type[Registry], sides: Sides, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 4 * 1024 * 1024) as disk:
        registry = kind(requirements.require(kind.server), disk)
        registry.start()
        try:
            assert run(sides.arguments("save")) == 0
            filler = disk / "filler"
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            to = f"{registry.host}/shop"
            for arguments in (
                ["mirror", "copy", f"{sides.near}:1.1.0", to, "-q"],
                ["mirror", "load", str(sides.file), to, "-q"],
            ):
                capsys.readouterr()
                code = run(arguments)
                err = capsys.readouterr().err
                assert code in (4, 7), err
                assert err.startswith("error: ") and registry.host in err, err
                assert tagged(to, "1.1.0") == ""
            filler.unlink()
            assert run(["mirror", "load", str(sides.file), to, "-q"]) == 0
            assert everything(to) == everything(sides.near)
        finally:
            registry.stop()


# -- disks of our own ----------------------------------------------------------------------------------------


def test_a_file_that_may_not_grow_any_more_is_no_file(sides: Sides, server: PushServer, tmp_path: Path) -> None:
    """The kernel's limit for files, which is what a quota looks like."""
    assert run(sides.arguments("save")) == 0
    size = sides.file.stat().st_size
    sides.file.unlink()
    for turn, limit in enumerate(random.Random(5).sample(range(600, size), 2)):
        ended = server.run(sides.arguments("save"), tmp_path / str(turn), {FILE_BYTES: str(limit)})
        assert ended.exit_code == 1, ended.err
        assert f"error: {sides.file}: file too large" in ended.err
        assert "next:  free some space" in ended.err
        assert [path.name for path in tmp_path.glob("mirror.tar*")] == []
    assert run(sides.arguments("save")) == 0
    assert sides.file.stat().st_size == size


def test_a_disk_that_is_too_small_is_told_of_before_anything_is_fetched(
    sides: Sides, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 8 * 1024) as disk:
        sides.file = disk / "mirror.tar"
        assert run(sides.arguments("save")) == 1
        assert "are free there" in capsys.readouterr().err
        assert list(disk.iterdir()) == []
    assert not any(sides.layer in one for one in sides.source.requests.snapshot())


if os.geteuid() != 0:  # root may write everywhere

    def test_a_directory_that_may_not_be_written_is_named(sides: Sides, capsys: pytest.CaptureFixture[str]) -> None:
        sides.file.parent.chmod(0o500)
        assert run(sides.arguments("save")) == 1
        assert str(sides.file.parent) in capsys.readouterr().err


def test_half_a_file_in_a_pipe_is_no_success(sides: Sides, tmp_path: Path) -> None:
    """Its reader goes away in the middle."""
    with open_store(sides.near, quick()) as store:
        from tests.support.images import push_image

        push_image(store, "9.0.0", random.Random(1).randbytes(400_000))
    program = "import sys; from ocisync.cli.app import run; sys.exit(run(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", program, "mirror", "save", f"{sides.near}:9.0.0", "-o", "-"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(2_000)
        process.stdout.close()
        told = process.stderr.read().decode()
        assert process.wait(240) == 1, told
    assert "went away before the file was complete" in told


# -- networks that break -------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [("distribution", "olareg"), ("olareg", "distribution")], ids="-to-".join)
def test_a_network_that_breaks_again_and_again_only_takes_longer(
    direction: tuple[str, str], request: pytest.FixtureRequest, signer: Signer, tmp_path: Path
) -> None:
    near, far = (request.getfixturevalue(name) for name in direction)
    name = secrets.token_hex(5)
    source, to = f"{near.host}/{name}", f"{far.host}/{name}"
    with open_store(source, quick()) as store:
        push_signed(store, 1, signer)
    wanted = everything(source)
    with ExitStack() as stack:
        breaks = [stack.enter_context(flapping(host, seed=3, breaks=3)) for host in (near.host, far.host)]
        bad_near, bad_far = (f"{one.host}/{name}" for one in breaks)
        file = str(tmp_path / "mirror.tar")
        assert run(["mirror", "copy", bad_near, f"{bad_far}-copied", "--tag", "*", "-q", "--parallel", "1"]) == 0
        for one in breaks:
            one.again(breaks=3)
        assert run(["mirror", "save", bad_near, "--tag", "*", "-o", file, "-q"]) == 0
        assert run(["mirror", "load", file, bad_far, "-q"]) == 0
        assert all(one.broke for one in breaks)
    assert everything(to) == wanted
    assert everything(f"{to}-copied") == wanted
