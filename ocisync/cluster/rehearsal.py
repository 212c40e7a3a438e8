"""A door to the API server through which nothing can be written: every write is sent as a dry run.

The engine's own steps run behind it as they are, so a preview takes the same decisions as the real pass. Objects come
whole where the engine needs metadata only, and the last one that was read and the last answer to a write are kept: a
preview shows the difference between them. Use one for each object; it is not thread-safe.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

from ocisync.cluster.client import JSON, JSON_PATCH, PARTIAL_METADATA, Cluster, Response
from ocisync.model.resource import JsonObject

_DRY_RUN = ("dryRun", "All")
_OWNERS = "/metadata/managedFields"


class Rehearsal(Cluster):
    """Reads as `cluster` does; writes nothing.

    Attributes:
        read: the object that was read last.
        answer: what the last write would have left; None if it was refused.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._real = cluster
        self.read: JsonObject | None = None
        self.answer: JsonObject | None = None

    @property
    def host(self) -> str:
        """The server's URL, for messages."""
        return self._real.host

    @property
    def default_namespace(self) -> str:
        """The namespace of the kubeconfig context or of the pod."""
        return self._real.default_namespace

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        content_type: str = "",
        accept: str = JSON,
        **more: Any,
    ) -> Response:
        """One request; whatever is no GET is made a dry run.

        Raises:
            Unavailable: no answer came within the retries.
        """
        reading = method == "GET"
        if method == "DELETE":
            options = json.loads(body) if body else {}
            body, content_type = json.dumps({**options, "dryRun": ["All"]}).encode(), JSON
        if not reading and _DRY_RUN not in query:  # of a DELETE with a body only that counts; audit logs show the query
            query = (*query, _DRY_RUN)
        response = self._real.request(
            method,
            path,
            query=query,
            body=body,
            content_type=content_type,
            accept=JSON if accept == PARTIAL_METADATA else accept,
            **more,
        )
        if reading:
            self.read = _object(response)
        elif content_type != JSON_PATCH:
            self.answer = _object(response)
        elif self.answer is not None and body is not None and response.status < 300:
            self._let_go(self.answer, body)
        return response

    def _let_go(self, answer: JsonObject, patch: bytes) -> None:
        """A patch of the owners after an apply: the server answers with the object as it was before that apply."""
        for operation in json.loads(patch):
            if operation.get("op") == "replace" and operation.get("path") == _OWNERS:
                answer["metadata"]["managedFields"] = operation["value"]

    def close(self) -> None:
        """The real connections belong to somebody else."""


def _object(response: Response) -> JsonObject | None:
    found = None
    if response.status < 300:
        with contextlib.suppress(ValueError):
            found = json.loads(response.body)
    return found if isinstance(found, dict) else None
