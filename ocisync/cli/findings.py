"""Findings in the forms that people and CI systems read: lines, JSON, SARIF 2.1.0, GitHub's workflow commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ocisync import __version__
from ocisync.cli.output import plain, redact, styled
from ocisync.kit.plaintext import plain_start

if TYPE_CHECKING:
    from ocisync.flows.check import Checked
    from ocisync.model.errors import Finding

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def _levels(checked: Checked) -> Iterator[tuple[str, Finding]]:
    """All findings with their level, by file and place."""
    both = [("error", item) for item in checked.errors] + [("warning", item) for item in checked.warnings]
    return iter(sorted(both, key=lambda pair: (pair[1].file, pair[1].line, pair[1].column, pair[1].message)))


def as_text(checked: Checked) -> str:
    """`file:line:column: error: message [rule]`, which editors and CI systems link."""
    lines = []
    for level, finding in _levels(checked):
        place = str(finding)[: -len(finding.message)].rstrip(" :")
        word = styled(level, "red" if level == "error" else "yellow", bold=True, stderr=False)
        rule = f" [{finding.rule}]" if finding.rule else ""
        lines.append(f"{plain_start(redact(place))}: {word}: {plain(redact(finding.message))}{rule}")
    return "\n".join(lines)


def as_json(checked: Checked) -> dict[str, Any]:
    """The form of `-o json`."""

    def rows(findings: tuple[Finding, ...]) -> list[dict[str, Any]]:
        return [
            {
                "rule": item.rule,
                "file": item.file,
                "line": item.line,
                "column": item.column,
                "message": redact(item.message),
            }
            for item in findings
        ]

    return {
        "files": checked.files,
        "objects": checked.objects,
        "errors": rows(checked.errors),
        "warnings": rows(checked.warnings),
    }


def as_github(checked: Checked) -> str:
    """Workflow commands that GitHub Actions turns into annotations of the changed lines."""
    lines = []
    for level, finding in _levels(checked):
        properties = [f"file={_property(finding.file)}"]
        if finding.line:
            properties.append(f"line={finding.line}")
            if finding.column:
                properties.append(f"col={finding.column}")
        properties.append(f"title={_property(f'ocisync {finding.rule}'.strip())}")
        lines.append(f"::{level} {','.join(properties)}::{_data(redact(finding.message))}")
    return "\n".join(lines)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def as_sarif(checked: Checked) -> dict[str, Any]:
    """One SARIF run. Rules are those that occur; each result points to its rule by index."""
    from ocisync.manifests.rules import RULES, WARNINGS, Rule

    found = list(_levels(checked))
    names = sorted({finding.rule or Rule.FILE for _, finding in found})
    rules = [
        {
            "id": name,
            "shortDescription": {"text": RULES[Rule(name)]},
            "defaultConfiguration": {"level": "warning" if name in WARNINGS else "error"},
        }
        for name in names
    ]
    results = [
        {
            "ruleId": finding.rule or Rule.FILE,
            "ruleIndex": names.index(finding.rule or Rule.FILE),
            "level": level,
            "message": {"text": redact(finding.message)},
            "locations": [{"physicalLocation": _location(finding)}],
        }
        for level, finding in found
    ]
    driver = {"name": "ocisync", "semanticVersion": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _location(finding: Finding) -> dict[str, Any]:
    path = finding.file.replace("\\", "/")
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(path)}}
    if finding.line:
        region = {"startLine": finding.line}
        if finding.column:
            region["startColumn"] = finding.column
        place["region"] = region
    return place


def _uri(path: str) -> str:
    encoded = quote(path.encode("utf-8", "surrogateescape"))
    if PurePath(path).is_absolute():
        return f"file://{encoded}"
    # A first part with a colon would be read as a scheme; quote() has turned it into %3A already.
    return re.sub(r"^(?:\./)+", "", encoded) or "."
