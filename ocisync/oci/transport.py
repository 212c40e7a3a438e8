"""HTTP to one registry: oras's `Registry` with its request function replaced. The only module that imports oras.

oras gives the session and its cookie policy; timeouts, retries, logins, redirects, size limits and checks are ours,
because oras 0.2 has no timeouts, retries blindly for 131 s, resends an expired token and verifies nothing.
Importing this module costs about 0.3 s, so `client.open_store` imports it when a store is opened.

Rules for every request: finite connect and read timeouts and a minimum speed for bodies; no cookies, no netrc, no
environment; redirects followed by hand (at most 5, never https → http, the login only to the registry's own origin,
the address no more private than the registry's); bodies read raw, up to a limit.
"""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

import oras.logger
import oras.provider
import requests
import urllib3

from ocisync.model.errors import OcisyncError, Refused, Unavailable, UsageError
from ocisync.model.limits import ERROR_BODY_BYTES, TOKEN_BYTES
from ocisync.model.values import dataclass
from ocisync.oci.auth import DELETE, PULL, PUSH, Authenticator, Scope, TokenRequest
from ocisync.oci.connections import Got, Guard, GuardedAdapter, Trust, answer_within
from ocisync.oci.credentials import CredentialSource
from ocisync.oci.endpoint import Endpoint, joined, origin_of, proxy_for, proxy_problem
from ocisync.oci.failures import Answer, quoted, registry_message
from ocisync.oci.headers import parse_warnings, retry_after_s
from ocisync.oci.lost import connection_failure
from ocisync.oci.options import RegistryOptions
from ocisync.oci.retry import RETRY_STATUSES, Retrier, Transient

MAX_REDIRECTS = 5
LOGIN_ROUNDS = 3  # no login yet, then an expired token, then a wider scope
CHUNK_BYTES = 64 * 1024
MAX_WARNINGS = 10  # different texts passed on; a hostile registry has endless ones
BODY_GRACE_S = 60.0  # any body may take this long …
BODY_MIN_BYTES_PER_S = 16 * 1024  # … and beyond it must have come at least this fast

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Body(Protocol):
    """A request body with a known length."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def read(self, amount: int = -1) -> bytes:
        """Return up to `amount` bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        what: the operation and its subject, for messages.
        limit: bytes that a good answer's body may have.
        body: makes the body anew for each attempt.
        size: bytes that a good answer's body must have, where known.
        deadline: reading of the options' `monotonic` at which the answer must be complete; None for no such time.
    """

    what: str
    method: str
    url: str
    scope: Scope
    limit: int = ERROR_BODY_BYTES
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], bytes | Body] | None = None
    size: int | None = None
    deadline: float | None = None


class BodyBroke(Exception):
    """The connection broke while a body was read; the cause says how."""


class OpenBody:
    """A good answer whose body is still to come."""

    def __init__(self, response: requests.Response | Got) -> None:
        self._response = response
        self.status: int = response.status_code

    def header(self, name: str) -> str:
        """A header's value; empty if absent."""
        return str(self._response.headers.get(name, ""))

    def read(self, amount: int) -> bytes:
        """Return what one receive brings, at most `amount` raw bytes; nothing at the end.

        Raises:
            BodyBroke: the connection broke.
        """
        try:
            return bytes(self._response.raw.read1(amount, decode_content=False))
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise BodyBroke from error

    def close(self) -> None:
        """Give the connection back, or cut it if there is more to come."""
        self._response.close()


