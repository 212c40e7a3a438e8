"""Connections: which addresses are dialled, whom TLS trusts, and how long an answer's head may take.

`Guard` judges every address right after connecting and before anything is sent, so that neither a redirect nor a
name server can lead a client somewhere more private than its registry. Connections through a proxy are the proxy's to
judge; only names are checked there.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests.adapters
import requests.utils
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ocisync.model.errors import InvalidInput, Refused
from ocisync.model.values import dataclass
from ocisync.oci.endpoint import Endpoint, Reach, host_of, reach_of, reach_of_name

HEAD_MAX_S = 90.0  # an answer's status and headers, however they trickle
POOL_CONNECTIONS = 32  # one for each worker thread of the largest user, with room
SEND_BYTES = 256 * 1024  # of a body in one piece; urllib3's own 16 KiB cost a system call and a lock each
_PLAIN_PATH = re.compile(r"(?!.*/\.)/[A-Za-z0-9._~:=&?,;+@%/-]*", re.ASCII)  # nothing that anybody reads otherwise
_NO_BODY_METHODS = frozenset({"GET", "HEAD"})


class Guard:
    """Decides which addresses may be dialled, from the registry's own (see `endpoint`)."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._registry = host_of(endpoint.host)
        self._reach = reach_of_name(endpoint.host)
        self._lock = threading.Lock()

    def problem_of_name(self, authority: str) -> str:
        """Why a redirect or realm may not lead to a host, by its name alone; empty if it may."""
        if host_of(authority) == self._registry:
            return ""
        reach = reach_of_name(authority)
        return "" if reach is None else self._problem(reach)

    def check_peer(self, host: str, address: str) -> None:
        """Judge an address just connected to, before anything is sent.

        Raises:
            Refused: it may not be dialled.
        """
        reach = reach_of(address)
        if host_of(f"[{host}]" if ":" in host else host) == self._registry:
            if reach is Reach.FORBIDDEN:
                raise Refused(f"{host} has the link-local or reserved address {address}", reason="BadAddress")
            with self._lock:
                # The most public address seen counts: one odd A record must not open the way inside.
                self._reach = reach if self._reach is None else min(self._reach, reach)
            return
        problem = self._problem(reach)
        if problem:
            raise Refused(f"connection to {host} ({address}) refused: {problem}", reason="BadAddress")

    def _problem(self, reach: Reach) -> str:
        with self._lock:
            own = self._reach if self._reach is not None else Reach.PRIVATE
        if reach is Reach.FORBIDDEN:
            return "a link-local or reserved address"
        return f"a {reach.name.lower()} address, more private than the registry's own" if reach > own else ""


class Got:
    """An answer's head, its body unread: the few names of `requests.Response` that the transport uses."""

    __slots__ = ("headers", "raw", "status_code", "url")

    def __init__(self, raw: urllib3.BaseHTTPResponse, url: str) -> None:
        self.raw = raw
        self.status_code = raw.status
        self.headers: Mapping[str, str] = raw.headers
        self.url = url

    def close(self) -> None:
        """Give the connection back, or cut it if there is more to come."""
        self.raw.close()
        self.raw.release_conn()


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom TLS connections trust besides the system's authorities (`RegistryOptions`), and what they show."""

    ca_file: Path | None = None
    ca_data: str = ""
    client_cert: tuple[Path, Path] | None = None


