"""Copies that are killed, and copies whose source or destination misbehaves: clear errors, and no tag too early."""

from __future__ import annotations

import json
import os
import random
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocisync.cli.app import run
from ocisync.model.ref import legacy_signature_tag
from ocisync.oci.client import open_store
from ocisync.sandbox import faults
from ocisync.sandbox.registry import Registry as Sandbox
from ocisync.signing.keys import Signer, generate
from tests.support.closures import everything, push_signed
from tests.support.images import quick
from tests.support.pushes import Push, PushServer
from tests.support.registries import Registry
from tests.support.verifying import tagged, verified
from tests.support.wiretap import Exchange, Wiretap

HEAVY = os.environ.get("OCISYNC_HEAVY") == "1"
KILLS = 50 if HEAVY else 2  # at each kind of write; test_mirror_kills.py has all bytes


@pytest.fixture(scope="module")
def signer() -> Signer:
    return generate()


@pytest.fixture(scope="module")
def server() -> Iterator[PushServer]:
    with PushServer() as started:
        yield started


@pytest.fixture
def source() -> Iterator[Sandbox]:
    with Sandbox() as started:
        yield started


@pytest.fixture
def destination() -> Iterator[Sandbox]:
    with Sandbox() as started:
        yield started


# -- killed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("registry", ["distribution", "olareg"], indirect=True)
@pytest.mark.timeout(900)
def test_a_copy_killed_at_any_write_shows_no_tag_too_early_and_is_finished_by_the_next(
    registry: Registry, source: Sandbox, server: PushServer, signer: Signer, tmp_path: Path
) -> None:
    origin = f"{source.address}/shop"
    with open_store(origin, quick()) as store:
        for number in range(2):
            push_signed(store, number, signer, (), *(["production"] if number else []))
    wanted = everything(origin)
    with Wiretap(registry.host) as tap:
        name = f"kills/{secrets.token_hex(4)}"
        writes = _writes_of_a_copy(tap, server, origin, f"{tap.host}/{name}/all", tmp_path)
        moments = [(number, when) for number in range(writes) for when in ("before", "after")]
        for turn, (number, when) in enumerate(random.Random(7).sample(moments, min(KILLS, len(moments)))):
            repository = f"{name}/{turn}"
            _copy_until(tap, server, origin, f"{tap.host}/{repository}", tmp_path / str(turn), (number, when))
            for tag in ("1.0.0", "1.1.0", "production"):
                there = f"{registry.host}/{repository}"
                if digest := tagged(there, tag):
                    verified(there, tag, signer.public)
                    with open_store(there, quick()) as store:
                        found = {item.digest for item in store.referrers(digest).descriptors}
                    assert found == wanted.referrers[digest]
            tap.quiet()
            ended = server.run(
                ["mirror", "copy", origin, f"{tap.host}/{repository}", "--tag", "*"], tmp_path / f"{turn}b"
            )
            assert ended.exit_code == 0, ended.err
            assert everything(f"{registry.host}/{repository}") == wanted


def _writes_of_a_copy(tap: Wiretap, server: PushServer, origin: str, to: str, directory: Path) -> int:
    ended = server.run(["mirror", "copy", origin, to, "--tag", "*"], directory / "all")
    assert ended.exit_code == 0, ended.err
    return sum(one.writes for one in tap.exchanges)


def _copy_until(
    tap: Wiretap, server: PushServer, origin: str, to: str, directory: Path, moment: tuple[int, str]
) -> None:
    """A copy that is killed at its n-th write, before the registry sees it or after it has done it."""
    number, when = moment
    tap.quiet()
    seen = 0
    command = ["mirror", "copy", origin, to, "--tag", "*", "--parallel", "1"]

    started: list[Push] = []
    is_there = threading.Event()

    def hook(exchange: Exchange) -> None:
        nonlocal seen
        if exchange.writes:
            seen += 1
            if seen == number + 1:
                is_there.wait(60)
                started[0].kill()
                if when == "before":
                    raise ConnectionResetError("the registry never sees this request")

    if when == "before":
        tap.before = hook
    else:
        tap.after = hook
    started.append(server.start(command, directory))
    is_there.set()
    started[0].wait()


# -- misbehaving --------------------------------------------------------------------------------------


