"""Keyless bundles: real ones under real roots, and what may not pass."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from ocisync.model.evidence import Evidence, RawSignature
from ocisync.signing.check import examine
from tests.support import goldensigstore as golden
from tests.support import requirements
from tests.support.minisigstore import REPOSITORY_CLAIMS, SIGNED_AT, MiniSigstore, Wish, raw
from tests.support.trust import DIGEST, OTHER_DIGEST, claims

CHECKOUT = Path(__file__).parents[3]
MINI = MiniSigstore()
ROOT = golden.root()
WORKFLOW = "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v1.4.0"
Change = Callable[[dict[str, Any]], object]


def seen(signature: RawSignature, *roots: Any, digest: str = "") -> Evidence:
    return examine(signature, [], digest or golden.digest(), roots or (ROOT,))


def counts(found: Evidence) -> bool:
    return bool(found.signer) and not found.problem and found.subject == golden.digest()


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("cosign-first-entry", "dev@example.com"),
        ("cosign-person", "dev@example.com"),
        ("cosign-github", WORKFLOW),
        ("ocisync-person", "dev@example.com"),
        ("ocisync-ops", "ops@example.com"),
        ("ocisync-github", WORKFLOW),
        ("ocisync-reused-workflow", "https://github.com/acme/ci/.github/workflows/release.yml@refs/tags/v1"),
        ("ocisync-gitlab", "https://gitlab.com/acme/shop//.gitlab-ci.yml@refs/heads/main"),
    ],
)
def test_a_real_bundle_names_its_identity_and_its_claims(name: str, subject: str) -> None:
    found = seen(golden.signature(name))
    assert counts(found), found.problem
    assert found.identity is not None
    assert found.identity.subject == subject
    assert found.identity.issuer.startswith("http://127.0.0.1:150")
    assert [proof.timestamped for proof in found.identity.proofs] == [True]
    assert found.claims == tuple(sorted(claims().items()))


def test_a_workflow_states_for_which_repository_it_ran() -> None:
    found = seen(golden.signature("ocisync-reused-workflow")).identity
    assert found is not None
    stated = dict(found.claims)
    assert stated["sourceRepository"] == "https://github.com/evil/shop"
    assert stated["buildSigner"].startswith("https://github.com/acme/ci/")
    assert (stated["runnerEnvironment"], stated["sourceRepositoryOwnerId"]) == ("github-hosted", "400")


def test_another_sigstore_with_the_same_issuer_is_not_believed() -> None:
    found = seen(golden.signature("elsewhere-person"))
    assert (found.signer, found.identity) == ("", None)
    assert "the trusted root does not accept it" in found.problem
    assert seen(golden.signature("elsewhere-person"), golden.root("elsewhere_root")).identity is not None


def test_each_root_that_accepts_it_is_named() -> None:
    other = golden.root("elsewhere_root")
    found = seen(golden.signature("ocisync-person"), other, ROOT)
    assert found.identity is not None
    assert [proof.root for proof in found.identity.proofs] == [ROOT.fingerprint]


def test_without_a_root_nothing_is_claimed_and_nothing_is_wrong() -> None:
    found = examine(golden.signature("ocisync-person"), [], golden.digest())
    assert (found.signer, found.problem, found.identity, found.certified) == ("", "", None, True)


def test_an_attestation_is_no_signature() -> None:
    found = seen(golden.signature("cosign-attestation"))
    assert "an attestation" in found.problem


def test_a_signature_of_another_digest_says_which() -> None:
    assert f"it signs {OTHER_DIGEST}" in seen(golden.signature("ocisync-other-digest")).problem


@pytest.mark.parametrize("kind", ["certificateAuthorities", "ctlogs", "tlogs", "timestampAuthorities"])
@pytest.mark.parametrize(
    "window",
    [
        {"start": "2026-11-01T00:00:00Z", "end": "2026-11-02T00:00:00Z"},
        {"start": "2027-01-01T00:00:00Z"},
    ],
    ids=["retired", "not yet"],
)
def test_a_part_of_the_root_that_was_not_valid_then_proves_nothing(kind: str, window: dict[str, str]) -> None:
    assert not counts(seen(golden.signature("ocisync-github"), golden.root(windows={kind: window})))


@pytest.mark.parametrize("kind", ["certificateAuthorities", "ctlogs", "tlogs", "timestampAuthorities"])
def test_a_part_that_was_retired_after_the_signature_still_proves_it(kind: str) -> None:
    window = {"start": "2026-11-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"}
    assert counts(seen(golden.signature("ocisync-github"), golden.root(windows={kind: window})))


def _version_1(change: Change | None = None) -> Evidence:
    bundle = golden.document("version1-timestamped")
    if change:
        change(bundle)
    return seen(raw(bundle), golden.root("version1_root"))


def test_a_timestamp_beside_a_logs_promise_is_told_apart_from_none() -> None:
    """A log of version 1 says when it was signed; whether a timestamp authority says so too is another question."""
    both = _version_1().identity
    assert both is not None
    assert [proof.timestamped for proof in both.proofs] == [True]
    alone = _version_1(lambda b: _material(b).pop("timestampVerificationData")).identity
    assert alone is not None
    assert [proof.timestamped for proof in alone.proofs] == [False]
    unpromised = _version_1(lambda b: [_entry(b).pop(name) for name in ("inclusionPromise", "integratedTime")]).identity
    assert unpromised is not None
    assert [proof.timestamped for proof in unpromised.proofs] == [True]


def test_a_timestamp_of_something_else_does_not_count_beside_a_logs_promise() -> None:
    found = _version_1(_other("timestampVerificationData"))
    assert found.identity is None or not any(proof.timestamped for proof in found.identity.proofs)


# One change to a good bundle each ----------------------------------------------------------------------------------


def _material(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = bundle["verificationMaterial"]
    return found


def _entry(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _material(bundle)["tlogEntries"][0]
    return found


def _stamps(bundle: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = _material(bundle)["timestampVerificationData"]["rfc3161Timestamps"]
    return found


def _flip(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[len(data) // 2] ^= 1
    return base64.b64encode(bytes(data)).decode()


def _other(part: str) -> Change:
    """Take a part from another bundle of the same Sigstore."""
    return lambda bundle: _material(bundle).update({part: _material(golden.document("ocisync-ops"))[part]})


def _payload(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["payload"] = _flip(bundle["dsseEnvelope"]["payload"])


CHANGES: dict[str, Change] = {
    "signed content": _payload,
    "signature": lambda b: b["dsseEnvelope"]["signatures"][0].update(
        sig=golden.document("ocisync-ops")["dsseEnvelope"]["signatures"][0]["sig"]
    ),
    "certificate of somebody else": _other("certificate"),
    "log entry of something else": _other("tlogEntries"),
    "timestamp of something else": _other("timestampVerificationData"),
    "no timestamp": lambda b: _material(b).pop("timestampVerificationData"),
    "no log entry": lambda b: _material(b).update(tlogEntries=[]),
    "no log entries": lambda b: _material(b).pop("tlogEntries"),
    "two log entries": lambda b: _material(b).update(tlogEntries=[_entry(b), _entry(b)]),
    "log entry twisted": lambda b: _entry(b).update(canonicalizedBody=_flip(_entry(b)["canonicalizedBody"])),
    "log root": lambda b: _entry(b)["inclusionProof"].update(rootHash=_flip(_entry(b)["inclusionProof"]["rootHash"])),
    "log index": lambda b: _entry(b)["inclusionProof"].update(logIndex="0"),
    "log index that is no number": lambda b: _entry(b)["inclusionProof"].update(logIndex="0x1"),
    "log index beyond the tree": lambda b: _entry(b)["inclusionProof"].update(logIndex="99999"),
    "no checkpoint": lambda b: _entry(b)["inclusionProof"].pop("checkpoint"),
    "checkpoint of another tree": lambda b: _entry(b)["inclusionProof"].update(
        checkpoint=_entry(golden.document("elsewhere-person"))["inclusionProof"]["checkpoint"]
    ),
    "unknown field in the log entry": lambda b: _entry(b).update(log_index="1"),
    "unknown field in the proof": lambda b: _entry(b)["inclusionProof"].update(tree_size="1"),
    "unknown field in the material": lambda b: _material(b).update(public_key={}),
    "an invented time of the log": lambda b: _entry(b).update(integratedTime="1795434600"),
    "an invented promise of the log": lambda b: _entry(b).update(
        integratedTime="1795434600", inclusionPromise={"signedEntryTimestamp": "AAAA"}
    ),
    "the same timestamp twice": lambda b: _stamps(b).append(_stamps(b)[0]),
    "nine timestamps": lambda b: _stamps(b).extend([_stamps(b)[0]] * 8),
    "a timestamp that is none": lambda b: _stamps(b).append({"signedTimestamp": "AAAA"}),
    "timestamps that are no list": lambda b: _material(b)["timestampVerificationData"].update(rfc3161Timestamps={}),
    "a certificate that is none": lambda b: _material(b)["certificate"].update(rawBytes="AAAA"),
    "bytes after the certificate": lambda b: _material(b)["certificate"].update(
        rawBytes=base64.b64encode(base64.b64decode(_material(b)["certificate"]["rawBytes"]) + b"\0").decode()
    ),
    "a chain instead of a certificate": lambda b: _material(b).update(
        x509CertificateChain={"certificates": [_material(b).pop("certificate")]}
    ),
    "a key beside the certificate": lambda b: _material(b).update(publicKey={"hint": ""}),
    "a bare message": lambda b: b.update(messageSignature={}),
    "version 0.2": lambda b: b.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.2"),
}
# Where the library would refuse too, our own limit must be the one that spoke.
REASONS = {
    "nine timestamps": "no list of at most 8",
    "no timestamp": "nothing says when it was signed",
    "a chain instead of a certificate": "has one certificate",
    "no log entry": "it has 0 transparency log entries",
    "two log entries": "it has 2 transparency log entries",
    "unknown field in the log entry": "unknown field",
    "unknown field in the proof": "unknown field",
}
HARMLESS = {"an invented time of the log"}  # without a promise nobody says so; version 2 of the log never tells


@pytest.mark.parametrize("name", CHANGES)
def test_one_change_and_it_does_not_count(name: str) -> None:
    bundle = golden.document("ocisync-github")
    CHANGES[name](bundle)
    found = seen(raw(bundle))
    assert counts(found) is (name in HARMLESS), found
    if name not in HARMLESS:
        assert found.problem
        assert REASONS.get(name, "") in found.problem


@given(data=st.data())
def test_any_change_of_one_byte_leaves_what_was_signed_or_nothing(data: st.DataObject) -> None:
    good = golden.signature(data.draw(st.sampled_from(["ocisync-person", "cosign-github"])))
    at = data.draw(st.integers(0, len(good.payload) - 1))
    changed = good.payload[:at] + bytes([data.draw(st.integers(0, 255))]) + good.payload[at + 1 :]
    found = seen(RawSignature(good.format, good.source, changed))
    if counts(found):
        before = seen(good)
        assert (found.signer, found.claims) == (before.signer, before.claims)


_values: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just([]) | st.just({}) | st.just([{}])
)


@given(data=st.data())
def test_any_json_in_any_place_of_the_material_is_survived(data: st.DataObject) -> None:
    bundle = golden.document("cosign-person")
    node: Any = bundle["verificationMaterial"]
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.integers(0, 3)) == 0:
            break
        node = node[key]
    node[key] = data.draw(_values)
    found = seen(raw(bundle))
    if counts(found):  # not everything is evidence: nothing rests on the entry's index in the whole log
        assert (found.signer, found.claims) == (
            "http://127.0.0.1:15060 dev@example.com",
            tuple(sorted(claims().items())),
        )


# Certificates -------------------------------------------------------------------------------------------------------


def wished(**changes: Any) -> Evidence:
    return examine(MINI.sign(DIGEST, claims(), Wish(**changes)), [], DIGEST, [MINI.trusted_root()])


def test_a_log_of_version_1_with_its_signed_promise_is_believed_without_a_timestamp() -> None:
    found = wished()
    assert found.problem == ""
    assert found.identity is not None
    assert dict(found.identity.claims) == REPOSITORY_CLAIMS
    assert [proof.timestamped for proof in found.identity.proofs] == [False]


MAIL = x509.RFC822Name("dev@example.com")
USER = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), b"\x0c\x03dev")
STRANGE = x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x0c\x03dev")


@pytest.mark.parametrize(
    ("problem", "changes"),
    [
        ("does not contain a signed certificate timestamp", {"with_sct": False}),
        ("code signing", {"usage": ExtendedKeyUsageOID.SERVER_AUTH}),
        ("key is not ECDSA P-256", {"curve": ec.SECP384R1()}),
        ("names 2 subjects", {"names": [MAIL, x509.RFC822Name("ops@example.com")]}),
        ("kind that Fulcio does not issue", {"names": [x509.DNSName("example.com")]}),
        ("kind that Fulcio does not issue", {"names": [STRANGE]}),
        ("two issuers", {"raw_issuer": "https://other.example"}),
        ("issuer of the identity has spaces", {"issuer": "https://a b"}),
        ("control characters", {"subject": "dev\t@example.com"}),
    ],
)
def test_a_certificate_that_fulcio_would_not_issue_is_refused(problem: str, changes: dict[str, Any]) -> None:
    found = wished(**changes)
    assert problem in found.problem
    assert not found.signer


def test_a_user_name_is_a_subject_too() -> None:
    found = wished(names=[USER]).identity
    assert found is not None
    assert found.subject == "dev"


@pytest.mark.parametrize("length", [1, 0x7F, 0x80, 0xFF, 0x100, 1000])
def test_claims_of_any_length_are_read(length: int) -> None:
    found = wished(claims={"sourceRepository": "x" * length}).identity
    assert found is not None
    assert found.claims == (("sourceRepository", "x" * length),)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"\x0c", b"\x0c\x00", b"\x0c\x02a", b"\x0c\x01ab", b"\x13\x01a", b"\x0c\x80a\x00\x00", b"\x0c\x81\x01a",
        b"\x0c\x82\x00\x80" + b"a" * 128, b"\x0c\x83\x00\x00\x01a", b"\x0c\x02\xff\xfe", b"\x0c\x02a\n",
        b"\x0c\x82\x13\x88" + b"a" * 5_000,
    ],
)  # fmt: skip
def test_a_claim_that_two_readers_could_read_differently_is_refused(value: bytes) -> None:
    found = wished(raw_claims={"sourceRepository": value})
    assert "the certificate's sourceRepository" in found.problem


@pytest.mark.parametrize("late", [timedelta(minutes=6), timedelta(minutes=-6)])
def test_a_signature_outside_of_the_certificates_minutes_does_not_count(late: timedelta) -> None:
    bundle = json.loads(MINI.sign(DIGEST, claims()).payload)
    body = base64.b64decode(_entry(bundle)["canonicalizedBody"])
    _material(bundle)["tlogEntries"] = [MINI.entry(body, SIGNED_AT + late)]
    found = examine(raw(bundle), [], DIGEST, [MINI.trusted_root()])
    assert found.problem
    assert not found.signer


def test_a_log_entry_that_only_has_a_promise_from_nobody_does_not_count() -> None:
    bundle = json.loads(MINI.sign(DIGEST, claims()).payload)
    _entry(bundle)["inclusionPromise"]["signedEntryTimestamp"] = base64.b64encode(b"promise").decode()
    assert "inclusion promise" in examine(raw(bundle), [], DIGEST, [MINI.trusted_root()]).problem


def test_a_time_beyond_the_calendar_is_refused() -> None:
    bundle = json.loads(MINI.sign(DIGEST, claims()).payload)
    _entry(bundle)["integratedTime"] = str(2**63)
    assert "beyond the calendar" in examine(raw(bundle), [], DIGEST, [MINI.trusted_root()]).problem


def test_the_clock_of_the_machine_does_not_matter() -> None:
    long_ago = Wish(signed_at=datetime(2026, 1, 2, tzinfo=UTC))
    found = examine(MINI.sign(DIGEST, claims(), long_ago), [], DIGEST, [MINI.trusted_root()])
    assert found.signer


# What the process does -----------------------------------------------------------------------------------------------

PROGRAM = """
import os, socket, sys
before = set(sys.modules)
def refuse(*args, **kwargs): raise AssertionError("a socket was opened")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from ocisync.signing.check import examine
assert "sigstore" not in sys.modules, "imported before it is needed"
from tests.support import goldensigstore as golden
found = examine(golden.signature("ocisync-github"), [], golden.digest(), [golden.root()])
assert found.signer and not found.problem, found
print("verified", sorted(os.listdir(os.environ["HOME"])))
"""


def _run(command: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=CHECKOUT,
        env={"HOME": str(home), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_verifying_works_in_a_namespace_without_any_network(tmp_path: Path) -> None:
    unshare = requirements.require_tool("unshare", "util-linux")
    namespace = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
    result = _run([str(unshare), *namespace, sys.executable, "-c", PROGRAM], tmp_path)
    assert (result.stdout, result.returncode) == ("verified []\n", 0), result.stderr


def test_verifying_opens_no_socket_writes_nothing_to_the_home_and_loads_the_library_late(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    result = _run([sys.executable, "-c", PROGRAM], home)
    assert (result.stdout, result.returncode) == ("verified []\n", 0), result.stderr
