"""`ocisync pull`: the files of an artifact, verified if somebody is trusted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import keylessflags, output
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import common_options, output_option, registry_options
from ocisync.cli.places import layout_option, open_place, place_of, require_version, typed
from ocisync.cli.trustflags import named_trust, trust_options
from ocisync.model.ref import LAYOUT_SCHEME, LayoutReference, Place
from ocisync.model.resource import JsonObject

if TYPE_CHECKING:
    from ocisync.flows.pull import Pulled


@click.command("pull")
@click.argument("reference")
@click.option(
    "-d",
    "--directory",
    type=click.Path(path_type=Path),
    help="Where to put the files (default: the last word of the repository's name).",
)
@click.option("--force", is_flag=True, help="Write into a directory that is not empty; its other files stay.")
@click.option("--manifest-only", is_flag=True, help="Write the exact bytes of the manifest to stdout, and no file.")
@trust_options
@keylessflags.identity_options
@layout_option
@output_option("text", "json", "yaml", "name")
@registry_options
@common_options
def command(
    reference: str,
    directory: Path | None,
    force: bool,
    manifest_only: bool,
    key_files: tuple[str, ...],
    policy_files: tuple[Path, ...],
    stands_for: str,
    form: str,
    quiet: bool,
    **registry: Any,
) -> None:
    """Write the files of the artifact REFERENCE into a directory.

    With --key or --policy the artifact must be signed as they demand, as for `verify`; without, nothing about it is
    proven, and a warning says so. The directory appears whole or not at all. Links, devices and names that lead
    outside are refused.

    \b
    Examples:
      ocisync pull oci://registry.example/shop:1.4.0 --key release.pub
      ocisync pull oci://registry.example/shop:production -d /tmp/shop --policy policy.yaml -o json
      ocisync pull oci-layout:shop.tar:1.4.0 -d shop --as registry.example/shop --key release.pub
      ocisync pull oci://registry.example/shop:1.4.0 --manifest-only

    \b
    Exit codes: 0 written · 2 usage · 4 refused (not signed as demanded, hostile content, directory not empty) · 5 no
      such artifact · 6 login missing · 7 registry not reachable
    """
    identity = keylessflags.identity_taken_from(registry)
    target = place_of(reference, stands_for, signed=bool(key_files or policy_files or identity.named))
    require_version(target, "pull")
    trust = named_trust(key_files, policy_files, target.repository, identity)
    from ocisync.flows.pull import pull, write_files

    with output.progress(f"Pulling {target}", quiet=quiet), open_place(target, registry) as store:
        pulled = pull(store, target.tag, target.digest, SystemClock(), trust)
    _warn(pulled, target)
    if manifest_only:
        raw = store.manifest(pulled.manifest.descriptor.digest).raw
        sys.stdout.flush()
        sys.stdout.buffer.write(raw)
        return
    folder = directory or Path(_default_name(target))
    write_files(pulled.files, folder, force=force)
    answer = _answer(target, pulled, folder)
    output.emit(answer, form, name=answer["reference"], text=lambda: _text(answer))
    if not quiet and form == "text" and pulled.verdict is None:
        named = " --as HOST/REPOSITORY" if target.location.startswith(LAYOUT_SCHEME) else ""
        output.hint_text(f"ocisync verify {typed(target)} --key FILE.pub{named}")


def _warn(pulled: Pulled, target: Place) -> None:
    """Also with --quiet: what follows may be anybody's."""
    if pulled.verdict is None:
        output.warning_text(f"{target} is NOT verified: nobody was named to trust (--key FILE or --policy FILE)")
    elif not pulled.is_verified:
        output.warning_text(f"{target} is NOT verified, a policy lets it pass: {pulled.verdict.message}")


def _default_name(target: Place) -> str:
    if isinstance(target, LayoutReference) and not target.name:
        # Not the layout's own name, beside which it would lie.
        return (Path(target.path).name.removesuffix(".tar") or "artifact") + "-files"
    return target.repository.rpartition("/")[2]


def _answer(target: Place, pulled: Pulled, folder: Path) -> JsonObject:
    digest = pulled.manifest.descriptor.digest
    return {
        "reference": f"{target.location}@{digest}",
        "repository": target.repository,
        "digest": digest,
        "directory": str(folder),
        "files": [file.path for file in pulled.files],
        "verified": pulled.is_verified,
        "signers": list(pulled.verdict.signers) if pulled.verdict else [],
    }


def _text(answer: JsonObject) -> str:
    count = len(answer["files"])
    proven = f"verified, signed by {', '.join(answer['signers'])}" if answer["verified"] else "NOT verified"
    return "\n".join((
        f"pulled    {answer['reference']}",
        f"files     {count} in {output.plain(answer['directory'])}",
        f"trust     {proven}",
    ))  # fmt: skip
