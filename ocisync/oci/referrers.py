"""Referrers: the API of the distribution specification 1.1 and, where a registry lacks it, the fallback tag.

The fallback is an index at tag `sha256-<hex>` that clients maintain themselves. cosign writes wrong artifact types into
it, so its entries are listed whole and never filtered. An update is an unlocked read-modify-write that another client
may undo: attaching reads back and repeats until the entry stays. Entries and fields of others are kept as they are;
something at that tag that is no index is left alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from ocisync.model.descriptor import OCI_INDEX, Descriptor
from ocisync.model.errors import NotFound, Refused, Unavailable
from ocisync.model.limits import EVIDENCE_DESCRIPTORS, MANIFEST_BYTES
from ocisync.model.ref import fallback_tag
from ocisync.oci.documents import (
    BAD_ARTIFACT,
    INDEX_TYPES,
    descriptor_of,
    index_entries,
    parse_json,
    referrer_descriptor,
    subject_digest,
    with_entry,
)
from ocisync.oci.failures import Answer
from ocisync.oci.headers import media_type_of
from ocisync.oci.options import RegistryOptions
from ocisync.oci.retry import RetryPlan
from ocisync.oci.store import Manifest, PutResult, Referrers

ATTACH_ROUNDS = 10
REFERRER_PAGES = 50  # registries give 100 entries and more at once; a page may take as long as it likes to come
SETTLE_S = 0.1  # how long a rival's update of the fallback index may take to overwrite ours

# Registries without the API answer in many ways; some front ends answer 200 with a web page.
_NO_API = (NotFound, Refused)


class ReferrerStore(Protocol):
    """The part of a store that this module needs."""

    @property
    def repository(self) -> str:
        """`host/path`."""
        ...

    def manifest(self, ref: str) -> Manifest:
        """Fetch a manifest."""
        ...

    def put_manifest(self, raw: bytes, media_type: str, ref: str) -> PutResult:
        """Store a manifest."""
        ...

    def referrers_page(self, digest: str) -> Iterator[Answer]:
        """The pages of the referrers API."""
        ...


def list_referrers(store: ReferrerStore, digest: str) -> Referrers:
    """List descriptors that refer to a digest: from the API; from the fallback tag without API or API entries.

    A later page that does not come, or is none, costs the pages after it: what was listed before is `truncated`.
    """
    found = _from_api(store, digest, keep=True)
    if found is not None and (found.descriptors or found.truncated):
        return found
    # A registry that gained the API later may know nothing of what clients kept at the tag before.
    fallback = _from_tag(store, digest)
    return replace(fallback, api=found is not None, from_tag=True)


def api_referrers(store: ReferrerStore, digest: str) -> Referrers | None:
    """The same from the API alone; None without API."""
    return _from_api(store, digest, keep=True)


def _from_api(store: ReferrerStore, digest: str, *, keep: bool = False) -> Referrers | None:
    """What the API lists; None if there is no API. `keep`: what was listed before a page failed."""
    entries: list[object] = []
    what = f"referrers of {store.repository}@{digest}"
    first = True
    pages = 0
    try:
        for answer in store.referrers_page(digest):
            if media_type_of(answer.header("content-type")) not in INDEX_TYPES:
                if first:
                    return None
                raise Refused(f"{what}: a page is no index", reason=BAD_ARTIFACT)
            entries += index_entries(parse_json(answer.body, what), what)
            first = False
            pages += 1
            if len(entries) > EVIDENCE_DESCRIPTORS or pages >= REFERRER_PAGES:
                break
    except _NO_API as error:
        if error.reason == "TooLarge":
            # More than is read, which is not the same as nothing: signatures may be in what was left out.
            return replace(_bounded(entries, what, api=True), truncated=True, problems=(error.message,))
        if first:
            return None
        if keep:
            return replace(_bounded(entries, what, api=True), truncated=True, problems=(error.message,))
        raise
    except Unavailable as error:
        if first or not keep:
            raise
        return replace(_bounded(entries, what, api=True), truncated=True, problems=(error.message,))
    listed = _bounded(entries, what, api=True)
    return replace(listed, truncated=listed.truncated or pages >= REFERRER_PAGES)


def _from_tag(store: ReferrerStore, digest: str) -> Referrers:
    tag = fallback_tag(digest)
    what = f"{store.repository}:{tag}"
    try:
        manifest = store.manifest(tag)
    except NotFound:
        return Referrers(())
    except Refused as error:
        return Referrers((), problems=(error.message,))
    if manifest.descriptor.media_type not in INDEX_TYPES:
        return Referrers((), problems=(f"{what} is no index",))
    try:
        return _bounded(index_entries(parse_json(manifest.raw, what), what), what, api=False)
    except Refused as error:
        return Referrers((), problems=(error.message,))


def _bounded(entries: Iterable[object], what: str, *, api: bool) -> Referrers:
    found: dict[str, Descriptor] = {}
    bad = 0
    truncated = False
    for number, entry in enumerate(entries):
        if number >= EVIDENCE_DESCRIPTORS:
            truncated = True
            break
        descriptor = descriptor_of(entry)
        if descriptor is None:
            bad += 1
        else:
            found.setdefault(descriptor.digest, descriptor)
    problems = (f"{what}: {bad} entries are no descriptors",) if bad else ()
    return Referrers(tuple(found.values()), truncated, problems, api)


# One lock per index: threads of this process must not undo each other's updates.
_index_locks: dict[tuple[str, str], threading.Lock] = {}
_index_locks_guard = threading.Lock()
_MAX_LOCKS = 10_000


def _index_lock(repository: str, digest: str) -> threading.Lock:
    with _index_locks_guard:
        if len(_index_locks) > _MAX_LOCKS:
            for key in [key for key, lock in _index_locks.items() if not lock.locked()]:
                del _index_locks[key]
        return _index_locks.setdefault((repository, digest), threading.Lock())


def attach(store: ReferrerStore, raw_manifest: bytes, subject: Descriptor, options: RegistryOptions) -> Descriptor:
    """Store a referrer manifest by digest and make sure that it is listed for its subject.

    Raises:
        Refused: the manifest names another subject, or the fallback tag holds something else.
        Unavailable: the registry does not list it in the end.
    """
    entry = _entry(raw_manifest, subject)
    _attach(store, {entry.digest: (raw_manifest, entry)}, subject, options, settle=True)
    return entry


def attach_all(
    store: ReferrerStore, raw_manifests: Sequence[bytes], subject: Descriptor, options: RegistryOptions
) -> Callable[[], None] | None:
    """The same for several of one subject, one after the other, but the fallback index is written once.

    Returns:
        What has to be called when rivals had `SETTLE_S` to overwrite the index: it reads back, and repeats what was
        lost. None if the registry lists all of them itself.
    """
    wanted = {entry.digest: (raw, entry) for raw in raw_manifests for entry in (_entry(raw, subject),)}
    if _attach(store, wanted, subject, options, settle=False):
        return None

    def confirm() -> None:
        tag = fallback_tag(subject.digest)
        what = f"{store.repository}:{tag}"
        again, _ = _read_index(store, tag, what)
        lost = {d: one for d, one in wanted.items() if again is None or with_entry(again, one[1], what) is not None}
        if lost:
            _attach(store, lost, subject, options, settle=True)

    return confirm


def _entry(raw_manifest: bytes, subject: Descriptor) -> Descriptor:
    if subject_digest(raw_manifest) != subject.digest:
        raise Refused(f"the referrer manifest does not name {subject.digest} as its subject")
    return referrer_descriptor(raw_manifest)


def _attach(
    store: ReferrerStore,
    wanted: Mapping[str, tuple[bytes, Descriptor]],
    subject: Descriptor,
    options: RegistryOptions,
    *,
    settle: bool,
) -> bool:
    """Store manifests and list them; whether that has been read back."""
    left = dict(wanted)
    with _index_lock(store.repository, subject.digest):
        plan = RetryPlan(attempts=ATTACH_ROUNDS, base_s=SETTLE_S, cap_s=2.0)
        for round_ in range(1, ATTACH_ROUNDS + 1):
            indexed = {
                digest: store.put_manifest(raw, entry.media_type, digest).subject_indexed
                for digest, (raw, entry) in left.items()
            }
            listed = _from_api(store, subject.digest)
            if listed is not None:
                found = {item.digest for item in listed.descriptors}
                # A list that is too long to be read is believed when the registry said that it took the manifest in.
                left = {
                    digest: one
                    for digest, one in left.items()
                    if digest not in found and not (listed.truncated and indexed[digest])
                }
            by_tag = {digest: one for digest, one in left.items() if listed is None or not indexed[digest]}
            kept = not by_tag or _keep_in_index(
                store, [entry for _, entry in by_tag.values()], subject.digest, options, settle=settle
            )
            if kept and len(by_tag) == len(left):
                return settle or not by_tag
            delay = plan.delay_s(round_, elapsed_s=0.0, random=options.random())
            if delay is not None:
                options.sleep(delay)
    raise Unavailable(
        f"{store.repository} stored {next(iter(left))} but does not list it as a referrer of {subject.digest}",
        hint="try again; other clients may be writing to the same subject",
    )


def _keep_in_index(
    store: ReferrerStore, entries: Sequence[Descriptor], digest: str, options: RegistryOptions, *, settle: bool
) -> bool:
    """Add entries to the fallback index once; tell whether they are there and, unless nobody waits, stayed there."""
    tag = fallback_tag(digest)
    what = f"{store.repository}:{tag}"
    current, media_type = _read_index(store, tag, what)
    updated = current
    for entry in entries:
        updated = with_entry(updated, entry, what) or updated
    if updated is None or updated == current:
        return True
    if len(updated) > MANIFEST_BYTES:
        raise Refused(f"{what}: the fallback index would exceed {MANIFEST_BYTES} bytes", reason="TooLarge")
    store.put_manifest(updated, media_type, tag)
    if not settle:
        return True
    options.sleep(SETTLE_S * (0.5 + options.random()))
    again, _ = _read_index(store, tag, what)
    return again is not None and all(with_entry(again, entry, what) is None for entry in entries)


def _read_index(store: ReferrerStore, tag: str, what: str) -> tuple[bytes | None, str]:
    try:
        manifest = store.manifest(tag)
    except NotFound:
        return None, OCI_INDEX
    if manifest.descriptor.media_type not in INDEX_TYPES:
        raise Refused(f"{what} is no index and will not be overwritten", reason=BAD_ARTIFACT)
    return manifest.raw, manifest.descriptor.media_type
