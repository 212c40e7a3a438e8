"""How requests are authorised: basic logins and bearer tokens, for one registry.

`Authenticator.header` gives the value to send now; `Authenticator.learn` takes a 401 and tells whether trying again
can help. Tokens are kept by (realm, service, scope) until shortly before they expire; a 401 drops exactly the token
that was refused, so an expired one is replaced and no other request suffers. One thread fetches, the others wait.

Credentials go to the registry (basic) and to its token realm, which must be https, or http on the same host as a
registry that is itself spoken to by http. Nothing here knows HTTP libraries: `fetch` makes one request.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from urllib.parse import urlencode, urlsplit

from ocisync.model.errors import AccessDenied, OcisyncError, Unavailable
from ocisync.model.values import dataclass
from ocisync.oci.credentials import Credential, CredentialSource
from ocisync.oci.endpoint import Endpoint, host_of, is_loopback_name, origin_of
from ocisync.oci.failures import Answer, login_hint, quoted, registry_message
from ocisync.oci.headers import Challenge, parse_challenges
from ocisync.oci.retry import Transient

PULL = "pull"
PUSH = "pull,push"
DELETE = "pull,push,delete"

CLIENT_ID = "ocisync"
DEFAULT_LIFETIME_S = 60.0  # the token specification's default
MAX_LIFETIME_S = 3600.0  # a registry may say a year; asking once an hour costs nothing
MARGIN_S = 10.0
_TOKEN_TEXT = re.compile(r"[\x21-\x7e]{1,65536}\Z")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a request needs: (repository path, actions) pairs; none for the registry itself."""

    grants: tuple[tuple[str, str], ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Scopes as the token specification writes them."""
        return tuple(f"repository:{path}:{actions}" for path, actions in self.grants)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request to a token server. `form` makes it a POST. The authorization is a secret."""

    url: str
    form: bytes | None = field(default=None, repr=False)
    authorization: str = field(default="", repr=False)
    deadline: float | None = None  # of the request that needs the token


@dataclass(frozen=True, slots=True)
class _Key:
    realm: str
    service: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    expires: float


class Authenticator:
    """The login state of one registry, shared by all threads of a store."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: CredentialSource,
        fetch: Callable[[TokenRequest], Answer],
        monotonic: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._fetch = fetch
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._fetching: dict[_Key, threading.Lock] = {}
        self._tokens: dict[_Key, _Token] = {}
        self._credential: Credential | None = None
        self._looked_up = False
        self._challenge: Challenge | None = None
        self._widened: dict[Scope, tuple[str, ...]] = {}

    @property
    def asked(self) -> bool:
        """Whether the registry has asked for a login."""
        with self._lock:
            return self._challenge is not None

    def header(self, scope: Scope, deadline: float | None = None) -> str:
        """The `Authorization` value for a request; empty before the registry has asked for a login.

        Raises:
            AccessDenied: the token server refuses.
            Transient: the token server did not answer properly.
        """
        with self._lock:
            challenge = self._challenge
        if challenge is None:
            ready = self._login()
            return f"Bearer {ready.registry_token}" if ready and ready.registry_token else ""
        if challenge.scheme == "basic":
            login = self._login()
            return login.basic if login else ""
        return "Bearer " + self._token(self._key(challenge, scope), deadline)

    def learn(self, challenges: str, scope: Scope, used: str) -> bool:
        """Take a 401's `WWW-Authenticate`; tell whether a request with a new `header` is worth sending.

        `used` is the Authorization that was refused, empty if none was sent.

        Raises:
            AccessDenied: the registry wants a login that must not or cannot be given.
        """
        challenge = self._choose(parse_challenges(challenges))
        if challenge is None:
            return False
        with self._lock:
            self._challenge = challenge
        if challenge.scheme == "basic":
            return self._learn_basic(used)
        widened = self._widen(challenge, scope)
        key = self._key(challenge, scope)
        with self._lock:
            held = self._tokens.get(key)
            if held is not None and used == "Bearer " + held.value and not widened:
                del self._tokens[key]
        return True

    def _learn_basic(self, used: str) -> bool:
        login = self._login()
        if login is None or not login.basic:
            return False
        if login.basic != used:
            return True
        return self._login_again() and (self._credential or Credential()).basic != used

    def _widen(self, challenge: Challenge, scope: Scope) -> bool:
        """Remember a scope that the registry wants beyond ours; tell whether it is new."""
        asked = tuple(challenge.get("scope").split())
        with self._lock:
            known = self._widened.get(scope, scope.texts)
            if not asked or all(_covered(item, known) for item in asked):
                return False
            self._widened[scope] = tuple(dict.fromkeys((*known, *asked)))[:8]
            return True

    def _choose(self, offered: tuple[Challenge, ...]) -> Challenge | None:
        bearer = next((item for item in offered if item.scheme == "bearer" and item.get("realm")), None)
        if bearer is not None:
            self._check_realm(bearer.get("realm"))
            return bearer
        return next((item for item in offered if item.scheme == "basic"), None)

    def _check_realm(self, realm: str) -> None:
        parts = urlsplit(realm if origin_of(realm) else "")  # without a usable host or port it leads nowhere
        if parts.scheme == "https" and not parts.username:
            return
        same_host = parts.hostname == host_of(self._endpoint.host)
        both_loopback = is_loopback_name(self._endpoint.host) and is_loopback_name(parts.netloc)
        if parts.scheme == "http" and self._endpoint.scheme == "http" and (same_host or both_loopback):
            return
        raise AccessDenied(
            f"registry {self._endpoint.name} wants logins sent to {quoted(realm)}, which is neither https nor itself",
            reason="UntrustedRealm",
        )

    def _key(self, challenge: Challenge, scope: Scope) -> _Key:
        with self._lock:
            scopes = self._widened.get(scope, scope.texts)
        return _Key(challenge.get("realm"), challenge.get("service"), scopes)

    # -- credentials ------------------------------------------------------------------------------

    def _login(self) -> Credential | None:
        with self._lock:
            if not self._looked_up:
                self._credential = self._credentials.find(self._endpoint.name, self._endpoint.path)
                self._looked_up = True
            return self._credential

    def _login_again(self) -> bool:
        """Look the credentials up anew (they may have been rotated); tell whether they differ."""
        with self._lock:
            before = self._credential
            self._looked_up = False
            return self._login() != before

    # -- tokens -----------------------------------------------------------------------------------

    def _token(self, key: _Key, deadline: float | None) -> str:
        held = self._held(key)
        if held:
            return held
        with self._lock:
            gate = self._fetching.setdefault(key, threading.Lock())
        with gate:
            held = self._held(key)
            if held:
                return held
            token = self._issue(key, deadline)
            with self._lock:
                self._tokens[key] = token
            return token.value

    def _held(self, key: _Key) -> str:
        with self._lock:
            token = self._tokens.get(key)
            return token.value if token and token.expires > self._monotonic() else ""

    def _issue(self, key: _Key, deadline: float | None) -> _Token:
        asked_at = self._monotonic()
        login = self._login()
        if login and login.registry_token:
            return _Token(login.registry_token, asked_at + MAX_LIFETIME_S)
        request = token_request(key.realm, key.service, key.scopes, login)
        answer = self._fetch(replace(request, deadline=deadline))
        if answer.status in {400, 401, 403} and self._login_again():
            request = token_request(key.realm, key.service, key.scopes, self._login())
            answer = self._fetch(replace(request, deadline=deadline))
        host = urlsplit(key.realm).netloc
        if not answer.ok:
            raise _refusal(answer, host, self._endpoint.name, bool(login))
        return _read_token(answer.body, host, asked_at)


def _covered(item: str, known: tuple[str, ...]) -> bool:
    """Whether a scope asks for nothing beyond the known ones."""
    name, _, actions = item.rpartition(":")
    for text in known:
        known_name, _, known_actions = text.rpartition(":")
        if name == known_name and set(actions.split(",")) <= set(known_actions.split(",")):
            return True
    return False


def token_request(realm: str, service: str, scopes: tuple[str, ...], login: Credential | None) -> TokenRequest:
    """The request that asks for a token: OAuth2 with an identity token, else GET with basic login or anonymous."""
    fields: list[tuple[str, str]] = [("service", service)] if service else []
    if login is not None and login.identity_token:
        fields = [("grant_type", "refresh_token"), ("client_id", CLIENT_ID), *fields]
        fields += [("refresh_token", login.identity_token)]
        if scopes:
            fields.append(("scope", " ".join(scopes)))
        return TokenRequest(realm, urlencode(fields).encode())
    fields += [("scope", text) for text in scopes]
    if login is not None and login.username:
        fields.append(("account", login.username))
    separator = "&" if urlsplit(realm).query else "?"
    url = realm + (separator + urlencode(fields) if fields else "")
    return TokenRequest(url, None, login.basic if login else "")


def _refusal(answer: Answer, host: str, registry: str, logged_in: bool) -> OcisyncError:
    said = registry_message(answer)
    if answer.status >= 500:
        return Unavailable(f"token server {host}: {said}", hint="try again later")
    what = "refuses the login" if logged_in else "gives no anonymous token"
    return AccessDenied(f"token server {host} {what} for {registry}: {said}", hint=login_hint(registry))


def _read_token(body: bytes, host: str, asked_at: float) -> _Token:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        # Not chained: the decoder's message could quote a token.
        raise Transient(Unavailable(f"token server {host} sent no JSON", hint="try again later")) from None
    value = _member(document, "token") or _member(document, "access_token")
    if not _TOKEN_TEXT.match(value):
        raise AccessDenied(f"token server {host} sent no usable token")
    lifetime = document.get("expires_in")
    seconds = DEFAULT_LIFETIME_S
    if isinstance(lifetime, int | float) and not isinstance(lifetime, bool) and lifetime > 0:
        seconds = float(min(lifetime, MAX_LIFETIME_S))  # compared first: an integer may be beyond any float
    return _Token(value, asked_at + seconds - min(MARGIN_S, seconds / 4))


def _member(document: object, name: str) -> str:
    value: object = document.get(name) if isinstance(document, Mapping) else None
    return value if isinstance(value, str) else ""
