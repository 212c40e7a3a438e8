"""Frozen values whose methods come late behave as those of the standard library."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import pytest

from ocisync.model.values import dataclass as lazily

Decorator = Callable[..., Any]
METHODS = ("__init__", "__repr__", "__eq__", "__hash__")


def _make(decorator: Decorator) -> Any:
    @decorator(frozen=True, slots=True)
    class Thing:
        """A thing."""

        shared: ClassVar[int] = 7
        name: str
        count: int = 3
        parts: tuple[str, ...] = ()
        seen: list[str] = field(default_factory=list, compare=False)
        secret: str = field(default="", repr=False)

        @property
        def twice(self) -> int:
            return self.count * 2

    return Thing


@lazily(frozen=True, slots=True)
class Portable:
    """Known to pickle by its name."""

    name: str
    count: int = 1


@pytest.fixture(params=[dataclasses.dataclass, lazily], ids=["standard", "ours"])
def thing(request: pytest.FixtureRequest) -> Any:
    return _make(request.param)


def test_no_method_is_generated_before_it_is_called() -> None:
    cls = _make(lazily)
    stubs = {name: vars(cls)[name] for name in METHODS}
    made = cls("a")
    assert vars(cls)["__init__"] is not stubs["__init__"]
    assert all(vars(cls)[name] is stubs[name] for name in METHODS[1:])
    assert hash(made) == hash(cls("a"))
    assert vars(cls)["__hash__"] is not stubs["__hash__"]


def test_values_are_equal_by_fields_that_compare(thing: Any) -> None:
    assert thing("a", seen=["x"]) == thing("a")
    assert thing("a") != thing("a", 4)
    assert thing("a") != ("a", 3, (), [], "")
    assert len({thing("a"), thing("a"), thing("b")}) == 2


def test_the_text_of_a_value_leaves_secrets_out(thing: Any) -> None:
    assert repr(thing("a", secret="pw")).endswith(".Thing(name='a', count=3, parts=(), seen=[])")


def test_arguments_are_checked_as_those_of_a_function(thing: Any) -> None:
    assert (thing("a", 4).twice, thing(name="b", parts=("c",)).parts) == (8, ("c",))
    for arguments, named in (((), {}), (("a",), {"name": "b"}), (("a",), {"other": 1}), (("a", 1, (), [], "", 6), {})):
        with pytest.raises(TypeError, match=r"Thing\.__init__\(\)"):
            thing(*arguments, **named)


def test_every_value_has_a_default_of_its_own_where_a_factory_makes_it(thing: Any) -> None:
    assert thing("a").seen is not thing("b").seen


def test_fields_can_be_neither_set_nor_deleted_nor_added(thing: Any) -> None:
    made = thing("a")
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'name'"):
        made.name = "b"
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'name'"):
        del made.name
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        made.other = 1
    assert not hasattr(made, "__dict__")


def test_the_standard_library_knows_them(thing: Any) -> None:
    made = thing("a", 4)
    assert hasattr(thing, "__dataclass_fields__")
    assert [item.name for item in dataclasses.fields(thing)] == ["name", "count", "parts", "seen", "secret"]
    assert dataclasses.replace(made, count=5) == thing("a", 5)
    assert dataclasses.asdict(made)["count"] == 4
    assert copy.copy(made) == copy.deepcopy(made) == made
    assert thing.__match_args__ == ("name", "count", "parts", "seen", "secret")
    assert thing.__dataclass_params__.frozen


def test_values_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Portable("a", 2))) == Portable("a", 2)


def test_other_kinds_of_dataclasses_are_the_standard_library_s() -> None:
    @lazily(slots=True)
    class Open:
        name: str

    @lazily(frozen=True, slots=True, order=True)
    class Ordered:
        name: str

    @lazily(frozen=True, slots=True)
    class Checked:
        name: str

        def __post_init__(self) -> None:
            if not self.name:
                raise ValueError(self.name)

    made = Open("a")
    made.name = "b"
    assert made == Open("b")
    assert Ordered("a") < Ordered("b")
    with pytest.raises(ValueError, match=r"^$"):
        Checked("")
