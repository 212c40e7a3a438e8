"""From registry flags to a store: the one place where the command line opens registries."""

from __future__ import annotations

from pathlib import Path

from ocisync.cli import output
from ocisync.cli.options import environment
from ocisync.model.errors import NotFound, UsageError
from ocisync.model.ref import Reference
from ocisync.oci.client import RegistryStore, open_store
from ocisync.oci.options import RegistryOptions


def open_registry(
    reference: Reference,
    *,
    plain_http: bool | None,
    ca_file: Path | None,
    creds: str | None,
    registry_config: Path | None,
    timeout_s: float,
) -> RegistryStore:
    """Open the repository of `reference` with what the flags say.

    Raises:
        NotFound: a file named by a flag does not exist.
        UsageError: `--creds` has no colon.
    """
    for flag, path in (("--ca-file", ca_file), ("--registry-config", registry_config)):
        if path is not None and not path.is_file():
            raise NotFound(f"{flag}: no file {path}")
    if creds and ":" not in creds:
        raise UsageError("--creds must have the form USER:PASSWORD")
    return open_store(
        reference,
        RegistryOptions(
            plain_http=plain_http or None,
            ca_file=ca_file,
            creds=creds or "",
            config_file=registry_config,
            environ=environment(),
            timeout_s=timeout_s,
            on_warning=output.warning_text,
        ),
    )
