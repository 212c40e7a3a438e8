"""CEL rules of custom kinds: the only owner of the CEL library, which is an extra (`pip install ocisync[cel]`).

A rule is judged on one object alone, as when it is created: rules that speak of `oldSelf` are passed over. Functions
that Kubernetes adds to CEL are given here as far as they are about strings, lists and regular expressions; a rule that
needs another (quantities, addresses, optional fields), or that the library cannot read, counts as not checked. It is
never an error: the API server still checks it. So is one that would take long: the library cannot be interrupted, so
what a rule may take is estimated before (the widest list, to the power of how deep its loops are nested).
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from ocisync.kit.yamlio import Path
from ocisync.model.values import dataclass

_RESERVED = frozenset(
    {"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
     "let", "loop", "package", "namespace", "return", "var", "void", "while"}
)  # fmt: skip
_UPDATES = re.compile(r"\boldSelf\b")
_TEXT = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_FIELD = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]")
_DURATION_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_MESSAGE_CHARS = 300
_LOOP = re.compile(r"\.(?:all|exists|exists_one|existsOne|map|filter)\s*\Z")
_CUTS = re.compile(r"\b(?:split|findAll)\b")  # make lists of texts
_GROWS = re.compile(r"\b(?:replace|join)\b")
_GROWTH_CHARS = 1 << 20  # what a rule may make of a text
_REPEAT = re.compile(r"(?<!\\)[*+]|\{\d+,")
_REPEATED_GROUP = re.compile(r"\)(?:[*+]|\{)")
_MOST_REPEATS = 2
STEPS_PER_KIND = 1_000_000  # about a second; an API server's own limit is of this order
_COMPILED = "cel.cel"  # the compiled half's own name
NO_LIBRARY = "no CEL library is installed (pip install 'ocisync[cel]')"


class Allowance:
    """The steps that the rules of one kind may take, of all its objects together."""

    def __init__(self, steps: int = STEPS_PER_KIND) -> None:
        self._left = steps

    def take(self, steps: int) -> bool:
        """Take steps, if so many are left."""
        if steps > self._left:
            return False
        self._left -= steps
        return True


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
        return _UPDATES.search(_TEXT.sub("", self.text)) is not None

    def problem(self) -> str:
        """Why the rule cannot be checked here at all; empty if it may be."""
        compiled = _compiled(self.text)
        return compiled if isinstance(compiled, str) else ""

    def judge(self, value: Callable[[], Any], allowance: Allowance) -> CelVerdict:
        """Apply the rule to a value, which is made only if there is a library to use it."""
        program = _compiled(self.text)
        if isinstance(program, str):
            return CelVerdict(unchecked=program)
        known = value()
        if not allowance.take(_steps(self.text, known) + _steps(self.message_expression, known)):
            return CelVerdict(unchecked="it would take too many steps")
        try:
            answer = _run(program, known)
        except (KeyError, IndexError, ZeroDivisionError) as error:
            # The API server takes these as a refusal, too.
            return CelVerdict(failure=f"the rule {_short(self.text)} cannot be evaluated: {_short(str(error))}")
        except Exception as error:  # noqa: BLE001 - a foreign interpreter, from missing functions to overflow: nothing is known
            return CelVerdict(unchecked=_short(str(error)))
        if answer is True:
            return CelVerdict()
        if answer is not False:
            return CelVerdict(unchecked=f"it gives {type(answer).__name__}, not a boolean")
        return CelVerdict(failure=self._explanation(known))

    def _explanation(self, known: Any) -> str:
        if self.message_expression:
            program = _compiled(self.message_expression)
            if not isinstance(program, str):
                try:
                    answer = _run(program, known)
                except Exception:  # noqa: BLE001 - then the fixed message is shown, as the API server does
                    answer = None
                if isinstance(answer, str) and answer.strip():
                    return _short(answer)
        return _short(self.message or f"failed rule: {' '.join(self.text.split())}")


def _steps(rule: str, value: Any) -> int:
    """How often the inside of a rule may run at most. Lists that loops make are no longer than their nesting tells."""
    text, open_calls, depth = _TEXT.sub("''", rule), [False], 0
    for at, char in enumerate(text):
        if char in "([{":
            open_calls.append(char == "(" and _LOOP.search(text, max(0, at - 20), at) is not None)
            depth = max(depth, sum(open_calls))
        elif char in ")]}" and len(open_calls) > 1:
            open_calls.pop()
    cuts = _CUTS.search(text) is not None
    width = max(_widest(value, texts=cuts), 2) + text.count(",")  # a list may stand in the rule itself
    if cuts:
        width = max(width + len(rule), _GROWTH_CHARS if _GROWS.search(text) else 0)
    return int(min((width * (1 + text.count("+"))) ** min(depth, 9), 1 << 62))


def _widest(value: Any, *, texts: bool) -> int:
    if isinstance(value, str):
        return len(value) if texts else 0
    if isinstance(value, dict | list):
        entries = value.values() if isinstance(value, dict) else value
        return max([len(value), *(_widest(entry, texts=texts) for entry in entries)])
    return 0


def is_risky(pattern: str) -> bool:
    """Tell whether Python could try a pattern in too many ways: a repeated group, or several repeats in a row."""
    return _REPEATED_GROUP.search(pattern) is not None or len(_REPEAT.findall(pattern)) > _MOST_REPEATS


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MESSAGE_CHARS else line[: _MESSAGE_CHARS - 1] + "…"


@lru_cache(maxsize=1)
def _library() -> Any:
    """The library's compiled half; None if it is not installed."""
    if _COMPILED in sys.modules:
        return sys.modules[_COMPILED]
    package = importlib.util.find_spec("cel")
    if package is None:
        return None
    # The package's own __init__ imports its command line with all that draws tables: half a second for nothing.
    spec = importlib.machinery.PathFinder.find_spec("cel", package.submodule_search_locations)
    if spec is None or spec.loader is None:
        return importlib.import_module("cel")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # It can be loaded only once in a process: whoever imports the package finds it here.
    return sys.modules.setdefault(_COMPILED, module)


