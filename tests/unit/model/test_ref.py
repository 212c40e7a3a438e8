from __future__ import annotations

import pytest

from ocisync.model.errors import UsageError
from ocisync.model.ref import parse_reference


@pytest.mark.parametrize("host", ["[:::::]", "[1:2]", "localhost:99999", "localhost:0", "[::1]:65536"])
def test_a_host_that_no_address_can_have_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="no registry host"):
        parse_reference(f"oci://{host}/shop:1")


@pytest.mark.parametrize("host", ["[::1]", "[::1]:5000", "127.0.0.1:65535", "localhost", "r.example:1"])
def test_addresses_and_ports_are_hosts(host: str) -> None:
    assert parse_reference(f"{host}/shop:1").host == host


@pytest.mark.parametrize(
    "text",
    [
        "user:hunter2@r.example/shop:1",
        "oci://user:hunter2@r.example/shop:1",
        "https://user:hunter2@r.example/shop:1",
        "oci://user:hun/hunter2@r.example/shop",
        f"oci://user:hunter2@r.example/shop@sha256:{'a' * 64}",
        "oci://user:hunter2@sha.example/shop:1",
        "oci://user:hunter2@r.example/shop@sha256:abc",
    ],
)
def test_a_login_in_a_reference_is_refused_and_never_repeated(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_a_bad_digest_is_named() -> None:
    with pytest.raises(UsageError, match="bad digest 'sha256:abc'"):
        parse_reference("r.example/shop@sha256:abc")
