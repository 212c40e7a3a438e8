"""The threat table, as far as contents and writes go: what was signed is what is unpacked, and what is explicitly
distrusted is never written. T-numbers are those of docs/trust.md.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from ocisync.cluster.correction import Corrected, Correction, CorrectionStatus, Effects
from ocisync.cluster.engine import Engine
from ocisync.cluster.memory import applied_of
from ocisync.cluster.normalise import applyset_id
from ocisync.cluster.tracker import Tracker
from ocisync.cluster.watch import GroupKind
from ocisync.flows.fetch import fetch
from ocisync.flows.localcopy import LocalCopies
from ocisync.flows.memory import Enforced, Mark, Memory, Ports, Trust
from ocisync.flows.outcome import ArtifactFacts, Recorded
from ocisync.flows.publish import PublishRequest, publish
from ocisync.flows.rejudge import Rejudgement
from ocisync.flows.situation import Situation
from ocisync.flows.trust import TrustSet, load_policies
from ocisync.flows.verify import require
from ocisync.kit.stop import StopToken
from ocisync.model.artifact import VerdictReason
from ocisync.model.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import Refused
from ocisync.model.resource import JsonObject
from ocisync.model.spec import SyncSpec, parse_sync
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.pack.artifact import BuiltArtifact, build
from ocisync.sandbox.registry import Registry
from ocisync.signing.statement import pae, statement
from tests.support.artifacts import COMMIT_TIME, artifact, tree_of
from tests.support.signedrepository import SignedRepository
from tests.support.trust import NOW, bundle_with, policy, signer
from tests.unit.cluster.objects import OURS, REPLICAS, SPEC, desired, entry, live, ours

CI = signer("ci")
FILES = {"app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: honest}\n"}
OTHER_FILES = {"app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: evil}\n"}


@pytest.fixture
def server() -> Iterator[Registry]:
    with Registry() as running:
        yield running


@pytest.fixture
def repo(server: Registry) -> SignedRepository:
    return SignedRepository(f"{server.address}/shop/config")


# One manifest, not an index of them ---------------------------------------------------------------------------------


def index_of(repo: SignedRepository, built: BuiltArtifact, tag: str) -> Descriptor:
    """An index that holds the artifact, under `tag`."""
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [built.descriptor.as_dict()]}).encode()
    repo.store.put_manifest(raw, OCI_INDEX, tag)
    return Descriptor(OCI_INDEX, sha256_digest(raw), len(raw))


def test_t16_the_signature_of_an_index_does_not_vouch_for_what_it_lists(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    index = index_of(repo, built, "all")
    made = repo.sign(index, CI)
    assert repo.judge().verdict.reason is VerdictReason.UNSIGNED
    repo.attach_bundle(built.descriptor, made)
    assert repo.judge().verdict.reason is VerdictReason.WRONG_SUBJECT


def test_t16_a_signed_manifest_does_not_vouch_for_an_index_around_it(repo: SignedRepository) -> None:
    built = repo.push(FILES, "single")
    made = repo.sign(built.descriptor, CI)
    repo.attach_bundle(index_of(repo, built, "production"), made)
    verdict = repo.judge().verdict
    assert (verdict.allowed, verdict.reason) == (False, VerdictReason.BAD_ARTIFACT)


# One hash for each kind of key --------------------------------------------------------------------------------------


def test_t19_a_trusted_key_with_another_hash_does_not_count(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    payload = statement(built.descriptor.digest, repo.claims())
    signed = pae("application/vnd.in-toto+json", payload)
    private: Any = CI._key
    for algorithm in (hashes.SHA384(), hashes.SHA512(), hashes.SHA224()):
        signature = private.sign(signed, ec.ECDSA(algorithm))
        repo.attach_bundle(built.descriptor, bundle_with(CI, payload, signature=signature).payload)
    assert not repo.judge().verdict.allowed
    repo.attach_bundle(built.descriptor, bundle_with(CI, payload).payload)
    assert repo.judge().verdict.allowed, "the same bytes with the right hash count"


def test_t19_a_trusted_rsa_key_with_another_padding_does_not_count(repo: SignedRepository) -> None:
    by = signer("rsa", "rsa-3072")
    built = repo.push(FILES, "production")
    payload = statement(built.descriptor.digest, repo.claims())
    private = cast(rsa.RSAPrivateKey, by._key)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
    signature = private.sign(pae("application/vnd.in-toto+json", payload), pss, hashes.SHA256())
    trust = load_policies([repo.policy(authorities=[{"name": "rsa", "key": {"pem": by.public.pem}}])])
    repo.attach_bundle(built.descriptor, bundle_with(by, payload, signature=signature).payload)
    assert not repo.judge(trust).verdict.allowed
    repo.sign(built.descriptor, by)
    assert repo.judge(trust).verdict.allowed


def test_t19_a_key_of_a_curve_with_two_readings_makes_the_policy_invalid(repo: SignedRepository) -> None:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, spki).decode()
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    verdict = repo.judge(load_policies([repo.policy(authorities=[{"name": "p384", "key": {"pem": pem}}])])).verdict
    assert verdict.reason is VerdictReason.INVALID_POLICY
    assert "curve secp384r1" in verdict.message


# Content that another manifest claims -------------------------------------------------------------------------------


class FixedClock:
    """A day after the commit; nothing takes time."""

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 1_000.0


def lying(honest: BuiltArtifact, evil: BuiltArtifact) -> BuiltArtifact:
    """The honest config, which names the honest content, over the evil layer."""
    raw = honest.manifest_with_layer(evil.layer_descriptor)
    return replace(
        honest,
        manifest=raw,
        descriptor=Descriptor(OCI_MANIFEST, sha256_digest(raw), len(raw)),
        layer=evil.layer,
        layer_descriptor=evil.layer_descriptor,
    )


@pytest.mark.parametrize("if_changed", [False, True])
def test_t24_push_signs_nothing_that_was_put_in_its_place_before(repo: SignedRepository, if_changed: bool) -> None:
    tree = tree_of(FILES, at=COMMIT_TIME)
    planted = repo.push(lying(build(tree), artifact(OTHER_FILES)), "production")
    request = PublishRequest(
        store=repo.store, source=tree, tags=("production",), clock=FixedClock(), signers=(CI,), if_changed=if_changed
    )
    result = publish(request)
    assert result.digest == build(tree).descriptor.digest
    assert collect(repo.store, planted.descriptor.digest, budget=EvidenceBudget(lambda: 0.0)).items == ()
    assert fetch(repo.store, repo.verify()).files[0].data == FILES["app.yaml"].encode()


def test_t24_a_signed_manifest_whose_config_lies_about_its_layer_is_not_unpacked(repo: SignedRepository) -> None:
    planted = repo.push(lying(artifact(FILES), artifact(OTHER_FILES)), "production")
    repo.sign(planted.descriptor, CI)  # as a tool would that believes what a manifest says about itself
    verified = repo.verify()
    with pytest.raises(Refused) as refused:
        fetch(repo.store, verified)
    assert "the layer unpacks to" in refused.value.message


# Explicit distrust stops every write --------------------------------------------------------------------------------


@dataclass
class NoWatermark:
    """Accepts whatever comes first."""

    marks: list[Mark] = field(default_factory=list)

    def read(self, spec: SyncSpec) -> Mark:
        return Mark()

    def accept(self, spec: SyncSpec, mark: Mark) -> None:
        self.marks.append(mark)


class Running:
    """A sync whose artifact is applied, with the real tracker of its objects; trust can be changed."""

    def __init__(self, repo: SignedRepository) -> None:
        self.repo = repo
        self.digest = repo.push(FILES, "production").descriptor.digest
        repo.sign(repo.store.manifest(self.digest).descriptor, CI)
        self.corrections: list[Correction] = []
        self.trust = Trust(load_policies([repo.policy()]), 1)
        clock = FixedClock()
        effects = Effects(lambda _: None, self._correct, lambda _: None, lambda _: None)
        self.tracker = Tracker(clock, effects)
        self.spec = parse_sync({
            "apiVersion": "ocisync.dev/v1alpha1",
            "kind": "ArtifactSync",
            "metadata": {"name": "shop", "namespace": "shop", "uid": "u", "generation": 1,
                         "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"source": {"repository": repo.repository, "tag": "production", "interval": "1m"}},
        })  # fmt: skip
        self.memory = Memory(selector=self.spec.source.watermark_key, generation=1)
        self.ports = Ports(
            open_store=lambda _: repo.store,
            trust=lambda: self.trust,
            dependency=lambda _namespace, _name: "",
            engine=cast(Engine, None),  # whoever writes here would fail
            tracker=self.tracker,
            watch=lambda: None,
            progress=lambda _spec, _outcome: None,
            copies=LocalCopies(None),
            watermarks=NoWatermark(),
            clock=clock,
            rng=random.Random(1),
            stop=StopToken(),
        )
        judgement = repo.judge(self.trust.set)
        verified = require(judgement, repo.request())
        self.memory.enforced = Enforced(
            facts=ArtifactFacts("production", self.digest, "", verified.verdict.signers),
            manifest=verified.manifest,
            evidence=judgement.evidence,
            verdict=verified.verdict,
            request=repo.request(),
            selector=self.memory.selector,
            generation=1,
            trust_version=1,
            judge_at=2_000.0,
            complete=True,
        )
        self.sync_id = applyset_id("shop", "shop")
        self.look()
        self.tracker.applied(self.sync_id, desired(), applied_of(live(ours(), label=self.sync_id)))

    def _correct(self, correction: Correction) -> Corrected:
        self.corrections.append(correction)
        return Corrected(CorrectionStatus.DONE, correction.previous)

    def look(self) -> None:
        """The step of a pass that judges what runs again."""
        situation = Situation(self.spec, self.memory, self.ports, Recorded(self.digest))
        Rejudgement(situation).run()

    def set_trust(self, trust: TrustSet) -> None:
        self.trust = Trust(trust, self.trust.version + 1)
        self.look()

    def drift(self, version: int) -> None:
        """Somebody scales the workload."""
        without = [path for path in OURS if path != REPLICAS]
        held = entry("kubectl", REPLICAS, subresource="scale", time="")
        spec: JsonObject = {**SPEC["spec"], "replicas": version}
        changed = live(ours(*without), held, version=version, generation=version, spec=spec, label=self.sync_id)
        self.tracker.event(GroupKind("apps", "Deployment"), "MODIFIED", changed)
        self.tracker.run_due()


@pytest.mark.parametrize("listed", ["digests", "keys"])
def test_t31_drift_correction_does_not_write_what_is_on_a_deny_list(repo: SignedRepository, listed: str) -> None:
    running = Running(repo)
    running.drift(11)
    assert len(running.corrections) == 1, "as long as it is trusted, drift is corrected"
    denied = running.digest if listed == "digests" else CI.fingerprint
    running.set_trust(load_policies([repo.policy(deny={listed: [denied]})]))
    running.drift(12)
    assert len(running.corrections) == 1
    running.set_trust(load_policies([repo.policy()]))
    running.tracker.run_due()
    assert len(running.corrections) == 2, "what was seen meanwhile is made good when it is trusted again"


def test_t31_a_policy_that_breaks_does_not_lift_a_deny_list(repo: SignedRepository) -> None:
    running = Running(repo)
    running.set_trust(load_policies([repo.policy(deny={"digests": [running.digest]})]))
    running.set_trust(load_policies([policy("shop", match=[{"repository": repo.repository}], typo=1)]))
    running.drift(12)
    assert running.corrections == []


def test_t31_lost_signatures_are_no_distrust_and_drift_is_still_corrected(repo: SignedRepository) -> None:
    running = Running(repo)
    running.set_trust(load_policies([repo.policy(by=("release",))]))
    assert running.memory.enforced is not None
    assert running.memory.enforced.verdict.reason is VerdictReason.UNKNOWN_SIGNER
    running.drift(12)
    assert len(running.corrections) == 1
