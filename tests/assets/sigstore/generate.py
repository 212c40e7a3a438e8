"""Makes the golden keyless signatures anew: `python -m tests.assets.sigstore.generate`. See README.md here."""

from __future__ import annotations

import base64
import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ocisync.model.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.evidence import SignatureFormat
from ocisync.oci.client import open_store
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.oci.store import Store
from ocisync.sandbox.registry import Registry
from ocisync.signing.keylesssigner import KeylessSigner, load_trust_config
from ocisync.signing.statement import statement
from tests.servers import build
from tests.support.cosign import Cosign
from tests.support.goldensigstore import ASSETS, PREDICATE_TYPE
from tests.support.minisigstore import MiniSigstore, Wish
from tests.support.privatesigstore import PrivateSigstore
from tests.support.trust import OTHER_DIGEST, claims

CONFIG, LAYER = b"{}", b"a layer"
REUSED = "acme/ci/.github/workflows/release.yml@refs/tags/v1"


def manifest() -> bytes:
    """A small image manifest; nothing ever unpacks it."""
    layer = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", sha256_digest(LAYER), len(LAYER))
    config = Descriptor(OCI_CONFIG, sha256_digest(CONFIG), len(CONFIG))
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.as_dict(),
        "layers": [layer.as_dict()],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def push(store: Store, raw: bytes) -> str:
    """Puts the manifest into a registry and returns its digest."""
    for content in (CONFIG, LAYER):
        store.put_blob(Descriptor("", sha256_digest(content), len(content)), content)
    digest = sha256_digest(raw)
    store.put_manifest(raw, OCI_MANIFEST, digest)
    return digest


def by_cosign(registry: Registry, sign: Callable[[str], None]) -> bytes:
    """The bundle that cosign attaches to the manifest in a repository of its own."""
    store = open_store(f"{registry.address}/golden/r{time.monotonic_ns()}")
    digest = push(store, manifest())
    sign(f"{store.repository}@{digest}")
    (found,) = collect(store, digest, budget=EvidenceBudget(time.monotonic)).items
    assert found.format is SignatureFormat.BUNDLE
    return found.payload


def of_version_1(sigstore: PrivateSigstore, digest: str) -> tuple[bytes, bytes]:
    """A bundle with an entry of a log of version 1, which the stand-in keeps, and a timestamp of the real authority;
    and the root that accepts both."""
    stand_in = MiniSigstore()
    bundle = stand_in.document(statement(digest, claims()), Wish(signed_at=datetime.now(UTC)))
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    stamp = base64.b64encode(sigstore.timestamp(signature)).decode()
    bundle["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": stamp}]}
    root = stand_in.root_document()
    root["timestampAuthorities"] = sigstore.trusted_root["timestampAuthorities"]
    return json.dumps(bundle).encode(), json.dumps(root).encode()


def write(name: str, data: bytes) -> None:
    """Puts one file here, readable."""
    (ASSETS / name).write_text(json.dumps(json.loads(data), indent=1) + "\n")


def main() -> None:
    """Starts two instances, signs, and stops them."""
    raw = manifest()
    (ASSETS / "manifest.json").write_bytes(raw)
    digest = sha256_digest(raw)
    binary, cosign_binary = build.find("sigstore"), build.find("cosign")
    assert binary and cosign_binary, "run `python tests/servers/build.py sigstore cosign`"
    with tempfile.TemporaryDirectory() as scratch, Registry() as registry:
        here = PrivateSigstore(Path(scratch) / "here", binary)
        cosign = Cosign(cosign_binary, Path(scratch) / "cosign")
        predicate = Path(scratch) / "predicate.json"
        predicate.write_text("{}")
        try:
            here.start(seeded=False)

            def keyless(token: str) -> Callable[[str], None]:
                return lambda reference: cosign.sign_keyless(reference, here, token, annotations=claims())

            def attest(reference: str) -> None:
                cosign.attest_keyless(reference, here, here.github_token(), predicate, PREDICATE_TYPE)

            config = load_trust_config(here.trust_config_file.read_bytes())

            def ours(token: str, about: str = digest) -> bytes:
                return KeylessSigner(config, token).make(about, claims())

            person, release = here.token_of("dev@example.com"), here.github_token()
            write("cosign-first-entry.json", by_cosign(registry, keyless(person)))
            write("cosign-person.json", by_cosign(registry, keyless(person)))
            write("cosign-github.json", by_cosign(registry, keyless(release)))
            write("cosign-attestation.json", by_cosign(registry, attest))
            write("ocisync-person.json", ours(person))
            write("ocisync-ops.json", ours(here.token_of("ops@example.com")))
            write("ocisync-github.json", ours(release))
            write("ocisync-reused-workflow.json", ours(here.github_token("evil/shop", REUSED)))
            write("ocisync-gitlab.json", ours(here.gitlab_token()))
            write("ocisync-other-digest.json", ours(release, OTHER_DIGEST))
            bundle, root = of_version_1(here, digest)
            write("version1-timestamped.json", bundle)
            write("version1_root.json", root)
            write("trusted_root.json", here.trusted_root_file.read_bytes())
        finally:
            here.stop()
        elsewhere = PrivateSigstore(Path(scratch) / "elsewhere", binary)
        try:
            elsewhere.start()
            config = load_trust_config(elsewhere.trust_config_file.read_bytes())
            stranger = KeylessSigner(config, elsewhere.token_of("dev@example.com"))
            write("elsewhere-person.json", stranger.make(digest, claims()))
            write("elsewhere_root.json", elsewhere.trusted_root_file.read_bytes())
        finally:
            elsewhere.stop()


if __name__ == "__main__":
    main()
