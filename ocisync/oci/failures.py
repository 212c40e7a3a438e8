"""HTTP answers become errors here, by table.

| status | error |
|---|---|
| 401, 403, 407 (a proxy's) | `AccessDenied` (a tag that may not move: `Refused`) |
| 404 | `NotFound` |
| 408, 429, 5xx | `Unavailable` |
| 501, 505 and all other 4xx | `Refused` with the registry's own code and message |
| anything else (1xx to 3xx) | `OcisyncError` |

What a registry says is quoted shortened and without control characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ocisync.model.errors import AccessDenied, NotFound, OcisyncError, Refused, Unavailable
from ocisync.model.values import dataclass
from ocisync.oci.headers import retry_after_s

MAX_QUOTED_CHARS = 300
PROXY_LOGIN_HINT = (
    "put the proxy's login into HTTPS_PROXY or HTTP_PROXY, as in http://USER:PASSWORD@HOST:PORT; "
    "a sync's into the Secret of its proxySecretRef"
)

_IMMUTABLE = re.compile(
    r"immutab|tag.{0,20}already.?exists|already.?exists.{0,40}tag|cannot be (?:overwritten|updated|modified)"
    r"|tag.{0,20}protected|protected.{0,20}tag|operation is disallowed on this registry, repository or image",
    re.IGNORECASE,
)
_TAG_STATUSES = frozenset({400, 403, 405, 409, 412, 422})
_NEVER = frozenset({501, 505})  # server errors that no repetition cures


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer with a bounded body. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str = ""

    def header(self, name: str) -> str:
        """A header's value; empty if absent."""
        return self.headers.get(name.lower(), "")

    @property
    def ok(self) -> bool:
        """A 2xx status."""
        return 200 <= self.status < 300


def quoted(text: str) -> str:
    """Make foreign text safe to show: printable, one line, short."""
    clean = "".join(char if char.isprintable() else " " for char in text[: 4 * MAX_QUOTED_CHARS])
    clean = " ".join(clean.split())
    return clean if len(clean) <= MAX_QUOTED_CHARS else clean[: MAX_QUOTED_CHARS - 1] + "…"


def registry_message(answer: Answer) -> str:
    """The registry's own `CODE: message`, else the status."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        document = None
    said: list[str] = []
    if isinstance(document, dict):
        errors = document.get("errors")
        for item in errors[:3] if isinstance(errors, list) else [document]:
            if isinstance(item, dict):
                words = (
                    item.get("code"),
                    item.get("error"),
                    item.get("message"),
                    item.get("error_description"),
                    item.get("details"),
                )
                said.append(": ".join(word for word in words if isinstance(word, str) and word))
    text = quoted("; ".join(part for part in said if part))
    return f"{text} (HTTP {answer.status})" if text else f"HTTP {answer.status}"


def misses_blob(answer: Answer) -> bool:
    """Whether a manifest was refused because blobs that it names are not there."""
    return answer.status in {400, 404} and "BLOB_UNKNOWN" in registry_message(answer)


def login_hint(host: str) -> str:
    """What to type when a registry wants another login."""
    return f"log in with `ocisync login {host}` (docker's and podman's logins count too), or pass --creds USER:PASSWORD"


def error_of(answer: Answer, what: str, host: str, *, tag: str = "") -> OcisyncError:
    """The error that an unsuccessful answer means.

    `what` is the operation and its subject, as in `reading manifest HOST/REPO:TAG`; `host` the registry as the user
    typed it; `tag` the tag that the request would have written, empty for all other requests.
    """
    said = registry_message(answer)
    message = f"{what}: {said}"
    status = answer.status
    if tag and status in _TAG_STATUSES and (status in {409, 412} or _IMMUTABLE.search(said)):
        return Refused(
            f"{what}: the registry does not let tag {tag} move: {said}",
            hint="push under a new tag",
            reason="TagImmutable",
        )
    if status in {401, 403}:
        return AccessDenied(message, hint=login_hint(host))
    if status == 407:
        return AccessDenied(message, hint=PROXY_LOGIN_HINT)
    if status == 404:
        return NotFound(message)
    if status in {408, 425, 429} or (status >= 500 and status not in _NEVER):
        asked = retry_after_s(answer.header("retry-after"), answer.header("date"))
        return Unavailable(message, hint="try again later", retry_after_s=asked)
    if status >= 400:
        return Refused(message, reason="RegistryRefused")
    return OcisyncError(message)
