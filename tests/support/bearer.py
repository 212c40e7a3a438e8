"""A token server for registry logins, as Docker's token authentication wants one.

The registry answers 401 with ``Bearer realm="http://127.0.0.1:PORT/token",service=…,scope=…``; the client
asks here with its password and gets a signed token for what it may do. Requests are recorded.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.support import pki
from tests.support.httpservers import LoopbackServer

SERVICE = "ocisync-test-registry"
ISSUER = "ocisync-test-tokens"


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a client asked for: its user ("" when anonymous) and the scopes."""

    user: str
    scopes: tuple[str, ...]


@dataclass(slots=True)
class TokenServer:
    """Gives tokens over plain HTTP on loopback; start it with ``with``.

    ``users`` maps names to passwords. ``pull_only`` users get pull where they ask for more, and
    anonymous clients get pull when ``anonymous_pull`` is set. ``identities`` maps refresh tokens to names.
    Tokens end after ``lifetime_s``; ``claimed_s`` is what clients are told, if that is to differ. The
    registry allows a minute of clock difference, so a lifetime of -59 is a token that is good for a second.
    """

    directory: Path
    users: Mapping[str, str]
    pull_only: frozenset[str] = frozenset()
    anonymous_pull: bool = False
    lifetime_s: int = 300
    claimed_s: int = 0
    algorithm: Literal["ES256", "RS256"] = "ES256"
    identities: Mapping[str, str] = field(default_factory=dict)
    requests: list[TokenRequest] = field(default_factory=list)
    issued: list[str] = field(default_factory=list)
    _key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(init=False)
    _certificate: x509.Certificate = field(init=False)
    _server: LoopbackServer = field(init=False)

    def __post_init__(self) -> None:
        pair = pki.Authority("ocisync-test-tokens").client("token-signer", algorithm=self.algorithm)
        key = serialization.load_pem_private_key(pair.key, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        self._key = key
        self._certificate = x509.load_pem_x509_certificate(pair.certificate)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.certificate_path.write_bytes(pair.certificate)
        self._server = LoopbackServer(("127.0.0.1", 0), _handler(self))

    @property
    def certificate_path(self) -> Path:
        """What the registry trusts."""
        return self.directory / "token-signer.crt"

    @property
    def realm(self) -> str:
        """Where clients are sent."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/token"

    def __enter__(self) -> TokenServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def grant(self, user: str, scopes: tuple[str, ...]) -> list[dict[str, object]]:
        """The access entries of a token for this user."""
        granted: list[dict[str, object]] = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, wanted = rest.rpartition(":")
            actions = [action for action in wanted.split(",") if self._may(user, action)]
            granted.append({"type": kind, "name": name, "actions": actions})
        return granted

    def token(self, user: str, scopes: tuple[str, ...]) -> str:
        """A signed token, with the certificate in its header."""
        now = int(time.time())
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": self.algorithm, "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": ISSUER, "sub": user, "aud": SERVICE, "jti": secrets.token_hex(8),
            "iat": now, "nbf": now - 300, "exp": now + self.lifetime_s,
            "access": self.grant(user, scopes),
        }  # fmt: skip
        signed = f"{_part(json.dumps(header).encode())}.{_part(json.dumps(claims).encode())}"
        token = f"{signed}.{_part(self._sign(signed.encode()))}"
        self.issued.append(token)
        return token

    def _sign(self, data: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    def _may(self, user: str, action: str) -> bool:
        if not user:
            return self.anonymous_pull and action == "pull"
        return action == "pull" or user not in self.pull_only


def _handler(server: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            user = self._user()
            if user is None:
                self._answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong user or password"}]})
                return
            self._give(user, query.get("scope", []))

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            form = dict(urllib.parse.parse_qsl(text))
            user = server.identities.get(form.get("refresh_token", ""))
            if form.get("grant_type") != "refresh_token" or not form.get("client_id") or user is None:
                self._answer(400, {"error": "invalid_grant", "error_description": "unknown refresh token"})
                return
            self._give(user, [form.get("scope", "")])

        def _give(self, user: str, wanted: list[str]) -> None:
            scopes = tuple(scope for value in wanted for scope in value.split(" ") if scope)
            server.requests.append(TokenRequest(user, scopes))
            told = server.claimed_s or server.lifetime_s
            self._answer(200, {"token": server.token(user, scopes), "expires_in": told})

        def _user(self) -> str | None:
            kind, _, value = self.headers.get("Authorization", "").partition(" ")
            if not kind:
                return ""
            user, _, password = base64.b64decode(value).decode().partition(":")
            return user if server.users.get(user) == password else None

        def _answer(self, code: int, body: Mapping[str, object]) -> None:
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Stays silent: pytest shows what matters."""

    return Handler


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
