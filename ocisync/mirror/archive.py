"""The tar file around a mirror file's parts, written and read strictly in order, each a stream.

Members, in exactly this order: `oci-layout`, `index.json`, `contents.json`, then one `blobs/sha256/HEX` for each digest
that the contents list. Nothing else, nothing twice, nothing out of order, plain files only: a reader always knows the
one name and size that may come next. So a hostile file has no room for links, paths, bombs or double names.

Sizes are known before any byte is written, so the file can go to a pipe.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from typing import BinaryIO

from ocisync.kit.strictjson import Malformed
from ocisync.mirror.contents import CONTENTS_TYPE, Contents, parse_contents
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import Refused
from ocisync.model.limits import LAYOUT_INDEX_BYTES, MIRROR_CONTENTS_BYTES, MIRROR_HEAD_BYTES
from ocisync.oci.documents import BAD_ARTIFACT
from ocisync.oci.layoutfiles import INDEX, MARKER, MARKER_BYTES, MARKER_TEXT, blob_name, check_marker
from ocisync.oci.layoutreader import open_checked
from ocisync.signing.envelope import Sealed, unseal

CONTENTS = "contents.json"
_BLOCK = 512
_CHUNK = 1024 * 1024
_PADDING_BYTES = 1024 * 1024  # tar pads files to whole records, usually of 10 KiB
_USTAR_BYTES = 8 * 1024 * 1024 * 1024  # sizes from here on need GNU's form of the number
_ENVELOPE_BYTES = MIRROR_CONTENTS_BYTES * 3 // 2  # base64, and signatures

Progress = Callable[[int], None]


class ArchiveWriter:
    """Writes members one after the other."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self.written = 0

    def put(self, name: str, data: bytes) -> None:
        """A member from memory."""
        self._write(header_of(name, len(data)) + data + bytes(-len(data) % _BLOCK))

    def copy(self, descriptor: Descriptor, source: BinaryIO, progress: Progress) -> None:
        """A blob, checked while it is copied: after an error the file is unusable, and its reader would notice.

        Raises:
            Refused: the source gives other content.
        """
        self._write(header_of(blob_name(descriptor.digest), descriptor.size))
        digest, left = hashlib.sha256(), descriptor.size
        while left and (chunk := source.read(min(_CHUNK, left))):
            digest.update(chunk)
            self._write(chunk)
            left -= len(chunk)
            progress(len(chunk))
        if left or "sha256:" + digest.hexdigest() != descriptor.digest:
            raise Refused(f"blob {descriptor.digest} is not what its descriptor says", reason=BAD_ARTIFACT)
        self._write(bytes(-descriptor.size % _BLOCK))

    def end(self) -> None:
        """Mark the end; a file without it is cut off."""
        self._write(bytes(2 * _BLOCK))
        self._target.flush()

    def _write(self, data: bytes) -> None:
        self._target.write(data)
        self.written += len(data)


def file_size(index: int, envelope: int, contents: Contents) -> int:
    """The bytes of a file with these members."""
    sizes = [len(MARKER_TEXT), index, envelope, *(size for _, size in (*contents.head(), *contents.rest()))]
    return sum(_BLOCK + size + -size % _BLOCK for size in sizes) + 2 * _BLOCK


