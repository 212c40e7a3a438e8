"""list, inspect, tag, promote, sign, pull as users type them, on every registry and on layouts; and killed."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ocisync.cli.app import run
from ocisync.oci.client import open_store
from tests.support.cosign import Cosign
from tests.support.gitrepo import GitRepo
from tests.support.pushes import PushServer
from tests.support.registries import Registry
from tests.support.wiretap import Exchange, Wiretap

MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: shop}\n"
NAME = "registry.example/acme/shop"
PLACES = ["sandbox", "distribution", "olareg", "layout", "layout.tar"]


@dataclass(frozen=True)
class Shop:
    """A place with 1.0.0 before 1.1.0 (also `staging`), both signed with `k`."""

    place: str
    directory: Path
    capture: pytest.CaptureFixture[str]
    repository: str
    named: tuple[str, ...]

    def run(self, command: str, version: str, *arguments: str, code: int = 0) -> str:
        """Run a command on a version (`:TAG`, `@DIGEST`) of the place; returns stdout."""
        self.capture.readouterr()
        named = self.named if command not in ("list", "inspect") else ()
        ended = run([command, self.place + version, *arguments, *named])
        captured = self.capture.readouterr()
        assert ended == code, captured.err
        return captured.out

    def json(self, command: str, version: str, *arguments: str) -> Any:
        return json.loads(self.run(command, version, *arguments, "-o", "json"))

    @property
    def key(self) -> tuple[str, str]:
        return ("--sign-key", str(self.directory / "k.key"))

    @property
    def public(self) -> tuple[str, str]:
        return ("--key", str(self.directory / "k.pub"))


@pytest.fixture(params=PLACES)
def shop(request: pytest.FixtureRequest, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Shop:
    named: tuple[str, ...] = ()
    if request.param.startswith("layout"):
        place, repository, named = f"oci-layout:{tmp_path / request.param}", NAME, ("--as", NAME)
    else:
        registry: Registry = request.getfixturevalue(
            "sandbox_registry" if request.param == "sandbox" else request.param
        )
        repository = f"{registry.host}/promote/{tmp_path.name.lower().replace('_', '-').strip('-')}"
        place = f"oci://{repository}"
    git = GitRepo(tmp_path / "repo")
    assert run(["keys", "generate", str(tmp_path / "k")]) == 0
    key = ["--sign-key", str(tmp_path / "k.key"), *named]
    git.commit({"app.yaml": MANIFEST % "a"}, at="2026-03-01T10:00:00Z")
    assert run(["push", str(git.path), f"{place}:1.0.0", *key]) == 0
    git.commit({"app.yaml": MANIFEST % "b"}, at="2026-03-01T11:00:00Z")
    assert run(["push", str(git.path), f"{place}:1.1.0", f"{place}:staging", *key]) == 0
    return Shop(place, tmp_path, capfd, repository, named)


def test_tags_are_listed_newest_first(shop: Shop) -> None:
    assert shop.run("list", "", "--filter", "*.*").split() == ["1.1.0", "1.0.0"]
    assert shop.run("list", "", "--semver", "~1.0", "-o", "name").strip().endswith(":1.0.0")
    answer = shop.json("list", "", "--long", "--limit", "2")
    assert [tag["name"] for tag in answer["tags"]] == ["1.1.0", "1.0.0"]
    assert [tag["created"] for tag in answer["tags"]] == ["2026-03-01T11:00:00Z", "2026-03-01T10:00:00Z"]
    assert answer["matched"] == 5


def test_a_promotion_is_verified_under_its_new_tag(shop: Shop) -> None:
    answer = shop.json("tag", ":1.0.0", "production", *shop.key, *shop.public)
    assert (answer["tags"], answer["unchanged"], answer["previous"]) == (["production"], False, {"production": ""})
    assert json.loads(shop.run("verify", ":production", *shop.public, "-o", "json"))["digest"] == answer["digest"]
    assert shop.json("promote", ":1.0.0", "production", *shop.key)["unchanged"] is True
    newer = shop.json("promote", ":1.1.0", "production", *shop.key)
    assert newer["previous"] == {"production": answer["digest"]}
    assert newer["repository"] == shop.repository


def test_a_tag_goes_back_only_as_a_rollback(shop: Shop) -> None:
    shop.run("tag", ":1.0.0", "staging", *shop.key, code=4)
    shop.run("tag", ":1.0.0", "1.1.0", *shop.key, code=4)
    digest = shop.json("inspect", ":1.0.0")["digest"]
    shop.run("sign", f"@{digest}", "--rollback", "--tag", "staging", *shop.key)
    shop.run("tag", f"@{digest}", "staging", "--rollback")
    assert json.loads(shop.run("verify", ":staging", *shop.public, "-o", "json"))["digest"] == digest


def test_after_a_rollback_only_what_counts_as_newer_is_promoted(shop: Shop) -> None:
    shop.run("tag", ":1.0.0", "staging", "--rollback", *shop.key)
    shop.run("tag", ":1.1.0", "staging", *shop.key, code=4)
    shop.run("tag", ":1.1.0", "staging", *shop.key, "--rollback")
    shop.run("verify", ":staging", *shop.public)


def test_signatures_are_refreshed_and_a_second_key_signs(shop: Shop) -> None:
    digest = shop.json("inspect", ":1.0.0")["digest"]
    assert run(["keys", "generate", str(shop.directory / "other")]) == 0
    other = ("--sign-key", str(shop.directory / "other.key"))
    shop.run("sign", f"@{digest}", "--refresh", *other, code=5)
    answer = shop.json("sign", f":1.0.0@{digest}", *other, "--legacy-signature", *shop.public)
    assert sorted(item["format"] for item in answer["signatures"]) == ["Bundle", "Legacy"]
    assert answer["tags"] == ["1.0.0"]
    assert len(shop.json("sign", f"@{digest}", "--refresh", *other)["signatures"]) == 2
    shop.run("verify", ":1.0.0", "--key", str(shop.directory / "other.pub"))
    shop.run("sign", ":1.0.0", *other, code=2)


def test_inspect_tells_what_is_proven_and_what_is_not(shop: Shop) -> None:
    answer = shop.json("inspect", ":1.1.0", *shop.public, "--files")
    assert [item["verified"] for item in answer["signatures"]] == [True]
    assert answer["signatures"][0]["claims"]["dev.ocisync.repository"] == shop.repository
    assert answer["content"]["kinds"] == {"ConfigMap": 1}
    assert [file["path"] for file in answer["files"]] == ["app.yaml"]
    assert "NOT verified" in shop.run("inspect", ":1.1.0")


def test_what_is_pulled_is_what_was_pushed(shop: Shop) -> None:
    target = shop.directory / "files"
    answer = shop.json("pull", ":1.1.0", "-d", str(target), *shop.public)
    assert (answer["verified"], answer["files"]) == (True, ["app.yaml"])
    assert (target / "app.yaml").read_text() == MANIFEST % "b"
    assert (target / "app.yaml").stat().st_mode & 0o7777 == 0o644
    shop.run("pull", ":1.0.0", "-d", str(target), *shop.public, code=4)
    shop.run("pull", ":1.0.0", "-d", str(target), "--force", *shop.public)
    assert (target / "app.yaml").read_text() == MANIFEST % "a"


def test_what_is_not_signed_as_demanded_is_not_pulled(shop: Shop) -> None:
    assert run(["keys", "generate", str(shop.directory / "other")]) == 0
    target = shop.directory / "files"
    shop.run("pull", ":1.1.0", "-d", str(target), "--key", str(shop.directory / "other.pub"), code=4)
    assert not target.exists()


def test_what_is_not_there_is_exit_code_5(shop: Shop) -> None:
    for command, rest in (("inspect", ()), ("pull", ()), ("tag", ("x",)), ("verify", shop.public)):
        shop.run(command, ":9.9.9", *rest, code=5)


@pytest.mark.parametrize("place", ["distribution", "olareg"])
def test_cosign_verifies_a_promotion(
    place: str, cosign: Cosign, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    registry: Registry = request.getfixturevalue(place)
    repository = f"{registry.host}/promote/cosign-{tmp_path.name.lower().replace('_', '-').strip('-')}"
    git = GitRepo(tmp_path / "repo")
    git.commit({"app.yaml": MANIFEST % "a"}, at="2026-03-01T10:00:00Z")
    key = str(tmp_path / "k.key")
    assert run(["keys", "generate", str(tmp_path / "k")]) == 0
    assert run(["push", str(git.path), f"oci://{repository}:1.0.0", "--sign-key", key]) == 0
    assert run(["tag", f"oci://{repository}:1.0.0", "production", "--sign-key", key, "--legacy-signature"]) == 0
    wanted = {"dev.ocisync.tags": "production", "dev.ocisync.repository": repository}
    cosign.verify(f"{repository}:production", tmp_path / "k.pub", annotations=wanted)


@pytest.fixture
def tapped(registry: Registry) -> Iterator[tuple[Wiretap, PushServer]]:
    with Wiretap(registry.host) as tap, PushServer() as server:
        yield tap, server


def moments(registry: Registry, writes: int) -> list[tuple[str, int]]:
    """When to kill: everywhere with OCISYNC_HEAVY=1, else around the signature and the tags."""
    signature, first, last = range(writes - 3, writes)
    if os.environ.get("OCISYNC_HEAVY") == "1":
        return list(itertools.product(("before", "after"), range(writes)))
    if registry.server == "sandbox":
        return [("before", signature), ("after", signature), ("after", first), ("before", last)]
    return [("after", signature), ("after", first)]


def test_a_promotion_killed_at_any_write_shows_no_unsigned_tag_and_is_completed_by_the_next(
    tapped: tuple[Wiretap, PushServer], registry: Registry, tmp_path: Path
) -> None:
    tap, server = tapped
    git = GitRepo(tmp_path / "repo")
    git.commit({"app.yaml": MANIFEST % "a"}, at="2026-03-01T10:00:00Z")
    assert run(["keys", "generate", str(tmp_path / "k")]) == 0
    count = itertools.count()
    base = f"{tap.host}/killed/{tmp_path.name.lower().replace('_', '-').strip('-')}"

    def fresh() -> str:
        tap.quiet()
        repository = f"{base}/{next(count)}"
        key = str(tmp_path / "k.key")
        assert run(["push", str(git.path), f"oci://{repository}:1.0.0", "--sign-key", key]) == 0
        tap.quiet()
        return repository

    def arguments(repository: str) -> list[str]:
        return ["tag", f"oci://{repository}:1.0.0", "2.0.0", "production", "--sign-key", str(tmp_path / "k.key")]

    def check(repository: str) -> int:
        """How many of the tags are there; each of them must be signed."""
        with open_store(repository) as store:
            there = [tag for tag in ("2.0.0", "production") if store.resolve(tag)]
        assert all(run(["verify", f"oci://{repository}:{tag}", "--key", str(tmp_path / "k.pub")]) == 0 for tag in there)
        return len(there)

    repository = fresh()
    tap.exchanges.clear()
    assert server.run(arguments(repository), tmp_path / "whole").exit_code == 0
    writes = sum(exchange.writes for exchange in tap.exchanges)
    assert writes >= 5, "two blobs, a signature, two tags"
    for moment, number in moments(registry, writes):
        repository = fresh()
        started: list[Any] = []
        is_there = threading.Event()
        seen = itertools.count()

        def kill(
            exchange: Exchange, started: list[Any] = started, is_there: threading.Event = is_there,
            seen: Iterator[int] = seen, number: int = number, moment: str = moment,
        ) -> None:  # fmt: skip
            if exchange.writes and next(seen) == number:
                is_there.wait(120)
                started[0].kill()
                if moment == "before":
                    raise ConnectionResetError("the registry never sees this request")

        setattr(tap, moment, kill)
        started.append(server.start(arguments(repository), tmp_path / f"killed-{moment}-{number}"))
        is_there.set()
        assert started[0].wait().exit_code == -9, f"write {number} was reached"
        tap.quiet()
        assert check(repository) < 2 or (moment, number) == ("after", writes - 1)
        again = server.run(arguments(repository), tmp_path / f"again-{moment}-{number}")
        assert again.exit_code == 0, again.err
        assert check(repository) == 2
