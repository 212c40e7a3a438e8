"""References to artifacts: `[oci://]HOST[:PORT]/PATH[:TAG][@sha256:HEX]`, `oci-layout:PATH[:TAG|@sha256:HEX]`.

The grammar is that of the distribution project's `reference` package (host required: there is no default registry,
because a GitOps source must never depend on a client-side default). Docker Hub's short host names are kept as typed;
the transport maps them to the API host. An OCI image layout (a directory or a tar file) is a place of its own: it has
no host, and only the user can say which repository it stands for.
"""

from __future__ import annotations

import ipaddress
import re

from ocisync.model.digest import is_digest
from ocisync.model.errors import UsageError
from ocisync.model.values import dataclass

_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?\Z"
)
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
LAYOUT_SCHEME = "oci-layout:"
_MAX_NAME_CHARS = 255  # repository name limit of the distribution spec, host included by docker

# Pre-release is allowed, build metadata is not: "+" is no tag character.
_SEMVER = re.compile(
    r"v?(0|[1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17})"
    r"(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)


_COMMIT_TAG = re.compile(r"sha-[0-9a-f]{12}\Z")
_RESERVED = re.compile(r"sha256-[0-9a-f]{64}(?:\..*)?\Z")


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository with an optional tag and an optional digest. `repository` is `host/path`."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """`host/path`, the name that signatures claim and policies match."""
        return f"{self.host}/{self.path}"

    @property
    def location(self) -> str:
        """Where it is, without tag and digest."""
        return self.repository

    def __str__(self) -> str:
        text = self.repository
        if self.tag:
            text += f":{self.tag}"
        if self.digest:
            text += f"@{self.digest}"
        return text


@dataclass(frozen=True, slots=True)
class LayoutReference:
    """A layout on disk with an optional tag or digest.

    Attributes:
        path: of the directory or the tar file, as typed.
        name: the repository `host/path` that the user says it stands for; empty if nobody said. What the layout
            says about itself does not count.
    """

    path: str
    tag: str = ""
    digest: str = ""
    name: str = ""

    @property
    def repository(self) -> str:
        """The name that signatures claim and policies match; the location if it stands for none."""
        return self.name or self.location

    @property
    def location(self) -> str:
        """Where it is, without tag and digest."""
        return LAYOUT_SCHEME + self.path

    def __str__(self) -> str:
        return self.location + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


Place = Reference | LayoutReference


def parse_place(text: str) -> Place:
    """Parse a reference to a registry or to a layout.

    Raises:
        UsageError: naming the part that is wrong.
    """
    return parse_layout(text) if text.startswith(LAYOUT_SCHEME) else parse_reference(text)


def parse_layout(text: str) -> LayoutReference:
    """Parse `oci-layout:PATH[:TAG|@DIGEST]`. A tag is what follows the last colon behind the last slash.

    Raises:
        UsageError: no path, a bad tag or a bad digest.
    """
    path = text.removeprefix(LAYOUT_SCHEME)
    if path.startswith("//"):  # as a URL: oci-layout:///absolute, oci-layout://relative
        path = re.sub(r"\A/+", "/", path[2:])
    tag = digest = ""
    before, at, behind = path.rpartition("@")
    if at and behind.startswith("sha256:"):
        if not is_digest(behind):
            raise UsageError(f"bad digest {behind[:200]!r} in a reference: expected sha256: and 64 hex characters")
        path, digest = before, behind
    folder, slash, last = path.rpartition("/")
    if ":" in last:
        last, tag = last.rsplit(":", 1)
        check_tag(tag, text)
        path = folder + slash + last
    if not path or "\0" in path:
        raise UsageError(
            f"no path in reference {text!r}", hint="write oci-layout:DIRECTORY:TAG or oci-layout:FILE.tar:TAG"
        )
    return LayoutReference(path, tag, digest)


def parse_reference(text: str) -> Reference:
    """Parse a reference as users type it.

    Raises:
        UsageError: naming the part that is wrong.
    """
    rest = text.removeprefix("oci://")
    before, at, behind = rest.rpartition("@")
    if at and ("@" in before or not behind.startswith("sha")):
        # Not repeated: what stands before an @ is often a password.
        raise UsageError(
            "bad digest in a reference: expected sha256: and 64 hex characters behind the @",
            hint="a login does not belong into a reference: use --creds USER:PASSWORD",
        )
    if "://" in rest:
        raise UsageError(f"unsupported scheme in reference {text!r}", hint="write oci://HOST/REPOSITORY[:TAG]")
    digest = ""
    if "@" in rest:
        rest, digest = rest.rsplit("@", 1)
        if not is_digest(digest):
            raise UsageError(f"bad digest {digest[:200]!r} in a reference: expected sha256: and 64 hex characters")
    host, slash, name = rest.partition("/")
    if not slash or not name:
        raise UsageError(f"no repository in reference {text!r}", hint="write oci://HOST/REPOSITORY[:TAG]")
    tag = ""
    if ":" in name:
        name, tag = name.rsplit(":", 1)
        check_tag(tag, text)
    if not _HOST.match(host) or not _looks_like_host(host):
        raise UsageError(
            f"no registry host in reference {text!r}: {host!r} is not a host name",
            hint="name the registry, as in oci://ghcr.io/acme/shop:1.0.0",
        )
    if len(rest) > _MAX_NAME_CHARS + 129 or not _PATH.match(name) or len(name) > _MAX_NAME_CHARS:
        raise UsageError(f"bad repository name {name[:300]!r} in reference: lower-case letters, digits and . _ - /")
    return Reference(host=host, path=name, tag=tag, digest=digest)


def _looks_like_host(host: str) -> bool:
    if host.startswith("["):
        address, _, port = host[1:].partition("]")
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            return False
        port = port.removeprefix(":")
    else:
        port = host.partition(":")[2]
    return ("." in host or ":" in host or host == "localhost") and (not port or 0 < int(port) < 65_536)


def check_tag(tag: str, reference: str = "") -> str:
    """Return `tag` if it is a legal OCI tag.

    Raises:
        UsageError: otherwise.
    """
    if not _TAG.match(tag):
        where = f" in reference {reference!r}" if reference else ""
        raise UsageError(f"bad tag {tag!r}{where}: 1 to 128 letters, digits and . _ - (no leading . or -)")
    return tag


def is_tag(text: str) -> bool:
    """Tell whether a text is a legal OCI tag."""
    return _TAG.match(text) is not None


def is_commit_tag(tag: str) -> bool:
    """Tell whether a tag is one that a push adds for its commit; it never moves either."""
    return _COMMIT_TAG.match(tag) is not None


def is_reserved_tag(tag: str) -> bool:
    """Tell whether registries and cosign keep here what belongs to a digest: referrers, signatures, attestations."""
    return _RESERVED.match(tag) is not None


def is_semver_tag(tag: str) -> bool:
    """Tell whether a tag names one SemVer version (optional `v`), and so is immutable once pushed."""
    return _SEMVER.match(tag) is not None


def fallback_tag(digest: str) -> str:
    """The referrers fallback tag of the OCI distribution spec: `sha256-<hex>`."""
    return digest.replace(":", "-", 1)


def legacy_signature_tag(digest: str) -> str:
    """Where cosign 2 keeps signatures: `sha256-<hex>.sig`."""
    return fallback_tag(digest) + ".sig"
