"""`ocisync inspect`: what an artifact is, where it came from, what is in it, what lies beside it. Judges nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from ocisync.cli import output, secrets
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import common_options, output_option, registry_options
from ocisync.cli.places import open_place, place_of, require_version, typed
from ocisync.model.clock import format_rfc3339
from ocisync.model.descriptor import (
    BUNDLE_V03,
    CLAIM_EXPIRES,
    CLAIM_REPOSITORY,
    CLAIM_REVISION,
    CLAIM_SEQUENCE,
    CLAIM_SIGNED,
    CLAIM_TAGS,
    SIGN_PREDICATE,
)
from ocisync.model.resource import JsonObject

_CLAIMS = {
    CLAIM_REPOSITORY: "repository",
    CLAIM_TAGS: "tags",
    CLAIM_REVISION: "revision",
    CLAIM_SEQUENCE: "sequence",
    CLAIM_SIGNED: "signed",
    CLAIM_EXPIRES: "expires",
}
_TIMES = frozenset({CLAIM_SEQUENCE, CLAIM_SIGNED, CLAIM_EXPIRES})
_MOST_KINDS = 8


@click.command("inspect")
@click.argument("reference")
@click.option(
    "--key",
    "key_files",
    multiple=True,
    metavar="FILE",
    help="Public key whose signatures are checked; repeat for more.",
)
@click.option("--files", "with_files", is_flag=True, help="List every file.")
@output_option("text", "json", "yaml", "name")
@registry_options
@common_options
def command(
    reference: str, key_files: tuple[str, ...], with_files: bool, form: str, quiet: bool, **registry: Any
) -> None:
    """Show what REFERENCE is: digest, size, commit, source, its objects, and who signed it for what.

    Annotations and contents are what the artifact says about itself. A signature is proven only if a --key made it;
    every other is shown as NOT verified, with what it claims. To decide whether to trust it, use `ocisync verify`.

    \b
    Examples:
      ocisync inspect oci://registry.example/shop:1.4.0
      ocisync inspect oci://registry.example/shop:1.4.0 --key release.pub --files
      ocisync inspect oci://registry.example/shop@sha256:… -o json
      ocisync inspect oci-layout:shop.tar:1.4.0 -o name

    \b
    Exit codes: 0 shown · 2 usage · 4 not an artifact · 5 no such artifact · 6 login missing · 7 registry not reachable
    """
    target = place_of(reference)
    version = require_version(target, "inspect")
    from ocisync.flows.describe import describe
    from ocisync.signing import keys

    loaded = tuple(keys.load_public(secrets.read_key(name), name=name) for name in key_files)
    with output.progress(f"Reading {target}", quiet=quiet), open_place(target, registry) as store:
        described = describe(store, version, SystemClock(), loaded)
    answer: JsonObject = {
        "reference": str(target),
        "repository": target.location,
        **described.as_json(with_files=with_files),
    }
    output.emit(answer, form, name=f"{target.location}@{answer['digest']}", text=lambda: _text(answer))
    if not quiet and form == "text":
        named = " --as HOST/REPOSITORY" if target.location.startswith("oci-layout:") else ""
        output.hint_text(f"ocisync verify {typed(target)} --key FILE.pub{named}")


def _text(answer: JsonObject) -> str:
    content = answer["content"]
    rows = [
        ("artifact", f"{answer['repository']}@{answer['digest']}"),
        ("revision", answer["revision"]),
        ("source", answer["source"]),
        ("version", answer["version"]),
        ("created", answer["created"]),
        ("content", f"{answer['contentDigest']}  ({answer['layer']['size']:,} bytes packed)"),
        ("objects", f"{content['objects']}{_kinds(content['kinds'])}; {content['files']:,} file(s)"),
        ("beside", _beside(answer)),
    ]
    lines = [f"{name:9} {output.plain(value)}" for name, value in rows if value]
    for item in answer["signatures"]:
        lines += _signature(item)
    for item in answer["referrers"]:
        if item["artifactType"] != BUNDLE_V03:
            lines.append(f"referrer  {output.plain(item['artifactType'] or '(no type)')}  {item['digest']}")
    lines += [f"problem   {output.plain(problem)}" for problem in answer["problems"]]
    lines += [f"file      {item['bytes']:>9,}  {output.plain(item['path'])}" for item in answer.get("files", ())]
    return "\n".join(lines)


def _kinds(kinds: dict[str, int]) -> str:
    shown = [f"{count} {kind}" for kind, count in list(kinds.items())[:_MOST_KINDS]]
    if len(kinds) > _MOST_KINDS:
        shown.append(f"{len(kinds) - _MOST_KINDS} more kinds")
    return f": {', '.join(shown)}" if shown else ""


def _beside(answer: JsonObject) -> str:
    bundles = sum(1 for item in answer["referrers"] if item["artifactType"] == BUNDLE_V03)
    others = len(answer["referrers"]) - bundles
    attested = sum(1 for item in answer["signatures"] if item["predicateType"] not in {"", SIGN_PREDICATE})
    signed = max(bundles - attested, 0)
    beside = [f"{signed} signature bundle{'s' if signed != 1 else ''}"]
    if attested:
        beside.append(f"{attested} attestation{'s' if attested != 1 else ''}")
    if others:
        beside.append(f"{others} other referrer{'s' if others != 1 else ''}")
    if answer["legacySignature"]:
        beside.append("a legacy .sig tag")
    return ", ".join(beside) + (" (and more than are listed)" if answer["referrersTruncated"] else "")


def _signature(item: JsonObject) -> list[str]:
    is_signature = item["predicateType"] in {"", SIGN_PREDICATE}
    what = "signature" if is_signature else "attested"
    proven = "verified" if item["verified"] else "NOT verified"
    by = output.plain(item["key"]) or "a key that it does not name"
    lines = [f"{what:9} {item['format']} by {by}: {proven}"]
    if not is_signature:
        lines.append(f"          type {output.plain(item['predicateType'])}")
    for name, value in item["claims"].items():
        shown = _moment(value) if name in _TIMES else value
        lines.append(f"          {output.plain(_CLAIMS.get(name, name))} {output.plain(shown)}")
    if "problem" in item:
        lines.append(f"          problem: {output.plain(item['problem'])}")
    return lines


def _moment(seconds: str) -> str:
    if not seconds.isascii() or not seconds.isdigit() or len(seconds) > 11:
        return seconds
    return f"{seconds} ({format_rfc3339(datetime.fromtimestamp(int(seconds), UTC))})"
