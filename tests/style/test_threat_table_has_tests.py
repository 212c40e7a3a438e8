"""docs/trust.md promises tests for every threat it lists; and every threat that is tested is listed."""

from __future__ import annotations

import re
from pathlib import Path

from ocisync.model.artifact import VerdictReason
from ocisync.policy.rules import _SPEC_FIELDS

ROOT = Path(__file__).parents[2]


def test_every_threat_has_tests_and_every_tested_threat_is_documented() -> None:
    listed = {int(number) for number in re.findall(r"^\| T(\d+) \|", (ROOT / "docs/trust.md").read_text(), re.M)}
    sources = [path.read_text() for path in sorted((ROOT / "tests/security").glob("test_*.py"))]
    tested = {int(number) for source in sources for number in re.findall(r"^def test_t(\d+)_", source, re.M)}
    assert listed == tested


def test_every_refusal_reason_is_documented() -> None:
    text = (ROOT / "docs/trust.md").read_text()
    assert [reason for reason in VerdictReason if f"`{reason}`" not in text and reason != "Verified"] == []


def test_every_policy_field_is_documented() -> None:
    text = (ROOT / "docs/trust.md").read_text()
    assert [field for field in _SPEC_FIELDS if f"`{field}" not in text] == []
