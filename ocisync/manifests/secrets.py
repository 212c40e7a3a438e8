"""What must not be published: plain Secrets, key files, text that looks like a credential.

An artifact is read by everyone who may read the registry, and stays there. No function here returns or prints a
value: findings name keys, files and lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ocisync.model.resource import JsonObject, ManifestObject

_VARIABLE = re.compile(r"\$\{[^{}]+\}\Z")
_SOPS_VALUE = re.compile(r"ENC\[[A-Z0-9_]+,data:[^\]]*\]\Z")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_PRIVATE_KEY = rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
_KEY_CONTENT = (
    (re.compile(_PRIVATE_KEY), "a private key"),
    (re.compile(rb"AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]"), "an age key"),
    (re.compile(rb"\APuTTY-User-Key-File-"), "a private key"),
)
_ENV_FILE = re.compile(r"\.env(?:\.(?!example\Z|sample\Z|template\Z|dist\Z)[^/]*)?\Z")
_KEY_NAMES = frozenset({".netrc", ".git-credentials", ".dockerconfigjson", ".pgpass", "kubeconfig"})
_KEY_EXTENSIONS = (".p12", ".pfx", ".jks", ".keystore", ".agekey", ".kubeconfig", ".ppk")
_KUBECONFIG = tuple(
    re.compile(line, re.MULTILINE) for line in (rb"^kind:\s*[\"']?Config\b", rb"^clusters:", rb"^users:")
)

# Marker, pattern, words: the pattern is tried only on files that hold the marker, which few do.
_CREDENTIALS = tuple(
    (marker, re.compile(pattern), words)
    for marker, pattern, words in (
        (b"PRIVATE KEY", _PRIVATE_KEY, "private key"),
        (b"AGE-SECRET-KEY-", rb"AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]", "age key"),
        (b"AKIA", rb"\bAKIA[0-9A-Z]{16}\b", "AWS access key"),
        (b"ASIA", rb"\bASIA[0-9A-Z]{16}\b", "AWS access key"),
        (b"gh", rb"\bgh[pousr]_[A-Za-z0-9]{36,}", "GitHub token"),
        (b"github_pat_", rb"\bgithub_pat_[A-Za-z0-9_]{50,}", "GitHub token"),
        (b"glpat-", rb"\bglpat-[A-Za-z0-9_-]{20,}", "GitLab token"),
        (b"xox", rb"\bxox[abeprs]-[A-Za-z0-9-]{10,}", "Slack token"),
        (b"AIza", rb"\bAIza[0-9A-Za-z_-]{35}\b", "Google API key"),
        (b"k_live_", rb"\b[rs]k_live_[0-9a-zA-Z]{20,}", "Stripe key"),
        (b"eyJ", rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}", "JSON web token"),
        (b"://", rb"://[^\s/:@\"'${}]{1,64}:[^\s/:@\"'${}]{3,128}@[A-Za-z0-9]", "password in a URL"),
        *(
            (word, rb"name:[ ]*[\"']?[A-Z0-9_]*" + word + rb"[\"']?[ ]*\n[ ]+value:[ ]*[\"']?[^\s\"'$]", "password")
            for word in (b"PASSWORD", b"PASSWD", b"SECRET", b"TOKEN", b"API_KEY", b"APIKEY")
        ),
    )
)
_MAX_CREDENTIALS = 20  # for each file


def plain_values(body: JsonObject) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where a Secret holds text in the clear: path in the object, and what is wrong with it."""
    sops = body.get("sops")
    encrypted = isinstance(sops, dict) and isinstance(sops.get("mac"), str) and bool(sops["mac"])
    for field in ("data", "stringData"):
        values = body.get(field)
        if values is None:
            continue
        if not isinstance(values, dict):
            yield (field,), f"{field} must be a mapping"
            continue
        for key, value in values.items():
            if not _is_covered(value, encrypted):
                yield (field, key), f"plain value of key {_name(key)}"
    annotations = (body.get("metadata") or {}).get("annotations")
    if isinstance(annotations, dict) and _LAST_APPLIED in annotations:
        yield ("metadata", "annotations", _LAST_APPLIED), f"annotation {_LAST_APPLIED} repeats the values"


def _is_covered(value: Any, encrypted: bool) -> bool:
    if value is None or value == "":
        return True
    if not isinstance(value, str):
        return False
    return bool(_VARIABLE.match(value)) or (encrypted and bool(_SOPS_VALUE.match(value)))


def _name(key: object) -> str:
    return repr(str(key)[:80])


def is_secret(item: ManifestObject) -> bool:
    """Tell whether an object is a core Secret."""
    return item.gvk.kind == "Secret" and item.gvk.group == ""


def key_file_problem(path: str, data: bytes, *, manifest: bool) -> str:
    """Say what kind of key or credential file this is; empty if it is none.

    A manifest that mentions a key is judged by its objects and by `credential_lines`, not here.
    """
    name = path.rpartition("/")[2]
    if _ENV_FILE.match(name):
        return "an environment file"
    if name in _KEY_NAMES or name.endswith(_KEY_EXTENSIONS) or path.endswith(".kube/config"):
        return "a key or credential file"
    if manifest:
        return ""
    for pattern, what in _KEY_CONTENT:
        if pattern.search(data):
            return what
    if all(pattern.search(data) for pattern in _KUBECONFIG):
        return "a kubeconfig"
    return ""


def credential_lines(data: bytes) -> list[tuple[int, str]]:
    """Lines of a text file that look like credentials, and what they look like."""
    found: set[tuple[int, str]] = set()
    for marker, pattern, words in _CREDENTIALS:
        if marker in data:
            for match in pattern.finditer(data):
                found.add((data.count(b"\n", 0, match.start()) + 1, words))
                if len(found) >= _MAX_CREDENTIALS:
                    break
    return sorted(found)[:_MAX_CREDENTIALS]
