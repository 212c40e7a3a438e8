"""OCI content digests: `sha256:` and 64 lower-case hex characters, nothing else.

Other algorithms are refused on purpose: no registry needs them, and every accepted one is an attack surface.
"""

from __future__ import annotations

import hashlib
import re

from ocisync.model.errors import InvalidInput

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}\Z")


def sha256_digest(data: bytes) -> str:
    """Return the OCI digest of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    """Tell whether `text` is exactly one well-formed sha256 digest."""
    return _SHA256.match(text) is not None


def parse_digest(text: str) -> str:
    """Return `text` if it is a well-formed digest.

    Raises:
        InvalidInput: otherwise.
    """
    if not is_digest(text):
        raise InvalidInput(f"not a sha256 digest: {text[:100]!r}")
    return text


def digest_hex(digest: str) -> str:
    """Return the 64 hex characters of a digest."""
    return parse_digest(digest).removeprefix("sha256:")
