"""CEL rules of custom kinds.

A rule is judged on one object alone, as when it is created: rules that speak of `oldSelf` are passed over. A rule that
the library cannot read or lacks functions for, or that might take long, counts as not checked. It is never an error:
the API server still checks it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ocisync.kit import cel
from ocisync.kit.yamlio import Path
from ocisync.model.values import dataclass

_RESERVED = frozenset(
    {"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
     "let", "loop", "package", "namespace", "return", "var", "void", "while"}
)  # fmt: skip
_UPDATES = re.compile(r"\boldSelf\b")
_FIELD = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]")
_DURATION_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class CelVerdict:
    """What a rule says: `failure` is why the value is wrong, `unchecked` why nothing can be said. Both empty: right."""

    failure: str = ""
    unchecked: str = ""


@dataclass(frozen=True, slots=True)
class CelRule:
    """One entry of `x-kubernetes-validations`."""

    text: str
    message: str
    message_expression: str
    field_path: Path

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> CelRule:
        """Read an entry; `raw["rule"]` is text."""
        path = tuple(next(filter(None, groups)) for groups in _FIELD.findall(str(raw.get("fieldPath") or "")))
        return cls(raw["rule"], str(raw.get("message") or ""), str(raw.get("messageExpression") or ""), path)

    @property
    def concerns_updates(self) -> bool:
        """Tell whether the rule compares with an earlier state."""
        return _UPDATES.search(cel.TEXT.sub("", self.text)) is not None

    def problem(self) -> str:
        """Why the rule cannot be checked here at all; empty if it may be."""
        compiled = cel.compiled(self.text)
        return compiled if isinstance(compiled, str) else ""

    def judge(self, value: Callable[[], Any], allowance: cel.Allowance) -> CelVerdict:
        """Apply the rule to a value, which is made only if there is a library to use it."""
        program = cel.compiled(self.text)
        if isinstance(program, str):
            return CelVerdict(unchecked=program)
        known = value()
        if not allowance.take(cel.steps(self.text, known) + cel.steps(self.message_expression, known)):
            return CelVerdict(unchecked="it would take too many steps")
        try:
            answer = cel.run(program, {"self": known})
        except (KeyError, IndexError, ZeroDivisionError) as error:
            # The API server takes these as a refusal, too.
            return CelVerdict(failure=f"the rule {cel.short(self.text)} cannot be evaluated: {cel.short(str(error))}")
        except Exception as error:  # noqa: BLE001 - a foreign interpreter, from missing functions to overflow: nothing is known
            return CelVerdict(unchecked=cel.short(str(error)))
        if answer is True:
            return CelVerdict()
        if answer is not False:
            return CelVerdict(unchecked=f"it gives {type(answer).__name__}, not a boolean")
        return CelVerdict(failure=self._explanation(known))

    def _explanation(self, known: Any) -> str:
        if self.message_expression:
            program = cel.compiled(self.message_expression)
            if not isinstance(program, str):
                try:
                    answer = cel.run(program, {"self": known})
                except Exception:  # noqa: BLE001 - then the fixed message is shown, as the API server does
                    answer = None
                if isinstance(answer, str) and answer.strip():
                    return cel.short(answer)
        return cel.short(self.message or f"failed rule: {' '.join(self.text.split())}")


def escaped(name: str) -> str:
    """A field's name as CEL rules write it."""
    if name in _RESERVED:
        return f"__{name}__"
    for plain, code in (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")):
        name = name.replace(plain, code) if plain in name else name
    return name


def typed(value: Any, form: str) -> Any:
    """A scalar in the type that its format has in CEL; as it is, where it is not of that format."""
    if not isinstance(value, str):
        return value
    try:
        if form in ("date-time", "datetime"):
            return datetime.fromisoformat(value)
        if form == "date":
            return datetime.fromisoformat(value + "T00:00:00+00:00")
        if form == "duration":
            return _duration(value)
    except ValueError:
        return value
    return value


def _duration(text: str) -> timedelta:
    parts = re.findall(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.lstrip("+-"):
        raise ValueError(text)
    seconds = sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)
    return timedelta(seconds=-seconds if text.startswith("-") else seconds)
