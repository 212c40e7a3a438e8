"""Flags of keyless signing (`--keyless`, …) and of whose keyless signatures to trust (`--certificate-identity`, …)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.model.errors import InvalidInput, NotFound, UsageError
from ocisync.model.limits import TRUSTED_ROOT_BYTES
from ocisync.model.values import dataclass

if TYPE_CHECKING:
    from ocisync.flows.trust import TrustSet
    from ocisync.signing.keylesssigner import KeylessSigner

TOKEN_VARIABLE = "SIGSTORE_ID_TOKEN"  # noqa: S105 - the name of a variable, which GitLab sets
_TOKEN_BYTES = 64 * 1024
_PUBLIC_ROOT = "cosign trusted-root create --with-default-services --out trusted_root.json"


@dataclass(frozen=True, slots=True)
class SigningFlags:
    """How to sign keyless, if at all."""

    keyless: bool = False
    token: str = ""
    config: Path | None = None


@dataclass(frozen=True, slots=True)
class IdentityFlags:
    """Whose keyless signature is asked for, and the trusted root."""

    identity: str = ""
    glob: str = ""
    issuer: str = ""
    root: Path | None = None

    @property
    def named(self) -> bool:
        """Whether an identity is asked for."""
        return bool(self.identity or self.glob or self.issuer)


NO_IDENTITY = IdentityFlags()


def signing_options(function: Any) -> Any:
    """Add `--keyless`, `--identity-token`, `--trust-config`."""
    options = (
        click.option("--keyless", is_flag=True, help="Sign as the identity of this CI job, without a key."),
        click.option(
            "--identity-token",
            default="",
            metavar="FILE",
            help=f"Identity token to sign keyless with (file or -; default: {TOKEN_VARIABLE}, then the CI system's).",
        ),
        click.option(
            "--trust-config",
            type=click.Path(path_type=Path),
            help="Services and trusted root of a private Sigstore (default: the public one).",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def signing_taken_from(rest: dict[str, Any]) -> SigningFlags:
    """Take the values of `signing_options` out of a command's arguments.

    Raises:
        UsageError: the other two flags without `--keyless`.
    """
    flags = SigningFlags(rest.pop("keyless"), rest.pop("identity_token"), rest.pop("trust_config"))
    if not flags.keyless and (flags.token or flags.config):
        name = "--identity-token" if flags.token else "--trust-config"
        raise UsageError(f"{name} is for keyless signing", hint="add --keyless")
    return flags


def keyless_signer(flags: SigningFlags) -> KeylessSigner:
    """Find the services and the identity.

    Raises:
        UsageError, AccessDenied: there is no identity, or it is not given.
        NotFound, InvalidInput, Unavailable: files, or the public instance's configuration.
    """
    from ocisync.signing import keylesssigner

    token = _token(flags.token)
    if flags.config is not None:
        data = _read(flags.config, 2 * TRUSTED_ROOT_BYTES, "trust configuration")
        config = keylesssigner.load_trust_config(data, name=str(flags.config))
    else:
        config = keylesssigner.public_trust_config()
    return keylesssigner.KeylessSigner(config, token or keylesssigner.ambient_token())


def identity_options(function: Any) -> Any:
    """Add `--certificate-identity`, `--certificate-identity-glob`, `--certificate-oidc-issuer`, `--trusted-root`."""
    options = (
        click.option(
            "--certificate-identity", default="", metavar="SUBJECT", help="Identity that must have signed, exact."
        ),
        click.option(
            "--certificate-identity-glob", default="", metavar="GLOB", help="The same; * is any run without /."
        ),
        click.option("--certificate-oidc-issuer", default="", metavar="URL", help="Who vouches for it, exact."),
        click.option(
            "--trusted-root",
            type=click.Path(path_type=Path),
            help="Trusted root of the Sigstore, also for every trustedRootRef of --policy.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def identity_taken_from(rest: dict[str, Any]) -> IdentityFlags:
    """Take the values of `identity_options` out of a command's arguments."""
    names = ("certificate_identity", "certificate_identity_glob", "certificate_oidc_issuer", "trusted_root")
    return IdentityFlags(*(rest.pop(name) for name in names))


def identity_trust(flags: IdentityFlags, repository: str) -> TrustSet:
    """What the flags trust for one repository.

    Raises:
        UsageError: not enough of them, or contradicting ones.
        NotFound, InvalidInput: the trusted root.
    """
    from ocisync.flows import trust
    from ocisync.policy.keyless import make_keyless
    from ocisync.signing.roots import load_root

    if bool(flags.identity) == bool(flags.glob) or not flags.issuer:
        raise UsageError(
            "a keyless signature is judged by who signed and who says so",
            hint="--certificate-identity SUBJECT --certificate-oidc-issuer URL --trusted-root FILE",
        )
    if flags.root is None:
        raise UsageError("no trusted root", hint=f"--trusted-root FILE; for the public Sigstore: {_PUBLIC_ROOT}")
    try:
        rule = make_keyless(
            issuer=flags.issuer, subject=flags.identity, subject_glob=flags.glob, claims={}, where="identity"
        )
    except InvalidInput as error:
        raise UsageError(error.message, hint=f"{error.hint} in a policy: --policy FILE".strip()) from None
    return trust.trust_identity(rule, load_root(trusted_root(flags.root), name=str(flags.root)), repository)


def trusted_root(path: Path) -> bytes:
    """The bytes of a trusted root.

    Raises:
        NotFound, InvalidInput: no such file, or it is far too large.
    """
    return _read(path, TRUSTED_ROOT_BYTES, "trusted root")


def _token(where: str) -> str:
    if not where:
        return os.environ.get(TOKEN_VARIABLE, "")
    if where != "-":
        return _read(Path(where), _TOKEN_BYTES, "identity token").decode(errors="replace").strip()
    if sys.stdin is None:  # closed by the caller (`<&-`)
        raise UsageError("stdin is closed: there is no identity token to read")
    return sys.stdin.buffer.read(_TOKEN_BYTES).decode(errors="replace").strip()


def _read(path: Path, limit: int, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise NotFound(f"no {what} {path}") from error
    except OSError as error:
        raise InvalidInput(f"{what} {path}: {error.strerror}") from error
    if len(data) > limit:
        raise InvalidInput(f"{what} {path} is larger than {limit >> 10} KiB")
    return data
