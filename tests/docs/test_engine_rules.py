"""The tables of rules and fields name tests that exist, and leave out no field and no annotation."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
RULES = TOP / "docs" / "engine-rules.md"
_SEPARATOR = re.compile(r"\|[\s:|-]+\|\Z")
_CODE = re.compile(r"`([^`]+)`")


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, heads and separators left out."""
    found: list[list[str]] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("|") or _SEPARATOR.match(line):
            continue
        if number + 1 < len(lines) and _SEPARATOR.match(lines[number + 1]):
            continue
        found.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])])
    return found


@cache
def known_tests() -> frozenset[str]:
    """Every test function of the suite."""
    names = set()
    for file in (TOP / "tests").rglob("test_*.py"):
        names |= {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}
    return frozenset(name for name in names if name.startswith("test_"))


@pytest.mark.parametrize("row", rows(RULES.read_text()), ids=lambda row: row[0][:60])
def test_every_rule_names_a_test_that_exists(row: list[str]) -> None:
    assert len(row) == 2, row
    assert row[0]
    named = _CODE.findall(row[1])
    assert named, f"no test is named for: {row[0]}"
    assert [name for name in named if name not in known_tests()] == []
