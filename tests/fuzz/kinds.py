"""What a target is, and what all of them share: one key, and words for a refusal."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ocisync.model.errors import OcisyncError
from ocisync.signing.keys import Signer, load_private

Source = random.Random


class Defect(AssertionError):
    """A reader believed something that nobody signed, or lost something."""


@dataclass(frozen=True, slots=True)
class Target:
    """One parser, or one family of them.

    Attributes:
        share: how many of a hundred cases.
        make: the bytes of a case.
        read: reads them; the answer says how it went (the kind of refusal, or `read`).
        kept: whether cases may be kept in the corpus; private keys are not.
    """

    name: str
    share: int
    make: Callable[[Source], bytes]
    read: Callable[[bytes], str]
    kept: bool = True


@functools.cache
def signer() -> Signer:
    """A key that is the same in every run."""
    key = ec.derive_private_key(20_261_123, ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return load_private(key.private_bytes(*form))


def refusal(error: BaseException) -> str:
    """The answer of a reader that refuses."""
    text = error.message if isinstance(error, OcisyncError) else str(error)
    if not text:
        raise Defect("a refusal without a word")
    return f"refused: {text}"
