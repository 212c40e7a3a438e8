"""`ocisync tag` (also `promote`): point tags to an artifact that is there, signed for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ocisync.cli import keylessflags, output
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import common_options, output_option, registry_options
from ocisync.cli.places import layout_option, open_place, place_of, require_version, typed
from ocisync.cli.signflags import expiry, load_signers, sign_options, signed_line
from ocisync.cli.trustflags import named_trust, trust_options
from ocisync.model.errors import UsageError
from ocisync.model.ref import Place, is_tag
from ocisync.model.resource import JsonObject


@click.command("tag")
@click.argument("reference")
@click.argument("tags", nargs=-1, required=True, metavar="TAG…")
@sign_options
@trust_options
@keylessflags.identity_options
@click.option("--rollback", is_flag=True, help="Let tags go back to an older commit; signed as the newest.")
@click.option("--force-tag", is_flag=True, help="Move version tags too.")
@layout_option
@output_option("text", "json", "yaml", "name")
@registry_options
@common_options
def command(
    reference: str,
    tags: tuple[str, ...],
    sign_keys: tuple[str, ...],
    legacy_signature: bool,
    claims: dict[str, str],
    expires: str,
    key_files: tuple[str, ...],
    policy_files: tuple[Path, ...],
    rollback: bool,
    force_tag: bool,
    stands_for: str,
    form: str,
    quiet: bool,
    **registry: Any,
) -> None:
    """Point TAG… to what REFERENCE is: a promotion, or with --rollback a planned step back.

    With --sign-key a new signature is made for the new tags, with the commit time of the artifact as its sequence; it
    is there before a tag moves. With --key or --policy the artifact must be signed as they demand first. Version tags
    and commit tags never move; other tags do not go back to an older commit unless --rollback says so.

    \b
    Examples:
      ocisync tag oci://registry.example/shop:1.4.0 production --sign-key release.key --key release.pub
      ocisync promote oci://registry.example/shop@sha256:… staging eu-1 --sign-key release.key
      ocisync tag oci://registry.example/shop:1.3.2 production --rollback --sign-key release.key
      ocisync tag oci-layout:shop.tar:1.4.0 site --as registry.example/shop --sign-key site.key

    \b
    Exit codes: 0 done or unchanged · 2 usage · 4 refused (not signed as demanded, tag must not move) · 5 no such
      artifact · 6 login missing · 7 registry not reachable
    """
    keyless, identity = keylessflags.signing_taken_from(registry), keylessflags.identity_taken_from(registry)
    signed = bool(sign_keys or keyless.keyless or key_files or policy_files or identity.named)
    target = place_of(reference, stands_for, signed=signed)
    version = require_version(target, "tag")
    for tag in tags:
        if not is_tag(tag):
            raise UsageError(
                f"{tag!r} is no tag; tags are set in the repository of {target}",
                hint=f"ocisync tag {typed(target)} TAG",
            )
    end, signers = expiry(expires), load_signers(sign_keys, keyless, legacy=legacy_signature)
    trust = named_trust(key_files, policy_files, target.repository, identity)
    from ocisync.flows.promote import PromoteRequest, promote

    with output.progress(f"Tagging {target}", quiet=quiet), open_place(target, registry) as store:
        result = promote(
            PromoteRequest(
                store=store,
                reference=version,
                tags=tags,
                clock=SystemClock(),
                signers=signers,
                claims=claims,
                expires=end,
                legacy_signature=legacy_signature,
                rollback=rollback,
                force_tag=force_tag,
                trust=trust,
                source_tag=target.tag,
            )
        )
    for text in () if quiet else result.notes:
        output.warning_text(text)
    answer = result.as_json(target.location)
    output.emit(answer, form, name=answer["reference"], text=lambda: _text(answer))
    if not quiet and form == "text":
        _suggest(target, tags[0], signed=bool(signers))


def _text(answer: JsonObject) -> str:
    lines = [f"{'unchanged' if answer['unchanged'] else 'tagged'}  {answer['reference']}"]
    for tag, before in answer["previous"].items():
        was = "new" if not before else "as before" if before == answer["digest"] else f"was {before}"
        lines.append(f"tag       {tag} ({was})")
    if answer["revision"]:
        lines.append(f"revision  {output.plain(answer['revision'])}")
    lines.append(f"signed    {signed_line(answer['signatures'])}")
    return "\n".join(lines)


def _suggest(target: Place, tag: str, *, signed: bool) -> None:
    if not signed:
        output.hint_text("add --sign-key FILE so that policies accept the tag")
        return
    named = f" --as {target.repository}" if target.repository != target.location else ""
    scheme = "" if named or target.location.startswith("oci-layout:") else "oci://"
    output.hint_text(f"ocisync verify {scheme}{target.location}:{tag} --key FILE.pub{named}")
