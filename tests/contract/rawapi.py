"""Requests to a Kubernetes API as they are on the wire: no client library between the test and the server."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `body` is the parsed JSON, or the text when it is none."""

    status: int
    headers: Mapping[str, str]
    body: Any

    def ok(self) -> dict[str, Any]:
        """The object, after making sure that the request succeeded."""
        assert self.status < 300, f"{self.status}: {self.body}"
        assert isinstance(self.body, dict)
        return self.body


class RawApi:
    """One keep-alive connection to the API server of a kubeconfig."""

    def __init__(self, kubeconfig: Path, user_agent: str = "contract-test") -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster: dict[str, Any] = config["clusters"][0]["cluster"]
        self._user: dict[str, Any] = config["users"][0]["user"]
        self._server = urllib.parse.urlsplit(cluster["server"])
        self._context = self._tls(cluster, kubeconfig.parent) if self._server.scheme == "https" else None
        self._headers = {"User-Agent": user_agent, "Accept": "application/json"}
        if "token" in self._user:
            self._headers["Authorization"] = f"Bearer {self._user['token']}"
        self._connection = self.connect()

    def _tls(self, cluster: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
        if "certificate-authority-data" in cluster:
            authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
            context = ssl.create_default_context(cadata=authority)
        else:
            context = ssl.create_default_context(cafile=str(folder / cluster["certificate-authority"]))
        if "client-certificate-data" in self._user:
            with tempfile.NamedTemporaryFile() as chain:
                for part in ("client-certificate-data", "client-key-data"):
                    chain.write(base64.b64decode(self._user[part]))
                chain.flush()
                context.load_cert_chain(chain.name)
        elif "client-certificate" in self._user:
            context.load_cert_chain(folder / self._user["client-certificate"], folder / self._user["client-key"])
        return context

    def connect(self, timeout_s: float = 60.0) -> http.client.HTTPConnection:
        """A new connection."""
        assert self._server.hostname
        if self._context is not None:
            return http.client.HTTPSConnection(
                self._server.hostname, self._server.port, timeout=timeout_s, context=self._context
            )
        return http.client.HTTPConnection(self._server.hostname, self._server.port, timeout=timeout_s)

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request."""
        if query:
            path += ("&" if "?" in path else "?") + urllib.parse.urlencode(query)
        sent = {**self._headers, **(headers or {})}
        content = None
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent["Content-Type"] = content_type
        self._connection.request(method, path, body=content, headers=sent)
        answer = self._connection.getresponse()
        text = answer.read().decode()
        found = {name.lower(): value for name, value in answer.getheaders()}
        try:
            return Answer(answer.status, found, json.loads(text))
        except ValueError:
            return Answer(answer.status, found, text)

    def get(self, path: str, **more: Any) -> Answer:
        """GET."""
        return self.request("GET", path, **more)

    def apply(self, path: str, body: Any, manager: str = "ocisync", *, force: bool = False, **query: str) -> Answer:
        """Server-side apply."""
        asked = {"fieldManager": manager, "fieldValidation": "Strict", **query}
        if force:
            asked["force"] = "true"
        return self.request("PATCH", path, body, content_type=APPLY, query=asked)

    def patch(self, path: str, body: Any, manager: str = "editor", content_type: str = MERGE, **query: str) -> Answer:
        """Any other patch."""
        return self.request("PATCH", path, body, content_type=content_type, query={"fieldManager": manager, **query})

    def lines(
        self, path: str, *, accept: str = "application/json", timeout_s: float = 60.0
    ) -> Iterator[dict[str, Any]]:
        """The events of a watch, each as it comes; ends with the stream, or raises TimeoutError when none comes."""
        with contextlib.closing(self.connect(timeout_s)) as connection:
            connection.request("GET", path, headers={**self._headers, "Accept": accept})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            while line := answer.readline():
                yield json.loads(line)


def owned(value: Mapping[str, Any]) -> dict[str, Any]:
    """Who owns what: `manager/operation/subresource` → fieldsV1."""
    return {
        "/".join(filter(None, (entry["manager"], entry["operation"], entry.get("subresource", "")))): entry["fieldsV1"]
        for entry in value["metadata"].get("managedFields", ())
    }


def timed(value: Mapping[str, Any]) -> dict[str, bool]:
    """Which entries carry a time."""
    return {
        "/".join(filter(None, (entry["manager"], entry["operation"], entry.get("subresource", "")))): "time" in entry
        for entry in value["metadata"].get("managedFields", ())
    }
