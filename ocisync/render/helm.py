"""How helm is called, what it says when it cannot render, and which objects of a chart are published.

The same chart and values give the same bytes wherever they are rendered: name, namespace and Kubernetes version are
fixed, there is no cluster to look into, and tests are left out. Of hooks, those that run at install or upgrade are
published like any other object, with a warning; those that run only at deletion, rollback or test are left out: they
must not run now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ocisync.kit.yamlio import parse_documents
from ocisync.kit.yamlstream import chunks
from ocisync.model.errors import Finding, InvalidInput
from ocisync.model.tree import Origin
from ocisync.render.layout import RenderOptions, Unit

KUBERNETES_VERSION = "1.34.0"  # what charts are told unless asked otherwise; a newer helm must not change it
_HOOK = "helm.sh/hook"
_NOT_NOW = frozenset(
    {"pre-delete", "post-delete", "pre-rollback", "post-rollback", "test", "test-success", "test-failure"}
)
_SOURCE = re.compile(r"^# Source: [^/\n]+/(.+)$", re.MULTILINE)
_PLACE = re.compile(r"[\w.-]+/((?:charts/[\w.-]+/)*templates/[\w./-]+?):(\d+)(?::(\d+))?")
_CLOCK = re.compile(r"\{\{[^}]*(?<![\w.$\"])(?:now|ago)\b[^}]*\}\}")
_MISSING = "missing in charts/ directory"


def arguments(unit: Unit, options: RenderOptions, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Everything behind `helm template`."""
    flags = [
        "--namespace",
        options.namespace,
        "--kube-version",
        options.kubernetes_version or KUBERNETES_VERSION,
        "--include-crds",
        "--skip-tests",
    ]
    for version in options.api_versions:
        flags += ["--api-versions", version]
    for path in unit.values:
        flags += ["--values", f"./{path}"]  # never a flag or an address
    release = options.release or _chart_name(unit, files)
    return (*flags, "--", release, f"./{unit.directory}")


def _chart_name(unit: Unit, files: Mapping[str, bytes]) -> str:
    try:
        documents = parse_documents(files[unit.file], unit.file)
        name = documents[0].value["name"]
    except (InvalidInput, KeyError, IndexError, TypeError):
        name = ""  # helm says what is wrong with the chart
    return name if isinstance(name, str) and name else "release"


def complaint(unit: Unit, message: str, files: Mapping[str, bytes]) -> Finding:
    """Helm's own words, at the template that they name if it is one of the chart's files."""
    if _MISSING in message:
        message += "; run `helm dependency build` and commit the chart's charts/ (rendering uses no network)"
    for found in _PLACE.finditer(message):
        path = f"{unit.directory}/{found[1]}" if unit.directory else found[1]
        if path in files:
            return Finding(path, int(found[2]), int(found[3] or 0), f"helm: {message}")
    return Finding(unit.file, 0, 0, f"helm: {message}")


def difference(unit: Unit, first: bytes, second: bytes) -> Finding:
    """Say where two runs differ, without the values: they are likely to be secrets."""
    old, new = (text.decode(errors="replace").splitlines() for text in (first, second))
    line = next(
        (i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), min(len(old), len(new))
    )
    sources = [found[1] for found in _SOURCE.finditer("\n".join(old[: line + 1]))]
    where = f" in {sources[-1]}" if sources else ""
    key = old[line].partition(":")[0].strip() if line < len(old) and ":" in old[line] else ""
    what = f" (at {key[:60]!r})" if key else ""
    message = (
        f"two runs of helm render different objects{where}{what}: a random value, a generated certificate or the time;"
        " give it a fixed value"
    )
    return Finding(unit.file, 0, 0, message)


def without_other_hooks(unit: Unit, output: bytes) -> tuple[bytes, tuple[Origin, ...], tuple[Finding, ...]]:
    """Leave out what must not run at install; say which template the rest is from, and which hooks are in it."""
    parts: list[str] = []
    origins: list[Origin] = []
    warnings: list[Finding] = []
    line = 1
    for chunk in chunks(output.decode(errors="surrogateescape")):
        text = chunk.text.removeprefix("---\n")
        found = _SOURCE.search(text)
        source = unit.file
        if found:
            source = f"{unit.directory}/{found[1]}" if unit.directory else found[1]
        hooks = _hooks(text)
        if hooks and hooks <= _NOT_NOW:
            warnings.append(Finding(source, 0, 0, f"a {' and '.join(sorted(hooks))} hook: not published"))
            continue
        if hooks:
            shown = " and ".join(sorted(hooks))
            warnings.append(Finding(source, 0, 0, f"a {shown} hook: published and applied like any other object"))
        origins.append(Origin(unit.output, line, source))
        parts.append(f"---\n{text}")
        line += 1 + text.count("\n")
    return "".join(parts).encode(errors="surrogateescape"), tuple(origins), tuple(warnings)


def _hooks(text: str) -> frozenset[str]:
    if _HOOK not in text:
        return frozenset()
    try:
        documents = parse_documents(text.encode(), "chart")
    except (InvalidInput, UnicodeEncodeError):
        return frozenset()  # the check of what is published says what is wrong
    value = documents[0].value if documents else None
    metadata = value.get("metadata") if isinstance(value, dict) else None
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    names = annotations.get(_HOOK) if isinstance(annotations, dict) else None
    return (
        frozenset(part.strip() for part in names.split(",") if part.strip()) if isinstance(names, str) else frozenset()
    )


def clock_uses(unit: Unit, files: Mapping[str, bytes]) -> tuple[Finding, ...]:
    """Templates that read the clock: two runs in one second do not show it."""
    start = f"{unit.directory}/templates/" if unit.directory else "templates/"
    warnings = []
    for path in sorted(path for path in files if path.startswith(start)):
        text = files[path].decode(errors="replace")
        for found in _CLOCK.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            message = "uses the time of rendering: the same commit may give another artifact later"
            warnings.append(Finding(path, line, 0, message))
    return tuple(warnings)
