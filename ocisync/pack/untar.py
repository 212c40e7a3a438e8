"""Read a layer that a stranger may have written: one pass, in memory, never on disk, everything bounded.

The gzip stream must be one member that ends where the layer ends. The tar may hold regular files and directories
only. Refused, naming the entry: absolute paths, `..`, links, devices, sparse files, deletion marks, names that are
not UTF-8, the same path twice, a path that is file and directory, PAX records that change a size or hide a plain
name, checksums that do not fit, anything after the end. The caps are those of `ocisync.model.limits`; the ratio cap
stops bombs long before the size cap does. `diff_id`, the digest of the uncompressed tar, is computed on the way.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import NoReturn

from ocisync.model import limits
from ocisync.model.artifact import ArtifactManifest, VerdictReason, Verified
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import Refused
from ocisync.model.tree import TreeFile
from ocisync.model.values import dataclass
from ocisync.pack.artifact import check_config
from ocisync.pack.paths import path_problem
from ocisync.pack.tar import BLOCK, NAME_BYTES

_CHUNK = 256 * 1024
_PAX_BYTES = 64 * 1024
_HARMLESS_PAX = frozenset({"atime", "ctime", "mtime", "uid", "gid", "uname", "gname", "comment", "charset"})
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"7": "a contiguous file",
    b"S": "a sparse file",
    b"L": "a GNU long name",
    b"K": "a GNU long link",
    b"D": "a GNU directory dump",
    b"M": "a GNU continuation",
    b"V": "a volume label",
}


@dataclass(frozen=True, slots=True)
class Caps:
    """What one layer may cost."""

    total_bytes: int = limits.UNPACKED_BYTES
    entries: int = limits.UNPACKED_ENTRIES
    file_bytes: int = limits.UNPACKED_FILE_BYTES
    ratio: int = limits.UNPACKED_RATIO
    ratio_floor: int = limits.UNPACKED_RATIO_FLOOR


def unpack(verified: Verified, config: bytes, layer: bytes) -> tuple[TreeFile, ...]:
    """The files of a verified artifact, sorted by path.

    Raises:
        Refused: reason BadArtifact, for bytes that are not what the manifest names and for everything above.
    """
    return read_unverified(verified.manifest, config, layer)


def read_unverified(manifest: ArtifactManifest, config: bytes, layer: bytes) -> tuple[TreeFile, ...]:
    """The same files of an artifact that nobody has judged: to look at and to compare, never for a cluster.

    Raises:
        Refused: as `unpack`; whoever wrote the artifact is a stranger in both cases.
    """
    _check_identity(config, manifest.config, "config")
    _check_identity(layer, manifest.layer, "layer")
    claimed = check_config(config, manifest)
    files, diff_id = read_layer(layer)
    if claimed and diff_id != claimed:
        _refuse(f"the config names content {claimed}, the layer unpacks to {diff_id}")
    return files


_CAPS = Caps()


def read_layer(layer: bytes, caps: Caps = _CAPS) -> tuple[tuple[TreeFile, ...], str]:
    """Unpack layer bytes into files and the digest of the tar.

    Raises:
        Refused: reason BadArtifact.
    """
    stream = _Inflater(layer, caps)
    files = _TarReader(stream, caps).read()
    return files, stream.finish()


def content_digest(layer: bytes) -> str:
    """The digest of the tar in a layer, bounded, without reading the tar.

    Raises:
        Refused: reason BadArtifact.
    """
    stream = _Inflater(layer, _CAPS)
    while stream.read_some():
        pass
    return stream.finish()


def _refuse(message: str) -> NoReturn:
    raise Refused(message, reason=VerdictReason.BAD_ARTIFACT.value)


def _check_identity(data: bytes, expected: Descriptor, what: str) -> None:
    if len(data) != expected.size or sha256_digest(data) != expected.digest:
        _refuse(f"{what} is not {expected.digest} of {expected.size} bytes")


class _Inflater:
    """A bounded gzip stream that hashes what it gives."""

    def __init__(self, layer: bytes, caps: Caps) -> None:
        if len(layer) > limits.LAYER_BYTES:
            _refuse(f"layer has {len(layer)} bytes, more than the limit of {limits.LAYER_BYTES}")
        self._layer = memoryview(layer)
        self._caps = caps
        self._next = 0
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._hash = hashlib.sha256()
        self._buffer = b""
        self._at = 0  # how much of the buffer was read
        self._total = 0

    def read_some(self) -> bytes:
        """The next decompressed bytes; empty at the end of the stream."""
        while not self._inflate.eof:
            source = self._inflate.unconsumed_tail
            if not source:
                source = bytes(self._layer[self._next : self._next + _CHUNK])
                self._next += len(source)
            try:
                # Without a source too: the decompressor may hold back output that was over the chunk size.
                data = self._inflate.decompress(source, _CHUNK)
            except zlib.error as err:
                _refuse(f"the layer is not gzip: {err}")
            if data:
                self._count(data)
                return data
            if not source and not self._inflate.eof:
                _refuse("the layer's gzip stream is cut off")
        return b""

    def _count(self, data: bytes) -> None:
        self._total += len(data)
        self._hash.update(data)
        if self._total > self._caps.total_bytes:
            _refuse(f"the layer unpacks to more than {self._caps.total_bytes} bytes")
        if self._total > self._caps.ratio_floor and self._total > len(self._layer) * self._caps.ratio:
            _refuse(f"the layer unpacks to more than {self._caps.ratio} times its size")

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        end = self._at + size
        if end <= len(self._buffer):
            data = self._buffer[self._at : end]
            self._at = end
            return data
        parts = [self._buffer[self._at :]]
        missing = size - len(parts[0])
        while missing > 0:
            self._buffer = self.read_some()
            if not self._buffer:
                _refuse("the layer's tar is cut off")
            parts.append(self._buffer[:missing])
            self._at = len(parts[-1])
            missing -= self._at
        return b"".join(parts)

    def finish(self) -> str:
        """Check that nothing but zeros follows; the digest of everything."""
        rest = self._buffer[self._at :]
        while True:
            if rest.strip(b"\0"):
                _refuse("something follows the end of the tar")
            rest = self.read_some()
            if not rest:
                break
        if self._inflate.unused_data or self._next < len(self._layer):
            _refuse("something follows the end of the gzip stream")
        return "sha256:" + self._hash.hexdigest()


class _TarReader:
    def __init__(self, stream: _Inflater, caps: Caps) -> None:
        self._stream = stream
        self._caps = caps
        self._files: dict[str, bytes] = {}
        self._directories: set[str] = set()  # named by an entry of their own
        self._parents: set[str] = set()
        self._pax_path: str | None = None

    def read(self) -> tuple[TreeFile, ...]:
        zero = bytes(BLOCK)
        entries = 0
        while True:
            header = self._stream.read(BLOCK)
            if header == zero:
                break
            entries += 1
            if entries > self._caps.entries:
                _refuse(f"the layer has more than {self._caps.entries} entries")
            self._entry(header)
        if self._pax_path is not None:
            _refuse("a PAX header has no entry after it")
        if self._stream.read(BLOCK) != zero:
            _refuse("the tar does not end with two zero blocks")
        for path in self._files:
            if path in self._parents or path in self._directories:
                _refuse(f"{path!r} is a file and a directory")
        return tuple(TreeFile(path, self._files[path]) for path in sorted(self._files))

    def _entry(self, header: bytes) -> None:
        kind = header[156:157]
        name = _raw_name(header)
        size = _checked_size(header, name)
        if kind in (b"x", b"g"):
            self._pax(kind, self._payload(size, _PAX_BYTES, "a PAX header"))
            return
        if kind in _KINDS:
            _refuse(f"{_shown(name)} is {_KINDS[kind]}; an artifact holds files and directories only")
        if kind not in (b"0", b"\0", b"5"):
            _refuse(f"{_shown(name)} has the unknown entry type {kind!r}")
        path = self._path(name, kind)
        if kind == b"5":
            if size:
                _refuse(f"directory {path!r} has content")
            self._add_directory(path)
        else:
            self._add_file(path, self._payload(size, self._caps.file_bytes, repr(path)))

    def _payload(self, size: int, cap: int, what: str) -> bytes:
        if size > cap:
            _refuse(f"{what} has {size} bytes, more than the limit of {cap}")
        data = self._stream.read(size)
        if self._stream.read(-size % BLOCK).strip(b"\0"):
            _refuse(f"{what} is padded with something other than zeros")
        return data

    def _path(self, name: bytes, kind: bytes) -> str:
        try:
            path = name.decode()
        except UnicodeDecodeError:
            _refuse(f"{_shown(name)} is not UTF-8")
        if self._pax_path is not None:
            full, self._pax_path = self._pax_path, None
            if full != path and full.isascii() and len(full) <= NAME_BYTES:
                _refuse(f"a PAX header renames {path!r} to {full!r} though the name fits")
            path = full
        if kind == b"5":
            path = path.removesuffix("/")
        elif path.endswith("/"):
            _refuse(f"{path!r} is named like a directory, but is a file")
        path = path.removeprefix("./")
        if path == "." and kind == b"5":
            return path
        problem = path_problem(path)
        if problem:
            _refuse(f"path {path[:200]!r} {problem}")
        return path

    def _add_directory(self, path: str) -> None:
        # Twice is harmless, and what imgpkg writes for several `-f`.
        self._directories.add(path)
        self._note_parents(path)

    def _add_file(self, path: str, data: bytes) -> None:
        if path in self._files:
            _refuse(f"{path!r} is there twice")
        self._files[path] = data
        self._note_parents(path)

    def _note_parents(self, path: str) -> None:
        end = path.rfind("/")
        while end > 0 and path[:end] not in self._parents:
            path = path[:end]
            self._parents.add(path)
            end = path.rfind("/")

    def _pax(self, kind: bytes, data: bytes) -> None:
        if self._pax_path is not None:
            _refuse("two PAX headers for one entry")
        seen: set[str] = set()
        for key, value in _records(data):
            if key in seen:
                _refuse(f"PAX record {key!r} is there twice")
            seen.add(key)
            if key == "path" and kind == b"x":
                self._pax_path = value
            elif key not in _HARMLESS_PAX and not key.startswith(("SCHILY.xattr.", "LIBARCHIVE.xattr.")):
                _refuse(f"PAX record {key[:60]!r} is not accepted")


def _raw_name(header: bytes) -> bytes:
    name = _field(header[:100], "name")
    # GNU headers use the prefix area for other things; only POSIX ones have a prefix.
    prefix = _field(header[345:500], "prefix") if header[257:265] == b"ustar\x0000" else b""
    return prefix + b"/" + name if prefix else name


def _field(data: bytes, what: str) -> bytes:
    text, _, rest = data.partition(b"\0")
    if rest.strip(b"\0"):
        _refuse(f"the {what} field of an entry holds bytes after its end")
    return text


def _checked_size(header: bytes, name: bytes) -> int:
    if header[257:263] not in (b"ustar\0", b"ustar "):
        _refuse(f"{_shown(name)} has no ustar header")
    checksum = sum(header[:148]) + 8 * 0x20 + sum(header[156:])
    if _octal(header[148:156], "checksum") != checksum:
        _refuse(f"the header of {_shown(name)} is damaged")
    return _octal(header[124:136], "size")


def _octal(field: bytes, what: str) -> int:
    text = field.strip(b" \0")
    if not text or text.strip(b"01234567"):
        _refuse(f"the {what} field of an entry is not octal")
    return int(text, 8)


def _records(data: bytes) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    while data:
        length, space, _ = data.partition(b" ")
        if not space or not length.isdigit() or len(length) > 6 or length.startswith(b"0"):
            _refuse("a PAX header is malformed")
        size = int(length)
        record, data = data[:size], data[size:]
        key, equals, value = record[len(length) + 1 : -1].partition(b"=")
        if len(record) != size or not record.endswith(b"\n") or not equals or not key:
            _refuse("a PAX header is malformed")
        try:
            out.append((key.decode(), "" if key != b"path" else value.decode()))
        except UnicodeDecodeError:
            _refuse(f"{_shown(value)} is not UTF-8")
    return out


def _shown(name: bytes) -> str:
    return repr(name[:200].decode(errors="backslashreplace"))
