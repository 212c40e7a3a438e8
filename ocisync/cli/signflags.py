"""Flags of commands that sign what exists: keys, claims, an end."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import keylessflags, secrets
from ocisync.model.errors import InvalidInput, UsageError
from ocisync.model.spec import parse_duration

if TYPE_CHECKING:
    from ocisync.cli.keylessflags import SigningFlags
    from ocisync.flows.sign import AnySigner
    from ocisync.signing.keys import Signer


def _pairs(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, _ in pairs:
        if not equals or not name:
            raise click.BadParameter(f"{name!r} is not NAME=VALUE")
    return {name: text for name, _, text in pairs}


def sign_options(function: Any) -> Any:
    """Add `--sign-key`, `--keyless` and what belongs to it, `--legacy-signature`, `--claim`, `--expires`."""
    function = keylessflags.signing_options(function)
    options = (
        click.option(
            "--sign-key",
            "sign_keys",
            multiple=True,
            metavar="FILE",
            help="Private key to sign with (file, env://NAME or exec:PROGRAM?KEY); repeat for more.",
        ),
        click.option(
            "--legacy-signature", is_flag=True, help="Also write the signature in cosign 2's form (.sig tag)."
        ),
        click.option(
            "--claim", "claims", multiple=True, callback=_pairs, metavar="NAME=VALUE", help="Claim to be signed."
        ),
        click.option("--expires", default="", metavar="DURATION", help="Let the signature end after a time like 720h."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def load_signers(names: tuple[str, ...], keyless: SigningFlags, *, legacy: bool) -> tuple[AnySigner, ...]:
    """Open private keys, asking for passwords where a terminal is there; find the identity to sign as.

    Raises:
        NotFound, InvalidInput, UsageError: as `signing.keys` and `secrets` say.
    """
    if not names and not keyless.keyless:
        return ()
    if keyless.keyless and legacy:
        raise UsageError("--keyless excludes --legacy-signature", hint="sign with a key for it")
    opened: list[AnySigner] = [key_opener(name)() for name in names]
    return (*opened, keylessflags.keyless_signer(keyless)) if keyless.keyless else tuple(opened)


def key_opener(name: str) -> Callable[[], Signer]:
    """Read a key and ask for its password now; what is returned opens it, which may take its time.

    Raises:
        NotFound, InvalidInput, UsageError: as `secrets` says.
    """
    from ocisync.signing import keys, plugin

    if plugin.is_plugin(name):
        return partial(plugin.open_plugin, name, os.environ)
    data = secrets.read_key(name)
    return partial(keys.load_private, data, secrets.existing_password(name, data), name=name)


def expiry(text: str) -> datetime | None:
    """The moment that `--expires` names.

    Raises:
        UsageError: it is no time span, or none that makes sense.
    """
    if not text:
        return None
    try:
        seconds = parse_duration(text, "--expires")
        if seconds < 1:
            raise UsageError(f"--expires: {text!r} would end at once", hint="--expires 720h")
        return datetime.now(UTC) + timedelta(seconds=seconds)
    except InvalidInput as error:
        raise UsageError(error.message, hint="--expires 720h") from error
    except OverflowError:
        raise UsageError(f"--expires: {text[:40]!r} is beyond the calendar", hint="--expires 720h") from None


def signed_line(signatures: list[Mapping[str, str]]) -> str:
    """Who signed, for people."""
    shown = {f"{item.get('identity') or item['key'][:19] + '…'} ({item['format']})" for item in signatures}
    return ", ".join(sorted(shown)) or "no"
