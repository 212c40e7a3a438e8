"""`ocisync attest`: say something about an artifact that is in the registry, signed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ocisync.cli import keylessflags, output
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import common_options, output_option, registry_options
from ocisync.cli.places import layout_option, open_place, place_of, typed
from ocisync.cli.signflags import load_signers
from ocisync.model.errors import InvalidInput, NotFound, UsageError
from ocisync.model.limits import PREDICATE_BYTES
from ocisync.model.predicates import SHORT_NAMES
from ocisync.model.ref import Place
from ocisync.model.resource import JsonObject


@click.command("attest")
@click.argument("reference")
@click.option(
    "--type",
    "kind",
    required=True,
    metavar="TYPE",
    help=f"What it is about: {', '.join(SHORT_NAMES)}, or the URI of a predicate type.",
)
@click.option(
    "--predicate", "predicate_file", required=True, metavar="FILE", help="JSON object that is attested (file or -)."
)
@click.option(
    "--sign-key",
    "sign_keys",
    multiple=True,
    metavar="FILE",
    help="Private key to sign with (file, env://NAME or exec:PROGRAM?KEY); repeat for more.",
)
@keylessflags.signing_options
@layout_option
@output_option("text", "json", "yaml", "name")
@registry_options
@common_options
def command(
    reference: str,
    kind: str,
    predicate_file: str,
    sign_keys: tuple[str, ...],
    stands_for: str,
    form: str,
    quiet: bool,
    **registry: Any,
) -> None:
    """Attest a predicate of the artifact with the digest that REFERENCE names: an SBOM, a scan, a test report.

    An attestation is no signature: agents deploy what is signed, and policies can ask for attestations besides. The
    same attestation by the same key is made once. `cosign verify-attestation` reads it. Provenance of a push is
    attested by `ocisync push --provenance`.

    \b
    Examples:
      ocisync attest oci://registry.example/shop@sha256:… --type cyclonedx --predicate sbom.json --sign-key ci.key
      ocisync attest oci://registry.example/shop@sha256:… --type vuln --predicate scan.json --sign-key scanner.key
      scan … | ocisync attest oci://ghcr.io/acme/shop@sha256:… --type https://acme.example/v1 --predicate - --keyless

    \b
    Exit codes: 0 attested or attested before · 1 the predicate cannot be used · 2 usage · 5 no such artifact or file
      6 login missing · 7 registry not reachable
    """
    keyless = keylessflags.signing_taken_from(registry)
    target = place_of(reference, stands_for, signed=True)
    if not sign_keys and not keyless.keyless:
        raise UsageError(
            "nothing to sign with: name --sign-key FILE, or --keyless",
            hint=f"ocisync attest {typed(target)} --type {kind} --predicate {predicate_file} --sign-key FILE",
        )
    from ocisync.flows.attest import AttestRequest, attest
    from ocisync.signing import attestation

    try:
        kind = attestation.predicate_type(kind)
    except InvalidInput as error:
        raise UsageError(f"--type: {error.message}", hint=error.hint) from None
    predicate = attestation.read_predicate(_read(predicate_file), name=predicate_file)
    signers = load_signers(sign_keys, keyless, legacy=False)
    with output.progress(f"Attesting {target}", quiet=quiet), open_place(target, registry) as store:
        if not target.digest:
            raise _no_digest(target, store.resolve(target.tag) if target.tag else None)
        result = attest(AttestRequest(store, target.digest, signers, SystemClock(), kind, predicate))
    answer = result.as_json(target.location)
    output.emit(answer, form, name=answer["reference"], text=lambda: _text(answer))


def _read(name: str) -> bytes:
    if name == "-":
        if sys.stdin is None:  # closed by the caller (`<&-`)
            raise UsageError("stdin is closed: there is no predicate to read", hint="--predicate FILE")
        return sys.stdin.buffer.read(PREDICATE_BYTES + 1)
    try:
        with Path(name).open("rb") as file:
            return file.read(PREDICATE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"no predicate {name}", hint="--predicate FILE, or - for standard input") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"predicate {name!r}: {error}") from error


def _no_digest(target: Place, found: Any) -> UsageError:
    digest = found.digest if found is not None else "sha256:…"
    return UsageError(
        f"{target} names no digest: a tag may move, so only a digest is attested",
        hint=f"ocisync attest {typed(target).removesuffix(':' + target.tag)}@{digest} …",
    )


def _text(answer: JsonObject) -> str:
    lines = [f"{'unchanged' if answer['unchanged'] else 'attested'}  {answer['reference']}"]
    for item in answer["attestations"]:
        lines.append(f"type      {item['predicateType']}")
        lines.append(f"signed    {item.get('identity') or item['key']}")
    return "\n".join(lines)
