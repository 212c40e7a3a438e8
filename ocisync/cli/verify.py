"""`ocisync verify`: the same decision as the agent's, from the command line."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import keylessflags, output
from ocisync.cli.options import common_options, output_option, registry_options
from ocisync.cli.places import layout_option, open_place, place_of, require_version
from ocisync.cli.trustflags import named_trust, trust_options
from ocisync.model.artifact import VerdictReason
from ocisync.model.errors import InvalidInput, UsageError
from ocisync.model.ref import Place
from ocisync.model.resource import JsonObject
from ocisync.model.spec import SelectorKind

if TYPE_CHECKING:
    from ocisync.flows.trust import TrustSet


@click.command("verify")
@click.argument("reference")
@trust_options
@keylessflags.identity_options
@click.option(
    "--attestation",
    "attestations",
    multiple=True,
    metavar="TYPE",
    help="Ask for an attestation of this type too (a name such as slsaprovenance1, or a URI); repeat for more.",
)
@click.option("--explain", is_flag=True, help="Print every step: evidence, rule, result.")
@layout_option
@output_option("text", "json", "yaml", "name")
@registry_options
@common_options
def command(
    reference: str,
    key_files: tuple[str, ...],
    policy_files: tuple[Path, ...],
    attestations: tuple[str, ...],
    explain: bool,
    stands_for: str,
    form: str,
    quiet: bool,
    **registry: Any,
) -> None:
    """Check that REFERENCE is signed as keys or a policy demand.

    With --key, one sound signature by one of the keys is enough; repository and tag claims are checked where the
    signature has them. With --certificate-identity, the same goes for a keyless signature by that identity, judged by
    a trusted root. With --policy, the files' policies decide exactly as they do in the agent. With --attestation, one
    of that type must be there too, by any of those who may have signed. Exit code 4 means refused.

    \b
    Examples:
      ocisync verify oci://registry.example/shop:1.4.0 --key release.pub
      ocisync verify oci://registry.example/shop:production --policy policy.yaml --explain
      ocisync verify oci://registry.example/shop:1.4.0 --key release.pub --attestation slsaprovenance1
      ocisync verify oci://registry.example/shop@sha256:… --key a.pub --key b.pub -o json
      ocisync verify oci-layout:shop.tar:1.4.0 --as registry.example/shop --key release.pub
      ocisync verify oci://registry.example/shop:1.4.0 --trusted-root trusted_root.json \\
        --certificate-identity dev@example.com --certificate-oidc-issuer https://accounts.example
    """
    target = place_of(reference, stands_for, signed=True)
    require_version(target, "verify")
    identity = keylessflags.identity_taken_from(registry)
    trusted = named_trust(key_files, policy_files, target.repository, identity)
    if trusted is None:
        raise UsageError(
            "nothing to verify against: name --key FILE, --policy FILE or --certificate-identity SUBJECT",
            hint=f"ocisync verify {target} --key FILE.pub",
        )
    _verify(target, _asking(trusted, target, attestations), explain, form, registry, quiet=quiet)


def _asking(trusted: TrustSet, target: Place, attestations: tuple[str, ...]) -> TrustSet:
    if not attestations:
        return trusted
    from ocisync.flows.trust import with_attestations
    from ocisync.signing.attestation import predicate_type

    try:
        return with_attestations(trusted, target.repository, [predicate_type(text) for text in attestations])
    except InvalidInput as error:
        raise UsageError(error.message, hint=error.hint) from None


def _verify(
    target: Place,
    trusted: TrustSet,
    explain: bool,
    form: str,
    registry: Any,
    *,
    quiet: bool,
) -> None:
    from ocisync.flows import verify
    from ocisync.oci.evidence import EvidenceBudget, collect
    from ocisync.policy.evaluate import named
    from ocisync.policy.explain import as_json, render_text

    request = verify.Request(
        repository=target.repository,
        kind=SelectorKind.DIGEST if target.digest and not target.tag else SelectorKind.TAG,
        tag=target.tag,
        digest=target.digest,
    )
    budget = EvidenceBudget(time.monotonic)
    with output.progress(f"Verifying {target}", quiet=quiet), open_place(target, registry) as store:
        judgement = verify.examine_reference(
            store,
            trusted,
            request,
            now=datetime.now(UTC),
            collect=partial(collect, budget=budget),
        )
    verdict = judgement.verdict
    digest = judgement.artifact.manifest.descriptor.digest if judgement.artifact else target.digest
    answer = {
        "reference": str(target),
        "repository": target.repository,
        "digest": digest,
        **as_json(verdict, named(judgement.examined)),
    }
    if form == "text" and explain:
        output.write(render_text(verdict), newline=False)
    elif form != "text" or verdict.allowed:
        output.emit(answer, form, name=f"{target.location}@{digest}", text=lambda: _text(answer))
    verify.require(judgement, request)


def _text(answer: JsonObject) -> str:
    name = f"{answer['repository']}@{answer['digest']}"
    if answer["reason"] != VerdictReason.VERIFIED:
        # A policy with mode Warn lets it pass; nothing was proven.
        return output.plain(f"NOT verified  {name}: {answer['message']}")
    lines = [f"verified  {name}", f"signed by {', '.join(answer['signers'])}"]
    if answer["revision"]:
        lines.append(f"revision  {output.plain(answer['revision'])}")
    return "\n".join(lines)
