"""A push ends the same way on every registry: with and without the referrers API."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ocisync.flows.fetch import fetch
from ocisync.flows.publish import PublishRequest, PublishResult, Source, publish
from ocisync.flows.trust import trust_keys
from ocisync.flows.verify import Request, collect_within_limits, verify
from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import Refused, Unavailable
from ocisync.model.spec import SelectorKind
from ocisync.oci.client import RegistryStore, open_store
from ocisync.oci.store import PutResult
from ocisync.signing.keys import Signer, generate
from tests.support.cosign import Cosign
from tests.support.gitrepo import GIT_ENVIRONMENT, GitRepo

NOW = datetime(2026, 3, 2, tzinfo=UTC)
MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"


class Clock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0


class Watched:
    """A store whose writes are counted, and which can stop working at one of them."""

    def __init__(self, store: RegistryStore, stop_at: str = "") -> None:
        self._store = store
        self._stop_at = stop_at
        self.writes: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def _write(self, what: str) -> None:
        if self._stop_at and what.startswith(self._stop_at):
            raise Unavailable(f"killed at {what}")
        self.writes.append(what)

    def put_blob(self, descriptor: Descriptor, data: bytes) -> bool:
        if self._store.has_blob(descriptor.digest):
            return False
        self._write("blob")
        return self._store.put_blob(descriptor, data)

    def put_manifest(self, raw: bytes, media_type: str, ref: str) -> PutResult:
        self._write(f"manifest {ref}")
        return self._store.put_manifest(raw, media_type, ref)

    def attach(self, raw_manifest: bytes, subject: Descriptor) -> Descriptor:
        self._write("attach")
        return self._store.attach(raw_manifest, subject)


@pytest.fixture
def git(tmp_path: Path) -> GitRepo:
    repo = GitRepo(tmp_path / "repo")
    repo.commit({"a.yaml": MANIFEST % "a", "sub/b.yaml": MANIFEST % "b"})
    return repo


@pytest.fixture
def key() -> Signer:
    return generate()


def push(
    repository: str, git: GitRepo, *tags: str, keys: tuple[Signer, ...] = (), stop_at: str = "", **options: bool
) -> tuple[PublishResult, list[str]]:
    watched = Watched(open_store(repository), stop_at)
    request = PublishRequest(
        store=watched,  # type: ignore[arg-type]  # forwards what it does not count
        source=Source(environ=GIT_ENVIRONMENT, path=git.path),
        clock=Clock(),
        tags=tags,
        signers=keys,
        **options,  # type: ignore[arg-type]
    )
    return publish(request), watched.writes


def test_what_was_pushed_is_verified_and_unpacked_again(repository: str, git: GitRepo, key: Signer) -> None:
    result, _ = push(repository, git, "production", keys=(key,))
    store = open_store(repository)
    verified = verify(
        store,
        trust_keys([key.public], repository),
        Request(repository=repository, kind=SelectorKind.TAG, tag="production"),
        now=NOW,
        collect=collect_within_limits,
    )
    assert verified.digest == result.digest
    assert [file.path for file in fetch(store, verified).files] == ["a.yaml", "sub/b.yaml"]


def test_cosign_verifies_what_was_pushed(
    repository: str, git: GitRepo, key: Signer, cosign: Cosign, tmp_path: Path
) -> None:
    result, _ = push(repository, git, "production", keys=(key,), legacy_signature=True)
    public = tmp_path / "key.pub"
    public.write_text(key.public.pem)
    printed = cosign.verify(result.reference, public, annotations={"dev.ocisync.repository": repository})
    assert result.digest in printed


def test_the_same_commit_again_writes_nothing(repository: str, git: GitRepo, key: Signer) -> None:
    first, _ = push(repository, git, "production", "v1.0.0", keys=(key,), legacy_signature=True)
    again, writes = push(repository, git, "production", "v1.0.0", keys=(key,), legacy_signature=True)
    assert (again.unchanged, writes, again.digest) == (True, [], first.digest)


@pytest.mark.parametrize("moment", ["blob", "manifest sha256:", "attach", "manifest v1.0.0", "manifest production"])
def test_a_killed_push_is_completed_by_the_next(repository: str, git: GitRepo, key: Signer, moment: str) -> None:
    with pytest.raises(Unavailable, match="killed"):
        push(repository, git, "production", "v1.0.0", keys=(key,), stop_at=moment)
    result, _ = push(repository, git, "production", "v1.0.0", keys=(key,))
    store = open_store(repository)
    assert all((found := store.resolve(tag)) and found.digest == result.digest for tag in result.tags)
    assert len(store.referrers(result.digest).descriptors) == 1
    assert push(repository, git, "production", "v1.0.0", keys=(key,))[0].unchanged


def test_a_version_is_not_replaced(repository: str, git: GitRepo, key: Signer) -> None:
    first, _ = push(repository, git, "v1.0.0", keys=(key,))
    git.commit({"a.yaml": MANIFEST % "other"}, at="2026-03-01T13:00:00Z")
    with pytest.raises(Refused) as caught:
        push(repository, git, "v1.0.0", keys=(key,))
    assert caught.value.reason == "TagImmutable"
    found = open_store(repository).resolve("v1.0.0")
    assert found is not None
    assert found.digest == first.digest


def test_two_pushes_at_once_keep_both_signatures(repository: str, git: GitRepo) -> None:
    keys = [generate(), generate()]
    errors: list[BaseException] = []

    def run(key: Signer) -> None:
        try:
            push(repository, git, "production", keys=(key,))
        except BaseException as err:  # noqa: BLE001  # shown by the assertion below
            errors.append(err)

    threads = [threading.Thread(target=run, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    # Either may have seen the other's write only too late: a second run completes what is missing.
    digest = push(repository, git, "production", keys=tuple(keys))[0].digest
    assert len(open_store(repository).referrers(digest).descriptors) == 2