class GuardedAdapter(requests.adapters.HTTPAdapter):
    """A connection pool whose connections are judged by the guard and trust one more CA file."""

    def __init__(self, guard: Guard, trust: Trust, *, guard_proxy: bool) -> None:
        self._guard = guard
        self._trust = trust
        self._proxy_guard = ProxyGuard() if guard_proxy else None
        super().__init__(pool_connections=8, pool_maxsize=POOL_CONNECTIONS, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        """Make the pools, with the classes of this adapter."""
        self._known: ssl.SSLContext | None = None
        if self._trust != Trust():
            self._context()  # what is wrong with a file that somebody named is said at once
        self._direct: dict[str, Any] = {}
        super().init_poolmanager(connections, maxsize, block, blocksize=SEND_BYTES, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pool_classes(self._guard, self._context)

    def _context(self) -> ssl.SSLContext:
        """Whom to trust; loaded by the first TLS connection, because a registry on loopback never makes one."""
        if self._known is None:
            self._known = _tls_context(self._trust)
        return self._known

    def exchange(
        self,
        method: str,
        root: str,
        path: str,
        headers: Mapping[str, str],
        body: Any,
        timeouts: tuple[float, float],
    ) -> Got | None:
        """Send one request to `root` (`scheme://host:port`) over the same connections as `send`, but without a proxy.

        What `send` does around a request (parsing and joining addresses, cookies, guesses at encodings) takes longer
        than the request itself. None if the path is not plain: then `send` says what it means.
        """
        if not _PLAIN_PATH.fullmatch(path):
            return None
        pool: Any = self._direct.get(root)
        if pool is None or pool.pool is None:  # closed, by us or by more hosts than there are pools
            prepared = requests.Request("GET", f"{root}/").prepare()
            pool = self.get_connection_with_tls_context(prepared, True, proxies={}, cert=None)
            self.cert_verify(pool, root, True, None)
            self._direct[root] = pool
        sent = dict(headers)
        if body:
            sent["Content-Length"] = str(len(body))
        elif method not in _NO_BODY_METHODS:
            sent["Content-Length"] = "0"
        raw = pool.urlopen(
            method,
            path,
            body=body or None,
            headers=sent,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
            retries=self.max_retries,
            timeout=urllib3.Timeout(connect=timeouts[0], read=timeouts[1]),
        )
        return Got(raw, root + path)

    def close(self) -> None:
        """Close idle connections."""
        self._direct.clear()
        super().close()

    def cert_verify(self, conn: Any, url: str, verify: object, cert: object) -> None:
        """Require a valid certificate; whom to trust is in the context, which is loaded once and not per connection."""
        conn.cert_reqs = "CERT_REQUIRED"

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make the pools for a proxy, with the same trust and the same patience."""
        manager = super().proxy_manager_for(proxy, ssl_context=self._context(), **kwargs)
        manager.pool_classes_by_scheme = _pool_classes(self._proxy_guard, self._context)
        return manager


_contexts: dict[tuple[object, ...], ssl.SSLContext] = {}
_contexts_lock = threading.Lock()
_MAX_CONTEXTS = 256


def _tls_context(trust: Trust) -> ssl.SSLContext:
    """The system's and certifi's authorities and those given; kept, because loading them takes 40 ms.

    Raises:
        InvalidInput: a file or text cannot be used.
    """
    ca_file, client_cert = trust.ca_file, trust.client_cert
    key = (_version(ca_file), trust.ca_data, *(_version(path) for path in client_cert or ()))
    with _contexts_lock:
        context = _contexts.get(key)
        if context is not None:
            return context
        context = ssl.create_default_context()
        context.load_verify_locations(cafile=requests.utils.DEFAULT_CA_BUNDLE_PATH)
        if ca_file is not None:
            try:
                context.load_verify_locations(cafile=str(ca_file))
            except (OSError, ssl.SSLError) as error:
                raise InvalidInput(f"cannot use CA file {ca_file}: {error.strerror or error}") from error
        if trust.ca_data:
            try:
                context.load_verify_locations(cadata=trust.ca_data)
            except (ValueError, ssl.SSLError) as error:
                raise InvalidInput(f"the given authorities are no PEM certificates: {error}") from error
        if client_cert is not None:
            try:
                context.load_cert_chain(*client_cert)
            except (OSError, ssl.SSLError) as error:
                raise InvalidInput(f"cannot use client certificate {client_cert[0]}: {error}") from error
        if len(_contexts) >= _MAX_CONTEXTS:
            _contexts.clear()
        _contexts[key] = context
        return context


def _version(path: Path | None) -> tuple[object, ...]:
    """What changes when a file is replaced, as a mounted secret is on rotation."""
    if path is None:
        return ()
    try:
        found = path.stat()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
    return (str(path), found.st_ino, found.st_mtime_ns, found.st_size)


class ProxyGuard:
    """Judges a proxy that somebody else named: any host, but no address that belongs to the machine's neighbourhood."""

    def check_peer(self, host: str, address: str) -> None:
        """Judge an address just connected to.

        Raises:
            Refused: it may not be dialled.
        """
        if reach_of(address) is Reach.FORBIDDEN:
            raise Refused(f"proxy {host} has the link-local or reserved address {address}", reason="BadAddress")


def _pool_classes(
    guard: Guard | ProxyGuard | None, context: Callable[[], ssl.SSLContext]
) -> dict[str, type[HTTPConnectionPool]]:
    class PlainConnection(HTTPConnection):
        response_class = _TimedResponse

        def _new_conn(self) -> Any:
            return _judged(super()._new_conn(), self.host, guard)

    class TlsConnection(HTTPSConnection):
        response_class = _TimedResponse

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "ssl_context": context()})

        def _new_conn(self) -> Any:
            return _judged(super()._new_conn(), self.host, guard)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = PlainConnection

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = TlsConnection

    return {"http": PlainPool, "https": TlsPool}


class _Pace(threading.local):
    """How long the whole answer to this thread's current request may take, in seconds."""

    whole_s: float | None = None


_pace = _Pace()


@contextmanager
def answer_within(seconds: float | None) -> Iterator[None]:
    """Bound the whole answer, body included, of the request that this thread sends inside; None for no bound."""
    _pace.whole_s = seconds
    try:
        yield
    finally:
        _pace.whole_s = None


class _ClockedReader(io.RawIOBase):
    """A socket's reader with a deadline: socket timeouts bound each receive, not a trickle of them."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self.deadline: float | None = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the answer came too slowly")
            patience = self._sock.gettimeout()
            self._sock.settimeout(left if patience is None else min(patience, left))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """An answer whose head must arrive within `HEAD_MAX_S`, and all of it within `answer_within`."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        self._socket = sock
        super().__init__(sock, *args, **kwargs)

    def begin(self) -> None:
        now = time.monotonic()
        whole = None if _pace.whole_s is None else now + _pace.whole_s
        head = now + HEAD_MAX_S
        clocked = _ClockedReader(self.fp.detach(), self._socket, head if whole is None else min(head, whole))
        self.fp = io.BufferedReader(clocked)
        super().begin()
        clocked.deadline = whole

    def close(self) -> None:
        # Whoever is interrupted while the readers change places finds one of them detached or closed. The error of
        # that would take the place of the interruption, and the request would be sent again instead.
        with suppress(ValueError):
            super().close()


def _judged(sock: Any, host: str, guard: Guard | ProxyGuard | None) -> Any:
    if guard is None:  # a proxy, which the environment names
        return sock
    try:
        guard.check_peer(host, sock.getpeername()[0])
    except BaseException:
        sock.close()
        raise
    return sock
