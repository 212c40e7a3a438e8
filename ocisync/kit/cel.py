"""CEL: the only owner of its library, which is an extra (`pip install ocisync[cel]`).

Expressions come from artifacts and from syncs, and nothing about them is trusted. The library cannot be interrupted:
what an expression may take is estimated before it runs (`steps`: the widest list, to the power of how deep its loops
are nested). Functions that Kubernetes adds to CEL are given as far as they are about strings, lists and regular
expressions; an expression that needs another (quantities, addresses, optional fields) fails when it runs.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

TEXT = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")  # literals, whose words are not the expression's own
NO_LIBRARY = "no CEL library is installed (pip install 'ocisync[cel]')"
STEPS = 1_000_000  # about a second; an API server's own limit is of this order
_MESSAGE_CHARS = 300
_LOOP = re.compile(r"\.(?:all|exists|exists_one|existsOne|map|filter)\s*\Z")
_CUTS = re.compile(r"\b(?:split|findAll)\b")  # make lists of texts
_GROWS = re.compile(r"\b(?:replace|join)\b")
_GROWTH_CHARS = 1 << 20  # what an expression may make of a text
_REPEAT = re.compile(r"(?<!\\)[*+]|\{\d+,")
_REPEATED_GROUP = re.compile(r"\)(?:[*+]|\{)")
_MOST_REPEATS = 2
_COMPILED = "cel.cel"  # the compiled half's own name


class Allowance:
    """The steps that some expressions may take together."""

    def __init__(self, steps: int = STEPS) -> None:
        self._left = steps

    def take(self, steps: int) -> bool:
        """Take steps, if so many are left."""
        if steps > self._left:
            return False
        self._left -= steps
        return True


def steps(expression: str, value: Any) -> int:
    """How often the inside of an expression may run. Lists that loops make are no longer than their nesting tells."""
    text, open_calls, depth = TEXT.sub("''", expression), [False], 0
    for at, char in enumerate(text):
        if char in "([{":
            open_calls.append(char == "(" and _LOOP.search(text, max(0, at - 20), at) is not None)
            depth = max(depth, sum(open_calls))
        elif char in ")]}" and len(open_calls) > 1:
            open_calls.pop()
    cuts = _CUTS.search(text) is not None
    width = max(_widest(value, texts=cuts), 2) + text.count(",")  # a list may stand in the expression itself
    if cuts:
        width = max(width + len(expression), _GROWTH_CHARS if _GROWS.search(text) else 0)
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


def short(text: str) -> str:
    """A foreign text as one line of bounded length."""
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
def compiled(text: str) -> Any:
    """A program, or the text of why there is none."""
    library = _library()
    if library is None:
        return NO_LIBRARY
    try:
        return _calm(library.compile, text)
    except Exception as error:  # noqa: BLE001 - a foreign parser
        return short(str(error))


def run(program: Any, variables: Mapping[str, Any]) -> Any:
    """What a program says of some variables.

    Raises:
        Exception: of any kind: it is a foreign interpreter. A missing key is a KeyError.
    """
    context = _library().Context()
    for name, value in variables.items():
        context.add_variable(name, value)
    for name, function in _FUNCTIONS.items():
        context.add_function(name, function)
    return _calm(program.execute, context)


def _calm(function: Callable[[Any], Any], argument: Any) -> Any:
    """A defect of the library ends in an error, not in the end of the thread."""
    try:
        return function(argument)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of its other language; it is no Exception
            raise
        raise RuntimeError(f"the CEL library failed: {error}") from error


def matcher(pattern: str) -> Callable[[str], bool] | None:
    """A search in linear time for a regular expression as RE2 reads it; None without library, or if it is none."""
    program = compiled("text.matches(pattern)")
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
