"""The real cosign, offline: keys only, no transparency log, no Sigstore service.

A dead proxy stands between cosign and everything that is not loopback, so a test that passes proves that
nothing left the machine.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.privatesigstore import PrivateSigstore
from tests.support.process import clean_environment

# The discard port: nothing listens there.
DEAD_PROXY = "http://127.0.0.1:9"

SIGNING_CONFIG = (
    '{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json","rekorTlogConfig":{},"tsaConfig":{}}'
)


class CosignError(AssertionError):
    """cosign ended with an error; the message has what it wrote."""


@dataclass(frozen=True, slots=True)
class CosignKey:
    """A key pair as cosign writes it: the private key is encrypted with the password."""

    private: Path
    public: Path
    password: str


class Cosign:
    """Runs cosign in a home of its own. References are HOST:PORT/REPOSITORY@DIGEST on loopback."""

    def __init__(self, binary: Path, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._binary = binary
        self._signing_config = directory / "signing-config.json"
        self._signing_config.write_text(SIGNING_CONFIG)

    def run(
        self, *arguments: str, password: str = "", docker_config: Path | None = None, timeout_s: float = 240.0
    ) -> str:
        """Any cosign command; returns its standard output.

        Raises:
            CosignError: It ended with an error, for example a signature that does not verify.
        """
        extra = {
            "COSIGN_PASSWORD": password,
            "HTTP_PROXY": DEAD_PROXY,
            "HTTPS_PROXY": DEAD_PROXY,
            "NO_PROXY": "127.0.0.1,localhost",
            "COSIGN_YES": "true",
        }
        if docker_config is not None:
            extra["DOCKER_CONFIG"] = str(docker_config)
        result = subprocess.run(
            [str(self._binary), *arguments],
            cwd=self.directory,
            env=clean_environment(self.directory, **extra),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if result.returncode != 0:
            shown = " ".join(arguments)
            raise CosignError(f"cosign {shown} → {result.returncode}: {result.stderr}{result.stdout}")
        return result.stdout

    def generate_key_pair(self, password: str = "") -> CosignKey:
        """A fresh ECDSA P-256 key pair."""
        prefix = self.directory / f"key-{secrets.token_hex(4)}"
        self.run("generate-key-pair", "--output-key-prefix", str(prefix), password=password)
        return CosignKey(prefix.with_suffix(".key"), prefix.with_suffix(".pub"), password)

    def import_key_pair(self, private: Path, password: str = "") -> CosignKey:
        """A PKCS#8 or OpenSSL key, made cosign's own."""
        prefix = self.directory / f"imported-{secrets.token_hex(4)}"
        self.run("import-key-pair", "--key", str(private), "--output-key-prefix", str(prefix), password=password)
        return CosignKey(prefix.with_suffix(".key"), prefix.with_suffix(".pub"), password)

    def sign(
        self,
        reference: str,
        key: CosignKey,
        *,
        annotations: Mapping[str, str] | None = None,
        docker_config: Path | None = None,
    ) -> None:
        """Attaches a Sigstore bundle as a referrer (cosign's default format since version 3)."""
        self._sign(["--signing-config", str(self._signing_config)], reference, key, annotations, docker_config)

    def sign_legacy(
        self,
        reference: str,
        key: CosignKey,
        *,
        annotations: Mapping[str, str] | None = None,
        docker_config: Path | None = None,
    ) -> None:
        """Adds a signature under the tag sha256-….sig (the format before version 3)."""
        flags = ["--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false"]
        self._sign(flags, reference, key, annotations, docker_config)

    def verify(
        self,
        reference: str,
        public_key: Path,
        *,
        annotations: Mapping[str, str] | None = None,
        docker_config: Path | None = None,
    ) -> str:
        """Verifies both formats; returns what cosign prints (JSON).

        Raises:
            CosignError: No signature by this key (with these annotations).
        """
        return self.run(
            "verify", "--key", str(public_key), "--insecure-ignore-tlog=true",
            *_annotations(annotations), reference, docker_config=docker_config,
        )  # fmt: skip

    def sign_keyless(
        self,
        reference: str,
        sigstore: PrivateSigstore,
        token: str,
        *,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Attaches a bundle signed as the token's identity."""
        self.run("sign", "--yes", *self._keyless(sigstore, token), *_annotations(annotations), reference)

    def attest_keyless(
        self, reference: str, sigstore: PrivateSigstore, token: str, predicate: Path, predicate_type: str
    ) -> None:
        """Attaches an attestation made as the token's identity."""
        described = ["--predicate", str(predicate), "--type", predicate_type]
        self.run("attest", "--yes", *self._keyless(sigstore, token), *described, reference)

    def sign_keyless_legacy(self, reference: str, sigstore: PrivateSigstore, token: str) -> None:
        """Adds a signature with a certificate under the tag sha256-….sig; timestamped, not logged."""
        self.run(
            "sign", "--yes", "--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false",
            "--identity-token", str(self._token_file(token)), "--fulcio-url", sigstore.url("fulcio"),
            "--insecure-skip-verify=true",
            "--timestamp-server-url", sigstore.url("timestamp", "api/v1/timestamp"),
            reference,
        )  # fmt: skip

    def verify_keyless(
        self,
        reference: str,
        trusted_root: Path,
        identity: str,
        issuer: str,
        *,
        annotations: Mapping[str, str] | None = None,
    ) -> str:
        """Verifies a bundle by an identity; returns what cosign prints (JSON).

        Raises:
            CosignError: No signature by this identity (with these annotations).
        """
        return self.run(
            "verify", "--trusted-root", str(trusted_root), "--certificate-identity", identity,
            "--certificate-oidc-issuer", issuer, *_annotations(annotations), reference,
        )  # fmt: skip

    def _keyless(self, sigstore: PrivateSigstore, token: str) -> list[str]:
        return [
            "--identity-token", str(self._token_file(token)), "--signing-config", str(sigstore.signing_config_file),
            "--trusted-root", str(sigstore.trusted_root_file),
        ]  # fmt: skip

    def _token_file(self, token: str) -> Path:
        """Given in place, a token that is not signed with RSA is taken for the name of a file."""
        path = self.directory / f"token-{secrets.token_hex(4)}"
        path.write_text(token)
        return path

    def _sign(
        self,
        flags: list[str],
        reference: str,
        key: CosignKey,
        annotations: Mapping[str, str] | None,
        docker_config: Path | None,
    ) -> None:
        self.run(
            "sign", "--yes", "--key", str(key.private), *flags, *_annotations(annotations), reference,
            password=key.password, docker_config=docker_config,
        )  # fmt: skip


def _annotations(annotations: Mapping[str, str] | None) -> list[str]:
    return [part for name, value in (annotations or {}).items() for part in ("-a", f"{name}={value}")]
