"""docs/policies.md names tests for every rule: they exist, and every field of a policy is in the table."""

from __future__ import annotations

import re
from pathlib import Path

from ocisync.policy.rules import _SPEC_FIELDS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/policies.md").read_text()
TABLE = TEXT.partition("## Every rule and its tests")[2]


def test_every_test_that_the_table_names_exists() -> None:
    missing, file = [], ""
    for named, name in re.findall(r"`([\w/]*(?:\.py)?)::([\w*]+)`", TABLE):
        file = named or file
        source = (ROOT / file).read_text() if (ROOT / file).is_file() else ""
        if f"def {name}(" not in source and not (name == "*" and source):
            missing.append(f"{file}::{name}")
    assert missing == []


def test_every_field_of_a_policy_has_a_row() -> None:
    rules = " ".join(line.split("|")[1] for line in TABLE.splitlines() if line.startswith("| "))
    assert [field for field in _SPEC_FIELDS if f"`{field}`" not in rules and f"`{field}." not in rules] == []


def test_every_warning_is_documented() -> None:
    source = (ROOT / "ocisync/policy/lint.py").read_text()
    names = set(re.findall(r'"([a-z]+(?:-[a-z]+)*)"(?:\)\)|\n|$)', source, re.M)) | {"overlap"}
    assert {"not-enforced", "optional-tag", "ended-grant"} <= names
    assert [name for name in sorted(names) if f"`{name}`" not in TEXT] == []
