"""A registry that serves one honest, signed artifact, and lists around its signature whatever its `referrers` say.

    with HostileRegistry() as registry:
        registry.page = many(registry, 10_000)
        …
        assert registry.asked("blobs") < 10

Answers may be whole (`Answer`), endless, or come a drop at a time (`Answer.drops`). Every request is counted.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

from ocisync.model.descriptor import (
    BUNDLE_V03,
    EMPTY_JSON,
    EMPTY_JSON_DIGEST,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from ocisync.model.digest import sha256_digest
from ocisync.model.ref import legacy_signature_tag
from ocisync.pack.artifact import BuiltArtifact
from ocisync.signing import bundle, legacy
from ocisync.signing.keys import Signer
from tests.support.artifacts import artifact
from tests.support.httpservers import LoopbackServer
from tests.support.trust import signer

REPOSITORY = "shop/config"
TAG = "production"
FILES = {"settings.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {version: '1'}\n"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `endless` repeats the body until the client goes; `drops` sends a byte every 20 ms."""

    body: bytes
    media_type: str = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    endless: bool = False
    drops: bool = False


class HostileRegistry:
    """Serves on loopback, one thread for each connection."""

    def __init__(self, key: Signer | None = None, files: Mapping[str, str] = FILES) -> None:
        self.key = key or signer("ci")
        self.artifact: BuiltArtifact = artifact(files)
        self.requests: list[tuple[str, str]] = []
        self.page: Callable[[str], Answer | None] = lambda _path: None
        self.before: Callable[[str], None] = lambda _path: None  # called before an answer
        self.content: dict[str, Answer] = {}
        self._over = threading.Event()
        self._server = LoopbackServer(("127.0.0.1", 0), _handler(self))
        built = self.artifact
        manifest = Answer(built.manifest, OCI_MANIFEST)
        self.content |= {
            f"manifests/{TAG}": manifest,
            f"manifests/{built.descriptor.digest}": manifest,
            f"blobs/{built.config_descriptor.digest}": Answer(built.config),
            f"blobs/{built.layer_descriptor.digest}": Answer(built.layer),
            f"blobs/{EMPTY_JSON_DIGEST}": Answer(EMPTY_JSON),
        }
        self.good = self.put_bundle(bundle.make(self.key, built.descriptor.digest, self.claims()))

    @property
    def repository(self) -> str:
        """`HOST:PORT/PATH`."""
        return f"127.0.0.1:{self._server.server_address[1]}/{REPOSITORY}"

    def claims(self) -> dict[str, str]:
        """What an honest signature says."""
        now = str(int(datetime.now(UTC).timestamp()) - 60)
        return {
            "dev.ocisync.repository": self.repository,
            "dev.ocisync.tags": TAG,
            "dev.ocisync.sequence": now,
            "dev.ocisync.signed": now,
        }

    def put_bundle(self, data: bytes, *, served: Answer | None = None, size: int = 0) -> dict[str, Any]:
        """A referrer that carries these bytes as a bundle; how a list names it. `served`: what comes instead."""
        raw, layer = bundle.bundle_manifest(data, self.artifact.descriptor, datetime(2026, 11, 23, tzinfo=UTC))
        if size:
            document = json.loads(raw)
            document["layers"][0]["size"] = size
            raw = json.dumps(document).encode()
        self.content[f"blobs/{layer.digest}"] = served or Answer(data)
        return self.put_manifest(raw)

    def put_manifest(self, raw: bytes, *, served: Answer | None = None) -> dict[str, Any]:
        """A manifest by digest; how a list names it."""
        descriptor = Descriptor(OCI_MANIFEST, sha256_digest(raw), len(raw))
        self.content[f"manifests/{descriptor.digest}"] = served or Answer(raw, OCI_MANIFEST)
        return {**descriptor.as_dict(), "artifactType": BUNDLE_V03}

    def put_legacy(self) -> None:
        """A good legacy signature beside everything else."""
        made = legacy.make(self.key, self.artifact.descriptor.digest, self.repository, self.claims())
        raw, config = legacy.merge(None, made)
        for reference in (legacy_signature_tag(self.artifact.descriptor.digest), sha256_digest(raw)):
            self.content[f"manifests/{reference}"] = Answer(raw, OCI_MANIFEST)
        self.content[f"blobs/{sha256_digest(config)}"] = Answer(config)
        self.content[f"blobs/{made.layer.digest}"] = Answer(made.payload)

    def junk(self, number: int) -> dict[str, Any]:
        """A referrer of somebody else that calls itself a signature."""
        layer = {"mediaType": OCI_EMPTY, "digest": EMPTY_JSON_DIGEST, "size": len(EMPTY_JSON)}
        document = {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": layer, "layers": [layer],
            "annotations": {"n": str(number)}, "subject": self.artifact.descriptor.as_dict(),
        }  # fmt: skip
        return self.put_manifest(json.dumps(document).encode())

    def lists(self, *entries: Mapping[str, Any]) -> None:
        """One page of these."""
        answer = index(entries)
        self.page = lambda _path: answer

    def asked(self, what: str = "") -> int:
        """How many requests had this in their path."""
        return sum(what in path for _, path in self.requests)

    def answer(self, path: str) -> Answer | None:
        """What to say; None: 404."""
        rest = path.partition(f"/v2/{REPOSITORY}/")[2]
        if path.rstrip("/") == "/v2":
            return Answer(b"{}", "application/json")
        return self.page(rest) if rest.startswith("referrers/") else self.content.get(rest)

    def wait(self) -> bool:
        """A pause between two drops; whether the server ends."""
        return self._over.wait(0.02)

    def __enter__(self) -> HostileRegistry:
        """Serve."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of all clients."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


def index(entries: Any, **headers: str) -> Answer:
    """A list as the referrers API gives it."""
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries) if entries is not None else None}
    return Answer(json.dumps(body).encode(), OCI_INDEX, {name.title(): value for name, value in headers.items()})


def endless_pages(entries: Any) -> Callable[[str], Answer]:
    """Page after page of the same, each with a next one."""
    numbers: Iterator[int] = iter(range(10**9))

    def page(path: str) -> Answer:
        plain = path.partition("?")[0]
        return index(entries, link=f'</v2/{REPOSITORY}/{plain}?n={next(numbers)}>; rel="next"')

    return page


def _handler(registry: HostileRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_HEAD(self) -> None:
            self._say(head=True)

        def do_GET(self) -> None:
            self._say(head=False)

        def _say(self, *, head: bool) -> None:
            registry.requests.append((self.command, self.path))
            registry.before(self.path)
            answer = registry.answer(self.path)
            self.send_response(200 if answer else 404)
            answer = answer or Answer(b'{"errors":[]}', "application/json")
            for name, value in {"Content-Type": answer.media_type, **answer.headers}.items():
                self.send_header(name, value)
            if answer.media_type == OCI_MANIFEST and not answer.endless:
                self.send_header("Docker-Content-Digest", sha256_digest(answer.body))
            if answer.endless:
                self.send_header("Connection", "close")
                self.close_connection = True
            else:
                self.send_header("Content-Length", str(answer.size or len(answer.body)))
            self.end_headers()
            if head:
                return
            try:
                self._body(answer)
            except OSError:
                self.close_connection = True

        def _body(self, answer: Answer) -> None:
            if answer.drops:
                for byte in answer.body:
                    if registry.wait():
                        return
                    self.wfile.write(bytes([byte]))
                return
            left = answer.size or len(answer.body)
            while left > 0 or answer.endless:
                self.wfile.write(answer.body)
                left -= len(answer.body)

    return Handler
