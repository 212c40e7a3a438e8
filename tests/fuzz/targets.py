"""What is fuzzed: for each kind of document the goldens, how one case is made, and what reading it must do.

A case passes if the reader answers or refuses with its documented error; anything else that is raised is a defect. For
signatures more is asked: damage never makes a signer of somebody who did not sign, or changes what was signed.
"""

from __future__ import annotations

import base64
import functools
import json
import random
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ocisync.flows.trust import load_policies
from ocisync.kit.strictjson import Malformed
from ocisync.kit.yamlio import parse_documents
from ocisync.model.errors import InvalidInput
from ocisync.model.evidence import Evidence, RawSignature, SignatureFormat
from ocisync.model.spec import SelectorKind
from ocisync.policy.evaluate import Subject, judge
from ocisync.signing import legacy
from ocisync.signing.bundle import make_of
from ocisync.signing.check import examine
from ocisync.signing.keys import Signer, load_private, load_public
from ocisync.signing.roots import load_root
from ocisync.signing.statement import attestation, parse_statement, statement
from tests.fuzz import mutate
from tests.fuzz.kinds import Defect, Source, Target, refusal, signer
from tests.fuzz.mirrortargets import MIRROR_TARGETS
from tests.support import goldensigstore as golden
from tests.support.trust import DIGEST, NOW, REPOSITORY, claims, policy

KEYLESS = ("ocisync-github", "ocisync-gitlab", "cosign-person", "cosign-first-entry", "version1-timestamped")


# Fixed material -----------------------------------------------------------------------------------------------------


def _pem(key: Any, *, password: bytes = b"") -> bytes:
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        hidden = serialization.BestAvailableEncryption(password)
    written: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    return written


@functools.cache
def _private_keys() -> tuple[bytes, ...]:
    p256, p384 = (ec.derive_private_key(7, curve) for curve in (ec.SECP256R1(), ec.SECP384R1()))
    edwards = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    sec1 = p256.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return (_pem(p256), _pem(edwards), sec1, _pem(p384), _pem(p256, password=b"x"), _sealed())


def _sealed() -> bytes:
    """cosign's form, with parameters that cost nothing."""
    document = {
        "kdf": {"name": "scrypt", "params": {"N": 2, "r": 8, "p": 1}, "salt": base64.b64encode(b"s" * 32).decode()},
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(b"n" * 24).decode()},
        "ciphertext": base64.b64encode(b"c" * 154).decode(),
    }
    return _sealed_pem(json.dumps(document).encode())


def _sealed_pem(document: bytes) -> bytes:
    label = b"ENCRYPTED SIGSTORE PRIVATE KEY"
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label, base64.b64encode(document), label)


@functools.cache
def _public_keys() -> tuple[bytes, ...]:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    number = random.Random(1).getrandbits(2048) | 1 << 2047 | 1  # no primes are needed for a public key
    keys: tuple[Any, ...] = (
        ec.derive_private_key(7, ec.SECP256R1()).public_key(),
        ec.derive_private_key(7, ec.SECP521R1()).public_key(),
        ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32).public_key(),
        rsa.RSAPublicNumbers(65537, number).public_key(),
    )
    return tuple(key.public_bytes(serialization.Encoding.PEM, spki) for key in keys)


@functools.cache
def _statements() -> tuple[bytes, ...]:
    predicate = {
        "buildDefinition": {"buildType": "https://x.example", "resolvedDependencies": [{"uri": "git+https://x"}]}
    }
    return (
        statement(DIGEST, claims()),
        statement(DIGEST, {}, name=""),
        attestation(DIGEST, "https://slsa.dev/provenance/v1", predicate, name=REPOSITORY),
    )


