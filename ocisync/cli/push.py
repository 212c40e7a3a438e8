"""`ocisync push`: one commit's manifests become one signed artifact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync import __version__
from ocisync.cli import jobsummary, keylessflags, output, pushwatch, renderflags, schemaflags, sourceflags
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import common_options, environment, output_option, registry_options
from ocisync.cli.places import layout_option, open_place, place_of, typed
from ocisync.cli.pushwatch import WatchFlags, watch_options
from ocisync.cli.schemaflags import schema_options
from ocisync.cli.signflags import expiry, key_opener
from ocisync.cli.sourceflags import source_options
from ocisync.kit.background import Background
from ocisync.model.errors import UsageError
from ocisync.model.ref import LAYOUT_SCHEME, Place

if TYPE_CHECKING:
    from ocisync.cli.keylessflags import SigningFlags
    from ocisync.flows.publish import PublishResult, Source
    from ocisync.flows.sign import AnySigner

    Signers = Background[tuple[AnySigner, ...]]


def _pairs(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    out: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not NAME=VALUE")
        out[name] = text
    return out


@click.command("push")
@click.argument("arguments", nargs=-1, required=True, metavar="[PATH] oci://HOST/REPOSITORY[:TAG]…")
@click.option(
    "--sign-key",
    "--key",
    "key_files",
    multiple=True,
    metavar="FILE",
    help="Private key to sign with (file, env://NAME or exec:PROGRAM?KEY); repeat for more.",
)
@keylessflags.signing_options
@click.option("--legacy-signature", is_flag=True, help="Also write the signature in cosign 2's form (.sig tag).")
@click.option(
    "-a",
    "--annotation",
    "annotations",
    multiple=True,
    callback=_pairs,
    metavar="NAME=VALUE",
    help="Annotation of the manifest.",
)
@click.option("--claim", "claims", multiple=True, callback=_pairs, metavar="NAME=VALUE", help="Claim to be signed.")
@click.option("--expires", default="", metavar="DURATION", help="Let the signature end after a time like 720h.")
@click.option("--provenance", is_flag=True, help="Attest from which commit, how and by whom it was made (SLSA v1).")
@source_options
@click.option(
    "--allow-plain-secret",
    "plain_secrets",
    multiple=True,
    metavar="NAMESPACE/NAME",
    help="A Secret that may be published readable.",
)
@schema_options
@click.option(
    "--profile",
    type=click.Choice(["oci", "flux", "imgpkg"]),
    default="oci",
    show_default=True,
    help="Media types to write.",
)
@click.option("--force-tag", is_flag=True, help="Move version tags too, and publish older commits.")
@click.option("--if-changed", is_flag=True, help="Do nothing if the tags hold equal content, of whatever commit.")
@click.option("--dry-run", is_flag=True, help="Check, build and compare; write nothing.")
@watch_options
@layout_option
@renderflags.render_options
@renderflags.pin_options
@output_option("text", "json", "yaml", "name")
@registry_options
@common_options
def command(
    arguments: tuple[str, ...],
    key_files: tuple[str, ...],
    legacy_signature: bool,
    annotations: dict[str, str],
    claims: dict[str, str],
    expires: str,
    provenance: bool,
    plain_secrets: tuple[str, ...],
    profile: str,
    force_tag: bool,
    if_changed: bool,
    dry_run: bool,
    stands_for: str,
    form: str,
    quiet: bool,
    **rest: Any,
) -> None:
    """Publish the manifests of one commit as one signed, immutable artifact.

    PATH (default: the current directory) is read from the committed tree, never from the work tree; `-` reads
    manifests from stdin. Everything is checked as `validate` checks it before anything is uploaded. Several references
    of one repository set several tags; `sha-<commit>` is always added. The same commit again uploads nothing.

    \b
    Examples:
      ocisync push deploy/production oci://registry.example/shop:1.4.0 --sign-key release.key
      ocisync push oci://ghcr.io/acme/shop:staging --sign-key env://RELEASE_KEY -o json
      ocisync push deploy oci://ghcr.io/acme/shop:1.4.0 --keyless --provenance
      ocisync push deploy oci://registry.example/shop:1.4.0 oci://registry.example/shop:production --sign-key k
      ocisync push deploy oci://registry.example/shop:1.4.0 --render auto --pin-images --sign-key release.key
      helm template shop ./chart | ocisync push - oci://localhost:5000/shop:dev --revision local --sign-key dev.key
      ocisync push deploy oci://localhost:5000/shop:dev --watch --reconcile apps/shop

    \b
    Exit codes: 0 published or unchanged · 1 findings · 2 usage · 4 refused (dirty tree, immutable tag) · 6 login
      missing · 7 registry not reachable
    """
    watch = pushwatch.taken_from(rest)
    keyless = keylessflags.signing_taken_from(rest)
    if keyless.keyless and (legacy_signature or watch.watch):
        what = "--legacy-signature" if legacy_signature else "--watch"
        raise UsageError(f"--keyless excludes {what}", hint=f"leave one of them out, or sign with a key for {what}")
    signed = bool(key_files) or keyless.keyless
    if provenance and not signed:
        raise UsageError("provenance is worth what its signature is", hint="add --sign-key FILE or --keyless")
    path, targets = _targets(arguments, stands_for, signed=signed or watch.watch)
    source_flags = sourceflags.taken_from(rest)
    source_flags["render"] = renderflags.render_taken_from(rest, rest["kubernetes_version"])
    schema = schemaflags.taken_from(rest)
    pin = renderflags.pin_taken_from(rest, targets[0], rest)
    pushwatch.check(watch, path, targets, source_flags, with_key=bool(key_files), force_tag=force_tag)
    # Opening an encrypted key takes a fifth of a second of pure computing: as long as all that is done meanwhile.
    signers = _signers(key_files, keyless)
    _publish(path, targets, source_flags, rest, signers, form, watch, quiet=quiet, options={
        "annotations": annotations, "claims": claims, "expires": expiry(expires), "profile": profile,
        "legacy_signature": legacy_signature, "allow_plain_secrets": plain_secrets, "force_tag": force_tag,
        "schema": schema, "pin": pin, "if_changed": if_changed, "dry_run": dry_run,
        "provenance": environment() if provenance else None, "version": __version__,
    })  # fmt: skip


def _targets(arguments: tuple[str, ...], stands_for: str, *, signed: bool) -> tuple[str, list[Place]]:
    """Split PATH from the references. All references must be of one repository, and none may name a digest."""
    first_is_path = not arguments[0].startswith(("oci://", LAYOUT_SCHEME)) and (
        len(arguments) > 1 or Path(arguments[0]).exists() or arguments[0] == "-"
    )
    path, texts = (arguments[0], arguments[1:]) if first_is_path else (".", arguments)
    if not texts:
        raise UsageError(f"no reference to push {path} to", hint=f"ocisync push {path} oci://HOST/REPOSITORY:TAG")
    targets = [place_of(text, stands_for, signed=signed) for text in texts]
    for target in targets:
        if target.digest:
            raise UsageError(f"{target} names a digest: the content decides the digest", hint="name a tag, or nothing")
        if target.location != targets[0].location:
            raise UsageError(f"one push goes to one repository, not to {targets[0].location} and {target.location}")
    return path, targets


def _publish(
    path: str,
    targets: list[Place],
    source_flags: dict[str, Any],
    registry: dict[str, Any],
    signers: Signers,
    form: str,
    watch: WatchFlags,
    *,
    quiet: bool,
    options: dict[str, Any],
) -> None:
    if watch.watch:
        once = partial(_push_once, targets, registry, options)
        pushwatch.run(watch, path, source_flags, signers.result(), once, form, quiet=quiet)
        return
    source = sourceflags.source_of(path, source_flags)
    with output.progress(f"Publishing {targets[0].location}", quiet=quiet) as step:
        result = _push_once(targets, registry, options, source, signers, step)
    for text in () if quiet else (*map(str, result.warnings), *result.notes):
        output.warning_text(text)
    output.emit(result.as_json(), form, name=result.reference, text=lambda: _text(result))
    jobsummary.tell(result, source.environ)
    if not quiet and form == "text":
        _suggest(result, targets[0])


def _push_once(
    targets: list[Place],
    registry: dict[str, Any],
    options: dict[str, Any],
    source: Source,
    signers: Signers | tuple[AnySigner, ...],
    step: Callable[[str], None],
) -> PublishResult:
    from ocisync.flows import publish

    clock = SystemClock()
    step("reading files")
    # Git is another process: while it works, this one imports what speaks to the registry.
    tree = Background(lambda: publish.read_source(source, clock), name="source")
    with open_place(targets[0], registry) as store:
        result = publish.publish(
            publish.PublishRequest(
                store=store,
                source=tree.result(),
                clock=clock,
                tags=tuple(dict.fromkeys(target.tag for target in targets if target.tag)),
                signers=signers if isinstance(signers, tuple) else signers.result(),
                progress=lambda stage, message: step(message or stage.value),
                **options,
            )
        )
    return replace(result, location=targets[0].location)


def _signers(key_files: tuple[str, ...], keyless: SigningFlags) -> Signers:
    """Read the keys, ask for passwords now, and decrypt in the background; find the identity there too."""
    if not key_files and not keyless.keyless:
        return Background(tuple, name="keys")
    openers = [key_opener(name) for name in key_files]

    def load() -> tuple[AnySigner, ...]:
        found = [opened() for opened in openers]
        return (*found, keylessflags.keyless_signer(keyless)) if keyless.keyless else tuple(found)

    return Background(load, name="keys")


def _text(result: PublishResult) -> str:
    state = "unchanged" if result.unchanged else "would publish" if result.dry_run else "published"
    lines = [f"{state}  {result.reference}"]
    if result.tags:
        lines.append(f"tags      {' '.join(result.tags)}")
    lines.append(f"revision  {result.revision}")
    lines.append(f"content   {result.objects} objects in {result.files} files, {result.layer_bytes:,} bytes packed")
    keys = sorted({str(item) for item in result.signatures})
    if result.tools:
        lines.append(f"rendered  {' '.join(result.tools)}")
    if result.images:
        lines.append(f"images    {len(result.images)} pinned")
    lines.append(f"signed    {', '.join(keys) or 'no'}")
    if result.attestations:
        lines.append(f"attested  {', '.join(sorted({item.predicate_type for item in result.attestations}))}")
    return "\n".join(lines)


def _suggest(result: PublishResult, target: Place) -> None:
    tag = next((name for name in result.tags if not name.startswith("sha-")), "")
    name = typed(replace(target, tag=tag, digest="" if tag else result.digest))
    named = f" --as {target.repository}" if target.repository != target.location else ""
    if not result.signatures:
        output.hint_text("add --sign-key FILE (make one with: ocisync keys generate NAME)")
    elif (identity := result.signatures[0].identity) is not None:
        who = f"--certificate-identity {identity[1]} --certificate-oidc-issuer {identity[0]}"
        output.hint_text(f"ocisync verify {name} {who} --trusted-root trusted_root.json{named}")
    else:
        output.hint_text(f"ocisync verify {name} --key FILE.pub{named}")