class Transport(oras.provider.Registry):  # type: ignore[misc]  # oras has no types
    """Requests to the registry of one repository; safe for many threads."""

    def __init__(self, endpoint: Endpoint, options: RegistryOptions, credentials: CredentialSource) -> None:
        _silence_oras()
        super().__init__(hostname=endpoint.host, insecure=endpoint.scheme == "http")
        self.endpoint = endpoint
        self.options = options
        self.retrier = Retrier(options.plan, options.sleep, options.monotonic, options.random)
        self.auth = Authenticator(endpoint, credentials, self._fetch_token, options.monotonic)
        self._guard = Guard(endpoint)
        self._warnings: set[str] = set()
        self._warnings_lock = threading.Lock()
        self.session.trust_env = False  # no netrc, no proxies or CA bundles behind the options' back
        self.session.headers.clear()
        # "identity": digests are of the bytes on the wire, so nothing may be compressed on the way.
        self.session.headers.update({"User-Agent": options.user_agent, "Accept-Encoding": "identity"})
        trust = Trust(options.ca_file, options.ca_data)
        adapter = GuardedAdapter(self._guard, trust, guard_proxy=bool(options.proxy))
        for prefix in ("https://", "http://"):
            self.session.mount(prefix, adapter)
        if options.client_cert is not None:
            # An adapter of its own: the certificate is shown to the registry and to nobody else.
            trust = replace(trust, client_cert=options.client_cert)
            adapter = GuardedAdapter(self._guard, trust, guard_proxy=bool(options.proxy))
            self.session.mount(f"{endpoint.scheme}://{endpoint.host}/", adapter)
        self._own = adapter
        self._root = f"{endpoint.scheme}://{endpoint.host}"
        self._headers = {str(name): str(value) for name, value in self.session.headers.items()}

    # -- for oras's own methods -------------------------------------------------------------------

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        stream: bool = False,
    ) -> Any:
        """Serve oras's seam: the same rules for whatever of oras is called; the answer's body is already read.

        Raises:
            OcisyncError: `json` or `stream` is used, which these rules have no place for.
        """
        if json is not None or stream:
            raise OcisyncError("the registry transport takes bytes and gives bytes")
        body = None if data is None else (lambda: data)
        answer = self.run(
            Call(f"{method} {url}", method, url, self.scope_for(method), headers=dict(headers or {}), body=body)
        )
        response = requests.Response()
        response.status_code, response.url = answer.status, answer.url
        response.headers.update(answer.headers)
        response._content = answer.body
        return response

    def scope_for(self, method: str) -> Scope:
        """The scope that a method needs in this repository."""
        actions = PULL if method in {"GET", "HEAD"} else DELETE if method == "DELETE" else PUSH
        return Scope(((self.endpoint.path, actions),))

    # -- requests ---------------------------------------------------------------------------------

    def run(self, call: Call) -> Answer:
        """Send until answered, by the retry plan. Every status but the retried ones is an answer.

        Raises:
            Unavailable: no proper answer within the plan.
            AccessDenied: no login that the registry's token server accepts.
            Refused: an answer larger than allowed, or a redirect that may not be followed.
        """
        return self.retrier.run(lambda: self.once(call), call.deadline)

    def once(self, call: Call) -> Answer:
        """Send once, logging in as needed.

        Raises:
            Transient: a repetition may help.
        """
        got = self._logged_in(call)
        return got if isinstance(got, Answer) else self._read(got, call)

    def open_body(self, call: Call, *, partial: bool = False) -> OpenBody | Answer:
        """Send once; a good answer comes with its body unread, for the caller to read raw and to close.

        `partial`: the rest of something was asked for, and all of it may come.

        Raises:
            Transient: a repetition may help.
            Refused: the announced length is not the call's.
        """
        got = self._logged_in(call)
        if isinstance(got, Answer) or not 200 <= got.status_code < 300:
            return got if isinstance(got, Answer) else self._read(got, call)
        try:
            if got.status_code == 206 or not partial:
                _check_length(_lower(got.headers), call)
        except Refused:
            got.close()
            raise
        return OpenBody(got)

    def _logged_in(self, call: Call) -> requests.Response | Got | Answer:
        """Send, logging in as needed; the answer's head, or the whole of one that wants another login."""
        for round_ in range(1, LOGIN_ROUNDS + 1):
            authorization = self.auth.header(call.scope, call.deadline)
            response = self._follow(call, authorization)
            if response.status_code != 401:
                return response
            answer = self._read(response, call)
            challenge = answer.header("www-authenticate")
            if round_ == LOGIN_ROUNDS or not self.auth.learn(challenge, call.scope, authorization):
                break
        return answer

    def close(self) -> None:
        """Close idle connections."""
        self.session.close()

    def _follow(self, call: Call, authorization: str) -> requests.Response | Got:
        url, method = call.url, call.method
        for _ in range(MAX_REDIRECTS + 1):
            own = origin_of(url) == self.endpoint.origin
            headers = dict(call.headers)
            if own and authorization:
                headers["Authorization"] = authorization
            response = self._send(method, url, headers, call.body() if call.body else None, call.deadline)
            if own:
                self._pass_on_warnings(response.headers.get("Warning", ""))
            target = response.headers.get("Location", "")
            if response.status_code not in _REDIRECTS or not target:
                return response
            self._read_body(response, ERROR_BODY_BYTES, call, strict=False)
            response.close()
            target = joined(url, target)
            method = self._check_redirect(url, target, method, response.status_code, call.what)
            url = target
        raise Refused(f"{call.what}: more than {MAX_REDIRECTS} redirects", reason="BadRedirect")

    def _check_redirect(self, url: str, target: str, method: str, status: int, what: str) -> str:
        """Refuse bad redirects; return the method to go on with."""
        origin, source = origin_of(target), origin_of(url)
        problem = ""
        if not origin or urlsplit(target).username is not None:
            problem = "no usable address"
        elif source.startswith("https:") and origin.startswith("http:"):
            problem = "from https to http"
        elif method not in {"GET", "HEAD"} and (origin != source or status not in {307, 308}):
            problem = f"of a {method}"
        else:
            problem = self._guard.problem_of_name(urlsplit(target).netloc)
        if problem:
            raise Refused(f"{what}: redirect to {quoted(target)} refused: {problem}", reason="BadRedirect")
        return method

    def _pass_on_warnings(self, header: str) -> None:
        """Tell each text once: a registry repeats its warnings with every answer."""
        for text in parse_warnings(header) if header else ():
            with self._warnings_lock:
                fresh = text not in self._warnings and len(self._warnings) < MAX_WARNINGS
                self._warnings.add(text)
            if fresh:
                self.options.on_warning(f"registry {self.endpoint.name} says: {quoted(text)}")

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Body | None,
        deadline: float | None,
    ) -> requests.Response | Got:
        """Send one request and return the answer's head.

        Raises:
            Transient: connection trouble or timeout.
            Unavailable: the deadline has passed.
            OcisyncError: TLS trouble, or a URL that cannot be requested.
        """
        proxy = proxy_for(url, self.options.environ, self.options.proxy)
        problem = proxy_problem(proxy) if proxy else ""
        if problem and self.options.proxy:
            raise UsageError(f"the proxy cannot be used: {problem}")
        if problem:
            raise UsageError(f"the proxy of the environment cannot be used: {problem}", hint="mend HTTPS_PROXY")
        host = urlsplit(url).netloc
        connect_s, read_s = self.options.connect_timeout_s, self.options.timeout_s
        left = self._left(deadline, host)
        if left is not None:
            connect_s, read_s = min(connect_s, left), min(read_s, left)
        try:
            with answer_within(left):
                return self._dial(method, url, headers, body, proxy, (connect_s, read_s))
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:  # requests' own errors are OSErrors
            self._left(deadline, host)
            raise connection_failure(error, host, proxy, connect_s, read_s) from error

    def _dial(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Body | None,
        proxy: str,
        timeouts: tuple[float, float],
    ) -> requests.Response | Got:
        if not proxy and url.startswith(self._root):
            merged = {**self._headers, **headers}
            got = self._own.exchange(method, self._root, url[len(self._root) :], merged, body, timeouts)
            if got is not None:
                return got
        try:
            request = self.session.prepare_request(requests.Request(method, url, headers=dict(headers), data=body))
            adapter = self.session.get_adapter(url)
        except (ValueError, requests.exceptions.RequestException) as error:
            raise OcisyncError(f"cannot request from {quoted(urlsplit(url).netloc)}: {quoted(str(error))}") from error
        proxies = {"http": proxy, "https": proxy} if proxy else {}
        # The adapter and not the session: the session reads redirects even when told not to follow them.
        response: requests.Response = adapter.send(request, stream=True, timeout=timeouts, verify=True, proxies=proxies)
        return response

    def _left(self, deadline: float | None, host: str) -> float | None:
        """Seconds until a deadline.

        Raises:
            Unavailable: it has passed. Not `Transient`: nothing may be tried again.
        """
        if deadline is None:
            return None
        left = deadline - self.options.monotonic()
        if left <= 0:
            raise Unavailable(f"{host} did not answer within the time that was left for it", hint="try again later")
        return left

    def _read(self, response: requests.Response | Got, call: Call) -> Answer:
        """Read an answer's body up to its limit and turn retried statuses into `Transient`."""
        headers = _lower(response.headers)
        good = 200 <= response.status_code < 300
        try:
            if call.method == "HEAD" or response.status_code == 204:
                # Reading the end of nothing hands the connection back; closing alone would cost a new one each poll.
                body = response.raw.read(1, decode_content=False)[:0]
            else:
                if good:
                    _check_length(headers, call)
                body = self._read_body(response, call.limit if good else ERROR_BODY_BYTES, call, strict=good)
        finally:
            response.close()
        answer = Answer(response.status_code, headers, body, response.url or call.url)
        if answer.status in RETRY_STATUSES or (answer.status == 500 and call.method in {"GET", "HEAD"}):
            asked = retry_after_s(answer.header("retry-after"), answer.header("date"))
            raise Transient(
                Unavailable(
                    f"{call.what}: {urlsplit(call.url).netloc} answered {registry_message(answer)}",
                    hint="try again later",
                    retry_after_s=asked,
                )
            )
        return answer

    def _read_body(self, response: requests.Response | Got, limit: int, call: Call, *, strict: bool) -> bytes:
        """Read up to `limit` bytes; more is refused (`strict`) or cut off."""
        what = call.what
        started = self.options.monotonic()
        host = urlsplit(response.url or "").netloc
        out = io.BytesIO()  # its getvalue() does not copy, so that a layer is in memory once
        got = 0
        try:
            while True:
                # read1 returns what one receive brought, so that the clock is looked at even for a trickle.
                data = response.raw.read1(CHUNK_BYTES, decode_content=False)
                if not data:
                    return out.getvalue()
                out.write(data)
                got += len(data)
                if got > limit:
                    if strict:
                        raise Refused(f"{what}: {host} sent more than {limit} bytes", reason="TooLarge")
                    return out.getvalue()[:limit]
                if self.options.monotonic() - started > BODY_GRACE_S + got / BODY_MIN_BYTES_PER_S:
                    raise Transient(Unavailable(f"{what}: {host} sends too slowly", hint="try again later"))
        except (OSError, urllib3.exceptions.HTTPError) as error:
            if not strict:
                return out.getvalue()
            self._left(call.deadline, host)
            raise Transient(
                Unavailable(f"{what}: connection to {host} broke after {got} bytes", hint="try again later")
            ) from error

    def _fetch_token(self, request: TokenRequest) -> Answer:
        """Make one request to a token server. Redirects are not followed: the login must not travel."""
        headers = {"Accept": "application/json"}
        if request.authorization:
            headers["Authorization"] = request.authorization
        if request.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        host = urlsplit(request.url).netloc
        problem = self._guard.problem_of_name(host)
        if problem:
            raise Refused(f"token realm {quoted(host)} refused: {problem}", reason="UntrustedRealm")
        method = "GET" if request.form is None else "POST"
        what, deadline = f"getting a token from {host}", request.deadline
        call = Call(what, method, request.url, Scope(), limit=TOKEN_BYTES, deadline=deadline)
        return self._read(self._send(method, request.url, headers, request.form, deadline), call)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    """By names in lower case. What came several times is one value with commas; `items` would lose all but one."""
    return {name.lower(): headers[name] for name in headers}


def _silence_oras() -> None:
    """Keep oras quiet: it writes to a stream handler of its own; nothing of ours passes through it."""
    for handler in list(oras.logger.logger.logger.handlers):
        oras.logger.logger.logger.removeHandler(handler)
    oras.logger.logger.logger.setLevel(logging.CRITICAL + 1)


def _check_length(headers: Mapping[str, str], call: Call) -> None:
    """Refuse by the announced length, before a byte of the body is read."""
    text = headers.get("content-length", "")
    if headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
        raise Refused(f"{call.what}: the body was compressed on the way", reason="BadArtifact")
    if not text.isdecimal():
        return
    length = int(text[:20])
    if call.size is not None and length != call.size:
        raise Refused(f"{call.what}: {length} bytes instead of {call.size}", reason="BadArtifact")
    if length > call.limit:
        raise Refused(f"{call.what}: {length} bytes, more than the limit of {call.limit}", reason="TooLarge")