@functools.cache
def _policies() -> tuple[dict[str, Any], ...]:
    pem = {"key": {"pem": signer().public.pem}}
    workflow = "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v*"
    keyless = {
        "issuer": "https://token.actions.githubusercontent.com",
        "subjectGlob": workflow,
        "claims": {"sourceRepository": "https://github.com/acme/shop"},
        "trustedRootRef": {"name": "root"},
    }
    spec: dict[str, Any] = {
        "authorities": [{"name": "ci", **pem}, {"name": "release", "keyless": keyless}],
        "threshold": 1,
        "formats": ["Bundle", "Legacy"],
        "floor": False,
        "repositoryClaim": {
            "mode": "Require",
            "remap": [{"signed": "registry.example/shop", "here": "mirror.example/shop"}],
        },
        "tagClaim": "Require",
        "annotations": {"env": "prod"},
        "attestations": [
            {
                "predicateType": "https://slsa.dev/provenance/v1",
                "authorities": ["ci"],
                "where": [{"path": "/buildDefinition/buildType", "glob": "https://x.example*"}],
            }
        ],
        "rollback": {
            "monotonic": "Sequence",
            "floor": 1,
            "allow": [{"digest": DIGEST, "until": "2026-12-01T00:00:00Z"}],
            "maxAge": "720h",
        },
        "requireTimestamp": False,
        "requireTransparencyLog": False,
        "deny": {
            "digests": ["sha256:" + "0" * 64],
            "keys": ["sha256:" + "1" * 64],
            "revisions": ["main@sha1:" + "2" * 40],
        },
        "onRevoked": "Correct",
        "mode": "Enforce",
    }
    simple = policy("shop", by=(), authorities=[{"name": "ci", **pem}])
    return policy("shop", by=(), **spec), simple


# Reading ------------------------------------------------------------------------------------------------------------


def _told(found: Evidence) -> str:
    if found.problem:
        return f"refused: {found.problem}"
    return "read" if found.signer else "stranger"


def _read_keyed_bundle(data: bytes) -> str:
    found = examine(RawSignature(SignatureFormat.BUNDLE, "x", data), [signer().public], DIGEST)
    if found.signer and not found.problem and found.claims != tuple(sorted(claims().items())):
        raise Defect(f"claims that nobody signed: {found.claims}")
    return _told(found)


@functools.cache
def _honest() -> Mapping[str, Evidence]:
    roots = _roots()
    return {name: examine(golden.signature(name), [], golden.digest(), roots) for name in KEYLESS}


@functools.cache
def _roots() -> tuple[Any, ...]:
    return golden.root(), golden.root("version1_root")


def _read_keyless_bundle(data: bytes) -> str:
    found = examine(RawSignature(SignatureFormat.BUNDLE, "x", data), [], golden.digest(), _roots())
    if found.signer and not found.problem:
        known = {(honest.identity and honest.identity.subject, honest.claims) for honest in _honest().values()}
        if (found.identity and found.identity.subject, found.claims) not in known:
            raise Defect(f"an identity that did not sign: {found.identity}")
    return _told(found)


def _read_statement(data: bytes) -> str:
    """As a parser, and signed by a trusted key that means no good."""
    signed = RawSignature(SignatureFormat.BUNDLE, "x", make_of(signer(), data))
    found = examine(signed, [signer().public], DIGEST) if data else Evidence("x", SignatureFormat.BUNDLE)
    subject = Subject(REPOSITORY, DIGEST, SelectorKind.TAG, "production")
    verdict = judge(load_policies(_policies()).select(REPOSITORY), [found], subject, NOW, 0)
    if not verdict.allowed and not verdict.message:
        raise Defect("a refusal without a word")
    try:
        read = parse_statement(data)
    except Malformed as error:
        if found.claims or found.subject:
            raise Defect("read by one reader and refused by another") from None
        return refusal(error)
    if found.signer and (found.subject, found.claims) != (read.subject, read.claims):
        raise Defect("two readings of one statement")
    return "read"


def _read_legacy(data: bytes) -> str:
    signature = base64.b64encode(signer().sign(data)).decode()
    found = examine(RawSignature(SignatureFormat.LEGACY, "x", data, signature), [signer().public], DIGEST)
    try:
        legacy.parse(data)
    except Malformed as error:
        return refusal(error)
    return _told(found)


