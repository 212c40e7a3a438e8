"""Attestations that a policy requires: which kind, by whom, and what must stand in it.

    attestations: [{predicateType: URI, authorities: [NAME, …], where: [{path: JSON pointer, equals | glob: TEXT}]}]

A path (RFC 6901) leads from the predicate to a text; numbers, booleans, lists and objects equal nothing. `equals` is
exact, `glob` is a glob as everywhere: `*` is any run without `/`, the whole text must match.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ocisync.model.errors import InvalidInput
from ocisync.model.predicates import SHORT_NAMES, SLSA_PROVENANCE, type_problem
from ocisync.model.values import dataclass
from ocisync.policy.fields import Fields
from ocisync.policy.globs import glob_matches

_RULES_COUNT = 32
_CONDITIONS_COUNT = 32
_PATH_CHARS = 1_024
_INDEX = re.compile(r"(?:0|[1-9][0-9]{0,8})\Z")
_BAD_ESCAPE = re.compile(r"~(?![01])")


@dataclass(frozen=True, slots=True)
class Condition:
    """One text that must stand in a predicate. Exactly one of `equals` and `glob` is set; the other is None."""

    path: str
    equals: str | None = None
    glob: str | None = None

    def mismatch(self, predicate: Mapping[str, Any]) -> str:
        """Why `predicate` does not satisfy it, to follow "but"; empty if it does."""
        found, value = _at(predicate, self.path)
        wanted = f"{self.equals!r}" if self.equals is not None else f"a text like {self.glob!r}"
        if not found:
            return f"nothing stands at {self.path}; the policy wants {wanted}"
        if not isinstance(value, str):
            return f"{self.path} is no text; the policy wants {wanted}"
        if self.equals is not None:
            matches = value == self.equals
        else:
            matches = self.glob is not None and glob_matches(self.glob, value)
        return "" if matches else f"{self.path} is {value[:300]!r}; the policy wants {wanted}"


@dataclass(frozen=True, slots=True)
class AttestationRule:
    """One attestation that must be there: of this type, by one of these authorities, satisfying all conditions."""

    predicate_type: str
    authorities: tuple[str, ...]
    where: tuple[Condition, ...] = ()

    def names(self, path: str) -> bool:
        """Whether a condition is about `path`."""
        return any(condition.path == path for condition in self.where)


def parse_attestations(spec: Fields, authorities: Collection[str]) -> tuple[AttestationRule, ...]:
    """Parse the `attestations` of a policy whose authorities have these names.

    Raises:
        InvalidInput: naming the field.
    """
    fields = ("predicateType", "authorities", "where")
    return spec.each("attestations", _RULES_COUNT, lambda at, item: _rule(spec.below(at, item, fields), authorities))


def check_predicate_type(text: str, where: str) -> str:
    """Return a predicate type.

    Raises:
        InvalidInput: no URI, or that of signatures.
    """
    problem = type_problem(text)
    if text in SHORT_NAMES:
        raise InvalidInput(f"{where}: {problem}", hint=f"write the whole type: {SHORT_NAMES[text]}")
    if problem:
        raise InvalidInput(f"{where}: {problem}", hint=f"write the whole type, like {SLSA_PROVENANCE}")
    return text


def _rule(fields: Fields, known: Collection[str]) -> AttestationRule:
    predicate_type = fields.attempt(
        lambda: check_predicate_type(fields.text("predicateType"), f"{fields.where}.predicateType"), ""
    )
    authorities: list[str] = []
    for place, name in fields.texts("authorities", _RULES_COUNT):
        if name not in known:
            fields.refuse(InvalidInput(f"{place}: {name[:100]!r} is no authority of the policy"))
        if name in authorities:
            fields.refuse(InvalidInput(f"{place}: {name[:100]!r} is named twice"))
        authorities.append(name)
    if not authorities:
        fields.refuse(fields.fail("authorities", "required: the names of authorities that may have made it"))
    parts = ("path", "equals", "glob")
    conditions = fields.each("where", _CONDITIONS_COUNT, lambda at, item: _condition(fields.below(at, item, parts)))
    return AttestationRule(predicate_type, tuple(authorities), conditions)


def _condition(fields: Fields) -> Condition:
    path = fields.text("path")
    if not path.startswith("/") or _BAD_ESCAPE.search(path) or len(path) > _PATH_CHARS or not path.isprintable():
        raise fields.fail(
            "path", f"{path[:100]!r} is no JSON pointer", "it begins with /, for example /runDetails/builder/id"
        )
    if fields.has("equals") == fields.has("glob"):
        raise InvalidInput(f"{fields.where}: set exactly one of equals, glob")
    if fields.has("equals"):
        return Condition(path, equals=fields.text("equals", ""))
    return Condition(path, glob=fields.text("glob"))


def _at(predicate: Mapping[str, Any], path: str) -> tuple[bool, Any]:
    """Whether something stands there, and what."""
    value: Any = predicate
    for escaped in path.split("/")[1:]:
        token = escaped.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and token in value:
            value = value[token]
        elif isinstance(value, list) and _INDEX.match(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            return False, None
    return True, value
