"""`--key` and `--policy`: the flags that name whom to trust, for every command that reads artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import output, secrets
from ocisync.cli.keylessflags import NO_IDENTITY, IdentityFlags, identity_trust, trusted_root
from ocisync.model.errors import InvalidInput, NotFound, UsageError
from ocisync.model.limits import MIB
from ocisync.model.resource import JsonObject
from ocisync.model.spec import POLICY_KIND

if TYPE_CHECKING:
    from ocisync.flows.trust import TrustSet

_POLICY_FILE_BYTES = 1 * MIB


def trust_options(function: Any) -> Any:
    """Add `--key` and `--policy`."""
    policy = click.option(
        "--policy",
        "policy_files",
        multiple=True,
        type=click.Path(path_type=Path),
        help="File with TrustPolicy documents; repeat for several.",
    )
    key = click.option(
        "--key", "key_files", multiple=True, metavar="FILE", help="Public key that may have signed; repeat for several."
    )
    return key(policy(function))


def named_trust(
    key_files: tuple[str, ...],
    policy_files: tuple[Path, ...],
    repository: str,
    identity: IdentityFlags = NO_IDENTITY,
) -> TrustSet | None:
    """What the flags trust for one repository; None if they name nobody.

    Raises:
        UsageError: flags of several kinds.
        NotFound, InvalidInput: files.
    """
    if key_files and policy_files:
        raise UsageError("--key and --policy exclude each other", hint="put the keys into the policy")
    if identity.named and (key_files or policy_files):
        raise UsageError(
            "--certificate-identity excludes --key and --policy", hint="a policy can name keys and identities together"
        )
    if identity.named:
        return identity_trust(identity, repository)
    if identity.root is not None and not policy_files:
        raise UsageError(
            "--trusted-root says by which root, not whom to trust", hint="add --certificate-identity SUBJECT"
        )
    if not key_files and not policy_files:
        return None
    from ocisync.flows import trust
    from ocisync.signing import keys

    if key_files:
        loaded = [keys.load_public(secrets.read_key(name), name=name) for name in key_files]
        return trust.trust_keys(loaded, repository)
    read_root = root_reader(identity.root) if identity.root is not None else trust.no_roots
    documents = [document for path in policy_files for document in policy_documents(path)]
    trusted = trust.load_policies(documents, read_root=read_root)
    for name, problem in trusted.unusable.items():
        output.warning_text(f"policy {name} is not usable and refuses what it matches: {problem}")
    return trusted


def root_reader(path: Path) -> Callable[[str], Mapping[str, bytes]]:
    """The one trusted root of the command line is what every reference of a policy means."""
    data = trusted_root(path)
    return lambda name: {"trusted_root.json": data}


def policy_documents(path: Path) -> list[JsonObject]:
    """The TrustPolicy documents of a YAML or JSON file.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is too large, or holds none.
    """
    from ocisync.kit import yamlio

    try:
        with path.open("rb") as file:
            data = file.read(_POLICY_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"no policy file {path}") from error
    if len(data) > _POLICY_FILE_BYTES:
        raise InvalidInput(f"policy file {path} is larger than 1 MiB")
    documents = [item.value for item in yamlio.parse_documents(data, str(path))]
    found: list[JsonObject] = [item for item in documents if isinstance(item, dict) and item.get("kind") == POLICY_KIND]
    if not found:
        kinds = json.dumps([item.get("kind") if isinstance(item, dict) else None for item in documents])
        raise InvalidInput(f"{path} holds no TrustPolicy (kinds found: {kinds})")
    return found