def _read_policy(data: bytes) -> str:
    """From YAML or JSON text to a verdict; a policy that cannot be used must refuse, never allow."""
    try:
        documents = [document.value for document in parse_documents(data, "policy.yaml")]
    except InvalidInput as error:
        return refusal(error)
    trust = load_policies([item for item in documents if isinstance(item, dict)], read_root=_read_root_secret)
    evidence = [examine(_signed(), trust.keys_for(REPOSITORY), DIGEST)]
    subject = Subject(REPOSITORY, DIGEST, SelectorKind.TAG, "production")
    selection = trust.select(REPOSITORY)
    verdict = judge(selection, evidence, subject, NOW, 0)
    if verdict.allowed and not selection.matched:
        raise Defect("allowed without a usable policy")
    problems = sorted(trust.unusable.values())
    return f"refused: {problems[0]}" if problems else f"read: {verdict.reason}"


@functools.cache
def _signed() -> RawSignature:
    return RawSignature(SignatureFormat.BUNDLE, "x", make_of(signer(), _statements()[0]))


def _read_root_secret(name: str) -> Mapping[str, bytes] | None:
    return {"root.json": golden.data("trusted_root.json")} if name == "root" else None


def _read_key(data: bytes) -> str:
    """As public and as private key, with and without a password; what is read must be able to do its work."""
    answers = []
    for attempt in (lambda: load_public(data), lambda: load_private(data), lambda: load_private(data, b"x")):
        try:
            key = attempt()
        except InvalidInput as error:
            answers.append(refusal(error))
            continue
        if isinstance(key, Signer) and not key.public.verify(key.sign(b"x"), b"x"):
            raise Defect("a key that does not verify its own signature")
        if not isinstance(key, Signer):
            key.verify(b"x", b"x")
        answers.append("read")
    return next((answer for answer in answers if answer == "read"), answers[0])


def _read_root(data: bytes) -> str:
    try:
        root = load_root(data)
    except InvalidInput as error:
        return refusal(error)
    for moments in ([NOW], [NOW, NOW.replace(year=1970)]):
        try:
            json.loads(root.at(moments))
        except Malformed:
            continue
    return "read"


# Making -------------------------------------------------------------------------------------------------------------


def _keyed_bundle(source: Source) -> bytes:
    made = [json.loads(make_of(signer(), payload)) for payload in _statements()[:1]]
    return mutate.document(made[0], golden.document(KEYLESS[0]), source)


def _keyless_bundle(source: Source) -> bytes:
    return mutate.document(golden.document(source.choice(KEYLESS)), golden.document(source.choice(KEYLESS)), source)


def _statement(source: Source) -> bytes:
    one, other = (json.loads(source.choice(_statements())) for _ in range(2))
    return mutate.document(one, other, source)


def _legacy(source: Source) -> bytes:
    made = legacy.make(signer(), DIGEST, REPOSITORY, claims())
    return mutate.document(json.loads(made.payload), json.loads(_statements()[0]), source)


def _policy(source: Source) -> bytes:
    one, other = source.choice(_policies()), _policies()[0]
    return mutate.document(one, other, source)


def _key(source: Source) -> bytes:
    every = _public_keys()
    return mutate.pem(source.choice(every), source.choice(every), source)


def _private_key(source: Source) -> bytes:
    every = _private_keys()
    chosen = source.choice(every)
    if b"SIGSTORE" in chosen:
        inside = json.loads(base64.b64decode(chosen.splitlines()[1]))
        return _sealed_pem(mutate.document(inside, inside, source))
    return mutate.pem(chosen, source.choice(every + _public_keys()), source)


def _root(source: Source) -> bytes:
    names = ("trusted_root", "elsewhere_root", "version1_root")
    return mutate.document(golden.document(source.choice(names)), golden.document(source.choice(names)), source)


TARGETS = (
    Target("bundle", 13, _keyed_bundle, _read_keyed_bundle),
    Target("keyless-bundle", 7, _keyless_bundle, _read_keyless_bundle),
    Target("statement", 14, _statement, _read_statement),
    Target("legacy", 6, _legacy, _read_legacy),
    Target("policy", 17, _policy, _read_policy),
    Target("public-key", 6, _key, _read_key),
    Target("private-key", 5, _private_key, _read_key, kept=False),
    Target("trusted-root", 12, _root, _read_root),
    *MIRROR_TARGETS,
)
