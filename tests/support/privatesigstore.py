"""A private Sigstore on loopback: the real Fulcio, Rekor (version 2) and timestamp authority, from outside.

They run in a network namespace of their own (`tests.support.sigstoreinside`), so nothing that they do leaves the
machine; relays make them reachable on loopback ports here. Keys and certificates are new for each instance.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from rfc3161_client import TimestampRequestBuilder

from ocisync.signing.roots import MEDIA_TYPE
from tests.support import oidc, requirements
from tests.support.process import Server, clean_environment, free_port
from tests.support.relay import Relay
from tests.support.sigstoreinside import PASSWORD, PORTS

CHECKOUT = Path(__file__).parents[2]
START = "2026-11-01T00:00:00Z"
NOT_BEFORE = datetime(2026, 11, 1, tzinfo=UTC)
NOT_AFTER = NOT_BEFORE + timedelta(days=3650)
_Key = ec.EllipticCurvePrivateKey


class PrivateSigstore:
    """One running instance. `trusted_root` and `signing_config` are the documents that clients need."""

    def __init__(self, directory: Path, binary: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        # The path of a Unix socket has at most 107 bytes, and pytest's directories are long.
        self._inside = Path(tempfile.mkdtemp(prefix="sigstore-"))
        self._ports = {name: free_port() for name in PORTS}
        self._relays: list[Relay] = []
        self._oidc_key, self._ct_key, self._rekor_key = _new_key(), _new_key(), ed25519.Ed25519PrivateKey.generate()
        self._fulcio_chain = self._authority("fulcio", ExtendedKeyUsageOID.CODE_SIGNING, with_leaf=False)
        self._tsa_chain = self._authority("tsa", ExtendedKeyUsageOID.TIME_STAMPING, with_leaf=True)
        _write_key(self._inside / "oidc.key", self._oidc_key)
        _write_key(self._inside / "ct.key", self._ct_key)
        _write_key(self._inside / "rekor.key", self._rekor_key)
        (self._inside / "fulcio.json").write_text(json.dumps(oidc.fulcio_config()))
        self._server = Server("sigstore", self._command(binary), directory, self._environment())
        self.trusted_root_file = directory / "trusted_root.json"
        self.trusted_root_file.write_text(json.dumps(self.trusted_root, indent=1))
        self.signing_config_file = directory / "signing_config.json"
        self.signing_config_file.write_text(json.dumps(self.signing_config))
        self.trust_config_file = directory / "trust_config.json"
        self.trust_config_file.write_text(json.dumps(self.trust_config))

    def start(self, *, seeded: bool = True) -> None:
        """Starts everything and waits for it. The first entry of a log has an index that many clients cannot read,
        so the log is seeded with an entry unless that is what a test wants."""
        self._server.start()
        self._relays = [
            Relay.from_port(port, self._inside / f"{name}.sock").start() for name, port in self._ports.items()
        ]
        for name, path in (("fulcio", "healthz"), ("rekor", "healthz"), ("timestamp", "ping")):
            self._server.wait_until(partial(_answers, self.url(name, path)), 60.0, f"{name} answers")
        if seeded:
            self.seed()

    def stop(self) -> None:
        """Ends everything."""
        for relay in self._relays:
            relay.close()
        self._server.stop()
        shutil.rmtree(self._inside, ignore_errors=True)

    def url(self, service: str, path: str = "") -> str:
        """Where a service answers."""
        return f"http://127.0.0.1:{self._ports[service]}/{path}".rstrip("/")

    def seed(self) -> None:
        """Puts an entry into the log that nobody needs."""
        key, data = _new_key(), os.urandom(16)
        verifier = {"publicKey": {"rawBytes": _b64(_spki(key))}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
        signature = key.sign(data, ec.ECDSA(hashes.SHA256()))
        entry = {
            "hashedRekordRequestV002": {
                "digest": _b64(hashlib.sha256(data).digest()),
                "signature": {"content": _b64(signature), "verifier": verifier},
            }
        }
        request = urllib.request.Request(
            self.url("rekor", "api/v2/log/entries"),
            data=json.dumps(entry).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status in {200, 201}

    def timestamp(self, data: bytes) -> bytes:
        """A timestamp over some bytes: the authority's answer."""
        request = urllib.request.Request(
            self.url("timestamp", "api/v1/timestamp"),
            data=TimestampRequestBuilder().data(data).build().as_bytes(),
            headers={"Content-Type": "application/timestamp-query"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: bytes = answer.read()
        return found

    # Identities ---------------------------------------------------------------------------------------------------

    def token_of(self, mail: str, *, lifetime_s: int = 600) -> str:
        """An identity token of a person."""
        return oidc.token(self._oidc_key, oidc.PEOPLE, oidc.person(mail), lifetime_s=lifetime_s)

    def github_token(
        self,
        repository: str = "acme/shop",
        workflow: str = "acme/shop/.github/workflows/release.yml@refs/tags/v1.4.0",
        ref: str = "refs/tags/v1.4.0",
        commit: str = oidc.COMMIT,
    ) -> str:
        """An identity token of a GitHub job."""
        claims = {**oidc.github_run(repository, workflow, ref), "sha": commit}
        return oidc.token(self._oidc_key, oidc.GITHUB, claims)

    def gitlab_token(self, project: str = "acme/shop", ref: str = "main") -> str:
        """An identity token of a GitLab job."""
        return oidc.token(self._oidc_key, oidc.GITLAB, oidc.gitlab_job(project, ref))

    # Documents ----------------------------------------------------------------------------------------------------

    @property
    def trusted_root(self) -> dict[str, Any]:
        """`trusted_root.json`"""
        public = self._rekor_key.public_key()
        rekor_der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        # Version 2 of the log names its key as signed notes do.
        note_id = hashlib.sha256(b"127.0.0.1\n\x01" + public.public_bytes(Encoding.Raw, PublicFormat.Raw)).digest()
        ct_der = _spki(self._ct_key)
        return {
            "mediaType": MEDIA_TYPE,
            "tlogs": [_log(self.url("rekor"), rekor_der, "PKIX_ED25519", note_id)],
            "certificateAuthorities": [_authority_part(self.url("fulcio"), self._fulcio_chain)],
            "ctlogs": [
                _log("http://127.0.0.1:15062/test", ct_der, "PKIX_ECDSA_P256_SHA_256", hashlib.sha256(ct_der).digest())
            ],
            "timestampAuthorities": [_authority_part(self.url("timestamp", "api/v1/timestamp"), self._tsa_chain)],
        }

    @property
    def signing_config(self) -> dict[str, Any]:
        """`signing_config.json`"""

        def service(url: str, version: int) -> list[dict[str, Any]]:
            window = {"start": START}
            return [{"url": url, "majorApiVersion": version, "validFor": window, "operator": "example"}]

        return {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service(self.url("fulcio"), 1),
            "oidcUrls": service(oidc.PEOPLE, 1),
            "rekorTlogUrls": service(self.url("rekor"), 2),
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": service(self.url("timestamp", "api/v1/timestamp"), 1),
            "tsaConfig": {"selector": "ANY"},
        }

    @property
    def trust_config(self) -> dict[str, Any]:
        """Both, as Sigstore's clients take them in one file."""
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": self.trusted_root,
            "signingConfig": self.signing_config,
        }

    # Starting -----------------------------------------------------------------------------------------------------

    def _authority(self, name: str, usage: ObjectIdentifier, *, with_leaf: bool) -> list[x509.Certificate]:
        """A chain, leaf first; the key of its first certificate and the chain go into files."""
        keys = [_new_key() for _ in range(3 if with_leaf else 2)]
        root = _certificate(f"{name} root", keys[0], None, None, path_length=2)
        chain = [_certificate(f"{name} intermediate", keys[1], root, keys[0], path_length=0, usages=[usage]), root]
        if with_leaf:
            chain.insert(0, _certificate(f"{name} leaf", keys[2], chain[0], keys[1], usages=[usage]))
        (self._inside / f"{name}.pem").write_bytes(b"".join(item.public_bytes(Encoding.PEM) for item in chain))
        _write_key(self._inside / f"{name}.key", keys[-1], BestAvailableEncryption(PASSWORD.encode()))
        return chain

    def _command(self, binary: Path) -> list[str]:
        unshare = requirements.require_tool("unshare", "util-linux")
        namespace = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
        module = "tests.support.sigstoreinside"
        return [str(unshare), *namespace, sys.executable, "-m", module, str(self._inside), str(binary)]

    def _environment(self) -> dict[str, str]:
        return clean_environment(self.directory, PYTHONPATH=str(CHECKOUT), PYTHONDONTWRITEBYTECODE="1")


def _certificate(
    name: str,
    key: _Key,
    issuer: x509.Certificate | None,
    issuer_key: _Key | None,
    *,
    path_length: int | None = None,
    usages: Sequence[ObjectIdentifier] = (),
) -> x509.Certificate:
    is_ca = path_length is not None
    subject = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "example"), x509.NameAttribute(NameOID.COMMON_NAME, name)
    ])  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.BasicConstraints(is_ca, path_length), critical=True)
        .add_extension(x509.KeyUsage(not is_ca, False, False, False, False, is_ca, is_ca, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=not is_ca)
    if issuer_key is not None:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(issuer_key or key, hashes.SHA256())


def _log(url: str, key: bytes, details: str, log_id: bytes) -> dict[str, Any]:
    public = {"rawBytes": _b64(key), "keyDetails": details, "validFor": {"start": START}}
    return {
        "baseUrl": url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": {"keyId": _b64(log_id)}
    }  # fmt: skip


def _authority_part(url: str, chain: Sequence[x509.Certificate]) -> dict[str, Any]:
    certificates = [{"rawBytes": _b64(item.public_bytes(Encoding.DER))} for item in chain]
    return {
        "subject": {"organization": "example", "commonName": "example"},
        "uri": url,
        "certChain": {"certificates": certificates},
        "validFor": {"start": START},
    }


def _write_key(
    path: Path, key: _Key | ed25519.Ed25519PrivateKey, encryption: KeySerializationEncryption | None = None
) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))


def _new_key() -> _Key:
    return ec.generate_private_key(ec.SECP256R1())


def _spki(key: _Key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