def header_of(name: str, size: int) -> bytes:
    """The header block of a plain file."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT if size < _USTAR_BYTES else tarfile.GNU_FORMAT)


class ArchiveReader:
    """Reads members in the one order that is allowed."""

    def __init__(self, source: BinaryIO, name: str) -> None:
        self._source = source
        self.name = name
        self.consumed = 0

    def small(self, name: str, limit: int) -> bytes:
        """The next member, which must be `name`, whole.

        Raises:
            Refused: it is another one, larger than `limit`, or cut off.
        """
        size = self._next(name)
        if size > limit:
            raise Refused(f"{self.name}: {name} has {size} bytes, more than the limit of {limit}", reason="TooLarge")
        data = self._exactly(size)
        self._exactly(-size % _BLOCK)
        return data

    def blob(self, digest: str, size: int) -> bytes:
        """The next member, which must be this blob, whole and checked."""
        self._blob_header(digest, size)
        data = self._exactly(size)
        if sha256_digest(data) != digest:
            raise self._bad(f"{blob_name(digest)} has other content, with digest {sha256_digest(data)}")
        self._exactly(-size % _BLOCK)
        return data

    def stream(self, digest: str, size: int, use: Callable[[BinaryIO], object]) -> None:
        """The next member, which must be this blob, given to `use` as a stream that ends in the right content.

        What `use` leaves unread is read and checked, too.
        """
        self._blob_header(digest, size)
        what = f"{self.name}: {blob_name(digest)}"
        window = _Window(self, size)
        with open_checked(window, Descriptor("", digest, size), what) as checked:  # type: ignore[arg-type]
            use(checked)
            while checked.read(_CHUNK):
                pass
        if window.left:
            raise self._bad(f"{blob_name(digest)} was not read to its end")
        self._exactly(-size % _BLOCK)

    def end(self) -> None:
        """Check that the file ends here.

        Raises:
            Refused: it goes on, or was cut off.
        """
        if self._exactly(2 * _BLOCK).count(0) != 2 * _BLOCK:
            raise self._bad("it holds more than its contents say")
        padding = self.read(_PADDING_BYTES + 1)
        if len(padding) > _PADDING_BYTES or padding.count(0) != len(padding):
            raise self._bad("it goes on behind its end")

    def _blob_header(self, digest: str, size: int) -> None:
        found = self._next(blob_name(digest))
        if found != size:
            raise self._bad(f"{blob_name(digest)} has {found} bytes, not {size} as its contents say")

    def _next(self, name: str) -> int:
        block = self._exactly(_BLOCK)
        if block.count(0) == _BLOCK:
            raise self._bad(f"it ends where {name} belongs")
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            why = "it is compressed: gunzip it first" if block[:2] == b"\x1f\x8b" else "it is no tar file, or damaged"
            raise self._bad(why) from error
        if info.name != name or info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise self._bad(f"member {info.name[:120]!r} where the plain file {name} belongs")
        if info.size < 0:
            raise self._bad(f"{name} has a negative size")
        return info.size

    def _exactly(self, amount: int) -> bytes:
        data = self.read(amount)
        if len(data) != amount:
            raise self.cut_off()
        return data

    def cut_off(self) -> Refused:
        """The error for a file that ends too early."""
        return self._bad("it is cut off", hint="copy it again")

    def read(self, amount: int) -> bytes:
        """Bytes of the file, as many as there are."""
        parts: list[bytes] = []
        while amount and (piece := self._source.read(min(amount, _CHUNK))):  # a pipe gives less than asked for
            parts.append(piece)
            amount -= len(piece)
            self.consumed += len(piece)
        return b"".join(parts)

    def _bad(self, why: str, hint: str = "") -> Refused:
        return Refused(f"{self.name}: {why}", reason=BAD_ARTIFACT, hint=hint)


class _Window:
    """The content of the current member."""

    def __init__(self, archive: ArchiveReader, size: int) -> None:
        self._archive = archive
        self.left = size

    def read(self, amount: int) -> bytes:
        wanted = min(amount, self.left)
        data = self._archive.read(wanted)
        if len(data) < wanted:
            raise self._archive.cut_off()
        self.left -= len(data)
        return data

    def close(self) -> None:
        return None


class Head:
    """What comes before the blobs: the contents, their signatures, and the bytes that are needed for judging."""

    def __init__(self, contents: Contents, sealed: Sealed, data: dict[str, bytes]) -> None:
        self.contents = contents
        self.sealed = sealed
        self.data = data

    @property
    def digest(self) -> str:
        """Names this file: the digest of its contents document."""
        return sha256_digest(self.sealed.payload)


def read_head(archive: ArchiveReader) -> Head:
    """Read everything that comes before the blobs.

    Raises:
        Refused: it is no mirror file, cut off, too large, or not what its contents say.
    """
    check_marker(archive.small(MARKER, MARKER_BYTES), archive.name)
    index = archive.small(INDEX, LAYOUT_INDEX_BYTES)
    try:
        sealed = unseal(archive.small(CONTENTS, _ENVELOPE_BYTES), CONTENTS_TYPE, max_bytes=_ENVELOPE_BYTES)
        contents = parse_contents(sealed.payload)
    except Malformed as error:
        raise Refused(f"{archive.name}: {CONTENTS}: {error}", reason=BAD_ARTIFACT) from error
    if sha256_digest(index) != contents.index:
        raise Refused(f"{archive.name}: {INDEX} is not the one that the contents name", reason=BAD_ARTIFACT)
    head = dict(contents.head())
    if sum(head.values()) > MIRROR_HEAD_BYTES:
        raise Refused(
            f"{archive.name}: manifests and signatures of {sum(head.values())} bytes, more than {MIRROR_HEAD_BYTES}",
            reason="TooLarge",
            hint="save in several files",
        )
    return Head(contents, sealed, {digest: archive.blob(digest, size) for digest, size in head.items()})


def write_head(
    archive: ArchiveWriter, index: bytes, envelope: bytes, contents: Contents, data: Callable[[str], bytes]
) -> None:
    """Write everything that comes before the blobs; `data` gives the bytes of a digest."""
    archive.put(MARKER, MARKER_TEXT)
    archive.put(INDEX, index)
    archive.put(CONTENTS, envelope)
    for digest, _ in contents.head():
        archive.put(blob_name(digest), data(digest))
