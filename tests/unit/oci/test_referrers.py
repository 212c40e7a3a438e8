from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from ocisync.model.descriptor import OCI_INDEX, OCI_MANIFEST
from ocisync.model.errors import NotFound, Refused
from ocisync.oci.failures import Answer
from ocisync.oci.referrers import REFERRER_PAGES, list_referrers
from ocisync.oci.store import Manifest, PutResult

DIGEST = "sha256:" + "a" * 64
ENTRY = {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "b" * 64, "size": 7}


def page(*entries: object) -> Answer:
    return Answer(200, {"content-type": OCI_INDEX}, json.dumps({"manifests": entries}).encode())


class PagedStore:
    """Has no fallback tag; its referrers API answers what the test says."""

    repository = "registry.example/acme/shop"

    def __init__(self, pages: Callable[[], Iterator[Answer]]) -> None:
        self._pages = pages
        self.read = 0

    def manifest(self, ref: str) -> Manifest:
        raise NotFound(ref)

    def put_manifest(self, raw: bytes, media_type: str, ref: str) -> PutResult:
        raise NotImplementedError

    def referrers_page(self, digest: str) -> Iterator[Answer]:
        for answer in self._pages():
            self.read += 1
            yield answer


def too_large() -> Iterator[Answer]:
    yield from (_refuse() for _ in "x")


def _refuse() -> Answer:
    raise Refused("more than 4 MiB", reason="TooLarge")


def one_then_too_large() -> Iterator[Answer]:
    yield page(ENTRY)
    yield from too_large()


def endless() -> Iterator[Answer]:
    while True:
        yield page()


def test_a_list_that_is_too_large_is_not_an_empty_list() -> None:
    found = list_referrers(PagedStore(too_large), DIGEST)
    assert (found.descriptors, found.truncated) == ((), True)
    assert found.problems == ("more than 4 MiB",)


def test_what_was_read_before_a_page_that_is_too_large_is_kept() -> None:
    found = list_referrers(PagedStore(one_then_too_large), DIGEST)
    assert [item.digest for item in found.descriptors] == [ENTRY["digest"]]
    assert found.truncated


def test_pages_without_entries_do_not_go_on_for_ever() -> None:
    store = PagedStore(endless)
    assert list_referrers(store, DIGEST).truncated
    assert store.read == REFERRER_PAGES
