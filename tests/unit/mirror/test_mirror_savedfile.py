"""A file appears whole or not at all; what a killed run has fetched is taken from its remains, if it is right."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ocisync.mirror.archive import header_of
from ocisync.mirror.savedfile import saved_file
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import OcisyncError, Unavailable

DATA = b"a blob" * 500


def described(data: bytes) -> Descriptor:
    return Descriptor("x", sha256_digest(data), len(data))


def member(digest: str, data: bytes) -> bytes:
    return header_of("blobs/sha256/" + digest.removeprefix("sha256:"), len(data)) + data + bytes(-len(data) % 512)


def killed(path: Path, written: bytes) -> None:
    """What a run leaves that dies at this point."""
    with pytest.raises(KeyboardInterrupt), saved_file(path) as (target, _):
        target.write(written)
        raise KeyboardInterrupt
    assert not path.exists()


def found(path: Path, data: bytes) -> bytes | None:
    with saved_file(path) as (_, spare):
        opened = spare.open(described(data))
        if opened is None:
            return None
        with opened:
            return opened.read(len(data))


def test_a_whole_blob_of_a_killed_run_is_used_again(tmp_path: Path) -> None:
    blob = described(DATA)
    killed(tmp_path / "x.tar", member(blob.digest, DATA) + member(described(b"next").digest, b"next")[:600])
    assert found(tmp_path / "x.tar", DATA) == DATA
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.tar"]


def test_a_damaged_or_cut_blob_is_not(tmp_path: Path) -> None:
    blob = described(DATA)
    killed(tmp_path / "damaged.tar", member(blob.digest, DATA[:-1] + b"!"))
    assert found(tmp_path / "damaged.tar", DATA) is None
    killed(tmp_path / "cut.tar", member(blob.digest, DATA)[:-900])
    assert found(tmp_path / "cut.tar", DATA) is None


def test_two_runs_never_write_one_file(tmp_path: Path) -> None:
    with saved_file(tmp_path / "x.tar") as (target, _):
        target.write(b"one")
        with pytest.raises(Unavailable, match="another run is writing"), saved_file(tmp_path / "x.tar"):
            pass
    assert (tmp_path / "x.tar").read_bytes() == b"one"


def test_a_disk_that_is_too_small_is_told_of_before_anything_is_written(tmp_path: Path) -> None:
    killed(tmp_path / "x.tar", b"remains")
    with (
        pytest.raises(OcisyncError, match=r"needs 8388608\.0 TiB, and .* free there"),
        saved_file(tmp_path / "x.tar", 2**63),
    ):
        pass
    assert list(tmp_path.iterdir()) == []  # the remains made room, in vain


def test_a_disk_that_becomes_full_is_left_as_it_was(tmp_path: Path) -> None:
    with (
        pytest.raises(OcisyncError, match="no space left on device; what had been written was removed"),
        saved_file(tmp_path / "x.tar") as (target, _),
    ):
        target.write(DATA)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_the_larger_remains_of_two_killed_runs_are_kept(tmp_path: Path) -> None:
    killed(tmp_path / "x.tar", member(described(DATA).digest, DATA))
    killed(tmp_path / "x.tar", b"little")
    assert found(tmp_path / "x.tar", DATA) == DATA
