"""Where a repository is spoken to, and which addresses may be dialled on its behalf. Pure.

- Docker Hub's names (`docker.io`, `index.docker.io`) mean `registry-1.docker.io`; one-word names get `library/`.
- Plain http is implied for loopback names only; elsewhere it must be asked for.
- A redirect or token realm may lead to an address as public as the registry's own, or more public, never to a more
  private one: a registry on the internet cannot make an agent dial the cluster's network. Link-local and known
  metadata addresses are never dialled at all.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from enum import IntEnum
from urllib.parse import urljoin, urlsplit

from ocisync.model.ref import Reference
from ocisync.model.values import dataclass

DOCKER_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
DOCKER_HUB_API = "registry-1.docker.io"

# Instance metadata services outside 169.254.0.0/16: AWS over IPv6, Alibaba Cloud.
_METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_HOST_TEXT = re.compile(r"[A-Za-z0-9._:%-]+\Z", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Reach(IntEnum):
    """How private an address is; higher is more private."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    FORBIDDEN = 3


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The API address of one repository.

    Attributes:
        repository: `host/path` as typed: the name in messages, claims and policies.
        name: the host as typed, for credentials and messages.
        host: the API's `host[:port]`.
        path: the repository's path in the API.
    """

    repository: str
    name: str
    scheme: str
    host: str
    path: str

    @property
    def origin(self) -> str:
        """`scheme://host:port`, normalised."""
        return origin_of(f"{self.scheme}://{self.host}/")

    @property
    def base(self) -> str:
        """The API root."""
        return f"{self.scheme}://{self.host}/v2/"

    def url(self, rest: str) -> str:
        """The URL of something in this repository."""
        return f"{self.base}{self.path}/{rest}"


def endpoint_of(reference: Reference, plain_http: bool | None = None) -> Endpoint:
    """Map a reference to its API address; `plain_http=None` decides by the host's name."""
    host, path = reference.host, reference.path
    if host in DOCKER_HUB_NAMES:
        host = DOCKER_HUB_API
        path = path if "/" in path else f"library/{path}"
    plain = is_loopback_name(host) if plain_http is None else plain_http
    return Endpoint(reference.repository, reference.host, "http" if plain else "https", host, path)


def host_of(authority: str) -> str:
    """The host of `host[:port]`, without brackets, in lower case."""
    return (urlsplit(f"//{authority}").hostname or "").lower()


def is_loopback_name(authority: str) -> bool:
    """Tell whether `host[:port]` is written as this machine itself."""
    host = host_of(authority)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin_of(url: str) -> str:
    """`scheme://host:port` of a URL; empty if it has no usable host or port."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return ""
    if not parts.hostname or parts.scheme not in _DEFAULT_PORTS:
        return ""
    return f"{parts.scheme}://{parts.hostname.lower()}:{port}"


def joined(url: str, target: str) -> str:
    """Where a `Location` or link leads from a URL; empty if nowhere."""
    try:
        return urljoin(url, target)
    except ValueError:
        return ""


def reach_of(address: str) -> Reach:
    """Classify an IP address; text that is none is forbidden."""
    try:
        ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Reach.FORBIDDEN
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or _translated(ip) or ip
    if ip.is_loopback:
        return Reach.LOOPBACK
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in _METADATA:
        return Reach.FORBIDDEN
    return Reach.PUBLIC if ip.is_global else Reach.PRIVATE


def _translated(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None


def reach_of_name(authority: str) -> Reach | None:
    """Classify `host[:port]` by its text alone; None if only a name server could tell."""
    if is_loopback_name(authority):
        return Reach.LOOPBACK
    host = host_of(authority)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return Reach.FORBIDDEN if not host else None
    return reach_of(host)


def proxy_for(url: str, environ: Mapping[str, str], only: str = "") -> str:
    """The proxy for a URL: `only`, else what the usual variables name; empty for none. Loopback is never proxied."""
    parts = urlsplit(url)
    if is_loopback_name(parts.netloc.rpartition("@")[2]):
        return ""
    if only:
        return only
    if _bypasses(parts.hostname or "", parts.port, environ):
        return ""
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        for spelling in (name, name.upper()):
            if environ.get(spelling):
                value = environ[spelling]
                return value if "://" in value else f"http://{value}"
    return ""


def proxy_problem(proxy: str) -> str:
    """Why a proxy's URL cannot be used, without a word of its login; empty if it can."""
    try:
        parts = urlsplit(proxy)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "it has no usable host and port"
    if parts.scheme not in _DEFAULT_PORTS:
        return f"it is of kind {parts.scheme[:20]!r}, and only http and https proxies are spoken to"
    return "" if _HOST_TEXT.match(host) else "it has no usable host and port"


def _bypasses(host: str, port: int | None, environ: Mapping[str, str]) -> bool:
    listed = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    for item in (part.strip().lower() for part in listed.split(",")):
        if item == "*" or (item and _covers(item, host.lower(), port)):
            return True
    return False


def _covers(item: str, host: str, port: int | None) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(item, strict=False)
    except (ValueError, TypeError):
        pass
    name, colon, wanted = item.partition(":")
    if colon and wanted.isdecimal() and wanted.lstrip("0") != str(port or 0):
        return False
    suffix = name.lstrip("*").lstrip(".")
    return bool(suffix) and (host == suffix or host.endswith("." + suffix))