@lru_cache(maxsize=1024)
def _compiled(text: str) -> Any:
    """A program, or the text of why there is none."""
    library = _library()
    if library is None:
        return NO_LIBRARY
    try:
        return library.compile(text)
    except Exception as error:  # noqa: BLE001 - a foreign parser
        return _short(str(error))


def _run(program: Any, value: Any) -> Any:
    context = _library().Context()
    context.add_variable("self", value)
    for name, function in _FUNCTIONS.items():
        context.add_function(name, function)
    return program.execute(context)


def matcher(pattern: str) -> Callable[[str], bool] | None:
    """A search in linear time for a regular expression as RE2 reads it; None without library, or if it is none."""
    program = _compiled("text.matches(pattern)")
    if isinstance(program, str):
        return None

    def matches(text: str) -> bool:
        context = _library().Context()
        context.add_variable("text", text)
        context.add_variable("pattern", pattern)
        return bool(program.execute(context))

    try:
        matches("")
    except Exception:  # noqa: BLE001 - a foreign interpreter; what it cannot read is no pattern
        return None
    return matches


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


def _is_sorted(items: list[Any]) -> bool:
    return all(items[index] <= items[index + 1] for index in range(len(items) - 1))


def _index_of(whole: Any, part: Any, start: int = 0) -> int:
    if isinstance(whole, str):
        return whole.find(part, start)
    return next((index for index, item in enumerate(whole) if item == part), -1)


def _last_index_of(whole: Any, part: Any) -> int:
    if isinstance(whole, str):
        return whole.rfind(part)
    return next((index for index in range(len(whole) - 1, -1, -1) if whole[index] == part), -1)


def _pattern(text: str) -> re.Pattern[str]:
    if is_risky(text):
        raise ValueError(f"a search for {text} may never end")
    return re.compile(text)


def _find(text: str, pattern: str) -> str:
    match = _pattern(pattern).search(text)
    return match[0] if match else ""


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    _check_growth(len(text) + text.count(old) * len(new))
    return text.replace(old, new, limit)


def _join(items: list[str], separator: str = "") -> str:
    _check_growth(sum(map(len, items)) + len(items) * len(separator))
    return separator.join(items)


def _check_growth(chars: int) -> None:
    if chars > _GROWTH_CHARS:
        raise ValueError(f"it makes a text of {chars} characters")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme and parts.netloc) or text.startswith("/")


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "isSorted": _is_sorted,
    "sum": lambda items: sum(items),
    "min": lambda items: min(items),
    "max": lambda items: max(items),
    "indexOf": _index_of,
    "lastIndexOf": _last_index_of,
    "find": _find,
    "findAll": lambda text, pattern, limit=-1: [m[0] for m in _pattern(pattern).finditer(text)][
        : limit if limit >= 0 else None
    ],
    "charAt": lambda text, index: text[index : index + 1],
    "lowerAscii": lambda text: "".join(char.lower() if char.isascii() else char for char in text),
    "upperAscii": lambda text: "".join(char.upper() if char.isascii() else char for char in text),
    "replace": _replace,
    "split": lambda text, sep, limit=-1: text.split(sep) if limit < 0 else text.split(sep, limit - 1) if limit else [],
    "substring": lambda text, start, end=None: text[start:end],
    "trim": lambda text: text.strip(),
    "join": _join,
    "isURL": _is_url,
}
