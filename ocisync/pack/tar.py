"""Write the layer: a tar whose bytes depend on paths and contents only, compressed without a time or an origin.

USTAR headers, a PAX record only for names that USTAR cannot hold (over 100 bytes, or not ASCII). Entries are sorted
by path bytes, each directory once and before what is in it; directories 0755, files 0644, owner, group and times
zero, no user names. Written here rather than by `tarfile`, so that no Python release can change a digest.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

from ocisync.model.errors import Finding, InvalidInput
from ocisync.model.tree import TreeFile
from ocisync.pack.paths import path_problem

BLOCK = 512
NAME_BYTES = 100
GZIP_LEVEL = 6
# Magic, deflate, no flags, time 0, no level hint, origin "unknown": nothing that differs between machines.
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def write_tar(files: Sequence[TreeFile]) -> bytes:
    """Pack files, in any order, into a tar.

    Raises:
        InvalidInput: for paths that no artifact may hold, and for one path twice or as both file and directory.
    """
    ordered = sorted(files, key=lambda file: file.path.encode(errors="surrogateescape"))
    _check_paths(ordered)
    out = bytearray()
    made: set[str] = set()
    for file in ordered:
        for directory in _new_parents(file.path, made):
            _add_entry(out, directory + "/", b"", 0o755, b"5")
        _add_entry(out, file.path, file.data, 0o644, b"0")
    out += bytes(2 * BLOCK)
    return bytes(out)


def count_entries(files: Sequence[TreeFile]) -> int:
    """How many headers `write_tar` writes: the number that a reader counts and caps."""
    known: set[str] = set()
    paths = {file.path for file in files}
    paths.update(f"{parent}/" for file in files for parent in _new_parents(file.path, known))
    return len(paths) + sum(1 for path in paths if _needs_pax(path.encode()))


def gzip(data: bytes) -> bytes:
    """Compress. Equal input gives equal output for equal zlib builds; only the tar's own digest is promised."""
    deflate = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    trailer = zlib.crc32(data).to_bytes(4, "little") + (len(data) & 0xFFFFFFFF).to_bytes(4, "little")
    return b"".join((_GZIP_HEADER, deflate.compress(data), deflate.flush(), trailer))


def _check_paths(ordered: Iterable[TreeFile]) -> None:
    findings: list[Finding] = []
    seen: set[str] = set()
    directories: set[str] = set()
    for file in ordered:
        problem = path_problem(file.path)
        if file.path in seen:
            problem = "is there twice"
        if problem:
            shown = file.path.encode(errors="backslashreplace").decode()
            findings.append(Finding(shown, 0, 0, f"this path {problem}; no artifact can hold it"))
        seen.add(file.path)
        _new_parents(file.path, directories)
    findings += [Finding(path, 0, 0, "this path is a file and a directory") for path in sorted(seen & directories)]
    if findings:
        raise InvalidInput(str(findings[0]), findings=tuple(findings), hint="rename the file")


def _new_parents(path: str, known: set[str]) -> list[str]:
    """The directories above a path that are not known yet, outermost first; from now on they are."""
    new: list[str] = []
    while "/" in path:
        path = path.rpartition("/")[0]
        if path in known:
            break
        known.add(path)
        new.append(path)
    new.reverse()
    return new


def _add_entry(out: bytearray, path: str, data: bytes, mode: int, kind: bytes) -> None:
    name = path.encode()
    if _needs_pax(name):
        record = _pax_record(b"path", name)
        out += _header(b"././@PaxHeader", len(record), 0o644, b"x")
        _add_padded(out, record)
        name = path.encode("ascii", "replace")[:NAME_BYTES]
    out += _header(name, len(data), mode, kind)
    _add_padded(out, data)


def _needs_pax(name: bytes) -> bool:
    return len(name) > NAME_BYTES or not name.isascii()


def _add_padded(out: bytearray, data: bytes) -> None:
    out += data
    out += bytes(-len(data) % BLOCK)


def _pax_record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE` and a line feed, where LENGTH counts itself."""
    rest = len(key) + len(value) + 3
    size = rest + len(str(rest))
    if len(str(size)) > len(str(rest)):
        size += 1
    return b"%d %s=%s\n" % (size, key, value)


def _header(name: bytes, size: int, mode: int, kind: bytes) -> bytes:
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, 0, 0, size, 0)
    tail = kind + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
    checksum = sum(head) + 8 * 0x20 + sum(tail)
    return head + b"%06o\0 " % checksum + tail
