"""`spec.wait`, `spec.onFailure` and what people ask for by annotation, as the agent reads them."""

from __future__ import annotations

from typing import Any

import pytest

from ocisync.model.errors import InvalidInput
from ocisync.model.spec import SyncSpec, parse_sync

WIDGET = {"apiVersion": "example.com/v1", "kind": "Widget"}


def parse(**spec: Any) -> SyncSpec:
    annotations = spec.pop("annotations", {})
    metadata = {"name": "shop", "namespace": "apps", "annotations": annotations}
    return parse_sync({"metadata": metadata, "spec": {"source": {"repository": "r.example/x", "tag": "t"}, **spec}})


def test_waves_wait_only_where_wait_is_given() -> None:
    assert (parse().waits, parse().wait_timeout_s, parse().checks) == (False, 300.0, ())
    assert parse(wait={}).waits
    assert parse(wait={"timeout": "90s"}).wait_timeout_s == 90.0


def test_checks_are_read_by_group_and_kind() -> None:
    core = {"apiVersion": "v1", "kind": "Pod", "failed": "false"}
    first, second = parse(wait={"checks": [{**WIDGET, "current": "true"}, core]}).checks
    assert (first.group, first.kind, first.current, first.failed) == ("example.com", "Widget", "true", "")
    assert (second.group, second.kind, second.place) == ("", "Pod", "spec.wait.checks[1]")


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ([WIDGET], r"checks\[0\]: give current, failed or both"),
        ([{**WIDGET, "current": "  "}], "give current, failed or both"),
        ([{"kind": "Widget", "current": "true"}], "apiVersion and kind are required"),
        ([{"apiVersion": "v1", "current": "true"}], "apiVersion and kind are required"),
        ([{**WIDGET, "current": "x" * 4097}], "more than 4096 characters"),
        ([{**WIDGET, "current": 1}], "expected a string"),
        ([{**WIDGET, "progress": "true"}], "unknown field 'progress'"),
        ([{**WIDGET, "current": "true"}, {**WIDGET, "apiVersion": "example.com/v2", "failed": "true"}],
         r"checks\[1\]: Widget has a check already, spec.wait.checks\[0\]"),
        ([{**WIDGET, "kind": f"K{n}", "current": "true"} for n in range(65)], "65 checks; at most 64"),
        ("x", "expected a list"),
        (["x"], "expected an object"),
    ],
)  # fmt: skip
def test_a_check_that_says_nothing_or_too_much_is_refused(checks: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse(wait={"checks": checks})


def test_going_back_is_read() -> None:
    assert parse(onFailure={"rollback": True}).roll_back
    assert not parse(onFailure={}).roll_back
    with pytest.raises(InvalidInput, match=r"spec.onFailure: unknown field 'retry'"):
        parse(onFailure={"retry": True})


def test_what_people_ask_for_is_read_from_annotations() -> None:
    marks = {f"ocisync.dev/{name}": name for name in ("rollback", "retry", "suspended-by", "suspend-reason")}
    spec = parse(annotations=marks)
    assert (spec.rollback, spec.retry, spec.suspended_by, spec.suspend_reason) == (
        "rollback", "retry", "suspended-by", "suspend-reason",
    )  # fmt: skip
