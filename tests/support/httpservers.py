"""The server below the small HTTP servers of tests."""

from __future__ import annotations

import http.client
import sys
from http.server import ThreadingHTTPServer


class LoopbackServer(ThreadingHTTPServer):
    """Says nothing of clients that went away.

    Its threads notice that whenever they come to it, which may be in the middle of the next test: that one must not
    find a stranger's traceback in what its own command wrote.
    """

    daemon_threads = True
    request_queue_size = 128  # the default of 5 drops connections while the accepting thread waits for a processor

    def handle_error(self, request: object, client_address: object) -> None:
        """Tell of mistakes only."""
        if not isinstance(sys.exception(), OSError | http.client.HTTPException):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # only passed on
