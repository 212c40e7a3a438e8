"""Checks of a sync's own: what decides, in which order, and what an expression may not do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from ocisync.cluster.health import HealthStatus, health
from ocisync.cluster.health_checks import compiled
from ocisync.model.errors import InvalidInput
from ocisync.model.spec import HealthCheck
from tests.unit.cluster.test_health_pods import JSON

OK, BUSY, BAD = HealthStatus.CURRENT, HealthStatus.IN_PROGRESS, HealthStatus.FAILED
UNKNOWN, ENDING = HealthStatus.UNKNOWN, HealthStatus.TERMINATING


def check(current: str = "", failed: str = "", group: str = "example.com", kind: str = "Widget") -> HealthCheck:
    return HealthCheck("spec.wait.checks[0]", group, kind, current, failed)


def widget(status: Any = None, **metadata: Any) -> dict[str, Any]:
    found = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "x", **metadata}}
    return found if status is None else {**found, "status": status}


NOT_READY = {"conditions": [{"type": "Ready", "status": "False", "message": "warming up"}]}
STALLED = {"conditions": [{"type": "Stalled", "status": "True", "message": "no licence"}]}

CASES = [
    ("current", check("status.phase == 'Up'"), widget({"phase": "Up"}), OK, ""),
    ("by self", check("self.status.phase == 'Up'"), widget({"phase": "Up"}), OK, ""),
    ("not yet", check("status.phase == 'Up'"), widget({"phase": "Down"}), BUSY, "is false: phase Down"),
    ("not yet, with its condition", check("false"), widget(NOT_READY), BUSY, "warming up"),
    ("failed", check("true", "status.phase == 'Bad'"), widget({"phase": "Bad"}), BAD, "failed is true: phase Bad"),
    ("failed goes first", check("true", "true"), widget({}), BAD, "failed is true"),
    ("only failed, and it is not", check("", "status.n > 2"), widget({"n": 1}), OK, ""),
    ("only failed: the kind's own rule", check("", "status.n > 2"), widget({"n": 1, **NOT_READY}), BUSY, "warming up"),
    ("only current: failures of the kind count", check("false"), widget(STALLED), BAD, "no licence"),
    ("both given: the kind's is not asked", check("false", "false"), widget(STALLED), BUSY, "is false: no licence"),
    ("no such field yet", check("status.phase == 'Up'"), widget(), BUSY, "there is no field"),
    ("no such field, failed alone", check("", "status.n > 2"), widget(), UNKNOWN, "there is no field"),
    ("no boolean", check("status.n"), widget({"n": 3}), BUSY, "gives int, not a boolean"),
    ("unknown name", check("nobody == 1"), widget({}), BUSY, "nobody"),
    ("overflow", check("9223372036854775807 + status.n > 0"), widget({"n": 1}), BUSY, "overflow"),
    ("older generation", check("true"), widget({"observedGeneration": 1}, generation=2), BUSY, "generation 2"),
    ("deleted", check("true"), widget({}, deletionTimestamp="t"), ENDING, "deleted"),
    ("another kind", check("false", kind="Gizmo"), widget({}), OK, ""),
    ("too many steps", check("status.l.all(a, status.l.all(b, a + b >= 0))"), widget({"l": list(range(999))}), BUSY,
     "too many steps"),
    ("macros", check("status.c.exists(c, c.type == 'Up' && c.status == 'True')"),
     widget({"c": [{"type": "Up", "status": "True"}]}), OK, ""),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "obj", "status", "words"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_health_by_a_check(rule: HealthCheck, obj: dict[str, Any], status: HealthStatus, words: str) -> None:
    found = compiled((rule,))(obj)
    assert found.status is status, found
    assert words in found.message


def test_a_check_takes_the_place_of_a_workloads_own_rule() -> None:
    one_is_enough = check("status.readyReplicas >= 1", group="apps", kind="Deployment")
    live = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "generation": 1},
        "spec": {"replicas": 3}, "status": {"observedGeneration": 1, "replicas": 3, "readyReplicas": 1},
    }  # fmt: skip
    assert health(live).status is BUSY
    assert compiled((one_is_enough,))(live).status is OK


def test_without_checks_the_usual_rules_hold() -> None:
    assert compiled(())(widget(NOT_READY)) == health(widget(NOT_READY))


def test_the_same_checks_are_the_same_rule_so_that_nothing_is_read_anew() -> None:
    assert compiled((check("true"),)) is compiled((check("true"),))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("status.phase ==", "line 1, column 16"),
        ("true &&\n  ) x", "line 2, column 3"),
        ("a b", "line 1, column 3"),
        ("(" * 2000, ""),
    ],
)
def test_an_expression_that_cannot_be_read_is_named_with_its_place(text: str, where: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        compiled((check(failed=text),))
    assert refused.value.message.startswith(f"spec.wait.checks[0].failed: {where}")
    assert len(refused.value.message) < 500


@given(JSON)
def test_an_object_of_any_shape_is_judged_without_an_error(status: Any) -> None:
    rule = compiled((check("status.phase == 'Up' && status.state.all(c, c.type == 'Up')", "status.reason > 3"),))
    assert rule(widget(status)).status in HealthStatus


@pytest.mark.parametrize(("group", "kind"), [("", "Secret"), ("", "ConfigMap"), ("rbac.authorization.k8s.io", "Role")])
def test_kinds_that_are_watched_without_their_content_have_no_checks(group: str, kind: str) -> None:
    with pytest.raises(InvalidInput, match="without their content"):
        compiled((check("true", group=group, kind=kind),))
