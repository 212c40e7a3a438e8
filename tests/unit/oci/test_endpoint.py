from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.model.ref import parse_reference
from ocisync.oci.endpoint import (
    Reach,
    endpoint_of,
    is_loopback_name,
    origin_of,
    proxy_for,
    reach_of,
    reach_of_name,
)


@pytest.mark.parametrize(
    ("reference", "base", "path"),
    [
        ("ghcr.io/acme/shop:1", "https://ghcr.io/v2/", "acme/shop"),
        ("docker.io/alpine", "https://registry-1.docker.io/v2/", "library/alpine"),
        ("index.docker.io/acme/shop", "https://registry-1.docker.io/v2/", "acme/shop"),
        ("localhost:5000/a", "http://localhost:5000/v2/", "a"),
        ("127.0.0.1:5000/a", "http://127.0.0.1:5000/v2/", "a"),
        ("[::1]:5000/a", "http://[::1]:5000/v2/", "a"),
        ("10.0.0.1:5000/a", "https://10.0.0.1:5000/v2/", "a"),
    ],
)
def test_a_reference_has_one_api_address(reference: str, base: str, path: str) -> None:
    found = endpoint_of(parse_reference(reference))
    assert (found.base, found.path) == (base, path)
    assert found.repository == parse_reference(reference).repository


def test_plain_http_is_used_where_it_is_asked_for() -> None:
    reference = parse_reference("registry.example/a")
    assert endpoint_of(reference, True).scheme == "http"
    assert endpoint_of(parse_reference("localhost/a"), False).scheme == "https"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("registry.localhost:80", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("registry.example", False),
        ("", False),
    ],
)
def test_loopback_is_known_by_name(name: str, expected: bool) -> None:
    assert is_loopback_name(name) is expected


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("8.8.8.8", Reach.PUBLIC),
        ("2606:4700::1111", Reach.PUBLIC),
        ("10.0.0.1", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("172.16.0.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("fd12::1", Reach.PRIVATE),
        ("127.0.0.1", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK),
        ("169.254.169.254", Reach.FORBIDDEN),
        ("::ffff:169.254.169.254", Reach.FORBIDDEN),
        ("64:ff9b::a9fe:a9fe", Reach.FORBIDDEN),
        ("fe80::1%eth0", Reach.FORBIDDEN),
        ("0.0.0.0", Reach.FORBIDDEN),
        ("224.0.0.1", Reach.FORBIDDEN),
        ("fd00:ec2::254", Reach.FORBIDDEN),
        ("100.100.100.200", Reach.FORBIDDEN),
        ("nonsense", Reach.FORBIDDEN),
    ],
)
def test_addresses_are_classified(address: str, reach: Reach) -> None:
    assert reach_of(address) is reach


def test_a_name_is_classified_only_if_its_text_tells() -> None:
    assert reach_of_name("registry.example:5000") is None
    assert reach_of_name("169.254.169.254:80") is Reach.FORBIDDEN
    assert reach_of_name("localhost") is Reach.LOOPBACK
    assert reach_of_name("") is Reach.FORBIDDEN


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://A.example/x", "https://a.example:443"),
        ("http://a.example:80/x", "http://a.example:80"),
        ("https://a.example:8443", "https://a.example:8443"),
        ("https://[::1]:5/x", "https://::1:5"),
        ("ftp://a.example/", ""),
        ("https://a.example:99999/", ""),
        ("/relative", ""),
        ("https://[broken/", ""),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@given(st.text(max_size=100))
def test_any_text_has_an_origin_or_none(text: str) -> None:
    assert isinstance(origin_of(text), str)
    assert isinstance(origin_of("https://" + text), str)


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        ("https://r.example/", {}, ""),
        ("https://r.example/", {"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
        ("https://r.example/", {"https_proxy": "p:3128"}, "http://p:3128"),
        ("http://r.example/", {"HTTPS_PROXY": "http://p:3128"}, ""),
        ("http://r.example/", {"ALL_PROXY": "http://p:3128"}, "http://p:3128"),
        ("https://127.0.0.1:5000/", {"HTTPS_PROXY": "http://p:3128"}, ""),
        ("https://localhost/", {"HTTPS_PROXY": "http://p:3128"}, ""),
        ("https://r.example/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "other, .example"}, ""),
        ("https://r.example/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "r.example"}, ""),
        ("https://r.example/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, ""),
        ("https://r.example/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "*.example"}, ""),
        ("https://xr.example/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "r.example"}, "http://p"),
        ("https://r.example:5000/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "r.example:5000"}, ""),
        ("https://r.example:5001/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "r.example:5000"}, "http://p"),
        ("https://10.1.2.3/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, ""),
        ("https://11.1.2.3/", {"HTTPS_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, "http://p"),
    ],
)
def test_the_proxy_follows_the_usual_variables(url: str, environ: dict[str, str], expected: str) -> None:
    assert proxy_for(url, environ) == expected
