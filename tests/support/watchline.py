"""What a keeper watches through: a line to its API server that can be cut for a while."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ocisync.cluster.client import JSON, Cluster, Response
from ocisync.kit.stop import StopToken
from ocisync.model.errors import Unavailable

_EXPIRED = {
    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
    "message": "The resourceVersion for the provided watch is too old.",
}  # fmt: skip


class WatchLine:
    """Passes everything on while it is whole; while it is cut nothing comes, and what is begun waits.

    Attributes:
        begun: watches since the line was mended, by how they began: `resumed`, `expired` (they were told that what they
            missed is forgotten), `listed`.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._whole = threading.Event()
        self._whole.set()
        self._lock = threading.Lock()
        self._forgotten = False
        self._moment = 0
        self.begun: Counter[str] = Counter()

    def cut(self) -> None:
        """End all watches."""
        self._whole.clear()
        self._cluster.close_streams()

    def mend(self, *, forgotten: bool = False, moment: int = 0) -> None:
        """Let watches through again.

        Args:
            forgotten: the server no longer knows what they have missed.
            moment: a version; lists are from then on as they were at that version, and nothing comes after them.
        """
        with self._lock:
            self._forgotten, self._moment = forgotten, moment
            self.begun.clear()
        self._whole.set()

    def request(self, method: str, path: str, *, query: Sequence[tuple[str, str]] = (), accept: str = JSON) -> Response:
        """One request."""
        return self._cluster.request(method, path, query=query, accept=accept)

    @contextlib.contextmanager
    def stream(
        self,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        accept: str = JSON,
        timeout_s: float = 90.0,
        stop: StopToken | None = None,
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """One watch."""
        while not self._whole.wait(0.05):
            if stop is not None and stop.stopped:
                raise Unavailable("cut off")
        how = self._begins(dict(query))
        if how == "expired":
            yield 410, iter([json.dumps(_EXPIRED).encode()])
            return
        if how == "listed" and self._moment:
            yield 200, self._as_it_was(path, dict(query)["labelSelector"], stop)
            return
        with self._cluster.stream(path, query=query, accept=accept, timeout_s=timeout_s, stop=stop) as (status, lines):
            yield status, self._passed(lines)

    def _begins(self, query: Mapping[str, str]) -> str:
        with self._lock:
            how = "listed" if "sendInitialEvents" in query else "expired" if self._forgotten else "resumed"
            self.begun[how] += 1
            return how

    def _as_it_was(self, path: str, selector: str, stop: StopToken | None) -> Iterator[bytes]:
        query = (
            ("labelSelector", selector), ("resourceVersion", str(self._moment)), ("resourceVersionMatch", "Exact"),
        )  # fmt: skip
        answer = json.loads(self._cluster.request("GET", path, query=query).body)
        for item in answer["items"]:
            yield json.dumps({"type": "ADDED", "object": item}).encode()
        marks = {"resourceVersion": str(self._moment), "annotations": {"k8s.io/initial-events-end": "true"}}
        yield json.dumps({"type": "BOOKMARK", "object": {"metadata": marks}}).encode()
        while stop is None or not stop.wait(0.05):
            if not self._whole.is_set():
                raise Unavailable("cut off")

    def _passed(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        for line in lines:
            if not self._whole.is_set():
                raise Unavailable("cut off")
            yield line
