"""`ocisync policy`: write, check and try trust policies before any cluster sees them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import output, secrets
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import common_options, output_option
from ocisync.cli.policyimpact import POLICY_FILE_BYTES, impact, read_file
from ocisync.model.errors import ExitCode, Finding, UsageError

if TYPE_CHECKING:
    from ocisync.flows.policycases import CaseResult
    from ocisync.flows.policyfiles import PolicyFile, PolicyReport
    from ocisync.policy.draft import DraftIdentity, DraftKey


@click.group("policy")
def command() -> None:
    """Write, check and try trust policies before any cluster sees them.

    \b
    Examples:
      ocisync policy init --repository 'registry.example/shop/*' --key release.pub > policy.yaml
      ocisync policy check policy.yaml
      ocisync policy test policy.yaml --cases cases.yaml
      ocisync policy impact policy.yaml --without-authority ci
    """


command.add_command(impact)


@command.command("init")
@click.option(
    "--repository", "repositories", multiple=True, required=True, help="HOST/REPOSITORY or HOST/PREFIX/*; repeatable."
)
@click.option("--key", "key_files", multiple=True, metavar="FILE", help="Public key that may sign; repeat for several.")
@click.option("--certificate-oidc-issuer", "issuer", default="", metavar="URL", help="Who vouches for an identity.")
@click.option(
    "--certificate-identity", "identity", default="", metavar="SUBJECT", help="Identity that may sign, exact."
)
@click.option(
    "--certificate-identity-glob", "glob", default="", metavar="GLOB", help="The same, * is any run without /."
)
@click.option("--source-repository", default="", metavar="URL", help="Repository that a workflow must have run for.")
@click.option(
    "--trusted-root-ref", "root", default="sigstore-root", show_default=True, help="Secret or ConfigMap with the root."
)
@click.option(
    "--threshold", type=click.IntRange(1, 32), default=1, show_default=True, help="How many must have signed."
)
@click.option("--max-age", default="", metavar="DURATION", help="Oldest signature that counts, like 720h.")
@click.option(
    "--remap",
    "remaps",
    multiple=True,
    metavar="SIGNED=HERE",
    help="Of a mirror: what signatures call it.",
)
@click.option("--name", default="", help="Name of the policy (default: made from the repository).")
@common_options
def init(
    repositories: tuple[str, ...],
    key_files: tuple[str, ...],
    issuer: str,
    identity: str,
    glob: str,
    source_repository: str,
    root: str,
    threshold: int,
    max_age: str,
    remaps: tuple[str, ...],
    name: str,
    quiet: bool,
) -> None:
    """Print a policy that works, with comments that say what each line decides.

    \b
    Examples:
      ocisync policy init --repository 'registry.example/shop/*' --key release.pub > policy.yaml
      ocisync policy init --repository registry.example/shop --key ci.pub --key release.pub --threshold 2
      ocisync policy init --repository mirror.site.local/shop --key release.pub \\
        --remap registry.example/shop=mirror.site.local/shop
      ocisync policy init --repository 'ghcr.io/acme/*' \\
        --certificate-oidc-issuer https://token.actions.githubusercontent.com \\
        --certificate-identity-glob 'https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v*' \\
        --source-repository https://github.com/acme/shop

    \b
    Exit codes: 0 printed · 1 it would be refused · 2 usage · 5 no such key file
    """
    from ocisync.flows.policyfiles import rehearsed
    from ocisync.kit import yamlio
    from ocisync.policy import draft

    if bool(issuer) != bool(identity or glob) or (identity and glob):
        raise UsageError(
            "an identity is an issuer and one subject",
            hint="--certificate-oidc-issuer URL with --certificate-identity SUBJECT, or with …-glob GLOB",
        )
    keys = _draft_keys(key_files)
    identities: tuple[DraftIdentity, ...] = ()
    if issuer:
        taken = {key.name for key in keys}
        label = next(one for one in ("identity", "workflow", "signer") if one not in taken)
        identities = (draft.DraftIdentity(label, issuer, identity, glob, source_repository, root),)
    if not keys and not identities:
        raise UsageError("a policy without authorities would allow nothing", hint="add --key FILE.pub")
    name = name or _name_from(repositories[0])
    renamed = [_remap(text) for text in remaps]
    made = draft.render(draft.Draft(name, repositories, keys, identities, threshold, max_age, renamed))
    rehearsed(yamlio.parse_documents(made.encode(), "policy")[0].value)
    output.write(made, newline=False)
    if not quiet:
        output.hint_text("ocisync policy check policy.yaml, then kubectl apply -f policy.yaml")


def _remap(text: str) -> tuple[str, str]:
    signed, equals, here = text.partition("=")
    if not signed or not equals or not here:
        raise UsageError(
            f"bad --remap {text[:200]!r}: expected SIGNED=HERE", hint="ocisync mirror map tells what changes"
        )
    return signed, here


def _draft_keys(files: tuple[str, ...]) -> tuple[DraftKey, ...]:
    from ocisync.policy.draft import DraftKey
    from ocisync.signing.keys import load_public

    found: list[DraftKey] = []
    for file in files:
        public = load_public(secrets.read_key(file), name=file)
        stem = _label(Path(file.removeprefix("env://")).stem) or "key"
        taken = {key.name for key in found}
        name = next(one for one in (stem, *(f"{stem}-{at}" for at in range(2, 40))) if one not in taken)
        found.append(DraftKey(name, public.pem, public.fingerprint))
    return tuple(found)


def _name_from(repository: str) -> str:
    return _label(repository.removesuffix("/*").rpartition("/")[2]) or "policy"


def _label(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")


@command.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@output_option("text", "json", "yaml")
@common_options
def check(files: tuple[Path, ...], form: str, quiet: bool) -> int:
    """Check policy files alone and together: every problem with its place, and warnings about risky settings.

    What only a cluster has (Secrets, trusted roots) is not looked at.

    \b
    Examples:
      ocisync policy check policy.yaml
      ocisync policy check policies/*.yaml -o json
      kubectl get trustpolicies -o yaml > live.yaml && ocisync policy check live.yaml

    \b
    Exit codes: 0 usable (warnings or not) · 1 invalid · 2 usage · 5 no such file
    """
    from ocisync.flows import policyfiles

    report = policyfiles.check([_file(path) for path in files], SystemClock().now())
    answer = {
        "policies": list(report.policies),
        "errors": [_row(finding) for finding in report.errors],
        "warnings": [_row(finding) for finding in report.warnings],
    }
    lines = _findings(report)
    if form != "text" or lines:
        output.emit(answer, form, text=lambda: "\n".join(lines))
    if form == "text" and not quiet:
        output.note(
            f"policies: {len(report.policies)} usable; errors: {len(report.errors)}; warnings: {len(report.warnings)}"
        )
    return int(ExitCode.FAILED if report.errors else ExitCode.OK)


def _findings(report: PolicyReport) -> list[str]:
    both = [("error", one) for one in report.errors] + [("warning", one) for one in report.warnings]
    lines = []
    for level, one in sorted(both, key=lambda pair: (pair[1].file, pair[1].line, pair[1].column)):
        place = str(one)[: -len(one.message)].rstrip(" :")
        word = output.styled(level, "red" if level == "error" else "yellow", bold=True, stderr=False)
        lines.append(
            f"{output.plain(place)}: {word}: {output.plain(one.message)}" + (f" [{one.rule}]" if one.rule else "")
        )
    return lines


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "message": finding.message,
        "rule": finding.rule,
    }


@command.command("test")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option(
    "--cases", "case_files", multiple=True, required=True, type=click.Path(path_type=Path), help="Cases; repeatable."
)
@click.option("--explain", is_flag=True, help="Print every step of every case: evidence, rule, result.")
@output_option("text", "json", "yaml")
@common_options
def test(files: tuple[Path, ...], case_files: tuple[Path, ...], explain: bool, form: str, quiet: bool) -> int:
    """Judge cases of evidence by policy files, and compare with the verdicts that are expected.

    The same function decides as in the agent; no cryptography is done, no network and no cluster is used. The form of
    a cases file is described in docs/policies.md.

    \b
    Examples:
      ocisync policy test policy.yaml --cases cases.yaml
      ocisync policy test policies/*.yaml --cases cases.yaml -o json

    \b
    Exit codes: 0 all as expected · 1 some are not, or a file is invalid · 2 usage · 5 no such file
    """
    from ocisync.flows import policycases, policyfiles

    documents = [one for path in files for one in policyfiles.read_policies(_file(path))]
    policies = policyfiles.rehearsed_all(documents)
    results: list[CaseResult] = []
    lines: list[str] = []
    for path in case_files:
        found = policycases.run_cases(_file(path).data, str(path), policies)
        results += found
        lines += [line for one in found for line in _told(str(path), one, explain=explain)]
    output.emit(policycases.as_json(results), form, text=lambda: "\n".join(lines))
    failed = sum(not one.passed for one in results)
    if form == "text" and not quiet:
        output.note(f"{len(results)} cases, {failed} failed")
    return int(ExitCode.FAILED if failed else ExitCode.OK)


def _told(file: str, one: CaseResult, *, explain: bool) -> list[str]:
    from ocisync.policy.explain import render_text

    word = output.styled("pass", "green", stderr=False) if one.passed else output.styled("FAIL", "red", stderr=False)
    line = f"{word}  {output.plain(one.name)} ({one.verdict.reason})"
    details: list[str] = []
    if not one.passed:
        line += f"  {file}:{one.line}"
        by = f" of policy {one.verdict.policy}" if one.verdict.policy else ""
        details = [*one.differences, f"verdict{by}: {one.verdict.message}"]
    if explain:
        details += render_text(one.verdict).splitlines()
    return [line, *(f"      {output.plain(detail)}" for detail in details)]


def _file(path: Path) -> PolicyFile:
    from ocisync.flows.policyfiles import PolicyFile

    return PolicyFile(str(path), read_file(path, POLICY_FILE_BYTES))
