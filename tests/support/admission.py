"""An admission webhook on loopback: answers over HTTPS as it is told, and keeps what it was asked."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.pki import Authority


@dataclass
class AdmissionServer:
    """Denies what it is asked about on `/deny…`, allows everything else. Runs while it is a context.

    Attributes:
        directory: where the certificate is written.
        code: the status of a denial; 0 leaves it to the API server, which takes 400.
        asked: `path kind/name` of each request, in order.
    """

    directory: Path
    code: int = 403
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        authority = Authority("webhooks of a test")
        self.authority = base64.b64encode(authority.certificate).decode()
        served = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 30.0

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = json.dumps(served.answer(self.path.partition("?")[0], body["request"])).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_arguments: object) -> None:
                """Nothing: `asked` tells."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.server("127.0.0.1").write(self.directory, "webhook"))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> AdmissionServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def url(self, path: str) -> str:
        """Where the API server finds it."""
        return f"https://127.0.0.1:{self._server.server_port}{path}"

    def answer(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        """The review of one request."""
        self.asked.append(f"{path} {request['kind']['kind']}/{request['name']}")
        response: dict[str, Any] = {"uid": request["uid"], "allowed": not path.startswith("/deny")}
        if not response["allowed"]:
            response["status"] = {"message": "the team label is missing", **({"code": self.code} if self.code else {})}
        return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}

    def configuration(self, name: str, *hooks: dict[str, Any]) -> dict[str, Any]:
        """A ValidatingWebhookConfiguration of these hooks."""
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": list(hooks),
        }

    def hook(self, name: str, url: str, *, namespace: str, label: str) -> dict[str, Any]:
        """A webhook for the ConfigMaps of a namespace that carry the label `fault` with this value."""
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"]}
        return {
            "name": name,
            "clientConfig": {"url": url, "caBundle": self.authority},
            "rules": [{**rule, "resources": ["configmaps"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "objectSelector": {"matchLabels": {"fault": label}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 10,  # less than writes may take; a webhook that nobody answers is refused at once
        }
