"""Trusted roots are read strictly: nothing unknown, nothing without a beginning, nothing that would be skipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.kit.strictjson import Malformed
from ocisync.model.errors import InvalidInput
from ocisync.signing.roots import load_root
from tests.support import goldensigstore as golden

Change = Callable[[dict[str, Any]], object]
THEN = datetime(2026, 11, 23, tzinfo=UTC)


def read(document: Any) -> Any:
    return load_root(json.dumps(document).encode())


def test_a_root_is_named_by_the_digest_of_its_bytes() -> None:
    assert golden.root().fingerprint != golden.root("elsewhere_root").fingerprint
    assert golden.root().fingerprint.startswith("sha256:")


@pytest.mark.parametrize("instance", ["sigstore.dev", "sigstage.dev"])
def test_the_roots_of_the_public_instances_are_read(instance: str) -> None:
    found = files("sigstore").joinpath(f"_store/https%3A%2F%2Ftuf-repo-cdn.{instance}/trusted_root.json")
    root = load_root(found.read_bytes())
    kinds = {part.kind for part in root.parts}
    assert kinds == {"tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities"}
    # Retired parts are left out for a new signature, and used for an old one.
    assert len(json.loads(root.at([THEN]))["ctlogs"]) < sum(part.kind == "ctlogs" for part in root.parts)


def _log(root: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = root["tlogs"][0]
    return found


def _authority(root: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = root["certificateAuthorities"][0]
    return found


CHANGES: dict[str, Change] = {
    "mediaType": lambda r: r.update(mediaType="application/vnd.dev.sigstore.trustedroot.v0.3+json"),
    "unknown field 'notes'": lambda r: r.update(notes=[]),
    "unknown field 'revoked' in the transparency log": lambda r: _log(r).update(revoked=True),
    "unknown field 'x' in the certificate authority": lambda r: _authority(r).update(x=1),
    "unknown field 'y' in the validFor": lambda r: _authority(r)["validFor"].update(y=1),
    "it has no transparency log": lambda r: r.update(tlogs=[]),
    "it has no certificate log": lambda r: r.pop("ctlogs"),
    "it has no certificate authority": lambda r: r.update(certificateAuthorities=[]),
    "timestampAuthorities is no list": lambda r: r.update(timestampAuthorities={}),
    "tlogs is no list of at most": lambda r: r.update(tlogs=[_log(r)] * 33),
    "validFor of a certificate authority is missing": lambda r: _authority(r).pop("validFor"),
    "validFor of a transparency log has no time": lambda r: _log(r)["publicKey"].update(validFor={}),
    "has no time like": lambda r: _authority(r).update(validFor={"start": "yesterday"}),
    "ends before it starts": lambda r: _authority(r)["validFor"].update(end="2020-01-01T00:00:00Z"),
    "key of a kind that is not supported: PKIX_RSA_PSS": lambda r: _log(r)["publicKey"].update(
        keyDetails="PKIX_RSA_PSS"
    ),
    "the key of a transparency log cannot be read": lambda r: _log(r)["publicKey"].update(rawBytes="AAAA"),
    "is not standard base64": lambda r: _log(r)["publicKey"].update(rawBytes="AA\n"),
    "a hash other than SHA2_256": lambda r: _log(r).update(hashAlgorithm="SHA2_512"),
    "a transparency log without logId": lambda r: _log(r).pop("logId"),
    "baseUrl of a transparency log": lambda r: _log(r).pop("baseUrl"),
    "does not have 1 to 8 certificates": lambda r: _authority(r)["certChain"].update(certificates=[]),
    "a certificate of a certificate authority cannot be read": lambda r: _authority(r)["certChain"].update(
        certificates=[{"rawBytes": "AAAA"}]
    ),
    "commonName of a certificate authority": lambda r: _authority(r)["subject"].update(commonName=7),
}


@pytest.mark.parametrize("problem", CHANGES)
def test_one_change_and_it_is_no_trusted_root(problem: str) -> None:
    root = golden.document("trusted_root")
    CHANGES[problem](root)
    with pytest.raises(InvalidInput) as refused:
        read(root)
    assert problem in refused.value.message
    assert refused.value.message.startswith("trusted root: not a trusted root that can be used: ")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"a":1,"a":2}', b"\xff", b" " * 300_000])
def test_other_bytes_are_no_trusted_root(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        load_root(data)


def test_zero_values_that_writers_leave_out_are_filled_in() -> None:
    root = golden.document("trusted_root")
    _authority(root)["subject"] = {}
    shown = json.loads(read(root).at([THEN]))
    assert shown["certificateAuthorities"][0]["subject"] == {"organization": "", "commonName": ""}


def test_what_is_left_out_for_a_moment_is_said() -> None:
    with pytest.raises(
        Malformed, match="no certificate authority of the trusted root was valid at 2020-01-01T00:00:00Z"
    ):
        golden.root().at([datetime(2020, 1, 1, tzinfo=UTC)])


_values: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just([]) | st.just({}) | st.just([{}])
)


@given(data=st.data())
def test_any_json_in_any_place_is_read_or_refused(data: st.DataObject) -> None:
    root = golden.document("trusted_root")
    node: Any = root
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.integers(0, 3)) == 0:
            break
        node = node[key]
    node[key] = data.draw(_values)
    try:
        read(root)
    except InvalidInput as refused:
        assert refused.message


@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        load_root(data)
