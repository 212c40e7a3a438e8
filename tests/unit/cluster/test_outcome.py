"""What refusals mean."""

from __future__ import annotations

import json

import pytest

from ocisync.cluster.client import Response
from ocisync.cluster.outcome import ErrorClass, classify, is_webhook_failure, shorten
from ocisync.model.resource import Gvk

SECRET = Gvk("", "v1", "Secret")
DEPLOYMENT = Gvk("apps", "v1", "Deployment")


def answer(code: int, message: str = "", reason: str = "", causes: tuple[dict[str, str], ...] = ()) -> Response:
    status = {"kind": "Status", "message": message, "reason": reason, "code": code, "details": {"causes": list(causes)}}
    return Response(code, {}, json.dumps(status).encode())


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (answer(400, "bad", "BadRequest"), ErrorClass.PERMANENT),
        (answer(413, "too large", "RequestEntityTooLarge"), ErrorClass.PERMANENT),
        (answer(422, "spec.x: Required value", "Invalid"), ErrorClass.PERMANENT),
        (
            answer(500, "failed to create typed patch object (…): .x: field not declared in schema"),
            ErrorClass.PERMANENT,
        ),
        (answer(422, "spec.selector: Invalid value: …: field is immutable", "Invalid"), ErrorClass.IMMUTABLE),
        (
            answer(422, "updates to statefulset spec for fields other than 'replicas' …", "Invalid"),
            ErrorClass.IMMUTABLE,
        ),
        (answer(403, "… is immutable", "Forbidden"), ErrorClass.IMMUTABLE),
        (answer(403, "denied", "Forbidden"), ErrorClass.FORBIDDEN),
        (answer(403, "x", "Forbidden", ({"reason": "NamespaceTerminating"},)), ErrorClass.WAITING),
        (answer(404, 'namespaces "x" not found', "NotFound"), ErrorClass.WAITING),
        (Response(404, {}, b"404 page not found\n"), ErrorClass.WAITING),
        (answer(409, "changed", "Conflict"), ErrorClass.CONFLICT),
        (answer(429, "slow down", "TooManyRequests"), ErrorClass.TRANSIENT),
        (answer(500, "Internal error occurred: …", "InternalError"), ErrorClass.TRANSIENT),
        (Response(503, {}, b"<html>"), ErrorClass.TRANSIENT),
        (Response(500, {}, b"no status at all"), ErrorClass.TRANSIENT),
    ],
)
def test_the_table_of_classes(response: Response, expected: ErrorClass) -> None:
    assert classify(response, DEPLOYMENT).error_class is expected


def test_an_unknown_kind_is_said_in_words() -> None:
    failure = classify(Response(404, {}, b"404 page not found\n"), DEPLOYMENT)
    assert failure.message.startswith("the server does not know Deployment (apps/v1)")


def test_access_denied_names_the_impersonated_account() -> None:
    failure = classify(
        answer(403, "denied by policy", "Forbidden"), DEPLOYMENT, user="system:serviceaccount:apps:default"
    )
    assert failure.message == "denied by policy (as system:serviceaccount:apps:default)"


def test_a_webhook_that_does_not_answer_is_named() -> None:
    text = 'Internal error occurred: failed calling webhook "v.example.com": failed to call webhook: connection refused'
    failure = classify(answer(500, text, "InternalError"))
    assert failure.message == 'failed calling webhook "v.example.com": connection refused'
    assert is_webhook_failure(failure) == "v.example.com"


def test_nothing_that_could_be_a_secret_value_is_kept() -> None:
    causes = ({"reason": "FieldValueInvalid", "field": "data[a b]", "message": 'Invalid value: "hunter2"'},)
    failure = classify(answer(422, 'Secret "s" is invalid: data[a b]: "hunter2"', "Invalid", causes), SECRET)
    assert "hunter2" not in failure.message
    assert "data[a b]" in failure.message
    assert "hunter2" not in classify(answer(500, "failed to create typed patch: hunter2"), SECRET).message


def test_messages_are_one_line_of_at_most_256_bytes() -> None:
    assert shorten("a\n  b\tc") == "a b c"
    long = shorten("ä" * 500)
    assert len(long.encode()) <= 256
    assert long.endswith("…")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"details": 3}', b'{"details": {"causes": [1]}}', b"\xff\xfe"])
def test_odd_bodies_do_not_raise(body: bytes) -> None:
    assert classify(Response(422, {}, body)).error_class is ErrorClass.PERMANENT
