"""Layers: tars that lie, gzip streams that are none, and bombs."""

from __future__ import annotations

import gzip as stdlib_gzip
import io
import json
import random
import tarfile
import zlib
from collections.abc import Callable, Iterator

from ocisync.model.descriptor import OCI_CONFIG, OCI_LAYER
from ocisync.model.digest import sha256_digest
from ocisync.model.tree import TreeFile
from ocisync.pack.tar import gzip, write_tar
from tests.security.hostile.common import BUILT, CONFIG, MANIFEST, MIB, OBJECT, PULL, Case, layout
from tests.security.test_hostile_layers import END, entry, pax


def _with_layer(layer: bytes, diff_id: str = "") -> dict[str, bytes]:
    config = json.dumps({**CONFIG, "rootfs": {"type": "layers", "diff_ids": [diff_id or BUILT.diff_id]}}).encode()
    manifest = {
        **MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": sha256_digest(config), "size": len(config)},
        "layers": [{"mediaType": OCI_LAYER, "digest": sha256_digest(layer), "size": len(layer)}],
    }
    return layout(json.dumps(manifest).encode(), {"config": config, "layer": layer})


def _tar(*parts: bytes) -> bytes:
    return b"".join(parts) + END


def hostile_tars() -> dict[str, bytes]:
    """Uncompressed."""
    good = entry(b"a.yaml")
    kinds = {name: entry(b"a", b"", kind=kind, link=b"/etc/passwd") for name, kind in KINDS.items()}
    names = {f"the name {name!r}": entry(name) for name in BAD_NAMES}
    records = {f"the PAX header {record!r}": entry(b"h", record, kind=b"x") + good for record in BAD_RECORDS}
    paxes = {
        f"PAX {key}": entry(b"h", pax((key, value)), kind=kind) + good
        for key, value, kind in (
            ("path", "../x", b"x"),
            ("path", "/x", b"x"),
            ("path", "x" * 3000, b"x"),
            ("size", "0", b"x"),
            ("linkpath", "/etc", b"x"),
            ("path", "b", b"g"),
            ("GNU.sparse.major", "1", b"x"),
            ("path", "b.yaml", b"x"),
            ("SCHILY.xattr.user.x", "1", b"x"),
            ("hdrcharset", "BINARY", b"x"),
            ("uid", "0", b"x"),
        )
    }
    damaged = bytearray(good)
    damaged[0] ^= 1
    return {
        **{name: _tar(data) for name, data in {**kinds, **names, **records, **paxes}.items()},
        "a path twice": _tar(good, good),
        "a path in two spellings": _tar(entry(b"a"), entry(b"./a")),
        "a file that is a directory": _tar(entry(b"a"), entry(b"a/b")),
        "a directory with content": _tar(entry(b"a/", b"x", kind=b"5")),
        "a damaged header": _tar(bytes(damaged)),
        "no magic": _tar(entry(b"a", magic=bytes(8))),
        "a huge size": entry(b"a", b"", size=b"77777777777\0"),
        "a negative size": _tar(entry(b"a", size=b"\xff" * 12)),
        "a size that is no number": _tar(entry(b"a", size=b"xxxxxxxxxxx\0")),
        "no end": good,
        "half an end": good + bytes(512),
        "two tars": _tar(good) + _tar(entry(b"b")),
        "bytes behind the end": _tar(good) + b"x" * 512,
        "bytes in the padding": _tar(good[:600] + b"x" + good[601:]),
        "no tar": b"x" * 10_240,
        "YAML": OBJECT.encode(),
        "many entries": b"".join(entry(b"f%d" % i, b"") for i in range(100_100)) + END,
        "endless PAX headers": entry(b"h", pax(("comment", "x")), kind=b"g") * 100_100 + END,
    }


