"""`ocisync mirror save|load`: closures in one file, for places without a network between them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ocisync.cli import mirrorfileflags, mirrorfiletext, mirrorflags, output
from ocisync.cli.options import common_options, output_option, registry_options
from ocisync.cli.places import layout_option, place_of
from ocisync.cli.trustflags import trust_options
from ocisync.model.errors import NotFound, OcisyncError, UsageError
from ocisync.model.limits import MIRROR_CARGO_BYTES
from ocisync.model.ref import LayoutReference, Place, parse_place

if TYPE_CHECKING:
    from ocisync.flows.trust import TrustSet
    from ocisync.mirror.closure import Selected
    from ocisync.mirror.describe import Base
    from ocisync.mirror.load import Loaded
    from ocisync.mirror.save import Prepared, SaveOptions
    from ocisync.mirror.stores import Stores
    from ocisync.signing.keys import PublicKey, Signer

# -- save -----------------------------------------------------------------------------------------


@click.command("save")
@click.argument("sources", nargs=-1, required=True, metavar="REF…")
@click.option("-o", "--output", "target", required=True, metavar="FILE", help="File to write; - for standard output.")
@mirrorflags.selection_options
@mirrorflags.image_options
@layout_option
@mirrorflags.run_options
@click.option("--since", default="", metavar="FILE", help="Leave out what a receipt or an earlier file lists: a delta.")
@click.option("--since-key", "since_keys", multiple=True, metavar="FILE", help="Public key that signed --since.")
@mirrorfileflags.sign_option("the list of contents")
@click.option(
    "--with-trust",
    "cargo",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Key, policy or trusted root to take along; see mirror trust.",
)
@click.option("--trust-version", type=click.IntRange(min=1), metavar="N", help="Edition of what --with-trust names.")
@click.option("--summary", "form", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="Form of the summary, which goes to stderr with -o -.")  # fmt: skip
@registry_options
@common_options
def save_command(
    sources: tuple[str, ...],
    target: str,
    since: str,
    since_keys: tuple[str, ...],
    sign_keys: tuple[str, ...],
    cargo: tuple[Path, ...],
    trust_version: int | None,
    form: str,
    quiet: bool,
    **rest: Any,
) -> None:
    """Write artifacts with everything that belongs to them into one tar file, an OCI image layout.

    A delta (--since) leaves out what the far side has by its receipt, or by an earlier file; new signatures of old
    artifacts are in it. The signature of --sign-key says that the file is complete; artifacts carry their own.

    \b
    Examples:
      ocisync mirror save oci://registry.example/shop:1.4.0 -o shop.tar --images --sign-key sender.key
      ocisync mirror save oci://registry.example/shop --newest 3 -o - | ssh gate 'cat > shop.tar'
      ocisync mirror save oci://registry.example/shop:1.5.0 -o delta.tar --since receipt.json
      ocisync mirror save oci://registry.example/shop:1.4.0 -o shop.tar --with-trust release.pub --trust-version 2
    """
    from ocisync.mirror.save import SaveOptions, prepare
    from ocisync.model.clock import format_rfc3339

    if cargo and form == "text" and not sign_keys and not quiet:
        output.warning_text("the file is not signed: what --with-trust adds can be adopted by fingerprint only")
    options = SaveOptions(
        created=format_rfc3339(datetime.now(UTC)),
        signers=mirrorfileflags.signers_of(sign_keys),
        base=_base(since, since_keys) if since else None,
        cargo=_cargo(cargo),
        trust_version=trust_version or 0,
    )
    with _collected(sources, rest, quiet=quiet) as (closure, stores):
        prepared = prepare(closure, options)
        for note in () if quiet else closure.notes:
            output.warning_text(note)
        size = _write(prepared, stores, options, target, quiet=quiet)
    answer = {**prepared.as_json(), "size": size, "signed": bool(options.signers)}
    if target == mirrorfileflags.STDIO:
        if not quiet:
            output.note(mirrorfiletext.saved(answer, target) if form == "text" else mirrorfiletext.json_line(answer))
    else:
        output.emit(answer, form, text=lambda: mirrorfiletext.saved(answer, target))
        if not quiet:
            output.hint_text(f"ocisync mirror load {shlex.quote(target)} DST --policy FILE")


@contextmanager
def _collected(sources: Sequence[str], flags: dict[str, Any], *, quiet: bool) -> Iterator[Any]:
    """The closure that flags select, and the stores that it is in."""
    from ocisync.mirror.select import select, without_doubles
    from ocisync.mirror.walk import collect

    stands_for: str = flags.pop("stands_for")
    places = [_source(text, stands_for) for text in sources]
    chosen = [flags.pop(name) for name in ("within", "patterns", "newest")]
    workers, src_creds = flags.pop("workers"), flags.pop("src_creds")
    if flags.pop("images_to"):
        raise UsageError("--images-to belongs to mirror load", hint="leave it out here")
    walk = mirrorflags.walk_options_of(flags, workers)
    if src_creds and not flags.get("creds"):
        flags["creds"] = src_creds
    with mirrorflags.stores_for(places, places, "", "", flags) as stores:
        with output.progress("Reading", quiet=quiet) as step:
            selected: list[Selected] = []
            for place in places:
                bare = replace(place, tag="", digest="")
                wanted = mirrorflags.selection_of(place, *chosen)
                selected += select(stores.at(bare), bare, wanted, workers=workers)
            closure = collect(without_doubles(selected), stores, replace(walk, step=step))
        yield closure, stores


def _source(text: str, stands_for: str) -> Place:
    place = parse_place(text)
    return place_of(text, stands_for) if isinstance(place, LayoutReference) else place


def _write(prepared: Prepared, stores: Stores, options: SaveOptions, target: str, *, quiet: bool) -> int:
    from ocisync.mirror.save import write
    from ocisync.mirror.savedfile import saved_file

    with output.transfer("Saving", quiet=quiet) as bar:
        bar.total(prepared.total)
        options = replace(options, progress=bar.moved)
        if target == mirrorfileflags.STDIO:
            if sys.stdout.isatty():
                raise UsageError("a mirror file is no text for a terminal", hint="-o FILE, or pipe it somewhere")
            return _to_stdout(lambda: write(prepared, stores, sys.stdout.buffer, options))
        path = Path(target)
        if not path.parent.is_dir():
            raise NotFound(f"no directory {path.parent}")
        with saved_file(path, prepared.size) as (file, spare):
            return write(prepared, stores, file, replace(options, spare=spare.open))


def _to_stdout(write: Callable[[], int]) -> int:
    """Half a file is no success, whoever closed the pipe."""
    try:
        return write()
    except BrokenPipeError as error:
        raise OcisyncError(
            "whoever reads standard output went away before the file was complete",
            hint="look at the other end of the pipe, then save again",
        ) from error
    except OSError as error:
        error.filename = error.filename or "standard output"
        raise


def _base(since: str, keys: tuple[str, ...]) -> Base:
    from ocisync.mirror.archive import ArchiveReader, read_head
    from ocisync.mirror.describe import base_of
    from ocisync.mirror.load import require_sender
    from ocisync.mirror.receipt import RECEIPT_BYTES, is_receipt, read_receipt

    public = mirrorfileflags.public_keys(keys)
    with mirrorfileflags.opened(since) as file:
        start = file.read(1)
        file.seek(0)
        if is_receipt(start):
            return read_receipt(file.read(RECEIPT_BYTES + 1), since, public).base()
        head = read_head(ArchiveReader(file, since))
    require_sender(head, public, since)
    return base_of(head.contents, head.digest)


def _cargo(files: Sequence[Path]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in files:
        if path.name in found:
            raise UsageError(f"two files for --with-trust are called {path.name}")
        try:
            with path.open("rb") as file:
                found[path.name] = file.read(MIRROR_CARGO_BYTES + 1)
        except FileNotFoundError as error:
            raise NotFound(f"no file {path}") from error
    return found


# -- load -----------------------------------------------------------------------------------------


@click.command("load")
@click.argument("file")
@click.argument("destination", metavar="DST")
@trust_options
@mirrorfileflags.sender_option
@click.option(
    "--images-to", default="", metavar="PREFIX", help="Where images go: PREFIX/HOST/PATH (default: DST's host)."
)
@click.option("--map", "maps", multiple=True, callback=mirrorfileflags.maps_of, metavar="NAME=PLACE",
              help="Where a repository of the file goes, or all below a name; repeat for several.")  # fmt: skip
@click.option("--partial", is_flag=True, help="Import what passes and what it needs, when something is refused.")
@click.option("--check-first", is_flag=True, help="Read and check the whole FILE before anything is written.")
@click.option("--force-tag", is_flag=True, help="Replace versions that have other content at DST.")
@click.option("--receipt", default="", metavar="FILE", help="Write what is at the destination now, for the next delta.")
@mirrorfileflags.sign_option("the receipt")
@layout_option
@mirrorflags.run_options
@output_option("text", "json", "yaml")
@registry_options
@common_options
def load_command(
    file: str,
    destination: str,
    key_files: tuple[str, ...],
    policy_files: tuple[Path, ...],
    sender_keys: tuple[str, ...],
    images_to: str,
    maps: dict[str, str],
    partial: bool,
    check_first: bool,
    force_tag: bool,
    receipt: str,
    sign_keys: tuple[str, ...],
    stands_for: str,
    workers: int,
    form: str,
    quiet: bool,
    **registry: Any,
) -> None:
    """Bring a mirror FILE (- for standard input) into registries, judged before anything is written.

    With --policy or --key, every artifact is judged under the name that it will have, from signatures in the file
    alone; keys and policies that came in FILE judge nothing. What is refused (exit code 4) keeps everything out, or,
    with --partial, itself. One repository of artifacts becomes DST; several go below it, each under its own path.

    \b
    Examples:
      ocisync mirror load shop.tar oci://mirror.site.local/shop --policy policy.yaml --sender-key sender.pub
      ocisync mirror load - oci://mirror.site.local/shop --policy policy.yaml < shop.tar
      ocisync mirror load shop.tar oci://mirror.site.local/shop --key release.pub --receipt receipt.json
      ocisync mirror load all.tar oci://mirror.site.local --map registry.example/shop=mirror.site.local/acme/shop
    """
    if sign_keys and not receipt:
        raise UsageError("--sign-key signs a receipt", hint="add --receipt FILE")
    if receipt and not Path(receipt).absolute().parent.is_dir():
        raise NotFound(f"no directory for the receipt {receipt}")
    trust = mirrorfileflags.trust_for(key_files, policy_files)
    if trust is None and not quiet:
        output.warning_text("nothing is judged: neither --policy nor --key is given")
    signers = mirrorfileflags.signers_of(sign_keys)
    flags = (images_to, maps, partial, check_first, force_tag, workers, bool(key_files))
    registry.pop("src_creds")
    place = place_of(destination, stands_for)
    if place.tag or place.digest:
        raise UsageError(f"tags are in the file: name {place.location} without tag and digest")
    with _loading(file, place, images_to, maps, registry) as (source, stores):
        loaded = _load(source, file, place, stores, trust, mirrorfileflags.public_keys(sender_keys), flags, quiet=quiet)
        if receipt and not loaded.report.failures:
            _write_receipt(loaded, stores, Path(receipt), signers, workers, quiet=quiet)
    answer = {**loaded.as_json(), "receipt": receipt}
    output.emit(answer, form, text=lambda: mirrorfiletext.loaded(answer))
    _end(loaded, file)
    there = next((one for one in loaded.closure.roots if one.selected.tag), None)
    if there is not None and not quiet:
        reference = f"{loaded.routes[there.selected.place.repository].location}:{there.selected.tag}"
        output.hint_text(f"ocisync verify {shlex.quote(reference)} --policy FILE")


def _end(loaded: Loaded, file: str) -> None:
    from ocisync.cli.mirror import raise_failures
    from ocisync.mirror.filejudge import refusal

    if loaded.report.failures:
        raise_failures(loaded.report)
    if loaded.refused:
        raise refusal(loaded.refused, file, partial=True)


@contextmanager
def _loading(
    file: str, place: Place, images_to: str, maps: dict[str, str], registry: dict[str, Any]
) -> Iterator[tuple[BinaryIO, Stores]]:
    mapped = [parse_place(f"{text}/x") for text in maps.values()]
    with (
        mirrorfileflags.opened(file) as source,
        mirrorflags.stores_for([], [place, *mapped], images_to, "", registry) as stores,
    ):
        yield source, stores


def _load(
    source: BinaryIO,
    name: str,
    place: Place,
    stores: Stores,
    trust: Callable[[str], TrustSet] | None,
    senders: tuple[PublicKey, ...],
    flags: tuple[str, dict[str, str], bool, bool, bool, int, bool],
    *,
    quiet: bool,
) -> Loaded:
    from ocisync.mirror.copy import Callbacks
    from ocisync.mirror.filerouting import file_routes
    from ocisync.mirror.load import LoadRequest, load

    images_to, maps, partial, check_first, force_tag, workers, keyed = flags
    with output.transfer("Loading", quiet=quiet) as bar:
        request = LoadRequest(
            routes=lambda contents: file_routes(contents, place, images_to, maps),
            now=datetime.now(UTC),
            trust=trust,
            judge_images=not keyed,
            sender_keys=senders,
            partial=partial,
            check_first=check_first,
            force_tag=force_tag,
            workers=workers,
            callbacks=Callbacks(bar.step, bar.total, bar.moved),
        )
        return load(source, "standard input" if name == mirrorfileflags.STDIO else name, request, stores)


def _write_receipt(
    loaded: Loaded, stores: Stores, path: Path, signers: tuple[Signer, ...], workers: int, *, quiet: bool
) -> None:
    from ocisync.kit import atomic
    from ocisync.mirror.receipt import take, write_receipt

    with output.progress("Taking a receipt", quiet=quiet):
        known = take(loaded.routes, loaded.untagged(), stores, workers=workers)
    atomic.write_bytes(path, write_receipt(loaded.digest, loaded.routes, known, datetime.now(UTC), signers))
    if not signers and not quiet:
        output.warning_text(f"{path} is not signed: add --sign-key to prove who wrote it")
