"""Read typed fields of a policy document; everything unknown is an error that names its path.

The API server keeps unknown fields of policies on purpose: pruned silently, a typo would weaken a policy. Here they
are found and refused.

The first problem is raised. With a list to write to, problems are written there instead and reading goes on with a
neutral value, so that a person is told all of them at once; what was read then is good for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from ocisync.model.errors import InvalidInput

_Choice = TypeVar("_Choice", bound=StrEnum)
_Read = TypeVar("_Read")
_TEXT_CHARS = 4_096  # a PEM key has the longest value: RSA-8192 is about 1,500 characters


class Fields:
    """One JSON object of the document at `where`. Reading a field of the wrong type raises `InvalidInput`.

    Args:
        value: the object.
        where: its path.
        known: names of fields that it may have.
        problems: takes the problems instead of raising them.
    """

    def __init__(
        self, value: object, where: str, known: tuple[str, ...], problems: list[InvalidInput] | None = None
    ) -> None:
        self.where = where
        self._problems = problems
        self._value: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        if not isinstance(value, Mapping):
            self.refuse(InvalidInput(f"{where}: expected an object, found {_kind(value)}"))
        for name in sorted(str(name) for name in set(self._value) - set(known)):
            hint = f"known fields of {where}: {', '.join(known)}"
            self.refuse(InvalidInput(f"{where}.{name[:60]}: unknown field", hint=hint))

    def refuse(self, error: InvalidInput) -> None:
        """Raise a problem, or write it down if all are wanted; one for each path, since others follow from it."""
        if self._problems is None:
            raise error
        path = error.message.partition(": ")[0]
        if all(path != known.message.partition(": ")[0] for known in self._problems):
            self._problems.append(error)

    def attempt(self, read: Callable[[], _Read], otherwise: _Read) -> _Read:
        """What `read` returns; `otherwise` if it raised a problem that was written down."""
        try:
            return read()
        except InvalidInput as error:
            self.refuse(error)
            return otherwise

    def each(self, name: str, maximum: int, read: Callable[[str, object], _Read]) -> tuple[_Read, ...]:
        """The items of a list, each read from its path and value; those with written-down problems are left out."""
        found: list[_Read] = []
        for where, item in self.items(name, maximum):
            try:
                found.append(read(where, item))
            except InvalidInput as error:
                self.refuse(error)
        return tuple(found)

    def below(self, where: str, value: object, known: tuple[str, ...]) -> Fields:
        """An object inside of this one, for example an item of a list."""
        return Fields(value, where, known, self._problems)

    def has(self, name: str) -> bool:
        """Tell whether the field is there, with whatever value."""
        return name in self._value

    def raw(self, name: str) -> object:
        """The field as it is; None if it is missing."""
        return self._value.get(name)

    def fail(self, name: str, problem: str, hint: str = "") -> InvalidInput:
        """An error about a field, to be raised by the caller."""
        return InvalidInput(f"{self.where}.{name}: {problem}", hint=hint)

    def text(self, name: str, default: str | None = None) -> str:
        """A string; without a default it is required and not empty."""
        value = self._value.get(name, default)
        if value is None or (value == "" and default is None):
            self.refuse(self.fail(name, "required"))
            return ""
        if not isinstance(value, str) or len(value) > _TEXT_CHARS:
            self.refuse(self.fail(name, f"expected a string, found {_kind(value)}"))
            return ""
        return value

    def flag(self, name: str) -> bool:
        """A boolean, false if missing."""
        value = self._value.get(name, False)
        if not isinstance(value, bool):
            self.refuse(self.fail(name, f"expected true or false, found {_kind(value)}"))
            return False
        return value

    def integer(self, name: str, default: int | None, minimum: int) -> int:
        """An integer of at least `minimum`; required without a default."""
        value = self._value.get(name, default)
        if value is None:
            self.refuse(self.fail(name, "required"))
            return minimum
        if type(value) is not int or not minimum <= value < 2**53:
            problem = f"expected a whole number of at least {minimum}, found {str(value)[:40]!r}"
            self.refuse(self.fail(name, problem))
            return minimum
        return value

    def choice(self, name: str, options: type[_Choice], default: _Choice) -> _Choice:
        """One word of a closed set."""
        value = self.text(name, default.value)
        try:
            return options(value)
        except ValueError:
            known = " | ".join(options)
            self.refuse(self.fail(name, f"{value[:40]!r} is none of {known}"))
            return default

    def items(self, name: str, maximum: int) -> Iterator[tuple[str, object]]:
        """The items of a list, each with its path; none if the field is missing."""
        value = self._value.get(name, [])
        if not isinstance(value, list):
            self.refuse(self.fail(name, f"expected a list, found {_kind(value)}"))
            return
        if len(value) > maximum:
            self.refuse(self.fail(name, f"{len(value)} items, at most {maximum} are allowed"))
        for index, item in enumerate(value[:maximum]):
            yield f"{self.where}.{name}[{index}]", item

    def texts(self, name: str, maximum: int) -> tuple[tuple[str, str], ...]:
        """A list of non-empty strings, each with its path."""
        out = []
        for where, item in self.items(name, maximum):
            if isinstance(item, str) and 0 < len(item) <= _TEXT_CHARS:
                out.append((where, item))
            else:
                self.refuse(InvalidInput(f"{where}: expected a string, found {_kind(item)}"))
        return tuple(out)

    def child(self, name: str, known: tuple[str, ...]) -> Fields:
        """An object below; empty if it is missing."""
        return self.below(f"{self.where}.{name}", self._value.get(name, {}), known)

    def string_map(self, name: str) -> tuple[tuple[str, str], ...]:
        """A map of strings, sorted; empty if it is missing."""
        value = self._value.get(name, {})
        if not isinstance(value, Mapping):
            self.refuse(self.fail(name, f"expected an object, found {_kind(value)}"))
            return ()
        out = []
        for key, text in value.items():
            if isinstance(key, str) and isinstance(text, str):
                out.append((key, text))
            else:
                self.refuse(self.fail(f"{name}.{str(key)[:60]}", f"expected a string, found {_kind(text)}"))
        return tuple(sorted(out))


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"
