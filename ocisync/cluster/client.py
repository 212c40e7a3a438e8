"""The one door to a Kubernetes API server: bytes in, bytes out, on a shared pool of connections.

kubernetes' own loader reads kubeconfig files, exec plugins and in-cluster tokens and makes a urllib3 pool. Watches, and
everything behind a proxy, go to that pool; short requests go over `wire`, because the generated client and urllib3 cost
as much CPU per request as the server does.

Promises: every request has a finite timeout; 429 is retried as the server asks, and fewer requests are sent at a time
from then on (`pace`); a lost connection is retried only where
sending twice is harmless (reads, and server-side apply of the same body); an HTTP status never raises. A 401 reads the
credentials again once, so rotated tokens and client certificates need no restart. With a fence, no write leaves while
it is closed, and each is over after four seconds, here and at the server. Safe for any number of threads.
"""

from __future__ import annotations

import contextlib
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from ocisync.cluster.fence import Fence
from ocisync.cluster.lightclient import lighten
from ocisync.cluster.pace import Pace
from ocisync.cluster.wire import Address, NotAdmitted, Wire, encoded
from ocisync.kit.backoff import delays
from ocisync.kit.stop import StopToken
from ocisync.model.errors import InvalidInput, Paused, Unavailable

if TYPE_CHECKING:
    import urllib3

APPLY_PATCH = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
JSON = "application/json"
PARTIAL_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIAL_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

READ_TIMEOUT_S = 30.0
WRITE_TIMEOUT_S = 15.0  # the API server gives admission webhooks 10 s by default
_CONNECT_TIMEOUT_S = 5.0
_ATTEMPTS = 5
_RETRY_AFTER_CAP_S = 30.0
_CREDENTIALS_FRESH_S = 10.0  # how long an authorization header is used before the loader is asked again
_LINE_BYTES = 16 * 1024 * 1024  # one watch event: etcd holds 1.5 MiB, JSON and managedFields a few times that
_SERVER_BUSY = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class Response:
    """An answer as it came: header names are case-insensitive, the body is decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and how to prove who we are: what a loader makes, again whenever credentials were refused."""

    base_url: str
    pool: urllib3.HTTPConnectionPool
    authorization: Callable[[], str]
    namespace: str = "default"
    prefix: str = ""
    wire: Wire | None = None


