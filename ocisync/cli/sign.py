"""`ocisync sign`: new signatures for an artifact that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ocisync.cli import keylessflags, output
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import common_options, output_option, registry_options
from ocisync.cli.places import layout_option, open_place, place_of, typed
from ocisync.cli.signflags import expiry, load_signers, sign_options, signed_line
from ocisync.cli.trustflags import named_trust, trust_options
from ocisync.model.errors import UsageError
from ocisync.model.ref import Place, check_tag
from ocisync.model.resource import JsonObject


@click.command("sign")
@click.argument("reference")
@sign_options
@click.option(
    "--tag", "tags", multiple=True, metavar="TAG", help="Tag that the signature is made for; repeat for more."
)
@click.option("--refresh", is_flag=True, help="Repeat what the key has signed before, with a new time.")
@click.option("--rollback", is_flag=True, help="Sign it as the newest: agents may go back to it.")
@trust_options
@keylessflags.identity_options
@layout_option
@output_option("text", "json", "yaml", "name")
@registry_options
@common_options
def command(
    reference: str,
    sign_keys: tuple[str, ...],
    legacy_signature: bool,
    claims: dict[str, str],
    expires: str,
    tags: tuple[str, ...],
    refresh: bool,
    rollback: bool,
    key_files: tuple[str, ...],
    policy_files: tuple[Path, ...],
    stands_for: str,
    form: str,
    quiet: bool,
    **registry: Any,
) -> None:
    """Sign the artifact with the digest that REFERENCE names; no tag is set.

    The signature says for which repository and tags it was made, and of which commit the artifact is. Agents follow a
    tag only to signatures made for it, so name the tags with --tag. --refresh makes the signatures of the key new when
    a policy limits their age. --rollback prepares a planned step back: `ocisync tag … --rollback` then moves the tag.
    With --key or --policy the artifact must be signed as they demand first.

    \b
    Examples:
      ocisync sign oci://registry.example/shop@sha256:… --sign-key release.key --tag 1.4.0 --tag production
      ocisync sign oci://registry.example/shop@sha256:… --sign-key release.key --refresh --expires 720h
      ocisync sign oci://registry.example/shop@sha256:… --sign-key release.key --rollback --tag production
      ocisync sign oci://registry.example/shop@sha256:… --sign-key second.key --tag 1.4.0 --policy policy.yaml

    \b
    Exit codes: 0 signed or signed before · 2 usage · 4 refused by --key or --policy · 5 no such artifact, nothing to
      refresh · 6 login missing · 7 registry not reachable
    """
    keyless, identity = keylessflags.signing_taken_from(registry), keylessflags.identity_taken_from(registry)
    target = place_of(reference, stands_for, signed=True)
    _check(
        target,
        bool(sign_keys or keyless.keyless),
        refresh=refresh,
        rollback=rollback,
        changed=bool(claims or legacy_signature),
    )
    names = tuple(dict.fromkeys(check_tag(tag) for tag in (*((target.tag,) if target.tag else ()), *tags)))
    end, signers = expiry(expires), load_signers(sign_keys, keyless, legacy=legacy_signature)
    trust = named_trust(key_files, policy_files, target.repository, identity)
    from ocisync.flows.endorse import EndorseRequest, endorse

    with output.progress(f"Signing {target}", quiet=quiet), open_place(target, registry) as store:
        if not target.digest:
            raise _no_digest(target, store.resolve(target.tag) if target.tag else None)
        result = endorse(
            EndorseRequest(
                store=store,
                digest=target.digest,
                signers=signers,
                clock=SystemClock(),
                tags=names,
                claims=claims,
                expires=end,
                legacy_signature=legacy_signature,
                rollback=rollback,
                refresh=refresh,
                trust=trust,
            )
        )
    answer = result.as_json(target.location)
    output.emit(answer, form, name=answer["reference"], text=lambda: _text(answer))
    if not quiet and form == "text":
        _suggest(target, answer, rollback=rollback)


def _check(target: Place, named: bool, *, refresh: bool, rollback: bool, changed: bool) -> None:
    if not named:
        raise UsageError(
            "nothing to sign with: name --sign-key FILE, or --keyless",
            hint=f"ocisync sign {typed(target)} --sign-key FILE",
        )
    if refresh and (rollback or changed):
        raise UsageError(
            "--refresh keeps all claims and forms: it excludes --rollback, --claim and --legacy-signature",
            hint="sign anew without --refresh",
        )


def _no_digest(target: Place, found: Any) -> UsageError:
    digest = found.digest if found is not None else "sha256:…"
    return UsageError(
        f"{target} names no digest: a tag may move, so only a digest is signed",
        hint=f"ocisync sign {typed(target).removesuffix(':' + target.tag)}@{digest} --tag {target.tag or 'TAG'} …",
    )


def _text(answer: JsonObject) -> str:
    lines = [f"{'unchanged' if answer['unchanged'] else 'signed'}  {answer['reference']}"]
    if answer["tags"]:
        lines.append(f"for tags  {' '.join(answer['tags'])}")
    if answer["revision"]:
        lines.append(f"revision  {output.plain(answer['revision'])}")
    lines.append(f"signed    {signed_line(answer['signatures'])}")
    return "\n".join(lines)


def _suggest(target: Place, answer: JsonObject, *, rollback: bool) -> None:
    scheme = "" if target.location.startswith("oci-layout:") else "oci://"
    digest = f"{scheme}{target.location}@{answer['digest']}"
    named = f" --as {target.repository}" if target.repository != target.location else ""
    if rollback and answer["tags"]:
        output.hint_text(f"ocisync tag {digest} {' '.join(answer['tags'])} --rollback{named}")
    else:
        output.hint_text(f"ocisync verify {digest} --key FILE.pub{named}")
