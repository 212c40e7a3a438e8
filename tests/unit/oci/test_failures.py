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


REFUSALS_OF_A_TAG = [
    ("Harbor", 412, "PRECONDITION", "Failed to process request due to 'shop:v1' configured as immutable."),
    ("Harbor before 2.0", 403, "DENIED", "The tag:shop:v1 is immutable, cannot be overwrite."),
    (
        "ECR",
        400,
        "TAG_INVALID",
        "The image tag 'v1' already exists in the 'shop' repository and cannot be overwritten because the repository is"
        " immutable.",
    ),
    (
        "ECR with exclusions",
        400,
        "TAG_INVALID",
        "The image tag 'v1' already exists in the 'shop' repository and cannot be overwritten because the tag is"
        " immutable.",
    ),
    (
        "ACR",
        405,
        "DENIED",
        "The operation is disallowed on this registry, repository or image. View troubleshooting steps at"
        " https://aka.ms/acr/faq",
    ),
    (
        "Artifact Registry",
        400,
        "MANIFEST_INVALID",
        "cannot update tag v1. The repository has enabled tag immutability",
    ),
    ("GitLab", 403, "DENIED", "cannot push to protected tag"),
    ("Quay", 409, "TAG_IMMUTABLE", "tag is immutable"),
    ("any that calls it a conflict", 409, "UNKNOWN", ""),
]


@pytest.mark.parametrize(
    ("status", "code", "message"), [row[1:] for row in REFUSALS_OF_A_TAG], ids=[row[0] for row in REFUSALS_OF_A_TAG]
)
def test_a_registry_s_own_refusal_to_move_a_tag_is_exit_code_4(status: int, code: str, message: str) -> None:
    refusal = answer(status, {"errors": [{"code": code, "message": message}]})
    found = error_of(refusal, "writing manifest r.example/shop:v1", "r.example", tag="v1")
    assert isinstance(found, Refused)
    assert (found.reason, found.exit_code) == ("TagImmutable", 4)
    assert "tag v1" in found.message
    assert "new tag" in found.hint


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
