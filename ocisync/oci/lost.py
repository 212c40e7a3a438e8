"""Names what went wrong on the way to a host: the exceptions of three libraries become one sentence. Pure."""

from __future__ import annotations

import re
import ssl
from urllib.parse import urlsplit

from ocisync.model.errors import AccessDenied, OcisyncError, Unavailable
from ocisync.oci.failures import PROXY_LOGIN_HINT, quoted
from ocisync.oci.retry import Transient

# What a server's TLS says of a missing or unknown client certificate; old ones say only that they do not want to.
_REFUSED_CERTIFICATE = re.compile(r"CERTIFICATE_REQUIRED|ALERT_\w*(?:CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE)")
_TUNNEL_STATUS = re.compile(r"Tunnel connection failed: (\d{3})")


def connection_failure(error: Exception, host: str, proxy: str, connect_s: float, read_s: float) -> Exception:
    """The error to raise for a request to `host` that got no answer.

    Args:
        error: what the HTTP library raised.
        host: `host[:port]`, for the message.
        proxy: the URL of the proxy on the way; empty for none. Its user info is never shown.
        connect_s: seconds that connecting could take.
        read_s: seconds that could pass without a byte.
    """
    chain = _causes(error)
    names = {type(item).__name__ for item in chain}
    text = " ".join(str(item) for item in chain)
    untrusted = next((item for item in chain if isinstance(item, ssl.SSLCertVerificationError)), None)
    if untrusted is not None:
        return OcisyncError(
            f"the certificate of {host} is not trusted: {quoted(untrusted.verify_message)}",
            hint="pass its authority with --ca-file FILE",
            reason="TLSFailed",
        )
    if _REFUSED_CERTIFICATE.search(text):
        return AccessDenied(
            f"{host} wants a client certificate that it trusts", hint="pass --cert-file FILE and --key-file FILE"
        )
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text or "record layer failure" in text:
        return OcisyncError(f"{host} does not speak TLS", hint="use --plain-http if that is meant", reason="TLSFailed")
    if proxy and "ProxyError" in names:
        return _proxy_failure(text, host, proxy)
    if names & {"ConnectTimeout", "ConnectTimeoutError"}:
        return _lost(f"no connection to {host} within {connect_s:g} s", unreachable=True)
    if names & {"ReadTimeout", "ReadTimeoutError", "TimeoutError"}:
        return _lost(f"{host} did not answer within {read_s:g} s")
    if names & {"NameResolutionError", "gaierror"}:
        return _lost(f"no address found for {host}", unreachable=True)
    if "ConnectionRefusedError" in names:
        return _lost(f"{host} refuses connections", unreachable=True)
    if names & {"ConnectionResetError", "RemoteDisconnected", "BrokenPipeError", "IncompleteRead"}:
        return _lost(f"the connection to {host} was cut")
    return _lost(f"cannot speak to {host}: {quoted(type(chain[-1]).__name__ + ': ' + str(chain[-1]))}")


def _proxy_failure(text: str, host: str, proxy: str) -> Exception:
    name = urlsplit(proxy).netloc.rpartition("@")[2]
    found = _TUNNEL_STATUS.search(text)
    if found is not None and found[1] == "407":
        return AccessDenied(f"the proxy {name} wants a login", hint=PROXY_LOGIN_HINT)
    if found is not None and found[1] == "403":
        return AccessDenied(f"the proxy {name} does not allow connections to {host}", hint="allow it there")
    said = f" (HTTP {found[1]})" if found is not None else ""
    return _lost(f"the proxy {name} does not connect to {host}{said}", unreachable=True)


def _lost(message: str, *, unreachable: bool = False) -> Transient:
    return Transient(
        Unavailable(message, hint="check the address and the network, then try again"), unreachable=unreachable
    )


def _causes(error: BaseException) -> list[BaseException]:
    """An exception, what it wraps and what it came from, outermost first."""
    found: list[BaseException] = []
    queue: list[BaseException] = [error]
    while queue and len(found) < 20:
        item = queue.pop(0)
        if item in found:
            continue
        found.append(item)
        inner = [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]
        queue += [one for one in inner if isinstance(one, BaseException)]
    return found
