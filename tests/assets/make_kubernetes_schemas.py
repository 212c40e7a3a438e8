"""Make `ocisync/manifests/schema/kubernetes.json`: the shape of all built-in kinds of several Kubernetes releases.

    python tests/assets/make_kubernetes_schemas.py CACHE-DIRECTORY ocisync/manifests/schema/kubernetes.json

Sources, got with `go mod download` into CACHE-DIRECTORY and never committed (Apache-2.0):

- `api/openapi-spec/v3/*.json` of `k8s.io/kubernetes`: fields, types, required fields, list keys, one release each;
- `pkg/generated/openapi` of the newest release: enumerations, which the documents above leave out;
- `zz_generated.prerelease-lifecycle.go` of `k8s.io/api`: when an API version was introduced, deprecated, removed.

Descriptions are dropped. All releases share one table: a line for each definition, and a range of releases where
something was not always so. The grammar of the lines is told in `ocisync/manifests/schema/builtin.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RELEASES = {30: "v1.30.0", 31: "v1.31.0", 32: "v1.32.0", 33: "v1.33.0", 34: "v1.34.0", 35: "v1.35.0", 36: "v1.36.0",
            37: "v1.37.2"}  # fmt: skip
# Older modules still hold the types that newer ones dropped; the newest that knows a type is believed.
LIFECYCLES = ("v0.21.0", "v0.25.0", "v0.30.0", "v0.37.2")
# Not in k8s.io/api, so without generated facts: https://kubernetes.io/docs/reference/using-api/deprecation-guide/
OTHER_LIFECYCLES = {
    "apiextensions.k8s.io/v1beta1/CustomResourceDefinition": (7, 16, 22, "apiextensions.k8s.io/v1"),
    "apiregistration.k8s.io/v1beta1/APIService": (7, 19, 22, "apiregistration.k8s.io/v1"),
}
FIRST, LAST = min(RELEASES), max(RELEASES)
SPECIAL = {"Quantity": "q", "IntOrString": "x", "Time": "t", "MicroTime": "T"}
SCALARS = {("string", "byte"): "d", ("string", "date-time"): "t", ("integer", "int64"): "I", ("integer", "int32"): "i"}
KEY_DEFAULTS = {"protocol": "TCP", "name": ""}  # of fields that are list keys
# The server fills these in before it looks, or takes their absence for an empty value.
NOT_REQUIRED = {
    "apiextensions.v1.CustomResourceDefinitionVersion": {"served"},
    "batch.v1.PodFailurePolicy": {"rules"},
    "core.v1.HTTPHeader": {"value"},
    "core.v1.ISCSIPersistentVolumeSource": {"lun"},
    "core.v1.ISCSIVolumeSource": {"lun"},
    "core.v1.LimitRangeSpec": {"limits"},
    "core.v1.PreferredSchedulingTerm": {"preference"},
    "core.v1.SleepAction": {"seconds"},
    "core.v1.Sysctl": {"value"},
    "rbac.v1.RoleRef": {"apiGroup"},
    "storage.v1.CSIDriver": {"spec"},
    "storage.v1.TokenRequest": {"audience"},
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    cache: Path = arguments.cache.absolute()
    for minor, version in RELEASES.items():
        _spec(cache, minor, version)
    for version in LIFECYCLES:
        _module(cache, "k8s.io/api", version, cache / f"api-{version}")
    arguments.output.write_text(render(Table(cache)))


def _module(cache: Path, name: str, version: str, target: Path) -> None:
    """Have a copy of a module's files."""
    if target.is_dir():
        return
    modules = cache / "modules"
    environment = {**os.environ, "GOMODCACHE": str(modules), "GOFLAGS": "-modcacherw"}
    cache.mkdir(parents=True, exist_ok=True)
    answer = subprocess.run(
        ["go", "mod", "download", "-json", f"{name}@{version}"],
        cwd=cache, env=environment, check=True, capture_output=True,
    )  # fmt: skip
    Path(json.loads(answer.stdout)["Dir"]).rename(target)
    shutil.rmtree(modules)


