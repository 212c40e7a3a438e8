"""What `plan` and `apply` are asked about: a directory, a reference, or a sync of the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocisync.cli import keylessflags, output, sourceflags
from ocisync.cli.clock import SystemClock
from ocisync.cli.keylessflags import IdentityFlags
from ocisync.cli.options import cluster_options, common_options, output_option, registry_options
from ocisync.cli.places import layout_option, open_place, place_of, require_version
from ocisync.cli.renderflags import render_options, render_taken_from
from ocisync.cli.trustflags import named_trust, trust_options
from ocisync.model.errors import AccessDenied, InvalidInput, NotFound, OcisyncError, UsageError
from ocisync.model.ref import LAYOUT_SCHEME
from ocisync.model.values import dataclass

if TYPE_CHECKING:
    from ocisync.cli.syncs import Syncs
    from ocisync.flows.compare import Side
    from ocisync.flows.trust import TrustSet
    from ocisync.model.spec import SyncSpec

_SYNC = "sync/"


@dataclass(frozen=True, slots=True)
class TrustFlags:
    """Whom the flags trust, and what a layout stands for."""

    keys: tuple[str, ...]
    policies: tuple[Path, ...]
    identity: IdentityFlags
    stands_for: str = ""

    @property
    def named(self) -> bool:
        """Whether they name anybody."""
        return bool(self.keys or self.policies or self.identity.named)


def content_options(function: Any) -> Any:
    """Add what says where the content comes from and whom to trust, and what every such command has."""
    options = (
        trust_options, keylessflags.identity_options, layout_option, sourceflags.source_options, render_options,
        cluster_options, output_option("text", "json", "yaml"), registry_options, common_options,
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def content_taken_from(flags: dict[str, Any]) -> tuple[TrustFlags, dict[str, Any]]:
    """Take whom to trust, and the values for `read_side`, out of a command's arguments.

    Raises:
        UsageError: flags that do not go together.
    """
    trust = TrustFlags(
        flags.pop("key_files"),
        flags.pop("policy_files"),
        keylessflags.identity_taken_from(flags),
        flags.pop("stands_for"),
    )
    source = sourceflags.taken_from(flags)
    source["render"] = render_taken_from(flags)
    return trust, source


def sync_named(target: str) -> str:
    """The name of the sync that is meant; empty if it is a directory or a reference.

    A bare word is a directory if there is one of that name; `sync/NAME` and `./NAME` say which.
    """
    if target.startswith(_SYNC) and not Path(target).exists():
        return target.removeprefix(_SYNC)
    plain = target not in ("-", ".", "..") and not any(mark in target for mark in "/:@~")
    return target if plain and not Path(target).exists() else ""


def is_directory(target: str) -> bool:
    """Whether the files of a directory (or standard input) are meant."""
    return target == "-" or (not target.startswith(("oci://", LAYOUT_SCHEME)) and Path(target).exists())


def read_side(target: str, trust: TrustFlags, source: Mapping[str, Any], registry: dict[str, Any]) -> Side:
    """Read a directory as a push would, or an artifact, verified if anybody is trusted.

    Raises:
        NotFound, UsageError, InvalidInput: no such thing, or no manifests.
        VerificationRefused: the trusted ones did not sign it.
    """
    from ocisync.flows import compare

    if is_directory(target):
        return compare.read_directory(target, sourceflags.source_of(target, dict(source)), SystemClock())
    if target.startswith((".", "/", "~")):
        raise NotFound(f"no directory {target}")
    is_layout = target.startswith(LAYOUT_SCHEME)
    place = place_of(target, trust.stands_for if is_layout else "", signed=trust.named)
    require_version(place, "list")
    with open_place(place, registry) as store:
        trusted = named_trust(trust.keys, trust.policies, store.repository, trust.identity)
        return compare.read_artifact(store, place, trusted, datetime.now(UTC))


def read_source(
    spec: SyncSpec, syncs: Syncs, trust: TrustFlags, agent_namespace: str, registry: dict[str, Any]
) -> Side:
    """What a sync's source offers now, judged by the policies of the cluster, or by what the flags trust.

    Raises:
        VerificationRefused: the agent would refuse it, too.
        NotFound, AccessDenied, Unavailable: the registry, or the policies.
    """
    from ocisync.cli.registry import open_registry
    from ocisync.flows import compare
    from ocisync.flows.fetch import fetch
    from ocisync.flows.offer import offer
    from ocisync.flows.verify import Request, verify
    from ocisync.model.artifact import VerdictReason
    from ocisync.model.spec import SelectorKind

    source = spec.source
    repository = source.reference.repository
    trusted = named_trust(trust.keys, trust.policies, repository, trust.identity)
    if trusted is None:
        trusted = cluster_trust(syncs, agent_namespace)
    by_digest = source.kind is SelectorKind.DIGEST
    with open_registry(source.reference, **registry) as store:
        offered = offer(store, source)
        request = Request(repository, source.kind, tag=offered.tag, digest=offered.digest)
        if not by_digest:
            request = _remembered(request, spec, syncs, agent_namespace)
        verified = verify(store, trusted, request, now=datetime.now(UTC))
        files = fetch(store, verified).files
    proven = verified.verdict.reason is VerdictReason.VERIFIED
    separator = "@" if by_digest else ":"
    name = f"{repository}{separator}{offered.tag or offered.digest}"
    return compare.artifact_side(name, verified.manifest, files, verified.verdict.signers if proven else None)


def _remembered(request: Any, spec: SyncSpec, syncs: Syncs, agent_namespace: str) -> Any:
    """The request with the sync's watermark, so that a rollback is refused here as it is there."""
    from dataclasses import replace

    from ocisync.agent.watermark import ConfigMapWatermarks

    try:
        mark = ConfigMapWatermarks(syncs.cluster, agent_namespace).read(spec)
    except OcisyncError as error:
        output.warning_text(f"rollback protection is not looked at: {error.message}")
        return request
    return replace(request, accepted_digest=mark.led_by(request.kind, request.tag), watermark=mark.sequence)


