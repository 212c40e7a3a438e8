"""The tables of rules and fields name tests that exist, and leave out no field and no annotation."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ocisync.install import crds

TOP = Path(__file__).resolve().parents[2]
RULES = TOP / "docs" / "engine-rules.md"
FIELDS = TOP / "docs" / "fields.md"
_SEPARATOR = re.compile(r"\|[\s:|-]+\|\Z")
_TEST = re.compile(r"`(?:[\w/]+\.py::)?(test_\w+)`")


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
    named = _TEST.findall(row[1])
    assert named, f"no test is named for: {row[0]}"
    assert [name for name in named if name not in known_tests()] == []


@pytest.mark.parametrize("row", rows(FIELDS.read_text()), ids=lambda row: row[0].strip("`"))
def test_every_field_and_annotation_is_explained_and_names_a_test_that_exists(row: list[str]) -> None:
    assert len(row) == 4, row
    assert row[2]
    named = _TEST.findall(row[3])
    assert named, f"no test is named for: {row[0]}"
    assert [name for name in named if name not in known_tests()] == []


def test_the_table_of_fields_is_that_of_the_definition_with_its_defaults() -> None:
    schema = crds.artifact_sync()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    defined = dict(_fields(schema, ""))
    listed = {row[0].strip("`"): row[1] for row in rows(FIELDS.read_text()) if not row[0].startswith("`ocisync.dev/")}
    assert listed == defined


def test_every_annotation_that_the_program_knows_is_in_the_table() -> None:
    known = set()
    for file in (TOP / "ocisync").rglob("*.py"):
        known |= set(re.findall(r'"(ocisync\.dev/(?!v\d)[A-Za-z-]+)"', file.read_text()))
    assert {row[0].strip("`") for row in rows(FIELDS.read_text()) if row[0].startswith("`ocisync.dev/")} == known


def _fields(schema: dict[str, object], path: str) -> Iterator[tuple[str, str]]:
    properties = schema.get("properties")
    for name, field in (properties if isinstance(properties, dict) else {}).items():
        if path or name in ("spec", "status"):
            here = f"{path}.{name}" if path else name
            default = field.get("default")
            yield here, "" if default is None else f"`{default if isinstance(default, str) else json.dumps(default)}`"
            yield from _fields(field, here)
            if isinstance(field.get("items"), dict):
                yield from _fields(field["items"], f"{here}[]")
