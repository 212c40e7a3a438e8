"""Damaged keyless bundles, certificates and trusted roots: never an exception, never a signer who did not sign.

The cases are seeded: the normal run takes a sample, `OCISYNC_HEAVY=1` a hundred thousand.
"""

from __future__ import annotations

import base64
import json
import os
import random
import warnings
from typing import Any

import pytest

from ocisync.kit.strictjson import Malformed
from ocisync.model.errors import InvalidInput
from ocisync.model.evidence import RawSignature
from ocisync.signing.certificate import read_identity
from ocisync.signing.check import examine
from ocisync.signing.roots import load_root
from tests.support import goldensigstore as golden

CASES = 100_000 if os.environ.get("OCISYNC_HEAVY") == "1" else 400
NAMES = ("ocisync-github", "cosign-person", "cosign-first-entry", "ocisync-gitlab")
SEEDS = range(4)
# The library warns of some broken certificates instead of refusing them; that must not decide.
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.timeout(7_200)]


def damaged(data: bytes, source: random.Random) -> bytes:
    """The bytes with a few of them changed, taken out or put in."""
    out = bytearray(data)
    for _ in range(source.choice([1, 1, 1, 2, 5])):
        at = source.randrange(len(out)) if out else 0
        kind = source.randrange(4)
        if kind == 0 and out:
            out[at] = source.randrange(256)
        elif kind == 1 and out:
            out[at] ^= 1 << source.randrange(8)
        elif kind == 2:
            del out[at : at + source.randrange(1, 9)]
        else:
            out[at:at] = source.randbytes(source.randrange(1, 5))
    return bytes(out)


def damaged_bundle(bundle: dict[str, Any], source: random.Random) -> bytes:
    """A bundle with one of its parts damaged, or damaged as a whole."""
    material, envelope = bundle["verificationMaterial"], bundle["dsseEnvelope"]
    entry = material["tlogEntries"][0]
    places = [
        (material["certificate"], "rawBytes"),
        (entry, "canonicalizedBody"),
        (entry["inclusionProof"], "rootHash"),
        (material["timestampVerificationData"]["rfc3161Timestamps"][0], "signedTimestamp"),
        (envelope, "payload"),
        (envelope["signatures"][0], "sig"),
    ]
    chosen = source.randrange(len(places) + 2)
    if chosen < len(places):
        holder, name = places[chosen]
        holder[name] = base64.b64encode(damaged(base64.b64decode(holder[name]), source)).decode()
    elif chosen == len(places):
        checkpoint = entry["inclusionProof"]["checkpoint"]
        checkpoint["envelope"] = damaged(checkpoint["envelope"].encode(), source).decode(errors="replace")
    else:
        return damaged(json.dumps(bundle).encode(), source)
    return json.dumps(bundle).encode()


@pytest.mark.parametrize("seed", SEEDS)
def test_damage_never_raises_and_never_invents_a_signer(seed: int) -> None:
    source, root, digest = random.Random(seed), golden.root(), golden.digest()
    honest = {name: examine(golden.signature(name), [], digest, [root]) for name in NAMES}
    for _ in range(CASES // len(SEEDS)):
        name = source.choice(NAMES)
        good = golden.signature(name)
        data = damaged_bundle(golden.document(name), source)
        found = examine(RawSignature(good.format, good.source, data), [], digest, [root])
        if found.signer and not found.problem:  # the damage hit nothing that anything rests on
            known = honest[name]
            assert (found.identity, found.claims, found.subject) == (known.identity, known.claims, known.subject), data


@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_certificates_and_roots_are_refused_or_read(seed: int) -> None:
    source = random.Random(1_000 + seed)
    certificates = [
        base64.b64decode(golden.document(name)["verificationMaterial"]["certificate"]["rawBytes"]) for name in NAMES
    ]
    roots = [golden.data("trusted_root.json"), golden.data("elsewhere_root.json")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(CASES // len(SEEDS)):
            try:
                assert read_identity(damaged(source.choice(certificates), source)).subject
            except Malformed as refused:
                assert str(refused)
            try:
                assert load_root(damaged(source.choice(roots), source)).parts
            except InvalidInput as refused:
                assert refused.message
