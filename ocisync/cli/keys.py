"""`ocisync keys`: make key pairs and look at key files, ours and cosign's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ocisync.cli import output, secrets
from ocisync.cli.options import common_options, output_option
from ocisync.cli.signflags import key_opener
from ocisync.kit import atomic
from ocisync.model.errors import InvalidInput, Refused

if TYPE_CHECKING:
    from ocisync.signing.keys import PublicKey


@click.group("keys")
def command() -> None:
    """Make and read signing keys.

    Private keys are PKCS #8 PEM files, encrypted if a password is given, or cosign's own files. The password comes
    from OCISYNC_KEY_PASSWORD or COSIGN_PASSWORD, else from a prompt.

    \b
    Examples:
      ocisync keys generate release
      ocisync keys generate release --format cosign
      ocisync keys show release.pub
    """


@command.command("generate")
@click.argument("name")
@click.option(
    "--algorithm",
    type=click.Choice(["ecdsa-p256", "ed25519", "rsa-3072"]),
    default="ecdsa-p256",
    show_default=True,
    help="Kind of key.",
)
@click.option(
    "--format",
    "key_format",
    type=click.Choice(["pkcs8", "cosign"]),
    default="pkcs8",
    show_default=True,
    help="Kind of file.",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@output_option("text", "json", "yaml", "name")
@common_options
def generate(name: str, algorithm: str, key_format: str, force: bool, form: str, quiet: bool) -> None:
    """Write a new key pair to NAME.key and NAME.pub.

    \b
    Examples:
      ocisync keys generate release
      OCISYNC_KEY_PASSWORD=… ocisync keys generate ci/release --algorithm ed25519
    """
    from ocisync.signing import keys

    private, public = Path(f"{name}.key"), Path(f"{name}.pub")
    for path in (private, public):
        if path.exists() and not force:
            raise Refused(f"{path} exists already", hint="choose another name, or add --force to replace it")
    if not private.parent.is_dir():
        raise InvalidInput(f"no directory {private.parent} to write the keys to")
    password = secrets.new_password()
    signer = keys.generate(algorithm)
    atomic.write_bytes(private, keys.dump_private(signer, password=password, key_format=key_format), mode=0o600)
    atomic.write_bytes(public, signer.public.pem.encode())
    if password is None and not quiet:
        output.warning_text(f"{private} is not encrypted: whoever reads it can sign")
    answer = {
        "privateKey": str(private),
        "publicKey": str(public),
        "algorithm": algorithm,
        "fingerprint": signer.fingerprint,
    }
    output.emit(
        answer,
        form,
        name=str(public),
        text=lambda: f"{private}  keep it secret\n{public}  hand it out\n{signer.fingerprint}",
    )
    if not quiet and form == "text":
        output.hint_text(f"ocisync push PATH oci://HOST/REPOSITORY:TAG --sign-key {shlex.quote(str(private))}")
        secret = re.sub("[^a-z0-9]+", "-", private.stem.lower()).strip("-") or "key"
        source = shlex.quote(f"cosign.pub={public}")
        output.hint_text(f"kubectl -n ocisync-system create secret generic {secret}-pub --from-file={source}")


@command.command("show")
@click.argument("file")
@output_option("text", "json", "yaml", "name")
@common_options
def show(file: str, form: str, quiet: bool) -> None:
    """Show algorithm, fingerprint and public key of a key FILE, private or public, ours or cosign's, or a program's.

    \b
    Examples:
      ocisync keys show release.pub
      ocisync keys show cosign.key -o json
      ocisync keys show env://RELEASE_KEY
      ocisync keys show exec:ocisync-kms?alias/release
    """
    public = _public(file)
    answer = {"algorithm": public.algorithm, "fingerprint": public.fingerprint, "hint": public.hint, "pem": public.pem}
    output.emit(
        answer,
        form,
        name=public.fingerprint,
        text=lambda: f"{public.algorithm}  {public.fingerprint}\n{public.pem.strip()}",
    )


def _public(name: str) -> PublicKey:
    from ocisync.signing import keys, plugin

    if plugin.is_plugin(name):
        return key_opener(name)().public
    data = secrets.read_key(name)
    if b"PRIVATE KEY" in data:
        return keys.load_private(data, secrets.existing_password(name, data), name=name).public
    return keys.load_public(data, name=name)
