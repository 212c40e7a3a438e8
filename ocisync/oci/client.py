"""`open_store`: a `Store` on a real registry.

Importing this module is cheap; oras and requests are imported when the first store is opened.

    store = open_store("registry.example/shop/config", RegistryOptions(environ=os.environ))
    store.resolve("production")
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from ocisync.kit.lazymodule import defer
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import is_digest, parse_digest, sha256_digest
from ocisync.model.errors import AccessDenied, NotFound, OcisyncError, Refused, UsageError
from ocisync.model.limits import MANIFEST_BYTES, PAGES_COUNT, TAGS_COUNT
from ocisync.model.ref import Reference, check_tag, parse_reference
from ocisync.oci import referrers as referring
from ocisync.oci.absence import Absence
from ocisync.oci.auth import PULL, PUSH, Scope
from ocisync.oci.credentials import default_credentials
from ocisync.oci.documents import MANIFEST_TYPES, check_manifest, parse_json, subject_digest
from ocisync.oci.endpoint import endpoint_of, joined, origin_of
from ocisync.oci.failures import Answer, error_of, misses_blob
from ocisync.oci.headers import media_type_of, next_link
from ocisync.oci.options import RegistryOptions
from ocisync.oci.retry import Transient
from ocisync.oci.store import Manifest, PutResult, Referrers, Store, StreamingStore, TimedStore
from ocisync.oci.uploads import Upload, upload_location

if TYPE_CHECKING:
    from ocisync.oci.transport import Call, Transport

__all__ = ["RegistryOptions", "RegistryStore", "open_store"]

PAGE_BYTES = 4 * 1024 * 1024
# distribution 2 writes the link to a blob in place: while another client uploads the same blob, ours is not there for a
# moment. So a manifest whose blobs are said to be missing is worth some more tries.
BLOB_PAUSES_S = (0.1, 0.3, 0.8)
_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}


def open_store(reference: Reference | str, options: RegistryOptions | None = None) -> RegistryStore:
    """Open the repository that a reference names; its tag and digest do not matter. Nothing is sent yet.

    Raises:
        UsageError: not a reference, or unusable options.
        InvalidInput: a login, CA or certificate file that cannot be used.
    """
    # oras validates manifests of its own making with it, and a third of its import time is that.
    defer("jsonschema")
    # requests wants to know its version, and would guess the encodings of texts with it; we read bytes.
    defer("charset_normalizer", version_in="version")
    from ocisync.oci.transport import Transport

    options = options or RegistryOptions()
    parsed = parse_reference(reference) if isinstance(reference, str) else reference
    credentials = options.credentials or default_credentials(
        parsed.host, options.environ, creds=options.creds, config_file=options.config_file, warn=options.on_warning
    )
    plain_http = options.plain_http
    if plain_http is None and (options.ca_file or options.ca_data or options.client_cert):
        plain_http = False  # who names certificates means https, on loopback too
    return RegistryStore(Transport(endpoint_of(parsed, plain_http), options, credentials))


class RegistryStore:
    """One repository behind the distribution API. Implements `Store`; safe for many threads."""

    def __init__(self, transport: Transport, deadline: float | None = None, absence: Absence | None = None) -> None:
        self._transport = transport
        self._endpoint = transport.endpoint
        self._deadline = deadline
        self._api = absence or Absence(transport.options.monotonic)

    def __repr__(self) -> str:
        return f"RegistryStore({self.repository!r})"

    def __enter__(self) -> RegistryStore:
        """Use and close."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close connections."""
        self.close()

    @property
    def repository(self) -> str:
        """`host/path` as typed."""
        return self._endpoint.repository

    def within(self, seconds: float) -> RegistryStore:
        """The same repository, login and connections, for requests that must all be answered by then."""
        return RegistryStore(self._transport, self._transport.options.monotonic() + seconds, self._api)

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    # -- requests ---------------------------------------------------------------------------------

    def _call(self, what: str, method: str, url: str, **rest: Any) -> Call:
        from ocisync.oci.transport import Call

        rest.setdefault("scope", self._transport.scope_for(method))
        return Call(what, method, url, deadline=self._deadline, **rest)

    def _run(self, what: str, method: str, rest: str, **options: Any) -> Answer:
        return self._transport.run(self._call(what, method, self._endpoint.url(rest), **options))

    def _error(self, answer: Answer, what: str, *, tag: str = "") -> OcisyncError:
        return error_of(answer, what, self._endpoint.name, tag=tag)

    def _named(self, ref: str) -> str:
        """`repository:tag` or `repository@digest`.

        Raises:
            UsageError: neither a tag nor a digest.
        """
        return f"{self.repository}@{ref}" if is_digest(ref) else f"{self.repository}:{check_tag(ref)}"

    # -- reading ----------------------------------------------------------------------------------

    def resolve(self, ref: str) -> Descriptor | None:
        """Ask (HEAD) what a tag or digest is now; None if it does not exist."""
        what = f"resolving {self._named(ref)}"
        answer = self._run(what, "HEAD", f"manifests/{ref}", headers=_ACCEPT)
        if answer.status == 404:
            return None
        if not answer.ok:
            raise self._error(answer, what)
        digest, length = answer.header("docker-content-digest").strip(), answer.header("content-length")
        media_type = media_type_of(answer.header("content-type"))
        if not is_digest(digest) or not length.isdecimal() or media_type not in MANIFEST_TYPES:
            # Headers that are optional in the specification are missing: look at the manifest itself.
            try:
                return self.manifest(ref).descriptor
            except NotFound:
                return None
        if is_digest(ref) and ref != digest:
            raise Refused(f"{what}: the registry answers for {digest}", reason="BadArtifact")
        return Descriptor(media_type, digest, int(length[:20]))

    def manifest(self, ref: str) -> Manifest:
        """Fetch and check a manifest."""
        what = f"reading manifest {self._named(ref)}"
        answer = self._run(what, "GET", f"manifests/{ref}", headers=_ACCEPT, limit=MANIFEST_BYTES)
        if answer.status != 200:
            raise self._error(answer, what)
        return check_manifest(
            answer.body,
            ref=ref,
            content_type=answer.header("content-type"),
            announced=answer.header("docker-content-digest"),
            what=what,
        )

    def blob(self, descriptor: Descriptor, *, max_bytes: int) -> bytes:
        """Fetch and check a blob."""
        digest, size = parse_digest(descriptor.digest), descriptor.size
        what = f"reading blob {self.repository}@{digest}"
        if size > max_bytes:
            raise Refused(f"{what}: {size} bytes, more than the limit of {max_bytes}", reason="TooLarge")
        answer = self._run(what, "GET", f"blobs/{digest}", limit=size, size=size)
        if answer.status != 200:
            raise self._error(answer, what)
        if len(answer.body) != size:
            raise Refused(f"{what}: {len(answer.body)} bytes instead of {size}", reason="BadArtifact")
        found = sha256_digest(answer.body)
        if found != digest:
            raise Refused(f"{what}: the registry sent other content, with digest {found}", reason="BadArtifact")
        return answer.body

    def open_blob(self, descriptor: Descriptor) -> BinaryIO:
        """Open a blob to be read in pieces; use it in a `with`."""
        from ocisync.oci.downloads import BUFFER_BYTES, BlobReader

        what = f"reading blob {self.repository}@{parse_digest(descriptor.digest)}"
        return io.BufferedReader(BlobReader(self._transport, self._call, descriptor, what).open(), BUFFER_BYTES)

    def has_blob(self, digest: str) -> bool:
        """Tell whether the repository has a blob."""
        what = f"looking for blob {self.repository}@{parse_digest(digest)}"
        answer = self._run(what, "HEAD", f"blobs/{digest}")
        if answer.status == 404:
            return False
        if not answer.ok:
            raise self._error(answer, what)
        return True

    def tags(self) -> Iterator[str]:
        """List tags, page by page; names that are no tags are left out."""
        what = f"listing tags of {self.repository}"
        url = self._endpoint.url(f"tags/list?n={self._transport.options.tags_page}")
        seen: set[str] = set()
        for answer in self.pages(what, url, limit=PAGE_BYTES):
            names = parse_json(answer.body, what).get("tags") or []
            if not isinstance(names, list):
                raise Refused(f"{what}: tags is not a list", reason="BadAnswer")
            for name in names:
                if isinstance(name, str) and name not in seen and _is_tag(name):
                    seen.add(name)
                    yield name
            if len(seen) > TAGS_COUNT:
                raise Refused(f"{what}: more than {TAGS_COUNT} tags", reason="TooLarge")

    def pages(self, what: str, url: str, *, limit: int, headers: Mapping[str, str] | None = None) -> Iterator[Answer]:
        """Fetch a list and what its `Link` headers lead to, within this registry.

        Raises:
            Refused: pages that lead elsewhere, in a circle, or without end.
        """
        visited: set[str] = set()
        while url:
            if url in visited or len(visited) >= PAGES_COUNT:
                raise Refused(f"{what}: the pages do not end", reason="TooLarge")
            visited.add(url)
            answer = self._transport.run(self._call(what, "GET", url, limit=limit, headers=headers or {}))
            if answer.status != 200:
                raise self._error(answer, what)
            yield answer
            link = next_link(answer.header("link"))
            url = joined(url, link) if link else ""
            if link and origin_of(url) != self._endpoint.origin:
                raise Refused(f"{what}: the next page is on another host", reason="BadRedirect")

    def ping(self) -> None:
        """Check that the registry answers and accepts our login."""
        what = f"asking registry {self._endpoint.name}"
        answer = self._transport.run(self._call(what, "GET", self._endpoint.base, scope=Scope()))
        if not answer.ok:
            raise self._error(answer, what)

    @property
    def wants_login(self) -> bool:
        """Whether a request was answered by asking for a login; a ping that was not proves none."""
        return self._transport.auth.asked

    # -- writing ----------------------------------------------------------------------------------

    def put_blob(self, descriptor: Descriptor, data: bytes | BinaryIO, *, absent: bool = False) -> bool:
        """Upload a blob unless the repository has it; True if it was uploaded.

        Uploading what is there already is not only waste: distribution 2 rewrites the file in place and for a moment
        refuses manifests that name the blob.
        """
        parse_digest(descriptor.digest)
        if isinstance(data, bytes) and (len(data), sha256_digest(data)) != (descriptor.size, descriptor.digest):
            raise Refused(f"blob {descriptor.digest} for {self.repository} is not what its descriptor says")
        if not absent and self.has_blob(descriptor.digest):
            return False
        Upload(self._transport, self._call, descriptor, data).run(lambda: self._arrived(descriptor.digest))
        return True

    def _arrived(self, digest: str) -> bool:
        """Whether a blob exists, in one request: retries belong to the upload around it."""
        url = self._endpoint.url(f"blobs/{digest}")
        return self._transport.once(self._call(f"looking for blob {digest}", "HEAD", url)).ok

    def mount_blob(self, digest: str, from_repository: str) -> bool:
        """Link a blob from another repository of the same registry."""
        parse_digest(digest)
        source = endpoint_of(parse_reference(from_repository))
        if source.host != self._endpoint.host:
            return False
        what = f"mounting blob {digest} into {self.repository}"
        url = self._endpoint.url(f"blobs/uploads/?mount={quote(digest, safe='')}&from={quote(source.path, safe='')}")
        scope = Scope(((self._endpoint.path, PUSH), (source.path, PULL)))
        try:
            answer = self._transport.run(self._call(what, "POST", url, scope=scope))
        except AccessDenied:
            return False  # no right to read there: an upload may still be allowed
        if answer.status == 201:
            return True
        if answer.status == 202:
            self._abandon(self._call(what, "DELETE", upload_location(answer, url, what), scope=scope))
            return False
        if answer.status >= 500:
            raise self._error(answer, what)
        return False

    def _abandon(self, call: Call) -> None:
        """Close an upload that the registry opened unasked. It would expire by itself, but that can take a week."""
        with contextlib.suppress(Transient, OcisyncError):  # tidying up is worth one request, and no failure
            self._transport.once(call)

    def put_manifest(self, raw: bytes, media_type: str, ref: str) -> PutResult:
        """Store exactly these bytes under a tag or their digest."""
        what = f"writing manifest {self._named(ref)}"
        digest = sha256_digest(raw)
        if is_digest(ref) and ref != digest:
            raise UsageError(f"{what}: the bytes have digest {digest}")
        options = self._transport.options
        for pause_s in (*BLOB_PAUSES_S, None):
            answer = self._run(what, "PUT", f"manifests/{ref}", headers={"Content-Type": media_type}, body=lambda: raw)
            if answer.ok or pause_s is None or not misses_blob(answer):
                break
            options.sleep(pause_s * (0.5 + options.random()))
        if not answer.ok:
            error = self._error(answer, what, tag="" if is_digest(ref) else ref)
            if error.reason == "TagImmutable" and self._is_at(ref, digest):
                return PutResult(digest, subject_indexed=False)  # ours already: an earlier answer was lost
            raise error
        stored = answer.header("docker-content-digest").strip()
        if stored and stored != digest:
            raise Refused(
                f"{what}: the registry stored other content, with digest {stored[:140]}", reason="BadArtifact"
            )
        subject = answer.header("oci-subject").strip()
        return PutResult(digest, bool(subject) and subject == subject_digest(raw))

    def _is_at(self, tag: str, digest: str) -> bool:
        try:
            found = self.resolve(tag)
        except OcisyncError:
            return False
        return found is not None and found.digest == digest

    def delete_tag(self, tag: str) -> None:
        """Remove one tag; never the manifest, never its other tags."""
        check_tag(tag)
        what = f"deleting tag {self.repository}:{tag}"
        call = self._call(what, "DELETE", self._endpoint.url(f"manifests/{tag}"))
        tries = 0

        def attempt() -> Answer:
            nonlocal tries
            tries += 1
            return self._transport.once(call)

        answer = self._transport.retrier.run(attempt, call.deadline)
        if answer.ok or (answer.status == 404 and tries > 1):  # the answer to an earlier try was lost
            return
        if answer.status in {400, 405}:
            # Deleting the manifest instead, as some clients do, would take all its other tags along.
            raise Refused(
                f"{what}: the registry cannot delete a single tag: {self._error(answer, what).message}",
                hint="delete it in the registry's own user interface or API",
                reason="Unsupported",
            )
        raise self._error(answer, what, tag=tag)

    # -- referrers --------------------------------------------------------------------------------

    def referrers(self, digest: str) -> Referrers:
        """List what refers to `digest`."""
        return referring.list_referrers(self, parse_digest(digest))

    def api_referrers(self, digest: str) -> Referrers | None:
        """What the referrers API lists; None if the registry has no such API."""
        return referring.api_referrers(self, parse_digest(digest))

    def attach(self, raw_manifest: bytes, subject: Descriptor) -> Descriptor:
        """Store a referrer manifest and make sure that it is listed."""
        return referring.attach(self, raw_manifest, subject, self._transport.options)

    def attach_all(self, raw_manifests: Sequence[bytes], subject: Descriptor) -> Callable[[], None] | None:
        """Store several referrer manifests of one subject; what is to be called later, if anything."""
        return referring.attach_all(self, raw_manifests, subject, self._transport.options)

    def referrers_page(self, digest: str) -> Iterator[Answer]:
        """The pages of the referrers API."""
        what = f"listing referrers of {self.repository}@{digest}"
        if self._api.known:
            raise NotFound(f"{what}: the registry has no such API")
        accept = {"Accept": "application/vnd.oci.image.index.v1+json"}
        try:
            for answer in self.pages(what, self._endpoint.url(f"referrers/{digest}"), limit=PAGE_BYTES, headers=accept):
                self._api.there()
                yield answer
        except NotFound as error:
            self._api.missed(error.message)
            raise


def _is_tag(name: str) -> bool:
    try:
        check_tag(name)
    except UsageError:
        return False
    return True


def _conforms(store: RegistryStore) -> tuple[Store, TimedStore, StreamingStore]:
    """Checked by the type checker: a registry store is a `Store` that keeps to deadlines and streams."""
    return store, store, store
