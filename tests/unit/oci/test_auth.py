from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from ocisync.model.errors import AccessDenied, OcisyncError, Unavailable
from ocisync.model.ref import parse_reference
from ocisync.oci.auth import PULL, Authenticator, Scope, TokenRequest, token_request
from ocisync.oci.credentials import Credential, Sources, StaticCredentials
from ocisync.oci.endpoint import endpoint_of
from ocisync.oci.failures import Answer
from ocisync.oci.retry import Transient

REALM = "https://auth.example/token"
CHALLENGE = f'Bearer realm="{REALM}",service="r"'
READ = Scope((("shop/config", PULL),))


class TokenServer:
    """Answers token requests in memory."""

    def __init__(self) -> None:
        self.requests: list[TokenRequest] = []
        self.status = 200
        self.body: bytes | None = None
        self.lifetime: object = 300

    def __call__(self, request: TokenRequest) -> Answer:
        self.requests.append(request)
        body = json.dumps({"token": f"t{len(self.requests)}", "expires_in": self.lifetime}).encode()
        return Answer(self.status, {}, body if self.body is None else self.body)


class Time:
    now = 1000.0


@pytest.fixture
def server() -> TokenServer:
    return TokenServer()


def authenticator(server: TokenServer, reference: str = "r.example/shop/config", **login: str) -> Authenticator:
    host = parse_reference(reference).host
    sources = Sources((StaticCredentials(host, Credential(**login)),) if login else ())
    return Authenticator(endpoint_of(parse_reference(reference)), sources, server, lambda: Time.now)


@pytest.fixture(autouse=True)
def _time() -> None:
    Time.now = 1000.0


def test_nothing_is_sent_before_the_registry_asks(server: TokenServer) -> None:
    assert authenticator(server, username="u", password="p").header(READ) == ""


def test_a_challenge_leads_to_a_token_for_our_scope(server: TokenServer) -> None:
    auth = authenticator(server, username="u", password="p")
    assert auth.learn(CHALLENGE, READ, "")
    assert auth.header(READ) == "Bearer t1"
    assert auth.header(READ) == "Bearer t1"
    query = parse_qs(urlsplit(server.requests[0].url).query)
    assert query == {"service": ["r"], "scope": ["repository:shop/config:pull"], "account": ["u"]}


def test_a_refused_token_is_dropped_but_not_its_successor(server: TokenServer) -> None:
    auth = authenticator(server)
    auth.learn(CHALLENGE, READ, "")
    first = auth.header(READ)
    assert auth.learn(CHALLENGE, READ, first)
    second = auth.header(READ)
    assert second != first
    assert auth.learn(CHALLENGE, READ, first)  # another thread's late 401
    assert auth.header(READ) == second


@pytest.mark.parametrize(
    ("lifetime", "usable_s"),
    [(300, 289), (None, 49), ("300", 49), (True, 49), (-5, 49), (0, 49), (1e12, 3589), (4, 2.9)],
)
def test_a_token_is_used_until_shortly_before_it_expires(
    server: TokenServer, lifetime: object, usable_s: float
) -> None:
    server.lifetime = lifetime
    auth = authenticator(server)
    auth.learn(CHALLENGE, READ, "")
    assert auth.header(READ) == "Bearer t1"
    Time.now += usable_s
    assert auth.header(READ) == "Bearer t1"
    Time.now += 2
    assert auth.header(READ) == "Bearer t2"


def test_a_wider_scope_is_asked_for_when_the_registry_wants_one(server: TokenServer) -> None:
    auth = authenticator(server)
    auth.learn(CHALLENGE, READ, "")
    token = auth.header(READ)
    wider = CHALLENGE + ',scope="repository:shop/config:pull repository:base/image:pull",error="insufficient_scope"'
    assert auth.learn(wider, READ, token)
    auth.header(READ)
    assert parse_qs(urlsplit(server.requests[-1].url).query)["scope"] == [
        "repository:shop/config:pull",
        "repository:base/image:pull",
    ]


def test_basic_is_sent_once_asked_for_and_given_up_when_refused(server: TokenServer) -> None:
    auth = authenticator(server, username="u", password="p")
    assert auth.learn('Basic realm="reg"', READ, "")
    header = auth.header(READ)
    assert header == "Basic dTpw"
    assert not auth.learn('Basic realm="reg"', READ, header)
    assert server.requests == []


