"""CEL rules of custom kinds: the only owner of the CEL library, which is an extra (`pip install ocisync[cel]`).

A rule is judged on one object alone, as when it is created: rules that speak of `oldSelf` are passed over. Functions
that Kubernetes adds to CEL are given here as far as they are about strings, lists and regular expressions; a rule that
needs another (quantities, addresses, optional fields), or that the library cannot read, counts as not checked. It is
never an error: the API server still checks it.
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
_COMPILED = "cel.cel"  # the compiled half's own name
NO_LIBRARY = "no CEL library is installed (pip install 'ocisync[cel]')"


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

    def judge(self, value: Callable[[], Any]) -> CelVerdict:
        """Apply the rule to a value, which is made only if there is a library to use it."""
        program = _compiled(self.text)
        if isinstance(program, str):
            return CelVerdict(unchecked=program)
        known = value()
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


def _find(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    return match[0] if match else ""


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
    "findAll": lambda text, pattern, limit=-1: [m[0] for m in re.finditer(pattern, text)][
        : limit if limit >= 0 else None
    ],
    "charAt": lambda text, index: text[index : index + 1],
    "lowerAscii": lambda text: "".join(char.lower() if char.isascii() else char for char in text),
    "upperAscii": lambda text: "".join(char.upper() if char.isascii() else char for char in text),
    "replace": lambda text, old, new, limit=-1: text.replace(old, new, limit),
    "split": lambda text, sep, limit=-1: text.split(sep) if limit < 0 else text.split(sep, limit - 1) if limit else [],
    "substring": lambda text, start, end=None: text[start:end],
    "trim": lambda text: text.strip(),
    "join": lambda items, sep="": sep.join(items),
    "isURL": _is_url,
}
