"""Flags of commands that handle a mirror file, and the files and keys that they name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ocisync.cli import secrets
from ocisync.cli.signflags import key_opener
from ocisync.cli.trustflags import named_trust
from ocisync.model.errors import InvalidInput, NotFound, UsageError

if TYPE_CHECKING:
    from ocisync.flows.trust import TrustSet
    from ocisync.signing.keys import PublicKey, Signer

STDIO = "-"


def sender_option(function: Any) -> Any:
    """Add `--sender-key`."""
    return click.option(
        "--sender-key",
        "sender_keys",
        multiple=True,
        metavar="FILE",
        help="Public key that must have signed the list of contents; repeat for several.",
    )(function)


def sign_option(what: str) -> Callable[[Any], Any]:
    """Add `--sign-key`, for what is named."""
    where = "file, env://NAME or exec:PROGRAM?KEY"
    return click.option(
        "--sign-key", "sign_keys", multiple=True, metavar="FILE", help=f"Private key to sign {what} ({where})."
    )


def maps_of(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Read `--map NAME=PLACE`."""
    found: dict[str, str] = {}
    for value in values:
        old, equals, new = value.partition("=")
        if not old or not equals or not new:
            raise click.BadParameter(f"{value[:200]!r} is not NAME=PLACE")
        found[old.rstrip("/")] = new.rstrip("/")
    return found


def trust_for(key_files: tuple[str, ...], policy_files: tuple[Path, ...]) -> Callable[[str], TrustSet] | None:
    """Whom to trust for a repository; policy files are read once."""
    if not key_files and not policy_files:
        return None
    known: dict[str, TrustSet | None] = {}

    def trust_for(repository: str) -> TrustSet:
        name = repository if key_files else ""
        if name not in known:
            known[name] = named_trust(key_files, policy_files, repository)
        found = known[name]
        if found is None:
            raise UsageError("nothing to verify against")
        return found

    trust_for("registry.invalid/x")  # a missing file is an error before anything is read
    return trust_for


# -- files ----------------------------------------------------------------------------------------


@contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """A file, or standard input.

    Raises:
        NotFound: there is none.
    """
    if name == STDIO:
        yield sys.stdin.buffer
        return
    path = Path(name)
    if not path.is_file():
        raise NotFound(f"no file {name}")
    with path.open("rb") as file:
        yield file


def public_keys(names: tuple[str, ...]) -> tuple[PublicKey, ...]:
    """Read public keys.

    Raises:
        NotFound, InvalidInput: as `secrets` and `signing.keys` say.
    """
    if not names:
        return ()
    from ocisync.signing import keys

    return tuple(keys.load_public(secrets.read_key(name), name=name) for name in names)


def signers_of(names: tuple[str, ...]) -> tuple[Signer, ...]:
    """Open private keys, asking for passwords where a terminal is there.

    Raises:
        InvalidInput: one key is named twice.
        NotFound, InvalidInput, UsageError: as `signflags.key_opener` says, and whatever opens the key.
    """
    found = [key_opener(name)() for name in names]
    if len({signer.fingerprint for signer in found}) != len(found):
        raise InvalidInput("--sign-key names one key twice")
    return tuple(found)
