"""The way to a registry: redirects, TLS, client certificates, proxies, and addresses that are never dialled."""

from __future__ import annotations

import itertools
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ocisync.model.descriptor import OCI_MANIFEST
from ocisync.model.errors import AccessDenied, InvalidInput, NotFound, OcisyncError, Refused, Unavailable
from ocisync.model.limits import PAGES_COUNT
from ocisync.model.ref import parse_reference
from ocisync.oci.client import open_store
from ocisync.oci.connections import Guard
from ocisync.oci.credentials import Credential, StaticCredentials
from ocisync.oci.endpoint import endpoint_of
from ocisync.sandbox.faults import Faults
from ocisync.sandbox.httpserver import HttpServer, Reply, Request
from ocisync.sandbox.requestlog import RequestLog
from tests.support.images import described, quick
from tests.support.pki import Authority

CONTENT = b"some content"


@contextmanager
def serving(service: Callable[[Request, Reply], None]) -> Iterator[str]:
    """A plain HTTP server with these answers; gives its address."""
    server = HttpServer(service, port=0, faults=Faults(), log=RequestLog())
    server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        server.stop()


def redirecting_to(target: Callable[[], str], status: int = 307) -> Callable[[Request, Reply], None]:
    def service(request: Request, reply: Reply) -> None:
        reply.send(status, b"", {"Location": target()})

    return service


def test_a_redirect_is_followed_without_the_login() -> None:
    seen: list[str] = []

    def storage(request: Request, reply: Reply) -> None:
        seen.append(request.header("authorization"))
        reply.send(200, CONTENT)

    def registry(request: Request, reply: Reply) -> None:
        if not request.header("authorization"):
            reply.send(401, b"", {"WWW-Authenticate": 'Basic realm="r"'})
        else:
            reply.send(307, b"", {"Location": f"http://{elsewhere}/bucket/blob?signature=x"})

    with serving(storage) as elsewhere, serving(registry) as address:
        login = StaticCredentials(address, Credential("ci", "secret"))
        with open_store(f"{address}/a/b", quick(credentials=login)) as store:
            assert store.blob(described(CONTENT), max_bytes=100) == CONTENT
    assert seen == [""]


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/iam",
        "http://[fe80::1]/x",
        "http://[fd00:ec2::254]/x",
        "http://[::ffff:169.254.169.254]/x",
        "http://0.0.0.0/x",
        "http://100.100.100.200/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://user:secret@127.0.0.1/x",
        "http://127.0.0.1:99999/x",
    ],
)
def test_a_redirect_to_a_forbidden_address_is_refused(target: str) -> None:
    with (
        serving(redirecting_to(lambda: target)) as address,
        open_store(f"{address}/a/b", quick()) as store,
        pytest.raises(Refused) as caught,
    ):
        store.manifest("v1")
    assert caught.value.reason == "BadRedirect"


def test_a_redirect_loop_ends() -> None:
    count = 0

    def loop(request: Request, reply: Reply) -> None:
        nonlocal count
        count += 1
        reply.send(302, b"", {"Location": f"/v2/again/{count}"})

    with (
        serving(loop) as address,
        open_store(f"{address}/a/b", quick()) as store,
        pytest.raises(Refused, match="more than 5 redirects"),
    ):
        store.manifest("v1")
    assert count == 6


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_write_is_not_redirected_to_another_host(status: int) -> None:
    hits: list[str] = []

    def thief(request: Request, reply: Reply) -> None:
        hits.append(request.method)
        reply.send(201)

    with (
        serving(thief) as elsewhere,
        serving(redirecting_to(lambda: f"http://{elsewhere}/x", status)) as address,
        open_store(f"{address}/a/b", quick()) as store,
        pytest.raises(Refused, match="redirect"),
    ):
        store.put_manifest(b"{}", OCI_MANIFEST, "v1")
    assert hits == []


