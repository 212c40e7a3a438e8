"""Signatures, keys, policies, logins and trusted roots that must not count, and must not break the judgement."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from typing import Any

from ocisync.model.descriptor import EMPTY_JSON
from ocisync.model.digest import sha256_digest
from ocisync.model.ref import legacy_signature_tag
from ocisync.signing import bundle
from tests.security.hostile.common import BLOBS, BUILT, MIB, OBJECT, REPOSITORY, Case, changed, layout, texts_from
from tests.security.hostile.manifests import growing
from tests.support.artifacts import COMMIT_TIME
from tests.support.trust import signer

VERIFY = ("verify", "oci-layout:lay:1", "--as", REPOSITORY, "-q")


def bundle_cases() -> Iterator[Case]:
    """Signatures beside an artifact: none of them may count, and none may break the judgement."""
    key = signer("hostile corpus")
    good = bundle.make(key, BUILT.descriptor.digest, {"dev.ocisync.repository": REPOSITORY})
    document: dict[str, Any] = json.loads(good)
    made = texts_from(good)
    paths: dict[str, list[Any]] = {
        "mediaType": [None, 1, "x", ...],
        "verificationMaterial": [None, [], {}, {"publicKey": None}, {"certificate": {"rawBytes": "AAAA"}}, ...],
        "verificationMaterial.publicKey.hint": [None, 1, []],
        "dsseEnvelope": [None, [], {}, ...],
        "dsseEnvelope.payload": [None, 1, "", "*", "AAAA", base64.b64encode(b"[" * 5000).decode(), "A" * 700_000, ...],
        "dsseEnvelope.payloadType": [None, "text/plain", 1, ...],
        "dsseEnvelope.signatures": [
            None,
            [],
            {},
            [None],
            [{}],
            [{"sig": "AAAA"}] * 2,
            [{"sig": 1}],
            [{"sig": "*"}],
            ...,
        ],
        "dsseEnvelope.signatures.0.sig": [None, "", "AAAA", "A" * 100_000, "=", base64.b64encode(bytes(72)).decode()],
    }
    for path, values in paths.items():
        made |= {f"{path} {index}": changed(document, path, value) for index, value in enumerate(values)}
    made["another artifact's"] = bundle.make(key, sha256_digest(b"other"), {})
    made["another repository's"] = bundle.make(
        key, BUILT.descriptor.digest, {"dev.ocisync.repository": "registry.example/other"}
    )
    made["another key's"] = bundle.make(signer("stranger"), BUILT.descriptor.digest, {})
    made["too large"] = good[:-1] + b" " * (2 * MIB) + b"}"
    files = {"k.pub": key.public.pem.encode()}
    for name, data in made.items():
        raw, _ = bundle.bundle_manifest(data, BUILT.descriptor, COMMIT_TIME)
        blobs = {**BLOBS, "bundle": data, "empty": EMPTY_JSON}
        yield Case(
            f"bundle {name}",
            (*VERIFY, "--key", "k.pub"),
            {**layout(BUILT.manifest, blobs, others=(("", raw),)), **files},
        )
    for name, raw in texts_from(BUILT.manifest).items():
        others = ((legacy_signature_tag(BUILT.descriptor.digest), raw),)
        yield Case(
            f"legacy manifest {name}",
            (*VERIFY, "--key", "k.pub"),
            {**layout(BUILT.manifest, BLOBS, others=others), **files},
        )


COSTLY = {
    "kdf": {"name": "scrypt", "params": {"N": 2**30, "r": 8, "p": 1}, "salt": "AAAA"},
    "cipher": {"name": "nacl/secretbox", "nonce": "AAAA"},
    "ciphertext": "AAAA",
}


def key_cases() -> Iterator[Case]:
    """Key files."""
    pem = signer("hostile corpus").public.pem.encode()
    body = b"".join(pem.splitlines()[1:-1])
    der = base64.b64decode(body)

    def armour(data: bytes, label: str = "PUBLIC KEY") -> bytes:
        return f"-----BEGIN {label}-----\n{base64.b64encode(data).decode()}\n-----END {label}-----\n".encode()

    rng = random.Random(3)
    files = {
        "empty": b"",
        "text": b"x",
        "NUL bytes": bytes(100),
        "not UTF-8": b"\xff\xfe" * 50,
        "no end": pem[:60],
        "no base64": armour(b"x").replace(b"eA==", b"*"),
        "an empty block": armour(b""),
        "no DER": armour(b"hello"),
        "a long length": armour(b"\x30\x84\xff\xff\xff\xff" + der),
        "deep DER": armour(b"\x30\x80" * 10_000),
        "cut off": armour(der[:-1]),
        "bytes behind it": armour(der + b"x"),
        "a certificate": armour(der, "CERTIFICATE"),
        "an RSA key": armour(der, "RSA PUBLIC KEY"),
        "another label": armour(der, "PUBLIC"),
        "a point at infinity": armour(der[:-65] + b"\x00" * 65),
        "a point off the curve": armour(der[:-1] + bytes([der[-1] ^ 1])),
        "an SSH key": b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== x",
        "a private key of nothing": armour(b"x", "PRIVATE KEY"),
        "EC without curve": armour(b"x", "EC PRIVATE KEY"),
        "an encrypted key of nothing": armour(b"x", "ENCRYPTED PRIVATE KEY"),
        "cosign's of nothing": armour(b"x", "ENCRYPTED SIGSTORE PRIVATE KEY"),
        "cosign's of a list": armour(b"[]", "ENCRYPTED SIGSTORE PRIVATE KEY"),
        "cosign's of no fields": armour(b"{}", "ENCRYPTED COSIGN PRIVATE KEY"),
        "cosign's that costs": armour(json.dumps(COSTLY).encode(), "ENCRYPTED SIGSTORE PRIVATE KEY"),
        "two keys": pem + pem,
        "JSON": b'{"kty":"EC"}',
        "a huge file": b"-----BEGIN PUBLIC KEY-----\n" + b"A" * (8 * MIB),
        "many blocks": armour(b"x") * 10_000,
    }
    for at in sorted(rng.sample(range(len(der) - 66), 10)):
        flipped = bytearray(der)
        flipped[at] ^= 0x40
        files[f"a bit flipped at {at}"] = armour(bytes(flipped))
    for name, data in files.items():
        yield Case(f"key {name}", ("keys", "show", "k.pem"), {"k.pem": data})
        if "PRIVATE" not in data[:60].decode(errors="replace"):
            unsigned = layout(BUILT.manifest, BLOBS)
            yield Case(f"verify with key {name}", (*VERIFY, "--key", "k.pem"), {**unsigned, "k.pem": data})


POLICY: dict[str, Any] = {
    "apiVersion": "ocisync.dev/v1alpha1",
    "kind": "TrustPolicy",
    "metadata": {"name": "p"},
    "spec": {
        "match": [{"repository": REPOSITORY}],
        "authorities": [{"name": "ci", "key": {"data": "x"}}],
        "threshold": 1,
    },
}


def policy_cases() -> Iterator[Case]:
    """Policy files: a broken one refuses whatever it is about."""
    unsigned = layout(BUILT.manifest, BLOBS)
    texts = {
        "empty": b"",
        "text": b"x",
        "a list": b"[]",
        "no YAML": b"a: [",
        "NUL": b"\0",
        "not UTF-8": b"\xff",
        "two keys": b"kind: a\nkind: b",
        "a bomb": growing()["a billion laughs"],
        "depth": b"[" * 5000,
        "another kind": OBJECT.encode(),
        "a document of nothing": b"---\n",
        "large": b"a: " + b"x" * (17 * MIB),
    }
    paths: dict[str, list[Any]] = {
        "kind": ["Policy", None, 1, ...],
        "apiVersion": ["v1", None, "ocisync.dev/v9", ...],
        "metadata": [None, [], {}, "x"],
        "spec": [None, [], "x", {}, ...],
        "spec.match": [
            None,
            [],
            {},
            [{}],
            [{"repository": 1}],
            [{"repository": ""}],
            [{"repository": "**"}],
            [{"x": 1}],
            ["x"],
        ],
        "spec.authorities": [None, [], {}, [{}], [{"name": 1}], [{"name": "a"}], [{"name": "a", "x": 1}], ["x"]],
        "spec.threshold": [0, -1, 1.5, "1", None, 99, 2**70],
        "spec.mode": ["warn", 1, None],
        "spec.surprise": [1],
        "spec.rollback": [1, [], {"x": 1}, {"floor": -1}, {"maxAge": "x"}],
        "spec.deny": [1, {"digests": ["x"]}],
        "spec.formats": [[], ["x"], "Bundle"],
    }
    for path, values in paths.items():
        texts |= {f"{path} {index}": changed(POLICY, path, value) for index, value in enumerate(values)}
    for name, data in texts.items():
        yield Case(f"policy {name}", (*VERIFY, "--policy", "p.yaml"), {**unsigned, "p.yaml": data})


def login_cases() -> Iterator[Case]:
    """Login files in docker's form, and files with certificates."""
    at = ("inspect", "127.0.0.1:9/shop:1", "--timeout", "1", "-q")
    config = b'{"auths":{"127.0.0.1:9":{"auth":"dTpw"}}}'
    texts = {name: data for name, data in texts_from(config).items() if name not in LENIENT_LOGINS}
    texts["too large"] = config + b" " * (5 * MIB)
    for name, data in texts.items():
        yield Case(f"login {name}", (*at, "--registry-config", "c.json"), {"c.json": data}, r"c\.json")
    for name, data in {
        "empty": b"",
        "text": b"x",
        "no PEM": b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n",
        "NUL": bytes(9),
    }.items():
        yield Case(f"authorities {name}", (*at, "--ca-file", "c.pem"), {"c.pem": data}, r"c\.pem")
        flags = ("--cert-file", "c.pem", "--key-file", "c.pem")
        yield Case(f"certificate {name}", (*at, *flags), {"c.pem": data}, r"c\.pem")


# As docker's own reader: what does not matter to a login is not judged.
LENIENT_LOGINS = frozenset(
    {
        "twice",
        "UTF-16",
        "a byte order mark",
        "a key twice",
        "a lone surrogate",
        "an infinite number",
        "NaN inside",
        "depth",
    }
)


def root_cases() -> Iterator[Case]:
    """Trusted roots of a Sigstore."""
    identity = ("--certificate-identity", "a@example.com", "--certificate-oidc-issuer", "https://issuer.example")
    root = {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [],
        "certificateAuthorities": [],
    }
    for name, data in texts_from(json.dumps(root).encode()).items():
        files = {**layout(BUILT.manifest, BLOBS), "root.json": data}
        yield Case(f"root {name}", (*VERIFY, "--trusted-root", "root.json", *identity), files)
