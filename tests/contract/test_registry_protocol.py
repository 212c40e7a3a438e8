"""The distribution protocol as the product uses it: sandbox, distribution and olareg answer alike."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.support.registries import Registry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
UNKNOWN = "sha256:" + "0" * 64


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One keep-alive connection to one repository."""

    def __init__(self, registry: Registry, repository: str) -> None:
        self.name = repository.partition("/")[2]
        self._connection = http.client.HTTPConnection(registry.host, timeout=30)

    def close(self) -> None:
        self._connection.close()

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """A request below the repository, or to a full path or URL."""
        split = urlsplit(path)
        target = f"{split.path}?{split.query}" if split.query else split.path
        if not target.startswith("/"):
            target = f"/v2/{self.name}/{target}"
        self._connection.request(method, target, body=body, headers=dict(headers or {}))
        answer = self._connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, found, answer.read())

    def upload(self, content: bytes) -> str:
        begun = self.send("POST", "blobs/uploads/", b"")
        assert begun.status == 202
        location = begun.headers["location"]
        location += ("&" if "?" in location else "?") + urlencode({"digest": digest(content)})
        assert self.send("PUT", location, content).status == 201
        return digest(content)

    def push(self, reference: str = "", content: bytes = b"layer", **extra: Any) -> tuple[str, bytes]:
        """Push an artifact of one layer; returns its digest and bytes."""
        config, layer = b"{}", content
        self.upload(config)
        self.upload(layer)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(config), "size": len(config)},
            "layers": [{"mediaType": LAYER, "digest": digest(layer), "size": len(layer)}],
            **extra,
        }
        raw = json.dumps(manifest, indent=1).encode()
        put = self.send("PUT", f"manifests/{reference or digest(raw)}", raw, {"Content-Type": MANIFEST})
        assert put.status == 201, put.body
        return digest(raw), raw


@pytest.fixture
def wire(registry: Registry, repository: str) -> Iterator[Wire]:
    made = Wire(registry, repository)
    yield made
    made.close()


def test_the_base_answers(wire: Wire) -> None:
    assert wire.send("GET", "/v2/").status == 200


def test_a_blob_comes_back_as_it_was_sent(wire: Wire) -> None:
    name = wire.upload(b"hello")
    got = wire.send("GET", f"blobs/{name}")
    assert (got.status, got.body) == (200, b"hello")
    head = wire.send("HEAD", f"blobs/{name}")
    assert (head.status, head.headers["content-length"], head.body) == (200, "5", b"")
    assert head.headers["docker-content-digest"] == name


def test_an_unknown_blob_is_not_found(wire: Wire) -> None:
    wire.upload(b"hello")
    assert wire.send("HEAD", f"blobs/{UNKNOWN}").status == 404
    assert wire.send("GET", f"blobs/{UNKNOWN}").json["errors"][0]["code"] == "BLOB_UNKNOWN"


def test_a_part_of_a_blob_can_be_had(wire: Wire) -> None:
    name = wire.upload(b"0123456789")
    part = wire.send("GET", f"blobs/{name}", headers={"Range": "bytes=3-5"})
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"345", "bytes 3-5/10")


def test_a_blob_with_another_digest_is_refused(wire: Wire) -> None:
    location = wire.send("POST", "blobs/uploads/", b"").headers["location"]
    location += ("&" if "?" in location else "?") + urlencode({"digest": UNKNOWN})
    refused = wire.send("PUT", location, b"other")
    assert refused.status == 400
    assert refused.json["errors"][0]["code"] in ("DIGEST_INVALID", "BLOB_UPLOAD_INVALID")  # olareg says the second
    assert wire.send("HEAD", f"blobs/{digest(b'other')}").status == 404


def test_a_blob_can_be_sent_in_pieces(wire: Wire) -> None:
    location = wire.send("POST", "blobs/uploads/", b"").headers["location"]
    for start, piece in ((0, b"01234"), (5, b"56789")):
        kind = {"Content-Type": "application/octet-stream"}
        headers = {**kind, "Content-Range": f"{start}-{start + len(piece) - 1}"}
        answer = wire.send("PATCH", location, piece, headers)
        assert answer.status == 202
        assert answer.headers["range"] == f"0-{start + len(piece) - 1}"
        location = answer.headers["location"]
    whole = b"0123456789"
    location += ("&" if "?" in location else "?") + urlencode({"digest": digest(whole)})
    assert wire.send("PUT", location, b"").status == 201
    assert wire.send("GET", f"blobs/{digest(whole)}").body == whole


def test_a_blob_is_mounted_from_another_repository(wire: Wire, registry: Registry, repository: str) -> None:
    name = wire.upload(b"shared")
    other = Wire(registry, f"{repository}-other")
    try:
        mounted = other.send("POST", f"blobs/uploads/?mount={name}&from={wire.name}", b"")
        assert mounted.status == 201
        assert other.send("HEAD", f"blobs/{name}").status == 200
        unknown = other.send("POST", f"blobs/uploads/?mount={UNKNOWN}&from={wire.name}", b"")
        assert unknown.status == 202
        assert unknown.headers["location"]
    finally:
        other.close()


def test_a_manifest_comes_back_byte_for_byte(wire: Wire) -> None:
    name, raw = wire.push("v1")
    for reference in ("v1", name):
        got = wire.send("GET", f"manifests/{reference}", headers={"Accept": MANIFEST})
        assert (got.status, got.body) == (200, raw)
        assert got.headers["docker-content-digest"] == name
        assert got.headers["content-type"] == MANIFEST
        head = wire.send("HEAD", f"manifests/{reference}", headers={"Accept": MANIFEST})
        assert (head.status, head.headers["docker-content-digest"], head.body) == (200, name, b"")
        assert head.headers["content-length"] == str(len(raw))