def test_without_a_login_basic_is_given_up(server: TokenServer) -> None:
    assert not authenticator(server).learn('Basic realm="reg"', READ, "")


def test_a_scheme_that_we_do_not_speak_is_given_up(server: TokenServer) -> None:
    assert not authenticator(server).learn("Negotiate", READ, "")
    assert not authenticator(server).learn("", READ, "")


@pytest.mark.parametrize(
    ("reference", "realm", "trusted"),
    [
        ("r.example/a", "https://auth.example/token", True),
        ("r.example/a", "https://r.example/token", True),
        ("r.example/a", "http://r.example/token", False),
        ("r.example/a", "http://auth.example/token", False),
        ("localhost:5000/a", "http://localhost:5001/token", True),
        ("localhost:5000/a", "http://127.0.0.1:5001/token", True),
        ("localhost:5000/a", "http://auth.example/token", False),
        ("r.example/a", "https://u:p@auth.example/token", False),
        ("r.example/a", "reg", False),
        ("r.example/a", "//auth.example/token", False),
        ("r.example/a", "file:///etc/passwd", False),
    ],
)
def test_a_realm_is_https_or_the_plain_registry_itself(
    server: TokenServer, reference: str, realm: str, trusted: bool
) -> None:
    auth = authenticator(server, reference)
    challenge = f'Bearer realm="{realm}"'
    if trusted:
        assert auth.learn(challenge, READ, "")
    else:
        with pytest.raises(AccessDenied) as caught:
            auth.learn(challenge, READ, "")
        assert caught.value.reason == "UntrustedRealm"
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, b"", AccessDenied),
        (403, b"", AccessDenied),
        (404, b"", AccessDenied),
        (302, b"", AccessDenied),
        (500, b"", Unavailable),
        (200, b"", Transient),
        (200, b"<html>", Transient),
        (200, b"[]", AccessDenied),
        (200, b'{"token":5}', AccessDenied),
        (200, b'{"token":""}', AccessDenied),
        (200, b'{"token":"a\\r\\nX-Evil: 1"}', AccessDenied),
        (200, '{"token":"ü"}'.encode(), AccessDenied),
    ],
)
def test_bad_token_answers_are_errors(server: TokenServer, status: int, body: bytes, error: type[Exception]) -> None:
    server.status, server.body = status, body
    auth = authenticator(server, username="u", password="hunter2")
    auth.learn(CHALLENGE, READ, "")
    with pytest.raises(error) as caught:
        auth.header(READ)
    assert "hunter2" not in str(caught.value)
    if isinstance(caught.value, OcisyncError):
        assert "auth.example" in caught.value.message


def test_an_access_token_counts_as_a_token(server: TokenServer) -> None:
    server.body = b'{"access_token":"oauth"}'
    auth = authenticator(server)
    auth.learn(CHALLENGE, READ, "")
    assert auth.header(READ) == "Bearer oauth"


def test_an_identity_token_travels_in_a_form_and_never_in_a_url() -> None:
    request = token_request(REALM, "r", READ.texts, Credential(identity_token="s3cret"))
    assert "s3cret" not in request.url
    assert "s3cret" not in repr(request)
    assert parse_qs((request.form or b"").decode()) == {
        "grant_type": ["refresh_token"],
        "client_id": ["ocisync"],
        "service": ["r"],
        "refresh_token": ["s3cret"],
        "scope": ["repository:shop/config:pull"],
    }


def test_a_realm_with_a_query_keeps_it() -> None:
    assert token_request("https://a/t?x=1", "", (), None).url == "https://a/t?x=1"
    assert token_request("https://a/t?x=1", "s", (), None).url == "https://a/t?x=1&service=s"
    assert token_request("https://a/t", "", (), None).url == "https://a/t"


def test_a_lifetime_beyond_every_float_is_the_longest_that_we_believe(server: TokenServer) -> None:
    server.lifetime = int("9" * 4000)
    auth = authenticator(server)
    auth.learn(CHALLENGE, READ, "")
    assert auth.header(READ) == "Bearer t1"
