"""A proxy that a sync names may be anywhere, except where only the machine itself has business."""

from __future__ import annotations

import pytest

from ocisync.model.errors import Refused
from ocisync.oci.connections import ProxyGuard


@pytest.mark.parametrize("address", ["10.0.0.8", "192.168.1.1", "203.0.113.9", "127.0.0.1", "fd00::1"])
def test_a_named_proxy_may_be_dialled(address: str) -> None:
    ProxyGuard().check_peer("proxy.example", address)


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0", "no address"])
def test_a_named_proxy_does_not_lead_to_the_metadata_service(address: str) -> None:
    with pytest.raises(Refused, match=r"proxy proxy\.example has the link-local"):
        ProxyGuard().check_peer("proxy.example", address)
