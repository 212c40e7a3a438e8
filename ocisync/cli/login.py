"""`ocisync login`: checks a registry login and keeps it where docker and podman keep theirs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import output
from ocisync.cli.options import common_options, environment, output_option
from ocisync.model.errors import AccessDenied, UsageError
from ocisync.model.limits import KIB
from ocisync.model.ref import Reference, parse_reference

if TYPE_CHECKING:
    from ocisync.oci.credentials import Credential

_SECRET_BYTES = 16 * KIB


@click.command("login")
@click.argument("registry", metavar="HOST[:PORT]")
@click.option("-u", "--username", default="", help="User name; asked for on a terminal.")
@click.option("--password-stdin", is_flag=True, help="Read the password or access token from stdin.")
@click.option("--plain-http", is_flag=True, default=None, help="Speak http to the registry (implied for loopback).")
@click.option("--ca-file", type=click.Path(path_type=Path), help="Certificate authorities of the registry, PEM.")
@click.option("--cert-file", type=click.Path(path_type=Path), help="Client certificate to show to the registry, PEM.")
@click.option("--key-file", type=click.Path(path_type=Path), help="Private key of --cert-file, PEM.")
@click.option(
    "--registry-config",
    type=click.Path(path_type=Path),
    help="Login file in docker's format instead of the usual place; made if missing.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, 86_400),
    default=30.0,
    show_default=True,
    help="Seconds for each answer.",
)
@output_option("text", "json", "yaml", "name")
@common_options
def command(
    registry: str,
    username: str,
    password_stdin: bool,
    registry_config: Path | None,
    form: str,
    quiet: bool,
    **connection: Any,
) -> None:
    """Log in to a registry, for ocisync, docker and podman alike.

    The login is tried first, and kept only if the registry accepts it: by the credential helper that the login file
    names, else in the file itself (mode 0600). The file is --registry-config, else $REGISTRY_AUTH_FILE, else
    $DOCKER_CONFIG/config.json, else ~/.docker/config.json; all else in it stays as it is. A password is never taken
    from the command line, where other users could see it.

    \b
    Examples:
      ocisync login registry.example
      printenv CI_TOKEN | ocisync login ghcr.io --username ci --password-stdin
      ocisync login registry.site.local:5000 -u ci --password-stdin --ca-file ca.pem <token.txt

    \b
    Exit codes: 0 logged in · 1 the login file cannot be used · 2 usage · 6 login refused · 7 registry not reachable
    """
    reference = registry_host(registry)
    credential = _credential(username, password_stdin, reference.host)
    from ocisync.oci import logins

    file = logins.login_file(environment(), registry_config)
    with output.progress(f"Logging in to {reference.host}", quiet=quiet):
        checked = _check(reference, credential, connection)
        kept = logins.store_login(file, reference.host, credential, environment())
    if not checked:
        output.warning_text(f"{reference.host} did not ask for a login, so this one is kept untried")
    answer = {
        "registry": reference.host,
        "username": credential.username,
        "checked": checked,
        "file": str(kept.file),
        "helper": kept.helper,
    }
    where = f"docker-credential-{kept.helper}" if kept.helper else str(kept.file)
    text = f"logged in to {reference.host} as {credential.username}; kept in {where}"
    output.emit(answer, form, name=reference.host, text=lambda: text)
    if not quiet and not kept.helper and form == "text":
        output.hint_text(f"{kept.file} holds the password readably; name a credential helper there (credsStore)")


def registry_host(text: str) -> Reference:
    """A host as users type it, as a reference in it.

    Raises:
        UsageError: it names more than a host.
    """
    host = text.removeprefix("oci://").removesuffix("/")
    if not host or "/" in host or "@" in host:
        raise UsageError(
            f"{text!r} is not a registry: name its host alone", hint="ocisync login registry.example[:PORT]"
        )
    reference = parse_reference(f"{host}/login")
    if reference.host != host.lower() and reference.host != host:
        raise UsageError(f"{text!r} is not a registry: name its host, like registry.example:5000 or localhost")
    return reference


def _credential(username: str, password_stdin: bool, host: str) -> Credential:
    from ocisync.oci.credentials import Credential

    terminal = sys.stdin is not None and sys.stdin.isatty()
    if not terminal and not (username and password_stdin):
        raise UsageError(
            "there is no terminal to ask for a login on",
            hint=f"printenv TOKEN | ocisync login {host} --username USER --password-stdin",
        )
    if not username:
        username = str(click.prompt(f"User name at {host}", err=True)).strip()
    if not username or ":" in username:
        raise UsageError("a user name is not empty and has no colon")
    if password_stdin:
        password = _from_stdin()
    else:
        password = str(
            click.prompt("Password or access token", hide_input=True, err=True, default="", show_default=False)
        )
    if not password:
        raise UsageError("the password is empty")
    return Credential(username, password)


def _from_stdin() -> str:
    data = sys.stdin.buffer.read(_SECRET_BYTES + 1) if sys.stdin is not None else b""
    if len(data) > _SECRET_BYTES:
        raise UsageError(f"stdin holds more than {_SECRET_BYTES >> 10} KiB: that is no password")
    try:
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UsageError("the password on stdin is not UTF-8 text") from None
    if any(ord(character) < 32 for character in text):
        raise UsageError("stdin holds more than one line: that is no password")
    return text


def _check(reference: Reference, credential: Credential, connection: dict[str, Any]) -> bool:
    """Ask the registry; tell whether it looked at the login.

    Raises:
        AccessDenied: it refuses the login.
    """
    from ocisync.cli.registry import connection_options
    from ocisync.oci.client import open_store
    from ocisync.oci.credentials import StaticCredentials

    options = connection_options(creds=None, registry_config=None, **connection)
    options = replace(options, credentials=StaticCredentials(reference.host, credential))
    with open_store(reference, options) as store:
        try:
            store.ping()
        except AccessDenied as error:
            raise AccessDenied(
                error.message, hint="check user name and password; nothing was kept", reason=error.reason
            ) from error
        return store.wants_login