def _spec(cache: Path, minor: int, version: str) -> None:
    target = cache / f"1.{minor}"
    if target.is_dir():
        return
    whole = cache / f"kubernetes-{version}"
    _module(cache, "k8s.io/kubernetes", version, whole)
    target.mkdir()
    for file in sorted((whole / "api/openapi-spec/v3").glob("*.json")):
        shutil.copy(file, target / file.name)
    if minor == LAST:
        shutil.copy(whole / "pkg/generated/openapi/zz_generated.openapi.go", target / "openapi.go")
    shutil.rmtree(whole)


def short(name: str) -> str:
    """`io.k8s.api.core.v1.Pod` and `#/components/schemas/io.k8s.api.core.v1.Pod` → `core.v1.Pod`."""
    return ".".join(name.rpartition("/")[2].split(".")[-3:])


class Table:
    """Facts of all releases: each with the releases that it holds for."""

    def __init__(self, cache: Path) -> None:
        self.kinds: dict[tuple[str, str], set[int]] = defaultdict(set)
        self.fields: dict[str, dict[str, dict[str, set[int]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(set))
        )
        self.required: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        self.known: dict[str, set[int]] = defaultdict(set)
        self.enums = enumerations((cache / f"1.{LAST}" / "openapi.go").read_text())
        self.lifecycles = dict(OTHER_LIFECYCLES)
        for version in LIFECYCLES:
            self.lifecycles.update(lifecycles(cache / f"api-{version}"))
        for minor in RELEASES:
            self._read(cache / f"1.{minor}", minor)

    def _read(self, folder: Path, minor: int) -> None:
        schemas: dict[str, Any] = {}
        for file in sorted(folder.glob("*.json")):
            schemas.update(json.loads(file.read_text()).get("components", {}).get("schemas", {}))
        by_name = {short(name): schema for name, schema in schemas.items()}
        wanted: list[str] = []
        for name, schema in by_name.items():
            served = schema.get("x-kubernetes-group-version-kind", [])
            if len(served) != 1 or served[0]["kind"] == "Status" or served[0]["kind"].endswith("List"):
                continue
            kind = served[0]
            api_version = f"{kind['group']}/{kind['version']}" if kind["group"] else kind["version"]
            self.kinds[f"{api_version}/{kind['kind']}", name].add(minor)
            wanted.append(name)
        seen: set[str] = set()
        while wanted:
            name = wanted.pop()
            if name in seen:
                continue
            seen.add(name)
            self.known[name].add(minor)
            for field in by_name[name].get("required", ()):
                if field not in NOT_REQUIRED.get(name, ()):
                    self.required[name][field].add(minor)
            for field, schema in by_name[name]["properties"].items():
                text, target = _field(schema, by_name)
                if field in KEY_DEFAULTS and field not in self.required[name]:
                    default = KEY_DEFAULTS[field]
                    text += f" d={default}" if schema.get("default") == default else ""
                if values := self.enums.get((name, field)):
                    text += f" e={','.join(values)}"
                self.fields[name][field][text].add(minor)
                if target:
                    wanted.append(target)


def _field(schema: dict[str, Any], by_name: dict[str, Any]) -> tuple[str, str]:
    """A field's line without its range, and the definition that it leads to."""
    text, target = _type(schema, by_name)
    kind = schema.get("x-kubernetes-list-type")
    if kind == "map":
        text += f" k={','.join(schema['x-kubernetes-list-map-keys'])}"
    elif kind == "set":
        text += " u"
    return text, target


def _type(schema: dict[str, Any], by_name: dict[str, Any]) -> tuple[str, str]:
    reference = schema.get("$ref") or next((part["$ref"] for part in schema.get("allOf", ()) if "$ref" in part), "")
    if reference:
        name = short(reference)
        if special := SPECIAL.get(name.rpartition(".")[2]):
            return special, ""
        target = by_name[name]
        return (name, name) if "properties" in target else _type(target, by_name)
    kind, form = schema.get("type"), schema.get("format", "")
    if kind == "array":
        inner, target = _type(schema["items"], by_name)
        return f"[{inner}", target
    if kind == "object":
        more = schema.get("additionalProperties")
        inner, target = _type(more, by_name) if isinstance(more, dict) else ("*", "")
        return "{" + inner, target
    if kind is None:
        return "*", ""
    return SCALARS.get((kind, form)) or {"string": "s", "integer": "I", "number": "n", "boolean": "b"}[kind], ""


def enumerations(source: str) -> dict[tuple[str, str], list[str]]:
    """(definition, field) → values, read from the generated Go code."""
    found: dict[tuple[str, str], list[str]] = {}
    name = field = ""
    for line in source.splitlines():
        if match := re.match(r"func schema_(?:\w+_)?([^_]+)_(v\d[^_]*)_(\w+)\(ref ", line):
            name, field = ".".join(match.groups()), ""
        elif match := re.match(r'\t{5}"([^"]+)": \{$', line):
            field = match[1]
        elif match := re.match(r"\t{7,12}Enum: +\[\]interface\{\}\{(.*)\},$", line):
            values = [value for value in json.loads(f"[{match[1]}]") if isinstance(value, str)]
            if values and not any(set(value) & {" ", ","} for value in values):
                found[name, field] = values
    return found


def lifecycles(module: Path) -> dict[str, tuple[int, int, int, str]]:
    """`group/version/Kind` → introduced, deprecated, removed (0: not planned), apiVersion to use instead."""
    found: dict[str, tuple[int, int, int, str]] = {}
    for file in sorted(module.glob("*/*/zz_generated.prerelease-lifecycle.go")):
        group = re.search(r'GroupName\s*=\s*"([^"]*)"', (file.parent / "register.go").read_text())
        assert group, file
        facts: dict[str, dict[str, Any]] = defaultdict(dict)
        for kind, what, body in re.findall(
            r"func \(in \*(\w+)\) APILifecycle(\w+)\(\)[^{]*\{\n\treturn (.*)\n\}", file.read_text()
        ):
            if what == "Replacement":
                parts = re.findall(r':\s*"([^"]*)"', body)
                facts[kind][what] = f"{parts[0]}/{parts[1]}" if parts[0] else parts[1]
            else:
                facts[kind][what] = int(body.partition(",")[2])
        prefix = f"{group[1]}/{file.parent.name}" if group[1] else file.parent.name
        for kind, fact in facts.items():
            if not kind.endswith("List") and ("Deprecated" in fact or "Removed" in fact):
                numbers = (fact.get("Introduced", 0), fact.get("Deprecated", 0), fact.get("Removed", 0))
                found[f"{prefix}/{kind}"] = (*numbers, fact.get("Replacement", ""))
    return found


def _range(minors: set[int], among: set[int]) -> str:
    """A range as text; empty if it is as long as what contains it."""
    if minors == among:
        return ""
    return " " + " ".join(f"v={first}-{last}" for first, last in _runs(minors))


def _runs(minors: set[int]) -> Iterator[tuple[int, int]]:
    ordered = sorted(minors)
    first = last = ordered[0]
    for minor in ordered[1:]:
        if minor != last + 1:
            yield first, last
            first = minor
        last = minor
    yield first, last


def render(table: Table) -> str:
    """The file: valid JSON, one definition a line, so that a reader may decode only what it needs."""
    everywhere = set(RELEASES)
    kinds: dict[str, str] = {}
    for (kind, name), minors in sorted(table.kinds.items()):
        assert kind not in kinds, kind
        kinds[kind] = name + _range(minors, everywhere)
    lines = []
    for name, known in sorted(table.known.items()):
        fields: dict[str, str | list[str]] = {}
        for field, variants in sorted(table.fields[name].items()):
            texts = [text + _range(minors, known) for text, minors in variants.items()]
            fields[field] = texts[0] if len(texts) == 1 else texts
        required = [field + _range(minors, known) for field, minors in sorted(table.required[name].items())]
        body: dict[str, Any] = {"p": fields}
        if required:
            body["r"] = required
        lines.append(f"{json.dumps(name)}: {json.dumps(body, separators=(',', ':'))}")
    head = [
        f'"releases": {json.dumps(sorted(RELEASES))}',
        f'"kinds": {json.dumps(kinds, separators=(",", ":"))}',
        f'"lifecycles": {json.dumps(dict(sorted(table.lifecycles.items())), separators=(",", ":"))}',
    ]
    return "{\n" + ",\n".join(head) + ',\n"definitions": {\n' + ",\n".join(lines) + "\n}\n}\n"


if __name__ == "__main__":
    main()
