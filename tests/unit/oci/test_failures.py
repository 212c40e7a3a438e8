from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.model.errors import AccessDenied, NotFound, OcisyncError, Refused, Unavailable
from ocisync.oci.failures import MAX_QUOTED_CHARS, Answer, error_of, quoted, registry_message


def answer(status: int, body: object = None, **headers: str) -> Answer:
    return Answer(status, headers, b"" if body is None else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, OcisyncError),
        (400, Refused),
        (401, AccessDenied),
        (403, AccessDenied),
        (404, NotFound),
        (405, Refused),
        (408, Unavailable),
        (409, Refused),
        (413, Refused),
        (416, Refused),
        (418, Refused),
        (422, Refused),
        (425, Unavailable),
        (429, Unavailable),
        (500, Unavailable),
        (501, Refused),
        (503, Unavailable),
        (507, Unavailable),
    ],
)
def test_every_status_has_its_error(status: int, kind: type[OcisyncError]) -> None:
    found = error_of(answer(status), "reading it", "r.example")
    assert type(found) is kind
    assert found.message == f"reading it: HTTP {status}"
    assert found.transient is (kind is Unavailable)


def test_a_conflict_matters_only_when_a_tag_is_written() -> None:
    conflict = answer(409, {"errors": [{"code": "CONFLICT"}]})
    assert error_of(conflict, "x", "r.example", tag="v1").reason == "TagImmutable"
    assert error_of(conflict, "x", "r.example").reason == "RegistryRefused"
    denied = answer(403, {"errors": [{"code": "DENIED", "message": "no rights"}]})
    assert isinstance(error_of(denied, "x", "r.example", tag="v1"), AccessDenied)


def test_the_registry_s_words_are_quoted() -> None:
    said = {"errors": [{"code": "A", "message": "b", "detail": {"secret": 1}}, {"code": "C"}]}
    assert registry_message(answer(400, said)) == "A: b; C (HTTP 400)"
    assert registry_message(answer(400, {"details": "from a token server"})) == "from a token server (HTTP 400)"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"errors":5}', b'{"errors":[5,{"code":7}]}', b"[" * 99_999])
def test_a_body_that_is_no_error_document_leaves_the_status(body: bytes) -> None:
    assert registry_message(Answer(418, {}, body)) == "HTTP 418"


@given(st.text(max_size=5000))
def test_foreign_text_is_made_safe_to_show(text: str) -> None:
    shown = quoted(text)
    assert len(shown) <= MAX_QUOTED_CHARS
    assert shown.isprintable()


def test_the_wait_is_handed_on() -> None:
    found = error_of(answer(429, **{"retry-after": "9"}), "x", "r.example")
    assert isinstance(found, Unavailable)
    assert found.retry_after_s == 9.0
