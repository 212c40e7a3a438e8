"""Where the command line takes private keys and passwords from: files, `env://NAME`, or a prompt on a terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ocisync.model.errors import InvalidInput, NotFound, UsageError
from ocisync.model.limits import KIB

PASSWORD_VARIABLES = ("OCISYNC_KEY_PASSWORD", "COSIGN_PASSWORD")
_KEY_FILE_BYTES = 64 * KIB


def read_key(where: str) -> bytes:
    """The bytes of a key: a file, or the environment variable named by `env://NAME`.

    Raises:
        NotFound: there is no such file or variable.
        InvalidInput: the file is far too large for a key.
        UsageError: it names a program, which can only sign.
    """
    if where.startswith("exec:"):
        hint = f"ocisync keys show {where} prints its public key: keep that in a file"
        raise UsageError(f"{where} is a program that signs; a file is needed here", hint=hint)
    if where.startswith("env://"):
        name = where.removeprefix("env://")
        value = os.environ.get(name)
        if not value:
            raise NotFound(f"the environment variable {name} named by {where} is not set")
        return value.encode()
    path = Path(where)
    try:
        with path.open("rb") as file:
            data = file.read(_KEY_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"no key file {where}", hint="make one with: ocisync keys generate NAME") from error
    except OSError as error:
        raise InvalidInput(f"key file {where}: {error.strerror}") from error
    if len(data) > _KEY_FILE_BYTES:
        raise InvalidInput(f"key file {where} is larger than 64 KiB: it is no key")
    return data


def stored_password() -> bytes | None:
    """The key password from the environment; None if no variable is set (an empty one is an empty password)."""
    for name in PASSWORD_VARIABLES:
        value = os.environ.get(name)
        if value is not None:
            return value.encode()
    return None


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()  # None: closed by the caller (`<&-`)


def existing_password(where: str, data: bytes) -> bytes | None:
    """The password of an encrypted key, asked for on a terminal when the environment has none."""
    if b"ENCRYPTED" not in data[:200]:
        return None
    known = stored_password()
    if known is not None:
        return known
    if not _has_terminal():
        raise UsageError(f"{where} is encrypted", hint=f"put its password into {PASSWORD_VARIABLES[0]}")
    return str(click.prompt(f"Password of {where}", hide_input=True, err=True, default="", show_default=False)).encode()


def new_password() -> bytes | None:
    """A password for a new key: environment, else a prompt with confirmation; None means unencrypted."""
    known = stored_password()
    if known is not None or not _has_terminal():
        return known or None
    answer = click.prompt(
        "Password of the new key (empty: not encrypted)",
        hide_input=True,
        confirmation_prompt=True,
        err=True,
        default="",
        show_default=False,
    )
    return str(answer).encode() or None
