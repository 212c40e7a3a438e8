"""Sign and judge in one line each: what trust tests are written with. All values fixed except key material."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ocisync.flows.trust import TrustSet, load_policies
from ocisync.model.artifact import Verdict
from ocisync.model.descriptor import CLAIM_REPOSITORY, CLAIM_SEQUENCE, CLAIM_SIGNED, CLAIM_TAGS, IN_TOTO_PAYLOAD_TYPE
from ocisync.model.digest import sha256_digest
from ocisync.model.evidence import RawSignature, SignatureFormat
from ocisync.model.spec import SelectorKind
from ocisync.policy.evaluate import Subject, judge
from ocisync.signing import bundle, legacy
from ocisync.signing.check import examine
from ocisync.signing.keys import Signer, generate
from ocisync.signing.statement import pae

REPOSITORY = "registry.example/shop/config"
DIGEST = sha256_digest(b"the artifact")
OTHER_DIGEST = sha256_digest(b"another artifact")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SEQUENCE = int(NOW.timestamp()) - 600


@functools.cache
def signer(name: str = "ci", algorithm: str = "ecdsa-p256") -> Signer:
    """One key for each name, made once for the whole run."""
    return generate(algorithm)


def claims(**changes: str) -> dict[str, str]:
    """A full set of claims for `REPOSITORY:production`; keyword names without prefix; an empty value drops one."""
    full = {
        CLAIM_REPOSITORY: REPOSITORY,
        CLAIM_TAGS: "production",
        CLAIM_SEQUENCE: str(SEQUENCE),
        CLAIM_SIGNED: str(SEQUENCE),
    }
    full.update({f"dev.ocisync.{name}": value for name, value in changes.items()})
    return {name: value for name, value in full.items() if value}


def bundle_of(by: Signer, digest: str = DIGEST, with_claims: Mapping[str, str] | None = None) -> RawSignature:
    """A bundle signature as it would be fetched."""
    data = bundle.make(by, digest, claims() if with_claims is None else with_claims)
    return RawSignature(SignatureFormat.BUNDLE, sha256_digest(data), data)


def legacy_of(
    by: Signer, digest: str = DIGEST, with_claims: Mapping[str, str] | None = None, repository: str = REPOSITORY
) -> RawSignature:
    """A legacy signature as it would be fetched."""
    made = legacy.make(by, digest, repository, claims() if with_claims is None else with_claims)
    return RawSignature(SignatureFormat.LEGACY, sha256_digest(made.payload), made.payload, made.signature)


def bundle_with(by: Signer, statement: Any, *, signature: bytes | None = None, **changes: Any) -> RawSignature:
    """A bundle around any statement; `changes` replace fields of the envelope."""
    payload = statement if isinstance(statement, bytes) else json.dumps(statement).encode()
    kind = changes.get("payloadType", IN_TOTO_PAYLOAD_TYPE)
    made = by.sign(pae(kind, payload)) if signature is None else signature
    document = json.loads(bundle.make(by, DIGEST, {}))
    document["dsseEnvelope"] = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": kind,
        "signatures": [{"sig": base64.b64encode(made).decode()}],
        **changes,
    }
    data = json.dumps(document).encode()
    return RawSignature(SignatureFormat.BUNDLE, sha256_digest(data), data)


def policy(name: str = "shop", by: Sequence[str] = ("ci",), **spec: Any) -> dict[str, Any]:
    """A policy document for everything below `registry.example/shop`, with the keys of `by` as authorities."""
    return {
        "apiVersion": "ocisync.dev/v1alpha1",
        "kind": "TrustPolicy",
        "metadata": {"name": name},
        "spec": {
            "match": [{"repository": "registry.example/shop/*"}],
            "authorities": [{"name": key, "key": {"pem": signer(key).public.pem}} for key in by],
            "threshold": 1,
            **spec,
        },
    }


def subject(**changes: Any) -> Subject:
    """`REPOSITORY:production` at `DIGEST`."""
    values: dict[str, Any] = {
        "repository": REPOSITORY,
        "digest": DIGEST,
        "kind": SelectorKind.TAG,
        "tag": "production",
        **changes,
    }
    return Subject(**values)


def judged(
    policies: Sequence[dict[str, Any]] | TrustSet,
    *signatures: RawSignature,
    about: Subject | None = None,
    watermark: int = 0,
    now: datetime = NOW,
    truncated: bool = False,
) -> Verdict:
    """The verdict of policies over signatures found beside the subject's digest."""
    trust = policies if isinstance(policies, TrustSet) else load_policies(policies)
    what = about or subject()
    keys, roots = trust.keys_for(what.repository), trust.roots_for(what.repository)
    evidence = [examine(item, keys, what.digest, roots) for item in signatures]
    return judge(trust.select(what.repository), evidence, what, now, watermark, truncated=truncated)