def test_an_unknown_manifest_is_not_found(wire: Wire) -> None:
    wire.push("v1")
    missing = wire.send("GET", "manifests/v2", headers={"Accept": MANIFEST})
    assert missing.status == 404
    assert missing.json["errors"][0]["code"] == "MANIFEST_UNKNOWN"
    assert wire.send("HEAD", f"manifests/{UNKNOWN}", headers={"Accept": MANIFEST}).status == 404


def test_an_unknown_repository_is_not_found(wire: Wire) -> None:
    tags = wire.send("GET", "/v2/no/such/place/tags/list")
    assert tags.status == 404 or not tags.json["tags"]  # olareg lists nothing
    assert wire.send("HEAD", "/v2/no/such/place/manifests/v1", headers={"Accept": MANIFEST}).status == 404


def test_a_manifest_under_another_digest_is_refused(wire: Wire) -> None:
    _, raw = wire.push("v1")
    refused = wire.send("PUT", f"manifests/{UNKNOWN}", raw, {"Content-Type": MANIFEST})
    assert refused.status == 400
    assert refused.json["errors"][0]["code"] == "DIGEST_INVALID"


def test_a_manifest_without_its_blobs_is_refused(wire: Wire) -> None:
    wire.upload(b"{}")
    config = {"mediaType": CONFIG, "digest": digest(b"{}"), "size": 2}
    layers = [{"mediaType": LAYER, "digest": UNKNOWN, "size": 3}]
    body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    refused = wire.send("PUT", "manifests/v1", json.dumps(body).encode(), {"Content-Type": MANIFEST})
    assert 400 <= refused.status < 500


def test_a_manifest_that_is_no_json_is_refused(wire: Wire) -> None:
    assert wire.send("PUT", "manifests/v1", b"nonsense", {"Content-Type": MANIFEST}).status == 400


def test_tags_are_listed_whole_and_in_pages(wire: Wire) -> None:
    for tag in ("c", "a", "d", "b", "e"):
        wire.push(tag)
    # distribution 2.8 keeps no order and knows no pages.
    assert sorted(wire.send("GET", "tags/list").json["tags"]) == ["a", "b", "c", "d", "e"]
    found: list[str] = []
    path = "tags/list?n=2"
    while path:
        page = wire.send("GET", path)
        found += page.json["tags"] or []
        link = page.headers.get("link", "")
        path = link.partition("<")[2].partition(">")[0] if 'rel="next"' in link or "rel=next" in link else ""
    assert sorted(found) == ["a", "b", "c", "d", "e"]


def test_a_tag_moves(wire: Wire) -> None:
    first, _ = wire.push("live", b"one")
    second, _ = wire.push("live", b"two")
    head = wire.send("HEAD", "manifests/live", headers={"Accept": MANIFEST})
    assert head.headers["docker-content-digest"] == second
    assert wire.send("HEAD", f"manifests/{first}", headers={"Accept": MANIFEST}).status == 200


def test_a_deleted_manifest_takes_its_tags_along(wire: Wire) -> None:
    name, _ = wire.push("v1")
    wire.push("v2")
    assert wire.send("DELETE", f"manifests/{name}").status == 202
    assert wire.send("HEAD", "manifests/v1", headers={"Accept": MANIFEST}).status == 404


def test_an_index_names_its_children(wire: Wire) -> None:
    name, raw = wire.push("child")
    child = {"mediaType": MANIFEST, "digest": name, "size": len(raw)}
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}).encode()
    assert wire.send("PUT", "manifests/all", index, {"Content-Type": INDEX}).status == 201
    got = wire.send("GET", "manifests/all", headers={"Accept": INDEX})
    assert (got.body, got.headers["content-type"]) == (index, INDEX)


def test_referrers_are_listed_where_the_registry_has_the_api(wire: Wire, registry: Registry) -> None:
    name, raw = wire.push("v1")
    subject = {"mediaType": MANIFEST, "digest": name, "size": len(raw)}
    if not registry.referrers_api:
        assert wire.send("GET", f"referrers/{name}").status == 404
        return
    listed = wire.send("GET", f"referrers/{name}")
    assert listed.status == 200
    assert not listed.json["manifests"]  # an empty list, or null
    assert listed.headers["content-type"] == INDEX
    signature, _ = wire.push(
        content=b"sig", subject=subject, artifactType="application/vnd.test.sig", annotations={"a": "b"}
    )
    wire.push(content=b"sbom", subject=subject, artifactType="application/vnd.test.sbom")
    both = {item["digest"]: item for item in wire.send("GET", f"referrers/{name}").json["manifests"]}
    assert len(both) == 2
    assert both[signature]["artifactType"] == "application/vnd.test.sig"
    assert both[signature]["annotations"] == {"a": "b"}
    query = urlencode({"artifactType": "application/vnd.test.sig"})
    only = wire.send("GET", f"referrers/{name}?{query}")
    assert only.headers["oci-filters-applied"] == "artifactType"
    assert [item["digest"] for item in only.json["manifests"]] == [signature]


def test_the_put_of_a_referrer_says_whether_it_is_indexed(wire: Wire, registry: Registry) -> None:
    name, raw = wire.push("v1")
    config = {"mediaType": CONFIG, "digest": digest(b"{}"), "size": 2}
    subject = {"mediaType": MANIFEST, "digest": name, "size": len(raw)}
    body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [], "subject": subject}
    content = json.dumps(body).encode()
    put = wire.send("PUT", f"manifests/{digest(content)}", content, {"Content-Type": MANIFEST})
    assert put.status == 201
    assert put.headers.get("oci-subject") == (name if registry.referrers_api else None)
