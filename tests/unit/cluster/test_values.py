"""Values are the same if the API server would take them for the same."""

from __future__ import annotations

from typing import Any

import pytest

from ocisync.cluster.fields import MISSING
from ocisync.cluster.values import same_value, shown
from ocisync.model.resource import ObjectId


@pytest.mark.parametrize(
    ("desired", "live", "same"),
    [
        (3, 3, True),
        (3, 10, False),
        ("1000m", "1", True),
        ("1Gi", "1024Mi", True),
        (0.5, "500m", True),
        ("1", "1Gi", False),
        (True, True, True),
        (True, 1, False),
        ({"a": 1}, {"a": 1, "defaulted": 2}, True),
        ({"a": 1}, {}, False),
        ([{"a": 1}], [{"a": 1, "b": 2}], True),
        ([1, 2], [2, 1], False),
        (MISSING, MISSING, True),
        ({}, MISSING, True),
        (None, MISSING, True),
        ("x", MISSING, False),
        (MISSING, "x", False),
    ],
)
def test_sameness(desired: Any, live: Any, same: bool) -> None:
    assert same_value(desired, live) is same


def test_shown_values_are_short_and_on_one_line() -> None:
    web = ObjectId("apps", "Deployment", "shop", "web")
    assert shown("a\nb", web, ("f:spec",)) == "a b"
    assert shown({"a": 1}, web, ("f:spec",)) == '{"a": 1}'
    assert len(shown("x" * 500, web, ("f:spec",))) == 80
    assert shown("", web, ("f:spec",)) == '""'
