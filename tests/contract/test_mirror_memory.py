"""Memory does not grow with a blob: copied, saved, verified, loaded, through files and pipes, on real registries.

`OCISYNC_HEAVY=1` takes 5 GiB instead of 200 MB, and needs 20 GiB of disk; the bound is the same.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import secrets
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from ocisync.model.descriptor import EMPTY_JSON, OCI_MANIFEST, Descriptor
from ocisync.model.limits import MIB
from ocisync.oci.client import open_store
from ocisync.signing.keys import generate
from tests.support.closures import push_signed
from tests.support.images import EMPTY, image, quick
from tests.support.peakmemory import measured
from tests.support.registries import Registry
from tests.support.verifying import tagged

HEAVY = os.environ.get("OCISYNC_HEAVY") == "1"
LARGE_BYTES = 5 * 1024 * MIB if HEAVY else 200 * MIB
MEMORY_BYTES = 150 * MIB


class _Generated(io.RawIOBase):
    """So many bytes, made while they are read."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._left = size
        self._block = random.Random(1).randbytes(MIB)

    def readable(self) -> bool:
        return True

    def read(self, amount: int = -1, /) -> bytes:
        count = min(self._left, amount if 0 <= amount < MIB else MIB)
        self._left -= count
        return self._block[:count]


def _digest_of(size: int) -> str:
    made, found = _Generated(size), hashlib.sha256()
    while data := made.read(MIB):
        found.update(data)
    return "sha256:" + found.hexdigest()


@pytest.mark.timeout(7200)
def test_memory_is_bounded_whatever_the_size_of_a_blob(
    distribution: Registry, olareg: Registry, tmp_path: Path
) -> None:
    name = f"large/{secrets.token_hex(4)}"
    source, signer = f"{distribution.host}/{name}", generate()
    (tmp_path / "release.pub").write_text(signer.public.pem)
    layer = Descriptor("application/octet-stream", _digest_of(LARGE_BYTES), LARGE_BYTES)
    with open_store(source, quick()) as store:
        push_signed(store, 0, signer)
        subject = store.manifest("1.0.0").descriptor
        store.put_blob(layer, cast(BinaryIO, _Generated(LARGE_BYTES)))
        store.put_blob(EMPTY, EMPTY_JSON)
        store.attach(image(layer, subject=subject, artifactType="application/vnd.example.disk"), subject)
        store.put_manifest(image(layer), OCI_MANIFEST, "9.0.0")
    file, key = tmp_path / "mirror.tar", str(tmp_path / "release.pub")
    signed = f"{source}:1.0.0"
    steps = {
        "copy": (["copy", f"{source}:9.0.0", f"{olareg.host}/{name}-copied", "-q"], None, None),
        "save to a pipe": (["save", signed, "-o", "-", "-q"], None, file),
        "verify": (["verify", str(file), "--key", key, "-q"], None, None),
        "load from a pipe": (["load", "-", f"{olareg.host}/{name}", "--key", key, "-q"], file, None),
        "load": (["load", str(file), f"{olareg.host}/{name}-file", "--key", key, "--check-first", "-q"], None, None),
        "save": (["save", signed, "-o", str(file), "-q"], None, None),
    }
    for step, (arguments, stdin, stdout) in steps.items():
        code, peak = measured(["mirror", *arguments], timeout_s=3600, stdin=stdin, stdout=stdout)
        print(f"{step} of {LARGE_BYTES // MIB} MiB: {peak / MIB:.0f} MiB")
        assert code == 0, step
        assert peak < MEMORY_BYTES, f"{step}: {peak // MIB} MiB"
        if step == "load":
            file.unlink()
    for repository, tag in ((f"{name}-copied", "9.0.0"), (name, "1.0.0"), (f"{name}-file", "1.0.0")):
        assert tagged(f"{olareg.host}/{repository}", tag)
    file.unlink()
