"""Read typed fields of a policy document; everything unknown is an error that names its path.

The API server keeps unknown fields of policies on purpose: pruned silently, a typo would weaken a policy. Here they
are found and refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from ocisync.model.errors import InvalidInput

_Choice = TypeVar("_Choice", bound=StrEnum)
_TEXT_CHARS = 4_096  # a PEM key has the longest value: RSA-8192 is about 1,500 characters


class Fields:
    """One JSON object of the document at `where`. Reading a field of the wrong type raises `InvalidInput`."""

    def __init__(self, value: object, where: str, known: tuple[str, ...]) -> None:
        if not isinstance(value, Mapping):
            raise InvalidInput(f"{where}: expected an object, found {_kind(value)}")
        unknown = sorted(str(name) for name in set(value) - set(known))
        if unknown:
            raise InvalidInput(
                f"{where}.{unknown[0][:60]}: unknown field", hint=f"known fields of {where}: {', '.join(known)}"
            )
        self._value: Mapping[str, Any] = value
        self.where = where

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
            raise self.fail(name, "required")
        if not isinstance(value, str) or len(value) > _TEXT_CHARS:
            raise self.fail(name, f"expected a string, found {_kind(value)}")
        return value

    def flag(self, name: str) -> bool:
        """A boolean, false if missing."""
        value = self._value.get(name, False)
        if not isinstance(value, bool):
            raise self.fail(name, f"expected true or false, found {_kind(value)}")
        return value

    def integer(self, name: str, default: int | None, minimum: int) -> int:
        """An integer of at least `minimum`; required without a default."""
        value = self._value.get(name, default)
        if value is None:
            raise self.fail(name, "required")
        if type(value) is not int or not minimum <= value < 2**53:
            raise self.fail(name, f"expected a whole number of at least {minimum}, found {str(value)[:40]!r}")
        return value

    def choice(self, name: str, options: type[_Choice], default: _Choice) -> _Choice:
        """One word of a closed set."""
        value = self.text(name, default.value)
        try:
            return options(value)
        except ValueError:
            known = " | ".join(options)
            raise self.fail(name, f"{value[:40]!r} is none of {known}") from None

    def items(self, name: str, maximum: int) -> Iterator[tuple[str, object]]:
        """The items of a list, each with its path; none if the field is missing."""
        value = self._value.get(name, [])
        if not isinstance(value, list):
            raise self.fail(name, f"expected a list, found {_kind(value)}")
        if len(value) > maximum:
            raise self.fail(name, f"{len(value)} items, at most {maximum} are allowed")
        for index, item in enumerate(value):
            yield f"{self.where}.{name}[{index}]", item

    def texts(self, name: str, maximum: int) -> tuple[tuple[str, str], ...]:
        """A list of non-empty strings, each with its path."""
        out = []
        for where, item in self.items(name, maximum):
            if not isinstance(item, str) or not 0 < len(item) <= _TEXT_CHARS:
                raise InvalidInput(f"{where}: expected a string, found {_kind(item)}")
            out.append((where, item))
        return tuple(out)

    def child(self, name: str, known: tuple[str, ...]) -> Fields:
        """An object below; empty if it is missing."""
        return Fields(self._value.get(name, {}), f"{self.where}.{name}", known)

    def string_map(self, name: str) -> tuple[tuple[str, str], ...]:
        """A map of strings, sorted; empty if it is missing."""
        value = self._value.get(name, {})
        if not isinstance(value, Mapping):
            raise self.fail(name, f"expected an object, found {_kind(value)}")
        for key, text in value.items():
            if not isinstance(key, str) or not isinstance(text, str):
                raise self.fail(f"{name}.{str(key)[:60]}", f"expected a string, found {_kind(text)}")
        return tuple(sorted(value.items()))


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
