"""The fault table of the registry client: every kind of request × every thing that goes wrong on the wire.

Each cell says what the caller gets and how many faulty answers were consumed, with the fault striking once and with the
fault striking for ever; or why there is no such cell. `python -m tests.contract.faulttable` prints it.

Outcomes: `ok`, the operation succeeds; `none`, it says that the thing does not exist (or has to be done another way);
else the error's class.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

from ocisync.model.descriptor import OCI_MANIFEST, Descriptor
from ocisync.oci.client import RegistryStore
from ocisync.sandbox.faults import (
    Action,
    Corrupt,
    Delay,
    Endless,
    Fault,
    LoseAnswer,
    Misreport,
    Relabel,
    Reset,
    Status,
    Truncate,
)
from ocisync.sandbox.registry import Registry as Sandbox
from tests.support.images import EMPTY, Sleeper, described, image, push_image

ATTEMPTS = 3  # of the plan in these tests
LOGIN_ROUNDS = 3  # of one attempt, where a login is refused again and again
CONTENT = b"layer one"
CHUNK = 8
OTHER = "sha256:" + "7" * 64


@dataclass
class Bench:
    """A registry with a pushed image that has a referrer, and stores to speak to it with."""

    sandbox: Sandbox
    store: RegistryStore
    small: RegistryStore  # chunks of `CHUNK` bytes
    pages: RegistryStore  # two tags, one on a page
    identity: RegistryStore  # logs in with an identity token
    elsewhere: RegistryStore  # another repository
    subject: Descriptor
    sleeper: Sleeper
    logged_in: bool = False
    numbers: count[int] = field(default_factory=count)

    def fresh(self) -> bytes:
        """Content that nobody has seen; three chunks of it."""
        return f"a new blob {next(self.numbers):09d}".encode()

    def fault(self, path: str, method: str, action: Action, times: int | None = 1) -> Fault:
        """Program a fault."""
        return self.sandbox.faults.add(path, method=method, count=times, action=action)


@dataclass(frozen=True)
class Kind:
    """One kind of request: how to recognise it, what must be there first, and how to cause it."""

    method: str
    path: str
    run: Callable[[Bench, object], object]
    prepare: Callable[[Bench], object] = lambda _bench: None


def _put_blob(bench: Bench, content: object) -> object:
    assert isinstance(content, bytes)
    bench.store.put_blob(described(content), content)
    return True


def _put_chunks(bench: Bench, content: object) -> object:
    assert isinstance(content, bytes)
    bench.small.put_blob(described(content), io.BytesIO(content))
    return True


def _refusing_whole(bench: Bench) -> bytes:
    """As a proxy does that takes no large bodies."""
    bench.fault("/blobs/uploads/", "PUT", Status(413))
    return bench.fresh()


def _breaking_once(bench: Bench) -> bytes:
    content = _refusing_whole(bench)
    bench.fault("/blobs/uploads/", "PATCH", LoseAnswer())
    return content


def _a_blob_elsewhere(bench: Bench) -> str:
    content = bench.fresh()
    bench.elsewhere.put_blob(described(content), content)
    return described(content).digest


def _a_tag(bench: Bench) -> str:
    tag = f"t{next(bench.numbers)}"
    push_image(bench.store, tag, CONTENT)
    return tag


def _put_tag(bench: Bench, _: object) -> object:
    raw = image(EMPTY, described(CONTENT))
    return bench.store.put_manifest(raw, OCI_MANIFEST, "v2").digest == described(raw).digest


def _put_by_digest(bench: Bench, _: object) -> object:
    raw = image(EMPTY, described(CONTENT), annotations={"n": str(next(bench.numbers))})
    digest = described(raw).digest
    return bench.store.put_manifest(raw, OCI_MANIFEST, digest).digest == digest


def _delete_tag(bench: Bench, tag: object) -> object:
    bench.store.delete_tag(str(tag))
    return True


def _mount(bench: Bench, digest: object) -> object:
    return bench.store.mount_blob(str(digest), bench.elsewhere.repository)


def _ping(bench: Bench, _: object) -> object:
    bench.store.ping()
    return True


KINDS: Mapping[str, Kind] = {
    "GET base (ping)": Kind("GET", r"/v2/$", _ping),
    "HEAD manifest": Kind("HEAD", "/manifests/", lambda bench, _: bench.store.resolve(bench.subject.digest)),
    "GET manifest": Kind("GET", "/manifests/", lambda bench, _: bench.store.manifest(bench.subject.digest)),
    "HEAD blob": Kind("HEAD", "/blobs/", lambda bench, _: bench.store.has_blob(described(CONTENT).digest)),
    "GET blob": Kind("GET", "/blobs/", lambda bench, _: bench.store.blob(described(CONTENT), max_bytes=100)),
    "POST upload": Kind("POST", "/blobs/uploads/", _put_blob, Bench.fresh),
    "PUT blob": Kind("PUT", "/blobs/uploads/", _put_blob, Bench.fresh),
    "PATCH chunk": Kind("PATCH", "/blobs/uploads/", _put_chunks, _refusing_whole),
    "GET upload": Kind("GET", "/blobs/uploads/", _put_chunks, _breaking_once),
    "PUT after chunks": Kind("PUT", "/blobs/uploads/", _put_chunks, _refusing_whole),
    "POST mount": Kind("POST", r"\?mount=", _mount, _a_blob_elsewhere),
    "DELETE upload": Kind("DELETE", "/blobs/uploads/", _mount, lambda _: OTHER),
    "PUT manifest by digest": Kind("PUT", "/manifests/", _put_by_digest),
    "PUT tag": Kind("PUT", "/manifests/", _put_tag),
    "DELETE tag": Kind("DELETE", "/manifests/", _delete_tag, _a_tag),
    "GET referrers": Kind(
        "GET", "/referrers/", lambda bench, _: bench.store.referrers(bench.subject.digest).descriptors
    ),
    "GET tags": Kind("GET", "/tags/list", lambda bench, _: list(bench.store.tags())),
    "GET tags, next page": Kind("GET", "/tags/list.*last=", lambda bench, _: list(bench.pages.tags())),
    "GET token": Kind("GET", "/token", lambda bench, _: bench.store.resolve("v1")),
    "POST token": Kind("POST", "/token", lambda bench, _: bench.identity.resolve("v1")),
}


def _expired(bench: Bench) -> Action:
    realm = f'Bearer realm="{bench.sandbox.url}/token",service="{bench.sandbox.auth.service}",error="invalid_token"'
    return Status(401, {"WWW-Authenticate": realm})


def _said(code: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": "no"}]}).encode()


FAULTS: Mapping[str, Action | Callable[[Bench], Action]] = {
    "timeout": Delay(),
    "reset": Reset(),
    "lost answer": LoseAnswer(),
    "401": Status(401),
    "expired token": _expired,
    "403": Status(403, {}, _said("DENIED")),
    "404": Status(404, {}, _said("X_UNKNOWN")),
    "429": Status(429, {"Retry-After": "7"}),
    "500": Status(500),
    "502": Status(502),
    "truncated": Truncate(1),
    "corrupt": Corrupt(1),
    "wrong digest": Relabel({"Docker-Content-Digest": OTHER}),
    "length -1": Misreport(-1),
    "length +5": Misreport(5),
    "wrong type": Relabel({"Content-Type": "text/html"}),
    "endless": Endless(),
}

# Once / for ever: outcome and number of faulty answers consumed.
Cell = tuple[tuple[str, int], tuple[str, int]]
RECOVERS: Cell = (("ok", 1), ("Unavailable", ATTEMPTS))
BROKEN: Cell = (("Unavailable", 1), ("Unavailable", 1))
RENEWED: Cell = (("ok", 1), ("AccessDenied", LOGIN_ROUNDS))


def _same(outcome: str) -> Cell:
    return ((outcome, 1), (outcome, 1))


DENIED, REFUSED, MISSING = _same("AccessDenied"), _same("Refused"), _same("NotFound")
NONE, HARMLESS = _same("none"), _same("ok")

NO_BODY = "its answer has no body"
NO_DIGEST = "its answer names no digest"
NO_TYPE = "its answer has no type that counts"
NO_TOKEN = "a token server is asked with a login, not with a token"

ALWAYS: Mapping[str, Cell | str] = {
    "timeout": RECOVERS,
    "reset": RECOVERS,
    "lost answer": RECOVERS,
    "401": DENIED,
    "expired token": RENEWED,
    "403": DENIED,
    "404": MISSING,
    "429": RECOVERS,
    "500": BROKEN,
    "502": RECOVERS,
}
# Reads of a body that is used whole.
READ: Mapping[str, Cell | str] = {
    **ALWAYS,
    "500": RECOVERS,
    "truncated": RECOVERS,
    "corrupt": REFUSED,
    "length -1": REFUSED,
    "length +5": RECOVERS,
    "endless": REFUSED,
}
# A HEAD whose answer is all headers.
HEAD: Mapping[str, Cell | str] = {
    **ALWAYS,
    "404": NONE,
    "500": RECOVERS,
    "truncated": NO_BODY,
    "corrupt": NO_BODY,
    "length -1": HARMLESS,  # what is fetched later is compared with what it is
    "length +5": HARMLESS,
    "endless": NO_BODY,
}
# Writes, answered by a status and headers.
WRITE: Mapping[str, Cell | str] = {
    **ALWAYS,
    "truncated": NO_BODY,
    "corrupt": NO_BODY,
    "length -1": NO_BODY,
    "length +5": RECOVERS,
    "wrong type": NO_TYPE,
    "endless": REFUSED,
}
# Answered by 204.
EMPTY_ANSWER: Mapping[str, Cell | str] = {
    "truncated": NO_BODY,
    "corrupt": NO_BODY,
    "wrong digest": NO_DIGEST,
    "length -1": NO_BODY,
    "length +5": NO_BODY,
    "wrong type": NO_TYPE,
    "endless": NO_BODY,
}
LIST: Mapping[str, Cell | str] = {**READ, "wrong digest": NO_DIGEST, "wrong type": HARMLESS}
TOKEN: Mapping[str, Cell | str] = {
    **READ,
    "expired token": NO_TOKEN,
    "404": DENIED,
    "corrupt": RECOVERS,  # no JSON: asked again
    "wrong digest": NO_DIGEST,
    "length -1": RECOVERS,
    "wrong type": HARMLESS,
}
# A session that cannot be asked is left for a new one.
LEFT = {fault: HARMLESS for fault in ("401", "403", "404")}

TABLE: Mapping[str, Mapping[str, Cell | str]] = {
    "GET base (ping)": {
        **READ,
        "corrupt": HARMLESS,  # nobody looks at the body
        "wrong digest": NO_DIGEST,
        "length -1": HARMLESS,
        "wrong type": HARMLESS,
    },
    "HEAD manifest": {
        **HEAD,
        "wrong digest": REFUSED,
        "wrong type": HARMLESS,  # the manifest itself is looked at instead
    },
    "GET manifest": {**READ, "wrong digest": REFUSED, "wrong type": REFUSED},
    "HEAD blob": {**HEAD, "wrong digest": HARMLESS, "wrong type": NO_TYPE},
    "GET blob": {
        **READ,
        "wrong digest": HARMLESS,  # the bytes count
        "length +5": REFUSED,  # not what the descriptor says
        "wrong type": HARMLESS,
    },
    "POST upload": {**WRITE, "wrong digest": NO_DIGEST},
    "PUT blob": {
        **WRITE,
        "lost answer": HARMLESS,  # the registry has the blob although its answers are lost: asking finds it
        "404": (("ok", 1), ("NotFound", 3)),  # tried again in chunks, and in a new session
        "wrong digest": REFUSED,
        "length +5": HARMLESS,
    },
    "PATCH chunk": {
        **WRITE,
        "404": (("ok", 1), ("NotFound", 2)),  # a session that is gone is begun anew, once
        "wrong digest": NO_DIGEST,
    },
    "GET upload": {
        **EMPTY_ANSWER,
        **LEFT,
        "timeout": (("ok", 1), ("Unavailable", ATTEMPTS - 1)),  # the first attempt was the chunk that broke
        "reset": (("ok", 1), ("Unavailable", ATTEMPTS - 1)),
        "lost answer": (("ok", 1), ("Unavailable", ATTEMPTS - 1)),
        "expired token": (("ok", 1), ("ok", LOGIN_ROUNDS)),
        "429": (("ok", 1), ("Unavailable", ATTEMPTS - 1)),
        "500": (("ok", 1), ("Unavailable", ATTEMPTS - 1)),
        "502": (("ok", 1), ("Unavailable", ATTEMPTS - 1)),
    },
    "PUT after chunks": {
        **WRITE,
        "lost answer": HARMLESS,
        "404": (("ok", 1), ("NotFound", 2)),
        "wrong digest": REFUSED,
        "length +5": HARMLESS,
    },
    "POST mount": {
        **WRITE,
        # What cannot be mounted is uploaded.
        "401": NONE,
        "expired token": (("ok", 1), ("none", LOGIN_ROUNDS)),
        "403": NONE,
        "404": NONE,
        "wrong digest": HARMLESS,
    },
    "DELETE upload": {
        # Tidying up: worth one request, and no failure.
        **EMPTY_ANSWER,
        **dict.fromkeys(ALWAYS, NONE),
        "expired token": (("none", 1), ("none", LOGIN_ROUNDS)),
    },
    "PUT manifest by digest": {**WRITE, "wrong digest": REFUSED},
    "PUT tag": {**WRITE, "wrong digest": REFUSED},
    "DELETE tag": {
        **WRITE,
        "wrong digest": NO_DIGEST,
        "length +5": (("ok", 1), ("ok", 2)),  # the tag is gone when it is deleted again
    },
    "GET referrers": {
        **LIST,
        # No usable API means the fallback tag, where nothing is.
        "404": NONE,
        "corrupt": NONE,
        "length -1": NONE,
        "wrong type": NONE,
        "endless": NONE,
    },
    "GET tags": LIST,
    "GET tags, next page": LIST,
    "GET token": TOKEN,
    "POST token": {**TOKEN, "500": BROKEN},
}
CELLS = [(kind, fault) for kind in KINDS for fault in FAULTS if not isinstance(TABLE[kind][fault], str)]
NO_CELLS = [(kind, fault) for kind in KINDS for fault in FAULTS if isinstance(TABLE[kind][fault], str)]


def summary() -> str:
    """How large the table is."""
    return (
        f"{len(KINDS)} kinds of request x {len(FAULTS)} faults: {len(CELLS)} cells, each with the fault striking once"
        f" and for ever ({2 * len(CELLS)} runs); {len(NO_CELLS)} combinations make no sense"
    )


def _shown(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return f"no such cell: {cell}"
    (once, one), (always, many) = cell
    return f"once: {once} after {one}; always: {always} after {many}"


if __name__ == "__main__":
    for name in KINDS:
        print(name)
        for trouble in FAULTS:
            print(f"  {trouble:14} {_shown(TABLE[name][trouble])}")
    print(summary())
