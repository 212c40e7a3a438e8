"""`Store`: what the rest of ocisync knows of a registry. One object is one repository.

A store is thread-safe. Whatever it returns has been checked: manifests and blobs have the digest (and blobs the
length) that was asked for, sizes are bounded, media types agree. What it returns is still *untrusted* content: only
its identity is proven.

Errors are those of `ocisync.model.errors`: `NotFound`, `AccessDenied`, `Unavailable` (transient), `Refused` (content
that is not what its digest, length or type promised; immutable tags; reason `BadArtifact`, `TagImmutable`, …).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Protocol, runtime_checkable

from ocisync.model.descriptor import Descriptor
from ocisync.model.values import dataclass


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or index: its exact bytes and the descriptor computed from them."""

    descriptor: Descriptor
    raw: bytes


@dataclass(frozen=True, slots=True)
class PutResult:
    """A stored manifest. `subject_indexed`: the registry says that its referrers API lists it."""

    digest: str
    subject_indexed: bool


@dataclass(frozen=True, slots=True)
class Referrers:
    """What a registry says refers to a digest: unproven descriptors, duplicates removed, order kept.

    Attributes:
        truncated: there were more than may be listed.
        problems: entries that were skipped because they are no descriptors.
        api: the registry has the referrers API (otherwise the list comes from the fallback tag).
        from_tag: the list comes from the fallback tag all the same: the API listed nothing. What the API lists is in
            the registry; a list that clients keep at a tag can name what is gone.
    """

    descriptors: tuple[Descriptor, ...]
    truncated: bool = False
    problems: tuple[str, ...] = ()
    api: bool = False
    from_tag: bool = False


class Store(Protocol):
    """One repository of one registry."""

    @property
    def repository(self) -> str:
        """`host/path` as the user typed it."""
        ...

    def resolve(self, ref: str) -> Descriptor | None:
        """Ask (HEAD) what a tag or digest is now; None if it does not exist."""
        ...

    def manifest(self, ref: str) -> Manifest:
        """Fetch a manifest by tag or digest.

        Raises:
            NotFound: no such manifest.
            Refused: other bytes than the digest says, too large, or an ambiguous type.
        """
        ...

    def blob(self, descriptor: Descriptor, *, max_bytes: int) -> bytes:
        """Fetch a blob of exactly `descriptor.size` bytes and `descriptor.digest`.

        Raises:
            NotFound: no such blob.
            Refused: larger than `max_bytes`, or not what the descriptor says.
        """
        ...

    def has_blob(self, digest: str) -> bool:
        """Tell whether the repository has a blob."""
        ...

    def put_blob(self, descriptor: Descriptor, data: bytes | BinaryIO, *, absent: bool = False) -> bool:
        """Upload a blob unless the repository has it; True if it was uploaded.

        A file must be seekable to survive a lost connection. `absent`: that it is not there was just asked.
        """
        ...

    def mount_blob(self, digest: str, from_repository: str) -> bool:
        """Link a blob from another repository (`host/path`) of the same registry; False if it must be uploaded."""
        ...

    def put_manifest(self, raw: bytes, media_type: str, ref: str) -> PutResult:
        """Store exactly these bytes under a tag or their digest.

        Raises:
            Refused: the registry does not let this tag move, or rejects the manifest.
        """
        ...

    def tags(self) -> Iterator[str]:
        """List tags, page by page."""
        ...

    def referrers(self, digest: str) -> Referrers:
        """List what refers to `digest`: the referrers API, else the fallback tag."""
        ...

    def attach(self, raw_manifest: bytes, subject: Descriptor) -> Descriptor:
        """Store a manifest that refers to `subject` and make sure that it is listed."""
        ...

    def delete_tag(self, tag: str) -> None:
        """Remove one tag; never the manifest, never its other tags."""
        ...

    def ping(self) -> None:
        """Check that the registry answers and accepts our login."""
        ...

    def close(self) -> None:
        """Close connections; the store opens new ones when it is used again."""
        ...


@runtime_checkable
class TimedStore(Protocol):
    """A store whose requests can be slow, so that callers may bound them."""

    def within(self, seconds: float) -> Store:
        """The same store, for requests that must all be answered within `seconds` from now.

        What is not raises `Unavailable`.
        """
        ...


@runtime_checkable
class ListingStore(Protocol):
    """A store that can leave the fallback tag alone, for callers who know the repository's tags."""

    def api_referrers(self, digest: str) -> Referrers | None:
        """What the referrers API lists; None if the registry has no such API."""
        ...


@runtime_checkable
class BatchStore(Protocol):
    """A store that takes several referrers of one subject with one wait for rivals, which the caller does."""

    def attach_all(self, raw_manifests: Sequence[bytes], subject: Descriptor) -> Callable[[], None] | None:
        """Store them one after the other.

        Returns:
            None if all of them are listed; else a function to be called later, which reads back and repeats.
        """
        ...


@runtime_checkable
class StreamingStore(Protocol):
    """A store that gives blobs of any size piece by piece."""

    def open_blob(self, descriptor: Descriptor) -> BinaryIO:
        """Open a blob of exactly `descriptor.size` bytes and `descriptor.digest`; use it in a `with`.

        Reading raises `Refused` instead of giving the last piece of other content, so that what was read whole is
        right. `put_blob` of another store takes it.

        Raises:
            NotFound: no such blob.
        """
        ...