class Cluster:
    """One API server. Built by `connect` and `in_cluster`; tests may pass any `load`.

    Args:
        load: makes an `Endpoint`; called again after a 401.
        fence: asked before each write; None: writes are free.
        sleep: waits between retries; returns True to give up early. A stop token's `wait` fits.
    """

    def __init__(
        self,
        load: Callable[[], Endpoint],
        *,
        user_agent: str,
        fence: Fence | None = None,
        sleep: Callable[[float], bool] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._load = load
        self._fence = fence
        self._endpoint = load()
        self._loaded_at = time.monotonic()
        self._user_agent = user_agent
        self._sleep = sleep or StopToken().wait
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._lock = threading.Lock()
        self._authorization = ""
        self._authorized_at = float("-inf")
        self._streams: set[urllib3.BaseHTTPResponse] = set()
        self.pace = Pace()
        self.hold: Callable[[], str] = str  # why no write on behalf of others may leave now; empty: it may
        self._closed = False

    @property
    def host(self) -> str:
        """The server's URL, for messages."""
        return self._endpoint.base_url

    @property
    def fence(self) -> Fence | None:
        """What writes are asked by."""
        return self._fence

    @property
    def default_namespace(self) -> str:
        """The namespace of the kubeconfig context or of the pod."""
        return self._endpoint.namespace

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        content_type: str = "",
        accept: str = JSON,
        timeout_s: float = 0.0,
        as_user: str = "",
        gentle: bool = False,
    ) -> Response:
        """Send one request and read the whole answer.

        `timeout_s` is for each try, 0 chooses by method; `as_user` is whom to impersonate, empty for nobody; `gentle`
        requests let others go first.

        Raises:
            Unavailable: no answer came within the retries.
            LeaseLost: it would write, and the fence is closed.
            Paused: it would write on behalf of others, and that is held.
        """
        reading = method == "GET"
        if as_user and not reading and (held := self.hold()):
            raise Paused(f"nothing is written: {held}")
        harmless = reading or content_type == APPLY_PATCH
        headers = {"accept": accept, "user-agent": self._user_agent}
        if reading:
            headers["accept-encoding"] = "gzip"
        if content_type:
            headers["content-type"] = content_type
        if as_user:
            headers["impersonate-user"] = as_user
        timeout = timeout_s or (READ_TIMEOUT_S if reading else WRITE_TIMEOUT_S)
        fence = None if reading else self._fence
        if fence is not None:
            # The server gives up at the same time, should it wait for something when we are gone.
            timeout = min(timeout, fence.write_timeout_s)
            query = (*query, ("timeout", f"{fence.write_timeout_s:.0f}s"))
        url = f"{path}?{encoded(tuple(query))}" if query else path
        pauses = delays(0.2, 5.0, self._rng)
        refreshed = False
        started = time.monotonic()
        for attempt in range(1, _ATTEMPTS + 1):
            last = attempt == _ATTEMPTS
            try:
                with self.pace.turn(as_user, gentle=gentle, reading=reading) as turn:
                    response = self._fenced(fence, method, url, headers, body, timeout)
                    turn.answered(response.status, response.headers)
            except _transport_errors() as error:
                # A server that hangs is given up after one time-out, one that refuses after a few tries.
                late = time.monotonic() - started >= timeout
                if last or late or not harmless or self._closed or self._sleep(next(pauses)):
                    raise self._unavailable(method, path, error) from None
                continue
            status = response.status
            if status == 401 and not refreshed and self._reload():
                refreshed = True
                continue
            if last or not (status == 429 or (status in _SERVER_BUSY and harmless)):
                return response
            if self._sleep(_pause(response.headers, next(pauses))):
                return response
        raise AssertionError("unreachable")  # pragma: no cover

    @contextlib.contextmanager
    def stream(
        self,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        accept: str = JSON,
        timeout_s: float = 330.0,
        stop: StopToken | None = None,
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Open a watch. Yields the status and the lines as they come, one JSON document each, without the newline.

        `timeout_s` bounds the silence between two reads: longer than the server's bookmark interval (one minute) and
        than `timeoutSeconds`. `close_streams` ends every open stream at once, whatever it waits for.

        Raises:
            Unavailable: the connection could not be made or broke.
        """
        url = f"{path}?{urlencode(query)}" if query else path
        # Never gzip: the server would compress events, and urllib3 gives chunks of a stream as they are.
        headers = {"accept": accept, "user-agent": self._user_agent, "accept-encoding": "identity"}
        try:
            response = self._open(url, headers, timeout_s)
        except _transport_errors() as error:
            raise self._unavailable("GET", path, error) from None
        with self._lock:
            closed = self._closed
            self._streams.add(response)
        try:
            if closed:
                raise Unavailable(f"{self.host}: closed")
            yield response.status, self._lines(response, path, stop)
        finally:
            with self._lock:
                self._streams.discard(response)
            response.close()

    def close_streams(self) -> None:
        """End every open stream: their readers see the end of the data or `Unavailable`."""
        with self._lock:
            streams = list(self._streams)
        for response in streams:
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                response.shutdown()

    def close(self) -> None:
        """End streams and drop the connections; running requests are not retried any more."""
        self._closed = True
        self.close_streams()
        self._endpoint.pool.close()
        if self._endpoint.wire is not None:
            self._endpoint.wire.close()

    # The hot path: one call per applied object.
    def _fenced(
        self,
        fence: Fence | None,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
    ) -> Response:
        """Send once; a write only when, and only while, the fence is open."""
        if fence is None:
            return self._send(method, url, headers, body, timeout_s)
        while True:
            fence.admit()
            with fence.write(), contextlib.suppress(NotAdmitted):
                return self._send(method, url, headers, body, timeout_s, lambda: fence.open)

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
        admitted: Callable[[], bool] | None = None,
    ) -> Response:
        endpoint = self._endpoint
        if endpoint.wire is not None:
            sent = self._with_authorization(headers)
            return Response(*endpoint.wire.exchange(method, endpoint.prefix + url, sent, body, timeout_s, admitted))
        if admitted is not None and not admitted():
            raise NotAdmitted
        answer = endpoint.pool.urlopen(
            method,
            endpoint.prefix + url,
            body=body,
            headers=self._with_authorization(headers),
            retries=False,
            redirect=False,
            timeout=_timeout(timeout_s, whole=admitted is not None),
        )
        return Response(answer.status, answer.headers, answer.data)

    def _open(self, url: str, headers: Mapping[str, str], timeout_s: float) -> urllib3.BaseHTTPResponse:
        for again in (True, False):
            endpoint = self._endpoint
            response = endpoint.pool.urlopen(
                "GET",
                endpoint.prefix + url,
                headers=self._with_authorization(headers),
                retries=False,
                redirect=False,
                timeout=_timeout(timeout_s),
                preload_content=False,
            )
            if response.status != 401 or not again or not self._reload():
                break
            response.close()
        return response

    def _lines(self, response: urllib3.BaseHTTPResponse, path: str, stop: StopToken | None) -> Iterator[bytes]:
        pending = bytearray()
        try:
            for chunk in response.stream(65536):
                if stop is not None and stop.stopped:
                    return
                pending += chunk
                if b"\n" not in chunk:
                    if len(pending) > _LINE_BYTES:
                        raise Unavailable(f"{self.host}{path}: a watch event exceeds {_LINE_BYTES} bytes")
                    continue
                *lines, rest = bytes(pending).split(b"\n")
                pending = bytearray(rest)
                for line in lines:
                    if line:
                        yield line
        except _transport_errors() as error:
            if stop is not None and stop.stopped:
                return
            raise self._unavailable("GET", path, error) from None
        if pending:
            yield bytes(pending)

    def _with_authorization(self, headers: Mapping[str, str]) -> dict[str, str]:
        now = time.monotonic()
        if now - self._authorized_at > _CREDENTIALS_FRESH_S:
            with self._lock:  # exec plugins and token files must not be asked by sixteen threads at once
                if time.monotonic() - self._authorized_at > _CREDENTIALS_FRESH_S:
                    found = self._endpoint.authorization()
                    if not (found.isascii() and found.isprintable()):
                        raise InvalidInput(f"the token for {self.host} has a line break or other signs that none has")
                    self._authorization, self._authorized_at = found, time.monotonic()
        merged = dict(headers)
        if self._authorization:
            merged["authorization"] = self._authorization
        return merged

    def _reload(self) -> bool:
        """Read the credentials again after a 401; False when that was done a moment ago by this or another thread."""
        with self._lock:
            fresh = time.monotonic() - self._loaded_at
            if fresh < 1.0:
                return True  # another thread has just done it: try with what it found
            if fresh < _CREDENTIALS_FRESH_S:
                return False
            self._endpoint = self._load()
            self._loaded_at = time.monotonic()
            self._authorized_at = float("-inf")
            return True

    def _unavailable(self, method: str, path: str, error: Exception) -> Unavailable:
        return Unavailable(
            f"{method} {self.host}{path}: {_reason(error)}",
            hint="is the API server reachable from here? try: kubectl version",
        )


def connect(
    kubeconfig: str | None = None,
    context: str | None = None,
    *,
    user_agent: str,
    connections: int = 48,
    fence: Fence | None = None,
    sleep: Callable[[float], bool] | None = None,
) -> Cluster:
    """Connect as a kubeconfig file says. Nothing is sent yet.

    `kubeconfig` is a path or `:`-joined paths; None means the loader's default (`KUBECONFIG`, then `~/.kube/config`).
    `connections` are kept open: at least watches plus workers. `sleep` as for `Cluster`.

    Raises:
        InvalidInput: the file is missing or wrong.
    """

    def load() -> Endpoint:
        lighten()
        from kubernetes import client as api
        from kubernetes import config

        configuration = api.Configuration()
        try:
            config.load_kube_config(
                config_file=kubeconfig,
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
            contexts, active = config.list_kube_config_contexts(kubeconfig)
            chosen = next((item for item in contexts if item["name"] == context), active) if context else active
            namespace = ((chosen or {}).get("context") or {}).get("namespace") or "default"
            return _endpoint(configuration, connections, str(namespace))
        except Exception as error:  # the library stumbles over a wrong file in many ways
            astray = isinstance(error, (TypeError, AttributeError, LookupError))
            raise InvalidInput(
                f"kubeconfig {kubeconfig or '(default)'}: {'not in the form of a kubeconfig' if astray else error}",
                hint="pass --kubeconfig FILE and --context NAME; list them with: kubectl config get-contexts",
            ) from error

    return Cluster(load, user_agent=user_agent, fence=fence, sleep=sleep)


def in_cluster(
    *,
    user_agent: str,
    namespace: str,
    connections: int = 48,
    fence: Fence | None = None,
    sleep: Callable[[float], bool] | None = None,
) -> Cluster:
    """Connect as the pod's service account; its token is read again as it rotates.

    Raises:
        InvalidInput: this is no pod.
    """

    def load() -> Endpoint:
        lighten()
        from kubernetes import client as api
        from kubernetes import config

        configuration = api.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            raise InvalidInput(
                f"not inside a cluster: {error}", hint="outside of a pod pass --kubeconfig FILE"
            ) from error
        return _endpoint(configuration, connections, namespace)

    return Cluster(load, user_agent=user_agent, fence=fence, sleep=sleep)


def segment(text: str) -> str:
    """One path segment, escaped."""
    return quote(text, safe="")


def _endpoint(configuration: Any, connections: int, namespace: str) -> Endpoint:
    from kubernetes.client.rest import RESTClientObject

    configuration.connection_pool_maxsize = connections
    configuration.keep_alive = True  # a silently dropped watch would never be noticed otherwise
    manager = RESTClientObject(configuration).pool_manager
    base_url = str(configuration.host).rstrip("/")

    def authorization() -> str:
        return configuration.get_api_key_with_prefix("BearerToken", alias="authorization") or ""

    # A proxy that serves clusters below a path, as Rancher does: every path gets that prefix.
    prefix = urlsplit(base_url).path
    direct = type(manager).__name__ == "PoolManager"  # its subclasses go through proxies
    wire = _wire(configuration, base_url, connections) if direct else None
    return Endpoint(base_url, manager.connection_from_url(base_url), authorization, namespace, prefix, wire)


def _wire(configuration: Any, base_url: str, connections: int) -> Wire:
    """The direct way to the same server, with the same trust and identity as the pool has."""
    url = urlsplit(base_url)
    host, tls = url.hostname or "", None
    if url.scheme == "https":
        tls = ssl.create_default_context()
        if configuration.ssl_ca_cert or configuration.ca_cert_data:
            tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
        if not configuration.verify_ssl:
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        if configuration.cert_file:
            tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    port = url.port or (443 if tls else 80)
    address = Address(host, port, tls, str(configuration.tls_server_name or host))
    return Wire(address, keep=connections, connect_timeout_s=_CONNECT_TIMEOUT_S)


def _timeout(seconds: float, *, whole: bool = False) -> Any:
    from urllib3 import Timeout

    connect = min(_CONNECT_TIMEOUT_S, seconds)
    return Timeout(connect=connect, read=seconds, total=seconds if whole else None)


def _transport_errors() -> tuple[type[Exception], ...]:
    from urllib3.exceptions import HTTPError

    return (HTTPError, OSError)


def _pause(headers: Mapping[str, str], backoff_s: float) -> float:
    text = headers.get("Retry-After", "")
    asked = float(text) if text.isdecimal() else 0.0
    return min(asked, _RETRY_AFTER_CAP_S) + backoff_s


def _reason(error: Exception) -> str:
    """What went wrong, without the pool's address noise."""
    text = str(error)
    noise = "Failed to establish a new connection: "
    if noise in text:
        return text.partition(noise)[2]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
