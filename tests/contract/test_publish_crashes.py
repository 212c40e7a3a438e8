"""kill -9 at every request of a push, and two pushes interleaved at every request, on every registry.

The push is the real command line in a process of its own. A proxy stops the world at a request: before the registry
has seen it, or after the registry has done it and before the client learns that.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ocisync.oci.client import open_store
from ocisync.signing.keys import dump_private, generate
from tests.support.gitrepo import GitRepo
from tests.support.pushes import Ended, Push, PushServer
from tests.support.registries import Registry
from tests.support.verifying import tagged, verified
from tests.support.wiretap import Exchange, Wiretap

# Up to eighty processes in one test: minutes where many others run.
pytestmark = pytest.mark.timeout(1200)

MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"
TAGS = ("1.0.0", "production")


class Bench:
    """A registry behind a wiretap, a repository with commits A < B, a key."""

    def __init__(self, registry: Registry, tap: Wiretap, server: PushServer, directory: Path) -> None:
        self.tap = tap
        self._server = server
        self.directory = directory
        self.git = GitRepo(directory / "git")
        self.older = self.git.commit({"a.yaml": MANIFEST % "a"}, at="2026-03-01T10:00:00Z")
        self.newer = self.git.commit({"a.yaml": MANIFEST % "b"}, at="2026-03-01T11:00:00Z")
        signer = generate()
        (directory / "k.key").write_bytes(dump_private(signer, password=None))
        self.key = signer.public
        self._name = f"{tap.host}/crash/r{registry.port}-{directory.name[-24:].lower().strip('_-').replace('_', '-')}"
        self._counter = itertools.count()
        self.repository = self._name

    def start(self, *tags: str, rev: str = "", flags: tuple[str, ...] = ()) -> Push:
        """Begin a push of a commit (default: the newer one) under some tags."""
        references = [f"oci://{self.repository}:{tag}" for tag in tags]
        arguments = ["push", str(self.git.path), *references, "--rev", rev or self.newer, "-o", "json"]
        arguments += ["--sign-key", str(self.directory / "k.key"), *flags]
        return self._server.start(arguments, self.directory / f"push-{next(self._counter)}")

    def push(self, *tags: str, rev: str = "", flags: tuple[str, ...] = ()) -> Ended:
        """The same, to its end."""
        return self.start(*tags, rev=rev, flags=flags).wait()

    def fresh(self) -> None:
        """Go on in an empty repository."""
        self.repository = f"{self._name}/{next(self._counter)}"
        self.tap.quiet()

    def check_that_what_is_tagged_is_signed(self, tags: tuple[str, ...]) -> int:
        """Verify each tag that exists as an agent would. Returns how many do."""
        found = [tag for tag in tags if self.tagged(tag)]
        for tag in found:
            verified(self.repository, tag, self.key)
        return len(found)

    def tagged(self, tag: str) -> str:
        """The digest that a tag points to; empty if there is none."""
        return tagged(self.repository, tag)

    def count_signatures(self, digest: str) -> int:
        """Signatures that the registry lists for a digest."""
        with open_store(self.repository) as store:
            return len(store.referrers(digest).descriptors)


@pytest.fixture(scope="module")
def server() -> Iterator[PushServer]:
    with PushServer() as started:
        yield started


@pytest.fixture
def bench(registry: Registry, server: PushServer, tmp_path: Path) -> Iterator[Bench]:
    with Wiretap(registry.host) as tap:
        yield Bench(registry, tap, server, tmp_path)


def at_nth(number: int, matches: Callable[[Exchange], bool], act: Callable[[], None]) -> Callable[[Exchange], None]:
    """A hook that acts at the n-th matching request, from 0, and only then."""
    counter = itertools.count()
    lock = threading.Lock()

    def hook(exchange: Exchange) -> None:
        if matches(exchange):
            with lock:
                now = next(counter)
            if now == number:
                act()

    return hook


def chosen(registry: Registry, exchanges: Sequence[Exchange], key_moments: Sequence[int]) -> Sequence[int]:
    """Every request on the sandbox, and everywhere with OCISYNC_HEAVY=1; else the moments that differ in kind."""
    if registry.server == "sandbox" or os.environ.get("OCISYNC_HEAVY") == "1":
        return range(len(exchanges))
    return sorted(set(key_moments))


def moments_of_a_crash(writes: Sequence[Exchange]) -> list[int]:
    """The last blob, the artifact, the last blob of the signature, its manifest, its index, the first and last tag."""
    blobs = [number for number, write in enumerate(writes) if "/blobs/" in write.target]
    manifests = [number for number, write in enumerate(writes) if write.manifest]
    return [blobs[-1], *manifests[:3], manifests[0] - 1, manifests[-1]]


def is_write(exchange: Exchange) -> bool:
    return exchange.writes


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_push_killed_at_any_write_shows_no_unsigned_tag_and_is_completed_by_the_next(
    bench: Bench, registry: Registry, moment: str
) -> None:
    bench.fresh()
    assert bench.push(*TAGS).exit_code == 0
    writes = [exchange for exchange in bench.tap.exchanges if exchange.writes]
    kinds = {exchange.manifest.partition(":")[0] for exchange in writes}
    assert kinds >= {"", "sha256", *TAGS}, "blobs, manifests by digest and tags are among what is killed"
    for number in chosen(registry, writes, moments_of_a_crash(writes)):
        bench.fresh()
        started: list[Push] = []
        is_there = threading.Event()

        def kill(started: list[Push] = started, is_there: threading.Event = is_there) -> None:
            is_there.wait(120)
            started[0].kill()
            if moment == "before":
                raise ConnectionResetError("the registry never sees this request")

        setattr(bench.tap, moment, at_nth(number, is_write, kill))
        started.append(bench.start(*TAGS))
        is_there.set()
        assert started[0].wait().exit_code == -9, f"write {number} was reached"
        bench.tap.quiet()
        all_tags = (*TAGS, f"sha-{bench.newer[:12]}")
        visible = bench.check_that_what_is_tagged_is_signed(all_tags)
        assert visible < 3 or (moment, number) == ("after", len(writes) - 1)
        again = bench.push(*TAGS)
        assert again.exit_code == 0, again.err
        answer = json.loads(again.out)
        assert bench.check_that_what_is_tagged_is_signed(all_tags) == 3
        assert bench.count_signatures(answer["digest"]) == 1, f"one signature after a kill {moment} write {number}"
    bench.tap.quiet()
    assert json.loads(bench.push(*TAGS).out)["unchanged"] is True
    assert not any(exchange.writes for exchange in bench.tap.exchanges)


def test_two_jobs_that_finish_out_of_order_leave_the_tag_at_the_newer_commit(bench: Bench, registry: Registry) -> None:
    bench.fresh()
    assert bench.push("production", rev=bench.older).exit_code == 0
    requests = tuple(bench.tap.exchanges)
    last_steps = range(len(requests) - 4, len(requests))  # check, write, read back, look for rivals
    for number in chosen(registry, requests, last_steps):
        bench.fresh()
        newer: list[Ended] = []

        def overtake(newer: list[Ended] = newer) -> None:
            newer.append(bench.push("production", rev=bench.newer))

        bench.tap.before = at_nth(number, lambda _: True, overtake)
        older = bench.push("production", rev=bench.older)
        assert newer, f"request {number} was reached"
        assert newer[0].exit_code == 0, newer[0].err
        digest = json.loads(newer[0].out)["digest"]
        assert bench.tagged("production") == digest, f"overtaken at request {number}: {older.err}"
        assert older.exit_code in (0, 4), older.err
        bench.check_that_what_is_tagged_is_signed(("production",))
