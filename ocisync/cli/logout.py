"""`ocisync logout`: forgets a registry login."""

from __future__ import annotations

from pathlib import Path

import click

from ocisync.cli import output
from ocisync.cli.login import registry_host
from ocisync.cli.options import common_options, environment, output_option


@click.command("logout")
@click.argument("registry", metavar="HOST[:PORT]")
@click.option(
    "--registry-config",
    type=click.Path(path_type=Path),
    help="Login file in docker's format instead of the usual place.",
)
@output_option("text", "json", "yaml", "name")
@common_options
def command(registry: str, registry_config: Path | None, form: str, quiet: bool) -> None:
    """Forget the login to a registry.

    It is removed from the file that `ocisync login` would write, and from the credential helper that this file names.
    Being logged out already is no error. Logins in other places (podman's, another tool's, the environment) stay; they
    are named if they still hold for this registry.

    \b
    Examples:
      ocisync logout registry.example
      ocisync logout ghcr.io --registry-config ci/config.json

    \b
    Exit codes: 0 logged out, or never logged in · 1 the login file cannot be used · 2 usage
    """
    host = registry_host(registry).host
    from ocisync.oci import logins
    from ocisync.oci.credentials import default_credentials

    environ = environment()
    kept = logins.remove_login(logins.login_file(environ, registry_config), host, environ)
    answer = {"registry": host, "removed": kept.found, "file": str(kept.file), "helper": kept.helper}
    text = f"logged out of {host}" if kept.found else f"{kept.file} holds no login for {host}"
    output.emit(answer, form, name=host, text=lambda: text)
    if not quiet and registry_config is None and default_credentials(host, environ).find(host, "") is not None:
        output.warning_text(f"another login for {host} remains: in another login file, or in the environment")