@pytest.mark.parametrize("stored", [b"other bytes!", CONTENT + b"!", CONTENT[:-1]], ids=["other", "longer", "shorter"])
def test_what_an_object_store_sends_is_held_against_the_digest(stored: bytes) -> None:
    def storage(request: Request, reply: Reply) -> None:
        reply.send(200, stored)

    with (
        serving(storage) as elsewhere,
        serving(redirecting_to(lambda: f"http://{elsewhere}/bucket")) as address,
        open_store(f"{address}/a/b", quick()) as store,
    ):
        with pytest.raises(Refused) as caught:
            store.blob(described(CONTENT), max_bytes=100)
        assert caught.value.reason == "BadArtifact"
        with pytest.raises(Refused), store.open_blob(described(CONTENT)) as stream:
            stream.read()


@pytest.mark.parametrize(
    "link", ["/v2/a/b/tags/list?last=a", "list?last=a", "http://{address}/v2/a/b/tags/list?last=a"]
)
def test_pages_are_found_by_whatever_address_of_the_registry(link: str) -> None:
    def service(request: Request, reply: Reply) -> None:
        if request.param("last"):
            reply.send(200, b'{"tags":["b"]}')
        else:
            reply.send(200, b'{"tags":["a"]}', {"Link": f'<{link.format(address=address)}>; rel="next"'})

    with serving(service) as address, open_store(f"{address}/a/b", quick()) as store:
        assert list(store.tags()) == ["a", "b"]


def test_pages_without_end_are_left() -> None:
    numbers = itertools.count()

    def service(request: Request, reply: Reply) -> None:
        number = next(numbers)
        reply.send(200, b'{"tags":[]}', {"Link": f'</v2/a/b/tags/list?last={number}>; rel="next"'})

    with (
        serving(service) as address,
        open_store(f"{address}/a/b", quick()) as store,
        pytest.raises(Refused, match="do not end"),
    ):
        list(store.tags())
    assert next(numbers) == PAGES_COUNT


def test_pages_of_a_list_stay_with_the_registry() -> None:
    def service(request: Request, reply: Reply) -> None:
        reply.send(200, b'{"tags":["a"]}', {"Link": '<http://127.0.0.1:9/v2/a/b/tags/list?last=a>; rel="next"'})

    with (
        serving(service) as address,
        open_store(f"{address}/a/b", quick()) as store,
        pytest.raises(Refused, match="another host"),
    ):
        list(store.tags())


def test_pages_that_go_in_a_circle_end() -> None:
    def service(request: Request, reply: Reply) -> None:
        reply.send(200, b'{"tags":["a"]}', {"Link": '</v2/a/b/tags/list?n=500>; rel="next"'})

    with (
        serving(service) as address,
        open_store(f"{address}/a/b", quick()) as store,
        pytest.raises(Refused, match="do not end"),
    ):
        list(store.tags())


@pytest.mark.parametrize(
    ("registry", "target", "allowed"),
    [
        ("203.0.114.5", "198.41.0.4", True),
        ("203.0.114.5", "10.0.0.1", False),
        ("203.0.114.5", "127.0.0.1", False),
        ("203.0.114.5", "::1", False),
        ("203.0.114.5", "169.254.169.254", False),
        ("203.0.114.5", "64:ff9b::a9fe:a9fe", False),
        ("10.1.2.3", "10.0.0.1", True),
        ("10.1.2.3", "8.8.8.8", True),
        ("10.1.2.3", "127.0.0.1", False),
        ("10.1.2.3", "169.254.169.254", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "169.254.169.254", False),
    ],
)
def test_a_connection_never_leads_somewhere_more_private_than_the_registry(
    registry: str, target: str, allowed: bool
) -> None:
    guard = Guard(endpoint_of(parse_reference("registry.example/shop")))
    guard.check_peer("registry.example", registry)
    if allowed:
        guard.check_peer("storage.example", target)
    else:
        with pytest.raises(Refused):
            guard.check_peer("storage.example", target)


def test_one_odd_address_of_the_registry_does_not_open_the_way_inside() -> None:
    guard = Guard(endpoint_of(parse_reference("registry.example/shop")))
    guard.check_peer("registry.example", "203.0.114.5")
    guard.check_peer("registry.example", "127.0.0.1")
    with pytest.raises(Refused):
        guard.check_peer("storage.example", "127.0.0.1")


