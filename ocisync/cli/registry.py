"""From registry flags to a store: the one place where the command line opens registries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ocisync.cli import output
from ocisync.cli.options import environment
from ocisync.model.errors import NotFound, UsageError
from ocisync.model.ref import Reference
from ocisync.oci.client import RegistryStore, open_store
from ocisync.oci.options import RegistryOptions


def open_registry(reference: Reference, **flags: Any) -> RegistryStore:
    """Open the repository of `reference` with what the flags say.

    Args:
        reference: Names the repository.
        flags: Those of `connection_options`.

    Raises:
        NotFound, UsageError: As `connection_options`.
    """
    return open_store(reference, connection_options(**flags))


def connection_options(
    *,
    plain_http: bool | None,
    ca_file: Path | None,
    creds: str | None,
    registry_config: Path | None,
    timeout_s: float,
    cert_file: Path | None = None,
    key_file: Path | None = None,
) -> RegistryOptions:
    """What the flags say about connections to registries.

    Raises:
        NotFound: a file named by a flag does not exist.
        UsageError: `--creds` has no colon, or only one of `--cert-file` and `--key-file` is there.
    """
    files = {
        "--ca-file": ca_file,
        "--cert-file": cert_file,
        "--key-file": key_file,
        "--registry-config": registry_config,
    }
    for flag, path in files.items():
        if path is not None and not path.is_file():
            raise NotFound(f"{flag}: no file {path}")
    if creds and ":" not in creds:
        raise UsageError("--creds must have the form USER:PASSWORD")
    if (cert_file is None) != (key_file is None):
        raise UsageError("--cert-file and --key-file belong together: one is missing")
    return RegistryOptions(
        plain_http=plain_http or None,
        ca_file=ca_file,
        client_cert=(cert_file, key_file) if cert_file is not None and key_file is not None else None,
        creds=creds or "",
        config_file=registry_config,
        environ=environment(),
        timeout_s=timeout_s,
        on_warning=_warn_once,
    )


def _warn_once(text: str) -> None:
    """Show a warning the first time: commands that open several repositories would hear it from each."""
    context = click.get_current_context(silent=True)
    shown: set[str] = set() if context is None else context.meta.setdefault("ocisync.registry.warnings", set())
    if text not in shown:
        shown.add(text)
        output.warning_text(text)
