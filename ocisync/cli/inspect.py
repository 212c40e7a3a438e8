"""`ocisync inspect`: what an artifact is, where it came from, what lies beside it. Judges nothing."""

from __future__ import annotations

from typing import Any

import click

from ocisync.cli import output
from ocisync.cli.options import common_options, output_option, registry_options
from ocisync.model.descriptor import BUNDLE_V03, CREATED, REVISION, SOURCE, VERSION
from ocisync.model.errors import UsageError
from ocisync.model.limits import CONFIG_BYTES
from ocisync.model.ref import Reference, legacy_signature_tag, parse_reference
from ocisync.model.resource import JsonObject


@click.command("inspect")
@click.argument("reference")
@output_option("text", "json", "yaml", "name")
@registry_options
@common_options
def command(reference: str, form: str, quiet: bool, **registry: Any) -> None:
    """Show what REFERENCE is: digest, size, commit, source, and what signatures lie beside it.

    Nothing shown here is verified: annotations are what the artifact says about itself.

    \b
    Examples:
      ocisync inspect oci://registry.example/shop:1.4.0
      ocisync inspect oci://registry.example/shop@sha256:… -o json
      ocisync inspect registry.example/shop:production -o name
    """
    target = parse_reference(reference)
    if not target.tag and not target.digest:
        raise UsageError(
            f"{reference} names neither a tag nor a digest", hint=f"ocisync inspect {target.repository}:TAG"
        )
    with output.progress(f"Reading {target}", quiet=quiet):
        answer = _read(target, registry)
    output.emit(answer, form, name=f"{target.repository}@{answer['digest']}", text=lambda: _text(answer))
    if not quiet and form == "text":
        output.hint_text(f"ocisync verify {target} --key FILE.pub")


def _read(target: Reference, registry: Any) -> JsonObject:
    from ocisync.cli.registry import open_registry
    from ocisync.pack import artifact

    store = open_registry(target, **registry)
    found = store.manifest(target.digest or target.tag)
    manifest = artifact.parse_manifest(found.raw, found.descriptor)
    digest = manifest.descriptor.digest
    diff_id = artifact.check_config(store.blob(manifest.config, max_bytes=CONFIG_BYTES), manifest)
    listed = store.referrers(digest)
    referrers = [
        {"artifactType": item.artifact_type, "digest": item.digest, "size": item.size} for item in listed.descriptors
    ]
    notes = manifest.annotations
    return {
        "reference": str(target),
        "repository": target.repository,
        "digest": digest,
        "mediaType": manifest.descriptor.media_type,
        "contentDigest": diff_id,
        "layer": {"digest": manifest.layer.digest, "size": manifest.layer.size, "mediaType": manifest.layer.media_type},
        "revision": notes.get(REVISION, ""),
        "source": notes.get(SOURCE, ""),
        "version": notes.get(VERSION, ""),
        "created": notes.get(CREATED, ""),
        "annotations": dict(notes),
        "referrers": referrers,
        "referrersTruncated": listed.truncated,
        "legacySignature": store.resolve(legacy_signature_tag(digest)) is not None,
    }


def _text(answer: JsonObject) -> str:
    bundles = sum(1 for item in answer["referrers"] if item["artifactType"] == BUNDLE_V03)
    others = len(answer["referrers"]) - bundles
    beside = [f"{bundles} signature bundle{'s' if bundles != 1 else ''}"]
    if others:
        beside.append(f"{others} other referrer{'s' if others != 1 else ''}")
    if answer["legacySignature"]:
        beside.append("a legacy .sig tag")
    rows = [
        ("artifact", f"{answer['repository']}@{answer['digest']}"),
        ("revision", answer["revision"]),
        ("source", answer["source"]),
        ("version", answer["version"]),
        ("created", answer["created"]),
        ("content", f"{answer['contentDigest']}  ({answer['layer']['size']:,} bytes packed)"),
        ("beside", ", ".join(beside)),
    ]
    return "\n".join(f"{name:9} {output.plain(value)}" for name, value in rows if value)
