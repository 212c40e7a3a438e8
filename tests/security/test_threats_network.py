"""The threat table, as far as addresses go: where a registry's answers may lead.

T-numbers are those of docs/trust.md.
"""

from __future__ import annotations

import pytest

from ocisync.model.errors import Refused
from ocisync.sandbox.faults import Faults
from ocisync.sandbox.httpserver import HttpServer, Reply, Request
from ocisync.sandbox.registry import Registry
from ocisync.sandbox.requestlog import RequestLog
from tests.support.signedrepository import SignedRepository


@pytest.mark.parametrize("status", [302, 307])
def test_t33_a_registry_cannot_send_the_agent_to_a_more_private_address(status: int) -> None:
    with Registry() as inside:
        # This machine under its unspecified address: forbidden by name, and yet something answers there.
        target = f"http://0.0.0.0:{inside.address.rpartition(':')[2]}"

        def redirect(request: Request, reply: Reply) -> None:
            reply.send(status, b"", {"Location": target + request.path})

        server = HttpServer(redirect, port=0, faults=Faults(), log=RequestLog())
        server.start()
        try:
            repo = SignedRepository(f"127.0.0.1:{server.port}/shop/config")
            with pytest.raises(Refused) as caught:
                repo.judge()
        finally:
            server.stop()
        assert caught.value.reason == "BadRedirect"
        assert inside.requests.entries() == ()