def cluster_trust(syncs: Syncs, agent_namespace: str) -> TrustSet:
    """The policies in force in the cluster, with the keys and roots that they name.

    Raises:
        AccessDenied: they may not be read.
    """
    from ocisync.flows import trust

    hint = "name --policy FILE or --key FILE; or ask for the right to read trustpolicies"
    try:
        documents = syncs.policies()
    except AccessDenied as error:
        raise AccessDenied(error.message, hint=hint) from error

    def read(name: str) -> Mapping[str, bytes] | None:
        try:
            return syncs.secret(agent_namespace, name)
        except OcisyncError as error:
            raise InvalidInput(f"secretRef {name!r}: {error.message}", hint=hint) from None

    def read_root(name: str) -> Mapping[str, bytes] | None:
        return syncs.config_map(agent_namespace, name) or read(name)

    trusted = trust.load_policies(documents, read, read_root)
    for name, problem in trusted.unusable.items():
        output.warning_text(f"policy {name} is not usable and refuses what it matches: {problem}")
    return trusted


def require_trust(target: str, trust: TrustFlags) -> None:
    """An artifact that is applied must be verified.

    Raises:
        UsageError: nobody is trusted.
    """
    if not is_directory(target) and not trust.named:
        raise UsageError(
            f"{target} is an artifact: only verified artifacts are applied", hint="add --key FILE or --policy FILE"
        )


def warn_unverified(side: Side, trust: TrustFlags) -> None:
    """Also with --quiet: what follows may be anybody's."""
    if side.digest and side.signers is None:
        why = "a policy lets it pass" if trust.named else "nobody was named to trust (--key FILE or --policy FILE)"
        output.warning_text(f"{side.name} is NOT verified: {why}")
