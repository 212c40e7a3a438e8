"""An OCI distribution 1.1 registry on a loopback port.

Serves `/v2/`: blobs (HEAD, GET with Range, monolithic and chunked uploads, cross-repository mount, DELETE),
manifests (HEAD, GET, PUT, DELETE by tag or digest; exact bytes, digest and reference checks, 4 MiB limit,
ETag and If-None-Match), tag lists with `n`, `last` and `Link`, the referrers API with `artifactType` filter,
`OCI-Subject`, `_catalog`. Refusals carry the specification's error codes. `referrers=False` makes it behave
as a registry without the referrers API (404, no `OCI-Subject`). Logins: `registryauth.py`. Bytes:
`blobstore.py`. Faults: `faults.py` on `Registry.faults`. `GET /_sandbox/requests` shows the request counters.

Lacks: TLS, garbage collection (deleted content frees its name, not its bytes), quotas, schema 1 and
foreign-layer checks, paging of referrers, replication, webhooks. Like every registry tried, it ignores
`If-None-Match` on PUT.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from ocisync.sandbox.blobstore import (
    BlobStore,
    DirectoryBlobStore,
    Manifest,
    MemoryBlobStore,
    Repository,
)
from ocisync.sandbox.blobstore import Upload as StoredUpload
from ocisync.sandbox.faults import Faults
from ocisync.sandbox.httpserver import HttpServer, Reply, Request
from ocisync.sandbox.registryauth import DELETE, PULL, PUSH, Auth
from ocisync.sandbox.registrycontent import (
    ERRORS,
    INDEX_TYPE,
    MANIFEST_TYPE,
    RefusedError,
    byte_range,
    content_headers,
    digest_of,
    is_digest,
    parse_manifest,
    referrer_of,
)
from ocisync.sandbox.requestlog import RequestLog

MAX_MANIFEST: Final = 4 * 1024 * 1024  # bytes; what the specification asks registries to accept at least
MAX_FORM: Final = 65536  # bytes of a token request

_NAME: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_ROUTES: Final = tuple(
    (name, re.compile(rf"/v2/({_NAME})/{rest}"))
    for name, rest in (
        ("upload", r"blobs/uploads/?()"),
        ("upload", r"blobs/uploads/([0-9a-f]+)"),
        ("blob", r"blobs/([^/]+)"),
        ("manifest", r"manifests/([^/]+)"),
        ("tags", r"tags/list()"),
        ("referrers", r"referrers/([^/]+)"),
    )
)


class Registry:
    """The registry service and its server."""

    def __init__(
        self,
        *,
        port: int = 0,
        directory: Path | None = None,
        referrers: bool = True,
        auth: Auth | None = None,
    ) -> None:
        """Prepare a registry, in memory or below `directory`; nothing listens until `start`."""
        self.auth = auth if auth is not None else Auth()
        self.referrers = referrers
        self.requests = RequestLog()
        self.faults = Faults()
        self._store: BlobStore = DirectoryBlobStore(directory) if directory is not None else MemoryBlobStore()
        self._repositories = self._store.load()
        self._uploads: dict[str, StoredUpload] = {}
        self._lock = threading.RLock()
        self._server = HttpServer(self._serve, port=port, faults=self.faults, log=self.requests)

    # -- life -------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self._server.port}"

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://{self.address}"

    def start(self) -> Registry:
        """Listen; after `stop`, on the same port."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Close the port and cut connections; content stays."""
        self._server.stop()

    def reset(self) -> None:
        """Forget all repositories, faults and counters."""
        with self._lock:
            for name, repository in self._repositories.items():
                for tag in repository.tags:
                    self._store.note_tag(name, tag, None)
                for digest in repository.manifests:
                    self._store.note_manifest(name, digest, None)
                for digest in repository.blobs:
                    self._store.note_blob(name, digest, present=False)
            self._repositories.clear()
            self._uploads.clear()
        self.faults.clear()
        self.requests.clear()

    def __enter__(self) -> Registry:
        """Start listening."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self.stop()

    # -- a look inside, for tests and the demo ----------------------------------------------------

    def tags(self, repository: str) -> dict[str, str]:
        """Return tag -> digest of a repository."""
        with self._lock:
            found = self._repositories.get(repository)
            return dict(found.tags) if found else {}

    def replace_blob(self, digest: str, content: bytes) -> None:
        """Keep other bytes under a digest: what a broken or hostile registry would serve."""
        upload = self._store.begin("")
        upload.write(content)
        self._store.finish(upload, digest)

    def replace_manifest(self, repository: str, digest: str, content: bytes) -> None:
        """Keep other bytes under a manifest's digest."""
        with self._lock:
            manifest = Manifest(self._repositories[repository].manifests[digest].media_type, content)
            self._repositories[repository].manifests[digest] = manifest
            self._store.note_manifest(repository, digest, manifest)

    # -- dispatch ---------------------------------------------------------------------------------

    def _serve(self, request: Request, reply: Reply) -> None:
        try:
            self._dispatch(request, reply)
        except RefusedError as refused:
            status, message = ERRORS[refused.code]
            body = {"errors": [{"code": refused.code, "message": message, "detail": refused.detail}]}
            _json(reply, status, body, refused.headers)

    def _dispatch(self, request: Request, reply: Reply) -> None:
        if request.path == "/_sandbox/requests":
            _json(reply, 200, self.requests.snapshot())
            return
        if request.path == "/token":
            request.labels["resource"] = "token"
            self._token(request, reply)
            return
        if request.path in ("/v2/", "/v2"):
            request.labels["resource"] = "base"
            self._authorize(request, PULL, "")
            _json(reply, 200, {}, {"Docker-Distribution-Api-Version": "registry/2.0"})
            return
        if request.path == "/v2/_catalog":
            request.labels["resource"] = "catalog"
            self._authorize(request, PULL, "")
            with self._lock:
                names = sorted(self._repositories)
            self._page(request, reply, names, lambda part: {"repositories": part})
            return
        for route, pattern in _ROUTES:
            match = pattern.fullmatch(request.path)
            if match is not None:
                request.labels["resource"] = route
                self._route(route, match[1], match[2], request, reply)
                return
        raise RefusedError("NAME_INVALID" if request.path.startswith("/v2/") else "NAME_UNKNOWN", request.path)

    def _route(self, route: str, name: str, item: str, request: Request, reply: Reply) -> None:
        reading = request.method in ("GET", "HEAD") and route != "upload"
        action = PULL if reading else DELETE if request.method == "DELETE" and route != "upload" else PUSH
        self._authorize(request, action, name)
        handlers: dict[tuple[str, str], Callable[[str, str, Request, Reply], None]] = {
            ("blob", "GET"): self._get_blob,
            ("blob", "HEAD"): self._get_blob,
            ("blob", "DELETE"): self._delete_blob,
            ("manifest", "GET"): self._get_manifest,
            ("manifest", "HEAD"): self._get_manifest,
            ("manifest", "PUT"): self._put_manifest,
            ("manifest", "DELETE"): self._delete_manifest,
            ("tags", "GET"): self._tags,
            ("referrers", "GET"): self._referrers,
            ("upload", "POST"): self._begin_upload,
            ("upload", "GET"): self._upload_status,
            ("upload", "PATCH"): self._patch_upload,
            ("upload", "PUT"): self._finish_upload,
            ("upload", "DELETE"): self._cancel_upload,
        }
        handler = handlers.get((route, request.method))
        if handler is None:
            raise RefusedError("UNSUPPORTED", request.method)
        handler(name, item, request, reply)

    def _authorize(self, request: Request, action: str, repository: str) -> None:
        realm = f"http://{request.header('host') or self.address}/token"
        refusal = self.auth.refusal(request.header("authorization"), action, repository, realm)
        if refusal is None:
            return
        status, challenge = refusal
        if status == 403:
            raise RefusedError("DENIED", f"{action} {repository}")
        raise RefusedError("UNAUTHORIZED", f"{action} {repository}", {"WWW-Authenticate": challenge})

    def _token(self, request: Request, reply: Reply) -> None:
        scopes = request.query.get("scope", [])
        answer: dict[str, object] = {}
        if request.method == "POST":
            form = dict(parse_qsl((request.body(MAX_FORM) or b"").decode()))
            if form.get("grant_type") == "refresh_token":
                user = self.auth.refresh_tokens.get(form.get("refresh_token", ""))
            else:
                user = self.auth.check(form.get("username", ""), form.get("password", ""))
            scopes = [form.get("scope", "")]
            if user is not None and form.get("access_type") == "offline":
                answer["refresh_token"] = self.auth.refresh_token(user)
        elif request.header("authorization"):
            user = self.auth.login(request.header("authorization"))
        else:
            user = ""  # anonymous: gets a token with whatever anonymous may have
        if user is None:
            raise RefusedError("UNAUTHORIZED", "wrong user or password")
        token = self.auth.issue(user, scopes)
        _json(
            reply,
            200,
            answer | {"token": token, "access_token": token, "expires_in": int(self.auth.token_ttl_s)},
        )

    # -- blobs ------------------------------------------------------------------------------------

    def _get_blob(self, name: str, digest: str, request: Request, reply: Reply) -> None:
        if not is_digest(digest):
            raise RefusedError("DIGEST_INVALID", digest)
        with self._lock:
            known = digest in self._repository(name).blobs
            size = self._store.size(digest) if known else None
        if size is None:
            raise RefusedError("BLOB_UNKNOWN", digest)
        headers = content_headers("application/octet-stream", digest) | {"Accept-Ranges": "bytes"}
        if request.header("if-none-match") == headers["ETag"]:
            reply.send(304, b"", headers)
            return
        start, end = byte_range(request.header("range"), size)
        if (start, end) == (0, size - 1) or size == 0:
            reply.send_chunks(200, self._store.read(digest, 0, size), size, headers)
            return
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        length = end - start + 1
        reply.send_chunks(206, self._store.read(digest, start, length), length, headers)

    def _delete_blob(self, name: str, digest: str, request: Request, reply: Reply) -> None:
        with self._lock:
            repository = self._repository(name)
            if digest not in repository.blobs:
                raise RefusedError("BLOB_UNKNOWN", digest)
            repository.blobs.discard(digest)
            self._store.note_blob(name, digest, present=False)
        reply.send(202)

    def _add_blob(self, name: str, digest: str) -> None:
        with self._lock:
            self._repositories.setdefault(name, Repository()).blobs.add(digest)
            self._store.note_blob(name, digest, present=True)

    # -- uploads ----------------------------------------------------------------------------------

    def _begin_upload(self, name: str, _: str, request: Request, reply: Reply) -> None:
        mount, source = request.param("mount"), request.param("from")
        if mount and self._may_mount(request, mount, source):
            self._add_blob(name, mount)
            reply.send(201, b"", {"Location": f"/v2/{name}/blobs/{mount}", "Docker-Content-Digest": mount})
            return
        upload = self._store.begin(name)
        if request.param("digest"):
            self._receive(upload, request)
            self._complete(upload, request.param("digest"), reply)
            return
        with self._lock:
            self._uploads[upload.identity] = upload
        self._accepted(upload, reply, 202)

    def _may_mount(self, request: Request, digest: str, source: str) -> bool:
        if self.auth.refusal(request.header("authorization"), PULL, source, "") is not None:
            return False
        with self._lock:
            found = self._repositories.get(source)
            return found is not None and digest in found.blobs

    def _upload(self, name: str, identity: str) -> StoredUpload:
        with self._lock:
            upload = self._uploads.get(identity)
        if upload is None or upload.repository != name:
            raise RefusedError("BLOB_UPLOAD_UNKNOWN", identity)
        return upload

    def _upload_status(self, name: str, identity: str, request: Request, reply: Reply) -> None:
        self._accepted(self._upload(name, identity), reply, 204)

    def _patch_upload(self, name: str, identity: str, request: Request, reply: Reply) -> None:
        upload = self._upload(name, identity)
        with upload.lock:
            self._check_range(upload, request)
            self._receive(upload, request)
        self._accepted(upload, reply, 202)

    def _finish_upload(self, name: str, identity: str, request: Request, reply: Reply) -> None:
        upload = self._upload(name, identity)
        with upload.lock:
            self._check_range(upload, request)
            self._receive(upload, request)
            with self._lock:
                self._uploads.pop(identity, None)
            self._complete(upload, request.param("digest"), reply)

    def _cancel_upload(self, name: str, identity: str, request: Request, reply: Reply) -> None:
        upload = self._upload(name, identity)
        with self._lock:
            self._uploads.pop(identity, None)
        self._store.abandon(upload)
        reply.send(204)

    def _check_range(self, upload: StoredUpload, request: Request) -> None:
        sent = request.header("content-range")
        if not sent:
            return
        start = sent.removeprefix("bytes ").partition("-")[0]
        if not start.isdigit() or int(start) != upload.size:
            raise RefusedError("BLOB_UPLOAD_INVALID", sent, {"Range": f"0-{max(upload.size - 1, 0)}"})

    def _receive(self, upload: StoredUpload, request: Request) -> None:
        for data in request.iter_body():
            upload.write(data)

    def _complete(self, upload: StoredUpload, digest: str, reply: Reply) -> None:
        if not is_digest(digest) or upload.digest(digest.partition(":")[0]) != digest:
            self._store.abandon(upload)
            raise RefusedError("DIGEST_INVALID", digest)
        self._store.finish(upload, digest)
        self._add_blob(upload.repository, digest)
        location = f"/v2/{upload.repository}/blobs/{digest}"
        reply.send(201, b"", {"Location": location, "Docker-Content-Digest": digest})

    def _accepted(self, upload: StoredUpload, reply: Reply, status: int) -> None:
        headers = {
            "Location": f"/v2/{upload.repository}/blobs/uploads/{upload.identity}",
            "Docker-Upload-UUID": upload.identity,
            "Range": f"0-{max(upload.size - 1, 0)}",
        }
        reply.send(status, b"", headers)

    # -- manifests --------------------------------------------------------------------------------

    def _repository(self, name: str) -> Repository:
        found = self._repositories.get(name)
        if found is None:
            raise RefusedError("NAME_UNKNOWN", name)
        return found

    def _get_manifest(self, name: str, reference: str, request: Request, reply: Reply) -> None:
        with self._lock:
            repository = self._repository(name)
            digest = reference if is_digest(reference) else repository.tags.get(reference, "")
            manifest = repository.manifests.get(digest)
        if manifest is None:
            raise RefusedError("MANIFEST_UNKNOWN", reference)
        headers = content_headers(manifest.media_type, digest)
        if request.header("if-none-match") in (headers["ETag"], digest):
            reply.send(304, b"", headers)
            return
        reply.send(200, manifest.content, headers)

    def _put_manifest(self, name: str, reference: str, request: Request, reply: Reply) -> None:
        content = request.body(MAX_MANIFEST)
        if content is None:
            raise RefusedError("SIZE_INVALID", f"limit {MAX_MANIFEST} bytes")
        digest = digest_of(content)
        if is_digest(reference):
            digest = digest_of(content, reference.partition(":")[0])
            if digest != reference:
                raise RefusedError("DIGEST_INVALID", f"content has {digest}")
        elif _TAG.fullmatch(reference) is None:
            raise RefusedError("TAG_INVALID", reference)
        document = parse_manifest(content)
        media_type = request.header("content-type").partition(";")[0].strip()
        media_type = media_type or str(document.get("mediaType") or MANIFEST_TYPE)
        if document.get("mediaType", media_type) != media_type:
            raise RefusedError("MANIFEST_INVALID", "mediaType and Content-Type differ")
        manifest = Manifest(media_type, content)
        with self._lock:
            repository = self._repositories.setdefault(name, Repository())
            self._check_references(repository, document)
            repository.manifests[digest] = manifest
            self._store.note_manifest(name, digest, manifest)
            if not is_digest(reference):
                repository.tags[reference] = digest
                self._store.note_tag(name, reference, digest)
        headers = {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
        subject = document.get("subject")
        if self.referrers and isinstance(subject, dict):
            headers["OCI-Subject"] = str(subject.get("digest", ""))
        reply.send(201, b"", headers)

    def _check_references(self, repository: Repository, document: Mapping[str, Any]) -> None:
        """Refuse a manifest whose config, layers or children this repository does not hold."""
        wanted = [document["config"]] if isinstance(document.get("config"), dict) else []
        wanted += [layer for layer in document.get("layers") or [] if not layer.get("urls")]
        for descriptor in wanted:
            if descriptor.get("digest") not in repository.blobs:
                raise RefusedError("MANIFEST_BLOB_UNKNOWN", str(descriptor.get("digest")))
        for child in document.get("manifests") or []:
            if child.get("digest") not in repository.manifests:
                raise RefusedError("MANIFEST_BLOB_UNKNOWN", str(child.get("digest")))

    def _delete_manifest(self, name: str, reference: str, request: Request, reply: Reply) -> None:
        with self._lock:
            repository = self._repository(name)
            if is_digest(reference):
                if repository.manifests.pop(reference, None) is None:
                    raise RefusedError("MANIFEST_UNKNOWN", reference)
                self._store.note_manifest(name, reference, None)
                doomed = [tag for tag, digest in repository.tags.items() if digest == reference]
            else:
                if reference not in repository.tags:
                    raise RefusedError("MANIFEST_UNKNOWN", reference)
                doomed = [reference]  # by tag: the tag goes, the manifest and its other tags stay
            for tag in doomed:
                del repository.tags[tag]
                self._store.note_tag(name, tag, None)
        reply.send(202)

    # -- lists ------------------------------------------------------------------------------------

    def _tags(self, name: str, _: str, request: Request, reply: Reply) -> None:
        with self._lock:
            names = sorted(self._repository(name).tags)
        self._page(request, reply, names, lambda part: {"name": name, "tags": part})

    def _page(self, request: Request, reply: Reply, names: list[str], render: Callable[[list[str]], object]) -> None:
        last, limit = request.param("last"), request.param("n")
        if limit and not limit.isdigit():
            raise RefusedError("UNSUPPORTED", f"n={limit}")
        rest = [name for name in names if name > last] if last else names
        part = rest[: int(limit)] if limit else rest
        headers: dict[str, str] = {}
        if part and len(part) < len(rest):
            headers["Link"] = f'<{request.raw_path}?n={limit}&last={quote(part[-1])}>; rel="next"'
        _json(reply, 200, render(part), headers)

    def _referrers(self, name: str, digest: str, request: Request, reply: Reply) -> None:
        if not self.referrers:
            reply.send(404, b"404 page not found\n", {"Content-Type": "text/plain"})
            return
        if not is_digest(digest):
            raise RefusedError("DIGEST_INVALID", digest)
        with self._lock:
            found = self._repositories.get(name)
            manifests = list(found.manifests.items()) if found else []
        descriptors = [
            described for own, manifest in manifests if (described := referrer_of(own, manifest, digest)) is not None
        ]
        headers = {"Content-Type": INDEX_TYPE}
        wanted = request.query.get("artifactType")
        if wanted:
            descriptors = [item for item in descriptors if item.get("artifactType") in wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": descriptors}
        reply.send(200, json.dumps(index).encode(), headers)


def _json(
    reply: Reply,
    status: int,
    body: object,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
) -> None:
    reply.send(status, json.dumps(body).encode(), {"Content-Type": "application/json", **dict(headers or {})})