def test_a_registry_at_a_link_local_address_is_not_dialled() -> None:
    guard = Guard(endpoint_of(parse_reference("metadata.example/shop")))
    with pytest.raises(Refused, match="link-local"):
        guard.check_peer("metadata.example", "169.254.169.254")


# -- TLS ------------------------------------------------------------------------------------------


class _Answer(BaseHTTPRequestHandler):
    location = ""

    def do_GET(self) -> None:
        self.send_response(307 if self.location else 404)
        if self.location:
            self.send_header("Location", self.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@contextmanager
def serving_tls(directory: Path, authority: Authority, *, client: bool = False, location: str = "") -> Iterator[str]:
    """An HTTPS server that answers 404, or redirects."""
    certificate, key = authority.server("127.0.0.1").write(directory, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if client:
        # In 1.3 the refusal comes after the handshake, and whether it is read before the end is a matter of luck.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=authority.certificate.decode())

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Refused handshakes are what the tests are about."""

    server = Server(("127.0.0.1", 0), type("Answer", (_Answer,), {"location": location}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5.0)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("test registry authority")


@pytest.fixture
def ca_file(authority: Authority, tmp_path: Path) -> Path:
    path = tmp_path / "ca.crt"
    path.write_bytes(authority.certificate)
    return path


def test_an_unknown_authority_is_an_error_that_names_the_flag(authority: Authority, tmp_path: Path) -> None:
    with (
        serving_tls(tmp_path, authority) as address,
        open_store(f"{address}/a/b", quick(plain_http=False)) as store,
        pytest.raises(OcisyncError, match="not trusted") as caught,
    ):
        store.manifest("v1")
    assert "--ca-file" in caught.value.hint
    assert not caught.value.transient


def test_a_ca_file_is_trusted(authority: Authority, ca_file: Path, tmp_path: Path) -> None:
    with (
        serving_tls(tmp_path, authority) as address,
        open_store(f"{address}/a/b", quick(plain_http=False, ca_file=ca_file)) as store,
        pytest.raises(NotFound),
    ):
        store.manifest("v1")


def test_a_client_certificate_is_shown_to_the_registry(authority: Authority, ca_file: Path, tmp_path: Path) -> None:
    pair = authority.client("agent").write(tmp_path, "client")
    with serving_tls(tmp_path, authority, client=True) as address:
        with (
            open_store(f"{address}/a/b", quick(plain_http=False, ca_file=ca_file, client_cert=pair)) as store,
            pytest.raises(NotFound),
        ):
            store.manifest("v1")
        with (
            open_store(f"{address}/a/b", quick(plain_http=False, ca_file=ca_file)) as store,
            pytest.raises((OcisyncError, Unavailable)),
        ):
            store.manifest("v1")


def test_a_redirect_from_https_to_http_is_refused(authority: Authority, ca_file: Path, tmp_path: Path) -> None:
    with (
        serving_tls(tmp_path, authority, location="http://127.0.0.1/x") as address,
        open_store(f"{address}/a/b", quick(plain_http=False, ca_file=ca_file)) as store,
        pytest.raises(Refused, match="from https to http"),
    ):
        store.manifest("v1")


def test_a_registry_without_tls_is_told_from_one_with() -> None:
    with (
        serving(redirecting_to(lambda: "/")) as address,
        open_store(f"{address}/a/b", quick(plain_http=False)) as store,
        pytest.raises(OcisyncError, match="does not speak TLS") as caught,
    ):
        store.manifest("v1")
    assert "--plain-http" in caught.value.hint


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_an_unusable_ca_file_is_an_input_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"ca\.crt"):
        open_store("registry.example/shop", quick(ca_file=path))


# -- proxies and names ----------------------------------------------------------------------------


def test_the_proxy_of_the_environment_is_used() -> None:
    seen: list[str] = []

    def proxy(request: Request, reply: Reply) -> None:
        seen.append(request.target)
        reply.send(404)

    with (
        serving(proxy) as address,
        open_store(
            "registry.example/shop/config", quick(plain_http=True, environ={"http_proxy": f"http://{address}"})
        ) as store,
    ):
        assert store.resolve("v1") is None
    assert seen == ["http://registry.example/v2/shop/config/manifests/v1"]


def test_a_host_without_an_address_is_unavailable() -> None:
    with (
        open_store("registry.invalid/shop/config", quick()) as store,
        pytest.raises(Unavailable, match=r"registry\.invalid"),
    ):
        store.resolve("v1")


def test_one_connection_serves_many_requests() -> None:
    peers: list[object] = []

    def service(request: Request, reply: Reply) -> None:
        peers.append(reply.sock.getpeername())
        request.body(1000)
        if request.method == "GET" and request.path.endswith("/moved"):
            reply.send(307, b"gone", {"Location": "/v2/a/b/manifests/elsewhere"})
        else:
            reply.send(404 if request.method in {"GET", "HEAD"} else 201, b"none" if request.method == "GET" else b"")

    with serving(service) as address, open_store(f"{address}/a/b", quick()) as store:
        for _ in range(3):
            assert store.resolve("v1") is None
            store.put_manifest(b"{}", OCI_MANIFEST, "v1")
            with pytest.raises(NotFound):
                store.manifest("moved")
    assert len(peers) == 12
    assert len(set(peers)) == 1


def test_a_body_that_takes_too_long_is_given_up() -> None:
    """A read timeout alone would let a server send a byte every 29 seconds for ever."""
    ticks = itertools.count(0, 100)

    def slow(request: Request, reply: Reply) -> None:
        stream = reply.open_stream(200, {"Content-Type": "application/octet-stream"})
        stream.write(b"x")
        stream.close()

    with (
        serving(slow) as address,
        open_store(f"{address}/a/b", quick(monotonic=lambda: float(next(ticks)))) as store,
        pytest.raises(Unavailable, match="too slowly"),
    ):
        store.blob(described(b"x"), max_bytes=100)


def test_a_warning_is_passed_on_once_and_cleaned() -> None:
    told: list[str] = []

    def service(request: Request, reply: Reply) -> None:
        reply.send(404, b"", {"Warning": '299 - "ends\x1b[31m in May", 299 - "and moves"'})

    with serving(service) as address, open_store(f"{address}/a/b", quick(on_warning=told.append)) as store:
        for _ in range(3):
            assert store.resolve("v1") is None
    assert told == [f"registry {address} says: ends [31m in May", f"registry {address} says: and moves"]


def test_a_registry_with_endless_warnings_is_not_listened_to_for_ever() -> None:
    told: list[str] = []
    numbers = itertools.count()

    def service(request: Request, reply: Reply) -> None:
        reply.send(404, b"", {"Warning": f'299 - "number {next(numbers)}"'})

    with serving(service) as address, open_store(f"{address}/a/b", quick(on_warning=told.append)) as store:
        for _ in range(40):
            store.resolve("v1")
    assert len(told) == 10


def test_a_store_that_is_redirected_to_does_not_warn_in_the_registry_s_name() -> None:
    told: list[str] = []

    def storage(request: Request, reply: Reply) -> None:
        reply.send(200, CONTENT, {"Warning": '299 - "trust me"'})

    with (
        serving(storage) as elsewhere,
        serving(redirecting_to(lambda: f"http://{elsewhere}/x")) as address,
        open_store(f"{address}/a/b", quick(on_warning=told.append)) as store,
    ):
        assert store.blob(described(CONTENT), max_bytes=100) == CONTENT
    assert told == []


def test_certificates_mean_https_on_loopback_too(authority: Authority, ca_file: Path, tmp_path: Path) -> None:
    with (
        serving_tls(tmp_path, authority) as address,
        open_store(f"{address}/a/b", quick(ca_file=ca_file)) as store,
        pytest.raises(NotFound),
    ):
        store.manifest("v1")


def test_a_client_certificate_that_is_missing_is_named(authority: Authority, ca_file: Path, tmp_path: Path) -> None:
    with (
        serving_tls(tmp_path, authority, client=True) as address,
        open_store(f"{address}/a/b", quick(ca_file=ca_file)) as store,
        pytest.raises(AccessDenied, match="wants a client certificate") as caught,
    ):
        store.manifest("v1")
    assert "--cert-file" in caught.value.hint