KINDS = {
    "a hard link": b"1",
    "a symbolic link": b"2",
    "a character device": b"3",
    "a block device": b"4",
    "a FIFO": b"6",
    "a contiguous file": b"7",
    "a GNU sparse file": b"S",
    "a GNU long name": b"L",
    "an unknown type": b"Z",
    "a multi-volume part": b"M",
    "a GNU directory dump": b"D",
    "a Solaris header": b"X",
}
BAD_NAMES = [
    b"../x",
    b"a/../../x",
    b"/etc/passwd",
    b"./../x",
    b".//etc/x",
    b"..\\x",
    b"C:\\x",
    b"a\x1b[2Jb",
    b"a\x07",
    b"\xff\xfe",
    b"a/.wh.b",
    b".wh..wh..opq",
    b"/",
    b"..",
    b"a/",
    b"a\0b",
    b"/".join([b"d"] * 40),
    b"a/./../../b",
    b"a\nb",
    b"",
]
BAD_RECORDS = [
    b"9 path\n",
    b"99 path=a\n",
    b"0 path=a\n",
    b"x path=a\n",
    b"-1 path=a\n",
    b"garbage",
    b"7 =aa\n\n",
    b"",
    b"\0" * 512,
]


def layer_cases() -> Iterator[Case]:
    """Tars that lie, gzip streams that are none, and bombs."""
    for name, tar in hostile_tars().items():
        yield Case(f"layer {name}", PULL, _with_layer(gzip(tar)))
    good = _tar(entry(b"a.yaml", OBJECT.encode()))
    layer = gzip(good)
    for end in (0, 1, 5, 10, 18, 30, len(layer) - 9, len(layer) - 8, len(layer) - 1):
        yield Case(f"gzip cut at {end}", PULL, _with_layer(layer[:end], sha256_digest(good)))
    rng = random.Random(11)
    for at in sorted(rng.sample(range(12, len(layer)), 12)):
        broken = bytearray(layer)
        broken[at] ^= 1 << rng.randrange(8)
        yield Case(f"gzip bit flipped at {at}", PULL, _with_layer(bytes(broken), sha256_digest(good)))
    for at in sorted(rng.sample(range(500), 12)):
        other = bytearray(good)
        other[at] ^= 1
        yield Case(f"tar bit flipped at {at}", PULL, _with_layer(gzip(bytes(other)), sha256_digest(bytes(other))))
    compressions: dict[str, Callable[[bytes], bytes]] = {
        "zlib": zlib.compress,
        "nothing": bytes,
        "bzip2": lambda data: b"BZh9" + data,
        "zstd": lambda data: b"\x28\xb5\x2f\xfd" + data,
        "two members": lambda data: gzip(data) * 2,
        "zeros behind it": lambda data: gzip(data) + bytes(99),
        "gzip twice": lambda data: gzip(gzip(data)),
    }
    for name, compress in compressions.items():
        yield Case(f"compressed with {name}", PULL, _with_layer(compress(good), sha256_digest(good)))
    yield Case(
        "another content than the config claims", PULL, _with_layer(layer, "sha256:" + "0" * 64), "names content"
    )
    yield Case("a bomb of zeros", PULL, _with_layer(_zeros(150)))
    yield Case("a bomb in one file", PULL, _with_layer(_bomb([("a", 30)])))
    yield Case("a bomb in many files", PULL, _with_layer(_bomb([(f"f{i}", 10) for i in range(12)])))
    noise = random.Random(7).randbytes(MIB)
    yield Case("a large layer", PULL, _with_layer(gzip(write_tar([TreeFile(f"f{i}", noise * 4) for i in range(12)]))))
    yield Case("a layer that unpacks to much", PULL, _with_layer(_noisy(noise)))


def _zeros(mib: int) -> bytes:
    deflate = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join(deflate.compress(bytes(MIB)) for _ in range(mib)) + deflate.flush()


def _bomb(files: list[tuple[str, int]]) -> bytes:
    out = io.BytesIO()
    with (
        stdlib_gzip.GzipFile(fileobj=out, mode="wb", mtime=0, compresslevel=1) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, mib in files:
            info = tarfile.TarInfo(name)
            info.size = mib * MIB
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return out.getvalue()


def _noisy(noise: bytes) -> bytes:
    """Unpacks to more than is allowed without compressing like a bomb."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, 31)
    sparse = (noise[:8192] + bytes(120_000)) * 8
    head = entry(b"a", b"", size=b"%011o\0" % (len(sparse) * 20))
    parts = [deflate.compress(entry(b"f%d" % i, sparse)) for i in range(130)]
    return deflate.compress(head[:0]) + b"".join(parts) + deflate.flush()
