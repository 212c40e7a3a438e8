"""Health by the sync's own CEL expressions (`spec.wait.checks`), and by the kind's rule where they say nothing. Pure.

An expression sees the object as `self`, and its top-level fields by name: `status.phase == 'Up'` and
`self.status.phase == 'Up'` are the same. `metadata`, `spec` and `status` are always there, if need be empty. Checked
in this order:

    deleted, or its status is about an older generation     as for every kind
    failed is true                                          Failed
    current is true                                         Current
    current is given                                        in progress
    otherwise                                               the kind's own rule

An expression that cannot be evaluated (a field that is not there yet) is not true, and the message says why. What an
expression may take is estimated before it runs, since nothing can stop it then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from ocisync.cluster.health import (
    CURRENT,
    Health,
    HealthStatus,
    behind,
    failed,
    health,
    needs_object,
    progressing,
    section,
)
from ocisync.kit import cel
from ocisync.model.errors import InvalidInput
from ocisync.model.resource import gvk_of
from ocisync.model.spec import HealthCheck
from ocisync.model.values import dataclass

_PLACE: Final = re.compile(r"<input>:(\d+):(\d+): (.*?)(?: expecting \{| \| |$)")
_STEPS: Final = 100_000  # about a tenth of a second: it is evaluated for each event
_RULE_OF_KIND: Final = "where its health is a matter of its content: workloads, storage, network, custom kinds"

HealthRule = Callable[[Mapping[str, Any]], Health]


@dataclass(frozen=True, slots=True)
class _Expression:
    """One compiled expression."""

    place: str
    text: str
    program: Any

    def holds(self, variables: Mapping[str, Any]) -> tuple[bool, str]:
        """Whether it is true, and why that cannot be said."""
        if cel.steps(self.text, variables["self"]) > _STEPS:
            return False, f"{self.place} would take too many steps on an object of this size"
        try:
            answer = cel.run(self.program, variables)
        except KeyError as error:
            return False, f"{self.place} cannot be evaluated: there is no field {cel.short(str(error))}"
        except Exception as error:  # noqa: BLE001 - a foreign interpreter
            return False, f"{self.place} cannot be evaluated: {cel.short(str(error))}"
        if not isinstance(answer, bool):
            return False, f"{self.place} gives {type(answer).__name__}, not a boolean"
        return answer, ""


@dataclass(frozen=True, slots=True)
class _Check:
    current: _Expression | None
    failed: _Expression | None

    def health(self, obj: Mapping[str, Any]) -> Health:
        late = behind(obj)
        if section(obj, "metadata").get("deletionTimestamp") or late:
            return progressing(late) if late else health(obj)
        variables = {"metadata": {}, "spec": {}, "status": {}, **obj, "self": obj}
        if self.failed is not None:
            broken, problem = self.failed.holds(variables)
            if broken:
                return failed(f"{self.failed.place} is true{_reason(obj)}")
            if problem and self.current is None:
                return Health(HealthStatus.UNKNOWN, problem)
        if self.current is None:
            return health(obj)
        good, problem = self.current.holds(variables)
        if good:
            return CURRENT
        own = health(obj) if self.failed is None else CURRENT
        if own.status is HealthStatus.FAILED:
            return own
        return progressing(problem or f"{self.current.place} is false{_reason(obj)}")


class Checks:
    """The compiled checks of a sync."""

    def __init__(self, checks: Mapping[tuple[str, str], _Check]) -> None:
        self._checks = checks

    def __call__(self, obj: Mapping[str, Any]) -> Health:
        """The health of one live object."""
        if not self._checks:
            return health(obj)
        gvk = gvk_of(obj)
        check = self._checks.get((gvk.group, gvk.kind))
        return health(obj) if check is None else check.health(obj)


@lru_cache(maxsize=256)
def compiled(checks: tuple[HealthCheck, ...]) -> Checks:
    """Compile what a sync asks for; the same checks give the same object.

    Raises:
        InvalidInput: naming the field, and where in its text the trouble is.
    """
    made: dict[tuple[str, str], _Check] = {}
    for check in checks:
        if not needs_object(check.group, check.kind):
            raise InvalidInput(
                f"{check.place}: objects of kind {check.kind} are watched without their content",
                hint=f"checks are for kinds {_RULE_OF_KIND}",
            )
        made[check.group, check.kind] = _Check(
            _expression(f"{check.place}.current", check.current), _expression(f"{check.place}.failed", check.failed)
        )
    return Checks(made)


def _expression(place: str, text: str) -> _Expression | None:
    if not text.strip():
        return None
    program = cel.compiled(text)
    if isinstance(program, str):
        hint = "it is CEL over `self`, for example: status.phase == 'Ready'"
        raise InvalidInput(f"{place}: {_located(program)}", hint="" if program == cel.NO_LIBRARY else hint)
    return _Expression(place, text, program)


def _located(problem: str) -> str:
    """The first of the library's complaints, with its place in words."""
    match = _PLACE.search(problem)
    return f"line {match[1]}, column {match[2]}: {match[3].strip()}" if match else problem


def _reason(obj: Mapping[str, Any]) -> str:
    """What the object says of itself, if it says anything."""
    found = section(obj, "status")
    items = found.get("conditions")
    for item in items if isinstance(items, list) else []:
        known = isinstance(item, dict) and str(item.get("type")) in {"Ready", "Available", "Stalled"}
        if known and item.get("message"):
            return f": {cel.short(str(item['message']))}"
    phase = found.get("phase")
    return f": phase {cel.short(phase)}" if isinstance(phase, str) and phase else ""
