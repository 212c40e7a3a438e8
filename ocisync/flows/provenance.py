"""Provenance of a push, in the words of SLSA v1: from what, by whom and how an artifact was made.

What is said is what this process knows: the commit that it packed, the tools that it ran, the images that it resolved,
and who signs. It claims level 2 only where the signer's certificate proves a hosted runner working on that very commit;
everywhere else it is level 1, since whoever holds a key can run ocisync where they like. A tree with uncommitted
changes names no commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ocisync.flows import attest
from ocisync.flows.attest import Attestation
from ocisync.flows.sign import AnySigner
from ocisync.model.clock import Clock, format_rfc3339
from ocisync.model.descriptor import Descriptor
from ocisync.model.evidence import Identity
from ocisync.model.predicates import SLSA_PROVENANCE, builder_id
from ocisync.model.tree import Provenance, SourceTree
from ocisync.model.values import dataclass
from ocisync.oci.store import Store
from ocisync.signing.keylesssigner import KeylessSigner
from ocisync.source.environment import Environment, build_environment

if TYPE_CHECKING:
    from ocisync.flows.images import PinnedImage

BUILD_TYPE = "https://ocisync.dev/push/v1"
BUILDER = "https://ocisync.dev/builders/{system}/v1"  # who signs with a key: only the key says more
_HOSTED = frozenset({"github-hosted", "gitlab-hosted"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one push.

    Attributes:
        parameters: what the user chose, besides what `origin` says; sorted.
        version: of ocisync.
    """

    origin: Provenance
    images: Sequence[PinnedImage]
    environment: Environment
    parameters: Mapping[str, Any]
    started: datetime
    version: str = ""


def facts_of(
    tree: SourceTree,
    images: Sequence[PinnedImage],
    environ: Mapping[str, str],
    parameters: Mapping[str, Any],
    *,
    started: datetime,
    version: str = "",
) -> Facts:
    """The facts of pushing a tree in an environment."""
    origin = tree.provenance
    chosen = {name: value for name, value in parameters.items() if value}
    return Facts(origin, images, build_environment(environ, origin.commit), chosen, started, version)


@dataclass(frozen=True, slots=True)
class Job:
    """To see to it that each signer's provenance of a digest is there, once."""

    store: Store
    subject: Descriptor
    signers: Sequence[AnySigner]
    facts: Facts
    clock: Clock

    def found(self) -> dict[str, Attestation]:
        """By signer: what tells the same origin already."""
        digest, kind = self.subject.digest, SLSA_PROVENANCE
        return attest.find(self.store, digest, self.signers, kind, self._predicates(), says_the_same, self.clock)

    def complete(self, found: Mapping[str, Attestation]) -> tuple[Attestation, ...]:
        """Make what is not in `found`."""
        return attest.write_missing(
            self.store, self.subject, self.signers, SLSA_PROVENANCE, self._predicates(), found, self.clock.now()
        )

    def _predicates(self) -> dict[str, dict[str, Any]]:
        return {
            signer.fingerprint: predicate(self.facts, signer.identity if isinstance(signer, KeylessSigner) else None)
            for signer in self.signers
        }


def predicate(facts: Facts, identity: Identity | None) -> dict[str, Any]:
    """The predicate, as signed by `identity`, or with a key (None)."""
    environment = facts.environment
    builder = builder_id(identity.subject) if identity else BUILDER.format(system=environment.system)
    metadata = {
        "invocationId": environment.invocation,
        "startedOn": format_rfc3339(facts.started),
        "ocisync_buildLevel": build_level(facts.origin, identity),
    }
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": _parameters(facts),
            "internalParameters": {"system": environment.system, **dict(environment.facts)},
            "resolvedDependencies": [*_source(facts.origin), *_tools(facts.origin), *_images(facts.images)],
        },
        "runDetails": {
            "builder": {"id": builder, **({"version": {"ocisync": facts.version}} if facts.version else {})},
            "metadata": {name: value for name, value in metadata.items() if value},
        },
    }


def says_the_same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether two predicates tell the same origin; of which run, and when, does not matter."""
    return _lasting(found) == _lasting(wanted)


def build_level(origin: Provenance, identity: Identity | None) -> str:
    """The SLSA build level: `2` if the certificate proves a hosted runner on this commit of this ref, else `1`."""
    claims = dict(identity.claims) if identity else {}
    proven = [claims.get(name) for name in ("sourceRepository", "sourceRepositoryRef", "sourceRepositoryDigest")]
    stated = [origin.source, origin.full_ref, origin.commit]
    hosted = claims.get("runnerEnvironment") in _HOSTED
    return "2" if hosted and all(stated) and proven == stated and not origin.dirty else "1"


def _lasting(document: Mapping[str, Any]) -> tuple[Any, ...]:
    definition, details = _object(document.get("buildDefinition")), _object(document.get("runDetails"))
    names = ("buildType", "externalParameters", "resolvedDependencies")
    return (*(definition.get(name) for name in names), _object(details.get("builder")).get("id"))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _parameters(facts: Facts) -> dict[str, Any]:
    origin = facts.origin
    stated = {
        "repository": origin.source,
        "revision": origin.revision,
        "path": origin.path,
        "dirty": origin.dirty,
        **facts.parameters,
    }
    return {name: value for name, value in sorted(stated.items()) if value}


def _source(origin: Provenance) -> list[dict[str, Any]]:
    if not origin.commit or origin.dirty:
        return []
    commit = {"gitCommit": origin.commit}
    ref = origin.full_ref or origin.revision.rpartition("@")[0]
    return [{"uri": f"git+{origin.source}@{ref}", "digest": commit} if origin.source else {"digest": commit}]


def _tools(origin: Provenance) -> list[dict[str, Any]]:
    return [{"name": tool.partition("@")[0], "uri": f"pkg:generic/{tool}"} for tool in sorted(origin.tools)]


def _images(images: Sequence[PinnedImage]) -> list[dict[str, Any]]:
    found = []
    for image in images:
        name, _, digest = image.reference.rpartition("@")
        algorithm, _, value = digest.partition(":")
        found.append({"uri": f"oci://{name}", "digest": {algorithm: value}, "annotations": {"image": image.original}})
    return found
