"""Logins for the sandbox registry: none, HTTP basic, or bearer tokens from its own token endpoint.

The token endpoint follows the distribution token specification: `GET /token?service=…&scope=…` with basic
credentials (or none, for anonymous pull), `POST /token` with an OAuth2 form
(`grant_type=password|refresh_token`). Tokens are random strings bound to the granted scopes and expire after
`token_ttl_s`; an expired one gets 401 `error="invalid_token"`.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

PULL: Final = "pull"
PUSH: Final = "push"
DELETE: Final = "delete"
ACTIONS: Final = (PULL, PUSH, DELETE)


@dataclass(frozen=True, slots=True)
class Account:
    """A login: its password and what it may do; `repositories` are exact names or `prefix/*`, `*` is all."""

    password: str
    actions: tuple[str, ...] = ACTIONS
    repositories: tuple[str, ...] = ("*",)

    def may(self, action: str, repository: str) -> bool:
        """Whether this account may do `action` in `repository`."""
        return action in self.actions and any(_covers(pattern, repository) for pattern in self.repositories)


def _covers(pattern: str, repository: str) -> bool:
    if pattern == "*":
        return True
    if pattern.endswith("/*"):
        return repository.startswith(pattern[:-1])
    return pattern == repository


@dataclass(frozen=True, slots=True)
class Token:
    """An issued token."""

    user: str
    granted: frozenset[tuple[str, str]]  # (repository, action)
    expires: float


@dataclass(slots=True)
class Auth:
    """The registry's login rules. With no accounts everything is open."""

    accounts: Mapping[str, Account] = field(default_factory=dict)
    scheme: str = "basic"  # basic | bearer
    anonymous_pull: bool = False
    token_ttl_s: float = 60.0
    service: str = "ocisync-sandbox"
    clock: Callable[[], float] = time.monotonic
    tokens: dict[str, Token] = field(default_factory=dict)
    refresh_tokens: dict[str, str] = field(default_factory=dict)

    def login(self, authorization: str) -> str | None:
        """Return the user that a basic Authorization header proves."""
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            user, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return self.check(user, password) if colon else None

    def check(self, user: str, password: str) -> str | None:
        """Return the user when the password is right."""
        account = self.accounts.get(user)
        if account is None or not secrets.compare_digest(account.password.encode(), password.encode()):
            return None
        return user

    def issue(self, user: str, scopes: list[str]) -> str:
        """Make a token with as much of `scopes` (`repository:NAME:actions`) as the user may have."""
        account = self.accounts.get(user)
        granted: set[tuple[str, str]] = set()
        for scope in " ".join(scopes).split():
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            if kind != "repository":
                continue
            for action in ACTIONS if actions == "*" else actions.split(","):
                if account.may(action, name) if account else (self.anonymous_pull and action == PULL):
                    granted.add((name, action))
        value = secrets.token_urlsafe(24)
        self.tokens[value] = Token(user, frozenset(granted), self.clock() + self.token_ttl_s)
        return value

    def refresh_token(self, user: str) -> str:
        """Make a long-lived identity token, as `docker login` stores it."""
        value = secrets.token_urlsafe(24)
        self.refresh_tokens[value] = user
        return value

    def expire_all(self) -> None:
        """Make every issued token invalid now."""
        self.tokens.clear()

    def refusal(self, authorization: str, action: str, repository: str, realm: str) -> tuple[int, str] | None:
        """Judge a request; None lets it pass, else (status, WWW-Authenticate value)."""
        if not self.accounts:
            return None
        if self.scheme == "basic":
            return self._refuse_basic(authorization, action, repository)
        challenge = f'Bearer realm="{realm}",service="{self.service}"'
        if repository:
            wanted = PULL if action == PULL else f"{PULL},{action}"
            challenge += f',scope="repository:{repository}:{wanted}"'
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return 401, challenge
        token = self.tokens.get(value)
        if token is None or token.expires <= self.clock():
            return 401, challenge + ',error="invalid_token"'
        if repository and (repository, action) not in token.granted:
            return 401, challenge + ',error="insufficient_scope"'
        return None

    def _refuse_basic(self, authorization: str, action: str, repository: str) -> tuple[int, str] | None:
        challenge = f'Basic realm="{self.service}"'
        user = self.login(authorization)
        if user is None:
            if self.anonymous_pull and action == PULL and repository and not authorization:
                return None
            return 401, challenge
        if repository and not self.accounts[user].may(action, repository):
            return 403, challenge
        return None
