"""When what could not be applied is tried again."""

from __future__ import annotations

import math

import pytest

from ocisync.cluster.apply import Action, ObjectResult
from ocisync.cluster.outcome import ApiFailure, ErrorClass
from ocisync.flows.retries import Retry, next_due, noted, pause_s, postponed
from ocisync.model.resource import ObjectId

A, B = ObjectId("", "ConfigMap", "n", "a"), ObjectId("", "ConfigMap", "n", "b")
INTERVAL_S = 60.0


def failure(error_class: ErrorClass, message: str = "no", **more: float | bool) -> ApiFailure:
    return ApiFailure(error_class, message, **more)  # type: ignore[arg-type]


def result(id_: ObjectId, failed: ApiFailure | None, action: Action = Action.FAILED) -> ObjectResult:
    return ObjectResult(id_, action, "f:1", failed)


def pauses(failed: ApiFailure, count: int = 5) -> list[float]:
    return [pause_s(failed, attempts, INTERVAL_S) for attempts in range(1, count + 1)]


@pytest.mark.parametrize("error_class", [ErrorClass.PERMANENT, ErrorClass.IMMUTABLE])
def test_what_is_refused_for_good_is_not_tried_again_by_time(error_class: ErrorClass) -> None:
    assert pauses(failure(error_class)) == [math.inf] * 5


def test_an_undeclared_field_gets_one_more_look_as_the_schema_may_be_on_its_way() -> None:
    undeclared = failure(ErrorClass.PERMANENT, undeclared=True)
    custom = ObjectId("x.example.com", "Widget", "n", "w")
    first = noted({}, [result(custom, undeclared), result(A, undeclared)], now=0.0, interval_s=INTERVAL_S)
    assert {id_: retry.due for id_, retry in first.items()} == {custom: 60.0, A: math.inf}
    second = noted(first, [result(custom, undeclared)], now=60.0, interval_s=INTERVAL_S)
    assert second[custom].due == math.inf


@pytest.mark.parametrize("error_class", [ErrorClass.FORBIDDEN, ErrorClass.CONFLICT])
def test_what_others_must_allow_is_tried_slowly(error_class: ErrorClass) -> None:
    assert pauses(failure(error_class)) == [60.0, 120.0, 240.0, 480.0, 600.0]


def test_what_admission_denies_is_tried_slowly_whatever_its_status_code() -> None:
    denied = failure(ErrorClass.PERMANENT, 'admission webhook "v.example" denied the request: no team label')
    assert pauses(denied, 2) == [60.0, 120.0]


@pytest.mark.parametrize("error_class", [ErrorClass.WAITING, ErrorClass.TRANSIENT])
def test_what_may_pass_is_tried_soon_and_never_less_often_than_the_interval(error_class: ErrorClass) -> None:
    assert pauses(failure(error_class), 7) == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_the_moment_that_the_server_names_is_kept() -> None:
    assert pauses(failure(ErrorClass.TRANSIENT, retry_after_s=17.0), 3) == [17.0, 17.0, 17.0]


def test_each_object_has_its_own_time_and_its_own_count() -> None:
    waiting, refused = failure(ErrorClass.WAITING), failure(ErrorClass.FORBIDDEN)
    first = noted({}, [result(A, waiting), result(B, refused)], now=100.0, interval_s=INTERVAL_S)
    assert {id_: retry.due for id_, retry in first.items()} == {A: 102.0, B: 160.0}
    assert next_due(first) == 102.0
    assert postponed(first, 102.0) == {B: refused}
    second = noted(first, [result(A, waiting), result(B, refused)], now=102.0, interval_s=INTERVAL_S)
    assert second == {A: Retry(waiting, 2, 106.0), B: first[B]}, "b was postponed: its moment stays"


def test_another_failure_counts_anew_and_success_ends_the_count() -> None:
    first = noted({}, [result(A, failure(ErrorClass.WAITING))] * 1, now=0.0, interval_s=INTERVAL_S)
    refused = failure(ErrorClass.FORBIDDEN)
    assert noted(first, [result(A, refused)], now=2.0, interval_s=INTERVAL_S)[A].attempts == 1
    assert noted(first, [result(A, None, Action.CREATED)], now=2.0, interval_s=INTERVAL_S) == {}


def test_what_was_only_blocked_has_no_time_of_its_own() -> None:
    blocked = result(A, failure(ErrorClass.WAITING), Action.SKIPPED)
    assert noted({}, [blocked], now=0.0, interval_s=INTERVAL_S) == {}
    assert next_due({}) == math.inf
