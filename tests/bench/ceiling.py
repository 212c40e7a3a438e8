"""The least that applying can cost: server-side apply over kept connections, bytes prepared, answers thrown away.

No discovery, no inventory, no order, no retries, no health: what remains is the API server's own work. Requests are
written ahead of the answers, so a connection never waits for this client.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from tests.bench.inputs import Manifest
from tests.bench.measure import Sample

CONNECTIONS = 16
_DEFINITION = "CustomResourceDefinition"
_AHEAD = 2  # requests on the way on one connection


@dataclass(frozen=True, slots=True)
class Target:
    """Where objects go, and as whom: a kubeconfig with a token, and an account to impersonate."""

    kubeconfig: Path
    namespace: str
    account: str


def apply(objects: Sequence[Manifest], target: Target, connections: int = CONNECTIONS) -> Sample:
    """Applies all objects, definitions first; raises AssertionError when one is refused."""
    client = _Client(target)
    definitions = [client.apply(item) for item in objects if item["kind"] == _DEFINITION]
    probes = [client.listing(item) for item in objects if item["kind"] == _DEFINITION]
    rest = [client.apply(item) for item in objects if item["kind"] != _DEFINITION]
    started, cpu = time.monotonic(), time.process_time()
    asyncio.run(client.stages(definitions, probes, rest, connections))
    return Sample(time.monotonic() - started, time.process_time() - cpu)


def delete(objects: Sequence[Manifest], target: Target, connections: int = CONNECTIONS) -> Sample:
    """Deletes all objects."""
    client = _Client(target)
    requests = [client.delete(item) for item in objects]
    started, cpu = time.monotonic(), time.process_time()
    asyncio.run(client.run(requests, connections))
    return Sample(time.monotonic() - started, time.process_time() - cpu)


class _Client:
    def __init__(self, target: Target) -> None:
        config = yaml.safe_load(target.kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        server = urlsplit(cluster["server"])
        self._host, self._port = str(server.hostname), int(server.port or 443)
        self._tls = ssl.create_default_context(cadata=_pem(cluster["certificate-authority-data"]))
        self._namespace = target.namespace
        self._head = (
            f"Host: {self._host}:{self._port}\r\nAuthorization: Bearer {config['users'][0]['user']['token']}\r\n"
            f"Impersonate-User: system:serviceaccount:{target.namespace}:{target.account}\r\n"
            "User-Agent: ocisync-bench-ceiling\r\nContent-Type: application/apply-patch+yaml\r\n"
            "Accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1\r\n"
        )

    def apply(self, manifest: Manifest) -> bytes:
        """The bytes of one apply."""
        body = json.dumps(manifest, separators=(",", ":")).encode()
        path = f"{self._path(manifest)}?fieldManager=ceiling&force=true&fieldValidation=Strict"
        return f"PATCH {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def delete(self, manifest: Manifest) -> bytes:
        """The bytes of one deletion."""
        return f"DELETE {self._path(manifest)} HTTP/1.1\r\n{self._head}Content-Length: 0\r\n\r\n".encode()

    def listing(self, definition: Manifest) -> bytes:
        """The bytes of a request that is answered well once the kind is served."""
        spec = definition["spec"]
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}?limit=1"
        head = self._head.replace("as=PartialObjectMetadata;", "as=PartialObjectMetadataList;")
        return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()

    def _path(self, manifest: Manifest) -> str:
        name, plural = manifest["metadata"]["name"], f"{manifest['kind'].lower()}s"
        prefix = "/api/v1" if manifest["apiVersion"] == "v1" else f"/apis/{manifest['apiVersion']}"
        within = "" if manifest["kind"] == _DEFINITION else f"/namespaces/{self._namespace}"
        return f"{prefix}{within}/{plural}/{name}"

    async def stages(
        self, definitions: Sequence[bytes], probes: Sequence[bytes], rest: Sequence[bytes], connections: int
    ) -> None:
        """Definitions, then what needs them as soon as they are served."""
        await self.run(definitions, connections)
        for probe in probes:
            while not await self._served(probe):
                await asyncio.sleep(0.02)
        await self.run(rest, connections)

    async def _served(self, probe: bytes) -> bool:
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        writer.write(probe)
        status = await reader.readline()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return b" 200 " in status

    async def run(self, requests: Sequence[bytes], connections: int) -> None:
        """Sends all of them over this many connections."""
        if not requests:
            return
        todo = iter(requests)
        await asyncio.gather(*(self._connection(todo) for _ in range(min(connections, len(requests)))))

    async def _connection(self, todo: Iterator[bytes]) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        pending = 0
        for request in todo:
            writer.write(request)
            pending += 1
            if pending >= _AHEAD:
                await _answer(reader)
                pending -= 1
        for _ in range(pending):
            await _answer(reader)
        writer.close()
        with contextlib.suppress(OSError):  # the server may have been quicker
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    if b"transfer-encoding: chunked" in lowered:
        body = b""
        while size := int((await reader.readline()).strip() or b"0", 16):
            body = await reader.readexactly(size + 2)
        await reader.readline()
    else:
        body = await reader.readexactly(int(lowered.partition(b"content-length:")[2].partition(b"\r\n")[0]))
    assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")), head[:80] + body[:300]


def _pem(encoded: str) -> str:
    return base64.b64decode(encoded).decode()


def kubectl_apply(kubectl: Sequence[str], target: Target, directory: Path) -> tuple[list[str], dict[str, str]]:
    """The command and the environment that apply a directory as the same account."""
    command = [
        *kubectl, "--kubeconfig", str(target.kubeconfig), "-n", target.namespace,
        "--as", f"system:serviceaccount:{target.namespace}:{target.account}",
        "apply", "--server-side", "-R", "-f", str(directory),
    ]  # fmt: skip
    return command, {"PATH": os.environ["PATH"], "HOME": str(directory.parent)}