def copied(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and errors of a copy."""
    capsys.readouterr()
    code = run(["mirror", "copy", *arguments, "-q"])
    return code, capsys.readouterr().err


def test_a_blob_that_vanishes_from_the_source_fails_its_artifact_alone(
    source: Sandbox, destination: Sandbox, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    origin, to = f"{source.address}/shop", f"{destination.address}/shop"
    with open_store(origin, quick()) as store:
        digest = push_signed(store, 1, signer)
        push_signed(store, 2, signer)
        layer = json.loads(store.manifest(digest).raw)["layers"][0]["digest"]
    source.faults.add(f"/blobs/{layer}", method="GET", count=None, action=faults.Status(404))
    code, err = copied(capsys, origin, to, "--tag", "*")
    assert code == 5
    assert layer in err
    assert (tagged(to, "1.1.0"), bool(tagged(to, "1.2.0"))) == ("", True)


def test_bytes_that_are_not_what_their_digest_says_never_arrive(
    source: Sandbox, destination: Sandbox, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    origin, to = f"{source.address}/shop", f"{destination.address}/shop"
    with open_store(origin, quick()) as store:
        digest = push_signed(store, 1, signer)
        layer = json.loads(store.manifest(digest).raw)["layers"][0]["digest"]
    source.faults.add(f"/blobs/{layer}", method="GET", count=None, action=faults.Corrupt(10))
    code, err = copied(capsys, f"{origin}:1.1.0", to)
    assert code == 4
    assert layer in err
    with open_store(to, quick()) as store:
        assert not store.has_blob(layer)
    assert tagged(to, "1.1.0") == ""


@pytest.mark.parametrize("by_tag", [True, False], ids=["tag", "digest"])
def test_a_manifest_with_another_digest_ends_the_copy_before_anything_is_written(
    by_tag: bool, source: Sandbox, destination: Sandbox, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    origin, to = f"{source.address}/shop", f"{destination.address}/shop"
    with open_store(origin, quick()) as store:
        digest = push_signed(store, 1, signer)
    name = "1.1.0" if by_tag else digest
    source.faults.add(f"/manifests/{name}", method="GET", count=None, action=faults.Corrupt(20))
    code, err = copied(capsys, f"{origin}:{name}" if by_tag else f"{origin}@{name}", to)
    assert (code, name in err) == (4, True)
    assert tagged(to, "1.1.0") == ""


@pytest.mark.parametrize(("status", "code"), [(403, 6), (507, 7), (500, 7)], ids=["read-only", "full", "broken"])
def test_a_destination_that_takes_no_blob_gets_no_tag(
    source: Sandbox,
    destination: Sandbox,
    signer: Signer,
    status: int,
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    origin, to = f"{source.address}/shop", f"{destination.address}/shop"
    with open_store(origin, quick()) as store:
        push_signed(store, 1, signer)
    destination.faults.add("/blobs/uploads/", method="POST", count=None, action=faults.Status(status))
    ended, err = copied(capsys, f"{origin}:1.1.0", to)
    assert ended == code, err
    assert tagged(to, "1.1.0") == ""


def test_a_referrer_that_is_listed_and_gone_is_named_and_left_out(
    source: Sandbox, destination: Sandbox, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    origin, to = f"{source.address}/shop", f"{destination.address}/shop"
    with open_store(origin, quick()) as store:
        digest = push_signed(store, 1, signer)
        gone = store.referrers(digest).descriptors[0].digest
    source.faults.add(f"/manifests/{gone}", method="GET", count=None, action=faults.Status(404))
    capsys.readouterr()
    assert run(["mirror", "copy", f"{origin}:1.1.0", to]) == 0
    assert f"{gone}, listed as a referrer of {digest}, is left out" in capsys.readouterr().err
    assert tagged(to, "1.1.0") == digest


def test_a_broken_referrer_or_signature_tag_stops_nobodys_mirror(
    source: Sandbox, destination: Sandbox, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    origin, to = f"{source.address}/shop", f"{destination.address}/shop"
    with open_store(origin, quick()) as store:
        digest = push_signed(store, 1, signer)
        broken = store.referrers(digest).descriptors[0].digest
    tag = legacy_signature_tag(digest)
    for name in (broken, tag):
        source.faults.add(f"/manifests/{name}", method="GET", count=None, action=faults.Corrupt(5))
    capsys.readouterr()
    assert run(["mirror", "copy", f"{origin}:1.1.0", to]) == 0
    err = capsys.readouterr().err
    assert (broken in err, tag in err, tagged(to, "1.1.0")) == (True, True, digest)
