"""The golden keyless signatures under tests/assets/sigstore, and the roots that judge them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ocisync.model.digest import sha256_digest
from ocisync.model.evidence import RawSignature, SignatureFormat
from ocisync.signing.roots import TrustedRoot, load_root

ASSETS = Path(__file__).parents[1] / "assets" / "sigstore"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"


def data(name: str) -> bytes:
    """The bytes of a file there."""
    return (ASSETS / name).read_bytes()


def signature(name: str) -> RawSignature:
    """A golden bundle as it would be fetched."""
    found = data(f"{name}.json")
    return RawSignature(SignatureFormat.BUNDLE, sha256_digest(found), found)


def document(name: str) -> dict[str, Any]:
    """A golden bundle or root as JSON, to be changed by a test."""
    found: dict[str, Any] = json.loads(data(f"{name}.json"))
    return found


def digest() -> str:
    """What the golden signatures are about."""
    return sha256_digest(data("manifest.json"))


def root(name: str = "trusted_root", windows: Mapping[str, Mapping[str, str]] | None = None) -> TrustedRoot:
    """A golden trusted root; `windows` replace the `validFor` of all parts of a kind."""
    found = document(name)
    for kind, window in (windows or {}).items():
        for part in found[kind]:
            holder = part.get("publicKey", part)
            holder["validFor"] = dict(window)
    return load_root(json.dumps(found).encode())
