"""A repository on a registry with artifacts and signatures put there piece by piece, also wrong ones.

Unlike `push`, nothing here refuses to write what an attacker would write.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ocisync.flows.trust import TrustSet, load_policies
from ocisync.flows.verify import Judgement, Request, collect_within_limits, examine_reference, verify
from ocisync.model.artifact import Verified
from ocisync.model.descriptor import EMPTY_JSON, EMPTY_JSON_DIGEST, OCI_EMPTY, OCI_MANIFEST, Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.ref import legacy_signature_tag
from ocisync.model.spec import SelectorKind
from ocisync.oci.client import RegistryStore, open_store
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.pack.artifact import BuiltArtifact
from ocisync.signing import bundle, legacy
from ocisync.signing.keys import Signer
from tests.support.artifacts import artifact
from tests.support.trust import NOW, claims, policy

CREATED = datetime(2026, 11, 23, tzinfo=UTC)


class SignedRepository:
    """`HOST:PORT/PATH`, with the trust of one policy or of another that the test gives."""

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self.store: RegistryStore = open_store(repository)

    def push(self, files: Mapping[str, bytes | str] | BuiltArtifact, *tags: str) -> BuiltArtifact:
        """Put an artifact under its digest and tags, unsigned."""
        built = files if isinstance(files, BuiltArtifact) else artifact(files)
        self.store.put_blob(built.config_descriptor, built.config)
        self.store.put_blob(built.layer_descriptor, built.layer)
        for ref in (built.descriptor.digest, *tags):
            self.store.put_manifest(built.manifest, OCI_MANIFEST, ref)
        return built

    def claims(self, **changes: str) -> dict[str, str]:
        """Full claims for this repository and the tag `production`."""
        return claims(**{"repository": self.repository, **changes})

    def sign(self, subject: Descriptor, by: Signer, with_claims: Mapping[str, str] | None = None) -> bytes:
        """Attach a bundle."""
        made = bundle.make(by, subject.digest, self.claims() if with_claims is None else with_claims)
        self.attach_bundle(subject, made)
        return made

    def attach_bundle(self, subject: Descriptor, data: bytes) -> Descriptor:
        """Attach any bytes as a bundle of `subject`."""
        raw, layer = bundle.bundle_manifest(data, subject, CREATED)
        self.store.put_blob(Descriptor(OCI_EMPTY, EMPTY_JSON_DIGEST, len(EMPTY_JSON)), EMPTY_JSON)
        self.store.put_blob(layer, data)
        return self.store.attach(raw, subject)

    def sign_legacy(
        self,
        subject: Descriptor,
        by: Signer,
        with_claims: Mapping[str, str] | None = None,
        docker_reference: str = "",
    ) -> None:
        """Add a signature to the `.sig` tag."""
        signed = self.claims() if with_claims is None else with_claims
        made = legacy.make(by, subject.digest, docker_reference or self.repository, signed)
        tag = legacy_signature_tag(subject.digest)
        existing = self.store.manifest(tag).raw if self.store.resolve(tag) else None
        raw, config = legacy.merge(existing, made)
        self.store.put_blob(Descriptor("", sha256_digest(config), len(config)), config)
        self.store.put_blob(made.layer, made.payload)
        self.store.put_manifest(raw, OCI_MANIFEST, tag)

    def policy(self, **spec: Any) -> dict[str, Any]:
        """A policy about exactly this repository."""
        by = spec.pop("by", ("ci",))
        return policy(by=by, **{"match": [{"repository": self.repository}], **spec})

    def judge(self, trust: TrustSet | None = None, tag: str = "production", **request: Any) -> Judgement:
        """Judge a tag."""
        budget: EvidenceBudget | None = request.pop("budget", None)
        reader = partial(collect, budget=budget) if budget else collect_within_limits
        rules = trust or load_policies([self.policy()])
        return examine_reference(self.store, rules, self.request(tag, **request), now=NOW, collect=reader)

    def verify(self, trust: TrustSet | None = None, tag: str = "production", **request: Any) -> Verified:
        """Verify a tag; raises when it is refused."""
        wanted = self.request(tag, **request)
        return verify(self.store, trust or load_policies([self.policy()]), wanted, now=NOW)

    def request(self, tag: str = "production", **changes: Any) -> Request:
        """What to verify; `kind` is Tag unless given."""
        return Request(self.repository, changes.pop("kind", SelectorKind.TAG), tag, **changes)
