"""`dataclass` for frozen, slotted values, whose methods are generated when the first of them is needed.

    from ocisync.model.values import dataclass

    @dataclass(frozen=True, slots=True)
    class Descriptor: ...

The standard library writes and compiles six methods for each class at import, of which a command uses few: that was a
fifth of the processor time of a whole `ocisync verify`. Here a class gets its fields and slots at once, and each method
at its first call: `__init__` from here, one compilation instead of three; the others from the standard library.
Anything but exactly `frozen=True, slots=True` on a class with plain fields, no bases and no equality of its own is the
standard library's business from the start. Type checkers see the standard decorator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

__all__ = ["dataclass"]

_LAZY = {"frozen": True, "slots": True}
_EAGER = {"__post_init__", "__eq__", "__hash__", "__setattr__", "__delattr__"}
# What makes the standard library generate these methods and no others.
_OPTIONS: dict[str, dict[str, bool]] = {
    "__repr__": {"init": False, "eq": False},
    "__eq__": {"init": False, "repr": False},
    "__hash__": {"init": False, "repr": False, "unsafe_hash": True},  # the hash of frozen ones
}


def _lazy_dataclass(cls: type | None = None, /, **options: Any) -> Any:
    def decorate(plain: type) -> type:
        if options != _LAZY or plain.__bases__ != (object,) or not _EAGER.isdisjoint(vars(plain)):
            return dataclasses.dataclass(**options)(plain)
        namespace = {name: value for name, value in vars(plain).items() if name in plain.__annotations__}
        if any(isinstance(value, dataclasses.Field) and not value.init for value in namespace.values()):
            return dataclasses.dataclass(**options)(plain)
        return _prepared(plain, namespace | {"__module__": plain.__module__, "__annotations__": plain.__annotations__})

    return decorate if cls is None else decorate(cls)


def _prepared(plain: type, namespace: dict[str, Any]) -> type:
    own = set(vars(plain))
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(plain)
    methods: dict[str, Any] = {"__getstate__": _getstate, "__setstate__": _setstate}
    for name, options in _OPTIONS.items():
        methods[name] = _stub(made, name, partial(_standard, made, name, namespace, options))
    methods["__init__"] = _stub(made, "__init__", partial(_init, made))
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    made.__setattr__ = _refuse_setattr
    made.__delattr__ = _refuse_delattr
    made.__dataclass_params__.frozen = True
    return cast(type, made)


def _stub(cls: type, name: str, generate: Callable[[], Any]) -> Callable[..., Any]:
    """A method that replaces itself by the generated one; two threads at once replace it by equal ones."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        generated = generate()
        generated.__qualname__ = f"{cls.__qualname__}.{name}"
        setattr(cls, name, generated)
        return generated(self, *args, **kwargs)

    return method


def _standard(cls: type, name: str, namespace: dict[str, Any], options: dict[str, bool]) -> Any:
    pattern = type(cls.__name__, (), dict(namespace))
    return vars(dataclasses.dataclass(**options)(pattern))[name]


def _init(cls: Any) -> Any:
    """`__init__` as the standard library would write it."""
    scope: dict[str, Any] = {"_set": object.__setattr__, "_missing": dataclasses.MISSING}
    parameters, body = ["self"], []
    for number, field in enumerate(dataclasses.fields(cls)):
        name, value = field.name, field.name
        if field.default_factory is not dataclasses.MISSING:
            scope[f"_default{number}"] = field.default_factory
            parameters.append(f"{name}=_missing")
            value = f"_default{number}() if {name} is _missing else {name}"
        elif field.default is not dataclasses.MISSING:
            scope[f"_default{number}"] = field.default
            parameters.append(f"{name}=_default{number}")
        else:
            parameters.append(name)
        body.append(f" _set(self, {name!r}, {value})")
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(body or [" pass"]), scope)  # noqa: S102 - our names
    return scope["__init__"]


def _refuse_setattr(self: object, name: str, value: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delattr(self: object, name: str) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _setstate(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    dataclass = _lazy_dataclass
