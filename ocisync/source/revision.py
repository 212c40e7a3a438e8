"""How a commit is named: the ref before the `@`, and the URL of the repository. Pure.

A CI system's variables are believed only if the commit they name is the one that is packed: a job may have checked
out something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from ocisync.model.errors import UsageError
from ocisync.model.values import dataclass

_SCP = re.compile(r"(?:[^@/\s]+@)?(?P<host>[A-Za-z0-9][A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):(?P<path>(?!//)[^\s]+)\Z")
# No lone surrogates: they are how bytes that are not UTF-8 arrive, and no JSON document can hold them.
_REF = re.compile(r"[^\s\x00-\x1f\x7f\ud800-\udfff@~^:?*\[\\]+(?:@[^\s\x00-\x1f\x7f\ud800-\udfff~^:?*\[\\{]+)*\Z")
_REF_CHARS = 250
_USER_INFO = re.compile(r"://[^/\s@]+@")
_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class _CiSystem:
    commit: str
    refs: tuple[str, ...]  # the first that is set wins: tags before branches
    source: tuple[str, ...]  # values joined with "/"


_CI_SYSTEMS = (
    # GitHub Actions, and Gitea's and Forgejo's
    _CiSystem("GITHUB_SHA", ("GITHUB_REF_NAME",), ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY")),
    _CiSystem("CI_COMMIT_SHA", ("CI_COMMIT_REF_NAME",), ("CI_PROJECT_URL",)),  # GitLab
    _CiSystem("CI_COMMIT_SHA", ("CI_COMMIT_TAG", "CI_COMMIT_BRANCH"), ("CI_REPO_URL",)),  # Woodpecker
    _CiSystem("BUILDKITE_COMMIT", ("BUILDKITE_TAG", "BUILDKITE_BRANCH"), ("BUILDKITE_REPO",)),
    _CiSystem("CIRCLE_SHA1", ("CIRCLE_TAG", "CIRCLE_BRANCH"), ("CIRCLE_REPOSITORY_URL",)),
    _CiSystem("BITBUCKET_COMMIT", ("BITBUCKET_TAG", "BITBUCKET_BRANCH"), ("BITBUCKET_GIT_HTTP_ORIGIN",)),
    _CiSystem("BUILD_SOURCEVERSION", ("BUILD_SOURCEBRANCH",), ("BUILD_REPOSITORY_URI",)),  # Azure Pipelines
    _CiSystem("DRONE_COMMIT_SHA", ("DRONE_TAG", "DRONE_BRANCH"), ("DRONE_REPO_LINK",)),
    _CiSystem("GIT_COMMIT", ("TAG_NAME", "GIT_BRANCH"), ("GIT_URL",)),  # Jenkins
)


def ci_ref(environ: Mapping[str, str], commit: str) -> str:
    """The ref that a CI system says it runs for; empty if none does for this commit."""
    for system in _systems(environ, commit):
        for name in system.refs:
            ref = _short(environ.get(name, "").strip())
            if ref and _REF.match(ref):
                return ref
    return ""


def ci_source(environ: Mapping[str, str], commit: str) -> str:
    """The repository URL that a CI system gives, clean; empty if none does for this commit."""
    for system in _systems(environ, commit):
        parts = [environ.get(name, "").strip().strip("/") for name in system.source]
        source = clean_url("/".join(parts)) if all(parts) else ""
        if source:
            return source
    return ""


def _systems(environ: Mapping[str, str], commit: str) -> list[_CiSystem]:
    return [system for system in _CI_SYSTEMS if environ.get(system.commit, "").strip().lower() == commit]


def _short(ref: str) -> str:
    for prefix in ("refs/heads/", "refs/tags/", "refs/remotes/origin/", "origin/", "refs/"):
        if ref.startswith(prefix):
            return ref.removeprefix(prefix)
    return ref


def is_ref(name: str) -> bool:
    """Tell whether a branch or tag name can be part of a revision."""
    return bool(_REF.match(name)) and len(name) <= _REF_CHARS


def check_ref(ref: str) -> str:
    """Return a ref that the user typed, `refs/heads/` and the like removed.

    Raises:
        UsageError: if it is no ref name.
    """
    short = _short(ref)
    if not is_ref(short):
        # What looks like a URL may hold a password: it is not repeated.
        shown = "" if "@" in ref or "://" in ref else f" {ref[:100]!r}"
        raise UsageError(f"bad ref{shown}: not the name of a branch or tag", hint="for example --ref main")
    return short


def has_user_info(text: str) -> bool:
    """Tell whether a text holds a URL with a user name or password."""
    return bool(_USER_INFO.search(text))


def check_source(source: str) -> str:
    """Return a source that the user typed, clean.

    Raises:
        UsageError: if it is no URL.
    """
    clean = clean_url(source)
    if not clean:
        # The value itself may hold a password: it is not repeated.
        raise UsageError(
            "bad source: not the URL of a repository", hint="for example --source https://git.example/acme/shop"
        )
    return clean


def revision_text(ref: str, commit: str, *, dirty: bool) -> str:
    """`<ref>@sha1:<commit>`; `sha256:` in repositories of that format; `-dirty` behind uncommitted content."""
    algorithm = "sha256" if len(commit) == 64 else "sha1"
    return f"{ref}@{algorithm}:{commit}{'-dirty' if dirty else ''}"


def clean_url(url: str) -> str:
    """A remote's URL as a public name: no user info, no query, no `.git`; empty if it names no host.

    ssh and scp-like forms become https: clones over ssh and over https are one repository and shall give one digest.
    Local paths name a machine, not a repository, and are dropped.
    """
    url = url.strip()
    scp = None if "://" in url else _SCP.match(url)
    if scp:
        if "@" in scp["path"].split("/", 1)[0]:
            return ""  # user:password@host without a scheme
        return _joined("https", scp["host"], None, scp["path"])
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    scheme = parts.scheme.lower()
    if not host or scheme not in ("https", "http", "ssh", "git", "git+ssh", "git+https"):
        return ""
    if scheme in ("ssh", "git+ssh", "git+https"):
        scheme, port = "https", port if scheme == "git+https" else None
    if ":" in host:
        host = f"[{host}]"
    return _joined(scheme, host, port, parts.path)


def _joined(scheme: str, host: str, port: int | None, path: str) -> str:
    path = path.split("?", 1)[0].split("#", 1)[0].strip("/").removesuffix(".git").rstrip("/")
    if not path or any(ord(char) <= 0x20 or ord(char) == 0x7F or "\ud800" <= char <= "\udfff" for char in path):
        return ""
    shown = f":{port}" if port and port != _DEFAULT_PORTS.get(scheme) else ""
    return f"{scheme}://{host.lower()}{shown}/{path}"
