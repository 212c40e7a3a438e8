"""`ocisync mirror verify|trust`: what a mirror file is worth, without a network and before anything is loaded."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ocisync.cli import mirrorfileflags, mirrorfiletext, output
from ocisync.cli.options import common_options, output_option
from ocisync.cli.trustflags import trust_options
from ocisync.model.digest import is_digest
from ocisync.model.errors import UsageError
from ocisync.model.ref import parse_place

# -- verify ---------------------------------------------------------------------------------------


@click.command("verify")
@click.argument("file")
@trust_options
@mirrorfileflags.sender_option
@click.option("--at", "at", default="", metavar="DST", help="Judge under the names that a load to DST would give.")
@click.option("--images-to", default="", metavar="PREFIX", help="Where images would go: PREFIX/HOST/PATH.")
@click.option(
    "--map", "maps", multiple=True, callback=mirrorfileflags.maps_of, metavar="NAME=PLACE", help="As for mirror load."
)
@output_option("text", "json", "yaml")
@common_options
def verify_command(
    file: str,
    key_files: tuple[str, ...],
    policy_files: tuple[Path, ...],
    sender_keys: tuple[str, ...],
    at: str,
    images_to: str,
    maps: dict[str, str],
    form: str,
    quiet: bool,
) -> None:
    """Check a mirror FILE (- for standard input): every byte, the sender's signature, every artifact. No network.

    Without --at, artifacts are judged under the sender's names. Of a delta, artifacts are judged that are in it; for
    the others the destination is needed.

    \b
    Examples:
      ocisync mirror verify shop.tar --sender-key sender.pub
      ocisync mirror verify shop.tar --policy policy.yaml --at oci://mirror.site.local/shop
      ocisync mirror verify shop.tar --key release.pub -o json
    """
    from ocisync.mirror.filejudge import judge_all, kept, open_parts, refusal
    from ocisync.mirror.filerouting import file_routes
    from ocisync.mirror.load import check_whole, judged_json, require_sender

    trust = mirrorfileflags.trust_for(key_files, policy_files)
    with mirrorfileflags.opened(file) as source, output.progress(f"Checking {file}", quiet=quiet):
        head = check_whole(source, file)
    senders = require_sender(head, mirrorfileflags.public_keys(sender_keys), file)
    routes = file_routes(head.contents, parse_place(at), images_to, maps) if at else None
    deliveries = open_parts(head, file, routes, None, 1)
    now, images = datetime.now(UTC), not key_files
    judged = judge_all(deliveries, trust, now, images=images) if trust is not None else ()
    _, refused = kept(deliveries, judged)
    answer = {
        "file": head.digest,
        "created": head.contents.created,
        "base": head.contents.base,
        "signed": head.sealed.signed,
        "senders": list(senders),
        "repositories": [part.name for part in head.contents.parts],
        "judged": [judged_json(one) for one in judged],
        "refused": [one.name for one in refused],
    }
    output.emit(answer, form, text=lambda: mirrorfiletext.verified(answer, head, file))
    if refused:
        raise refusal(refused, file, partial=True)


# -- trust ----------------------------------------------------------------------------------------


@click.command("trust")
@click.argument("file")
@click.option("--to", "directory", type=click.Path(path_type=Path), metavar="DIR", help="Directory of what is trusted.")
@click.option(
    "--fingerprint", "fingerprints", multiple=True, metavar="sha256:…", help="Adopt the file with this digest."
)
@click.option("--signed-by", "keys", multiple=True, metavar="FILE",
              help="Adopt everything, if this key, trusted already, signed FILE and its version rises.")  # fmt: skip
@output_option("text", "json", "yaml")
@common_options
def trust_command(
    file: str,
    directory: Path | None,
    fingerprints: tuple[str, ...],
    keys: tuple[str, ...],
    form: str,
    quiet: bool,
) -> None:
    """List the keys, policies and trusted roots that a mirror FILE carries, or adopt them into a directory.

    They never judge the file that carries them. A fingerprint must reach you by another way than the file: a call, a
    letter, the site's records. It is what sha256sum prints.

    \b
    Examples:
      ocisync mirror trust shop.tar
      ocisync mirror trust shop.tar --fingerprint sha256:… --to /etc/ocisync/trust
      ocisync mirror trust shop.tar --signed-by /etc/ocisync/sender.pub --to /etc/ocisync/trust
    """
    from ocisync.mirror import trustfile
    from ocisync.mirror.load import check_whole

    if fingerprints and keys:
        raise UsageError("--fingerprint and --signed-by exclude each other")
    for text in fingerprints:
        if not is_digest(text):
            raise UsageError(f"{text[:100]!r} is no fingerprint: expected sha256: and 64 hex characters")
    with mirrorfileflags.opened(file) as source, output.progress(f"Reading {file}", quiet=quiet):
        head = check_whole(source, file)
    answer: dict[str, Any] = {"version": head.contents.trust_version, "carried": trustfile.cargo_json(head)}
    if not fingerprints and not keys:
        output.emit(answer, form, text=lambda: mirrorfiletext.cargo(answer, file))
        return
    if directory is None:
        raise UsageError("where to? Adopted files go into a directory", hint="add --to DIR")
    if keys:
        chosen = trustfile.by_key(head, mirrorfileflags.public_keys(keys), trustfile.read_adopted(directory), file)
    else:
        chosen = trustfile.by_fingerprint(head, fingerprints, file)
    after = trustfile.adopt(head, chosen, directory, raise_version=bool(keys))
    answer |= {"adopted": [str(directory / item.name) for item in chosen], "adoptedVersion": after.version}
    output.emit(answer, form, text=lambda: mirrorfiletext.adopted(answer))
