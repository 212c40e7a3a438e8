"""Predicate types: what an attestation is about, by URI or by the short names that cosign has for them."""

from __future__ import annotations

import re

from ocisync.model.descriptor import SIGN_PREDICATE

SLSA_PROVENANCE = "https://slsa.dev/provenance/v1"
BUILDER_PATH = "/runDetails/builder/id"  # in provenance, who made it

SHORT_NAMES = {
    "custom": "https://cosign.sigstore.dev/attestation/v1",
    "slsaprovenance": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance02": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance1": SLSA_PROVENANCE,
    "spdxjson": "https://spdx.dev/Document",
    "cyclonedx": "https://cyclonedx.org/bom",
    "link": "https://in-toto.io/Link/v1",
    "vuln": "https://cosign.sigstore.dev/attestation/vuln/v1",
    "openvex": "https://openvex.dev/ns",
}
_CHARS = 1_024
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]+\Z")


def type_problem(text: str) -> str:
    """Why `text` is no predicate type of attestations; empty if it is one."""
    if len(text) > _CHARS or not text.isprintable() or not _URI.match(text):
        return f"{text[:100]!r} is no URI"
    return f"{text} is the type of signatures" if text == SIGN_PREDICATE else ""


def builder_id(identity: str) -> str:
    """The URI of a builder that signs as `identity`: a workflow's is one already, mail addresses become one."""
    return identity if _URI.match(identity) else f"mailto:{identity}"
