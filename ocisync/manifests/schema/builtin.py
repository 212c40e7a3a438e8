"""The kinds that Kubernetes brings, for one release: read from `kubernetes.json`, decoded as far as they are used.

The file holds facts of all shipped releases (generated; see its generator below tests/assets). Its lines:

    "releases": [30, …]                            minor numbers
    "kinds": {"apps/v1/Deployment": "apps.v1.Deployment v=30-37", …}
    "lifecycles": {"batch/v1beta1/CronJob": [introduced, deprecated, removed, replacement], …}   0: not known
    "definitions": one line each: "name": {"p": {field: TYPE or [TYPE, …]}, "r": [required field, …]}

TYPE is `s` string, `b` boolean, `i`/`I` integer of 32/64 bits, `n` number, `q` quantity, `x` int-or-string, `t`/`T`
time, `d` base64, `*` anything, a definition's name, `[TYPE` list or `{TYPE` mapping; then `k=a,b` list keys, `u` set,
`d=V` default of a key, `e=A,B` enumeration, `v=30-33` the releases where it holds (all, if there is none).
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from ocisync.manifests.schema.nodes import SCALARS, Entries, Items, Node, Problems, Struct, Text
from ocisync.model.resource import Gvk
from ocisync.model.values import dataclass

_FILE = Path(__file__).with_name("kubernetes.json")


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """When an API version of a kind came and went, as minor releases; 0 is unknown or never."""

    introduced: int
    deprecated: int
    removed: int
    replacement: str  # apiVersion; empty if there is none


@dataclass(frozen=True, slots=True)
class _Table:
    releases: tuple[int, ...]
    kinds: dict[str, str]
    lifecycles: dict[str, list[Any]]
    lines: dict[str, str]  # definition → JSON text


@lru_cache(maxsize=1)
def _table() -> _Table:
    text = _FILE.read_text("utf-8")
    head, _, rest = text.partition(',\n"definitions": {\n')
    facts = json.loads(head + "}")
    lines = {}
    for line in rest.split("\n"):
        name, colon, body = line.partition(": ")
        if colon:
            lines[name[1:-1]] = body.removesuffix(",")
    return _Table(tuple(facts["releases"]), facts["kinds"], facts["lifecycles"], lines)


def releases() -> tuple[int, ...]:
    """Minor numbers of the Kubernetes releases whose schemas are shipped, ascending."""
    return _table().releases


def _options(text: str) -> tuple[str, dict[str, str], str]:
    """Type, options, and its ranges (empty: always)."""
    kind, *rest = text.split(" ")
    options, ranges = {}, []
    for part in rest:
        name, _, value = part.partition("=")
        if name == "v":
            ranges.append(value)
        else:
            options[name] = value
    return kind, options, " ".join(ranges)


def _holds(ranges: str, minor: int) -> bool:
    if not ranges:
        return True
    for part in ranges.split(" "):
        first, _, last = part.partition("-")
        if int(first) <= minor <= int(last):
            return True
    return False


class Release:
    """The built-in kinds of one release. Use `release`, which remembers them."""

    def __init__(self, minor: int) -> None:
        self.minor = minor
        self._table = _table()
        self._structs: dict[tuple[str, bool], Struct] = {}
        self._kinds: dict[Gvk, Node | None] = {}
        self._groups = {_group(key) for key, line in self._table.kinds.items() if _holds(_options(line)[2], minor)}

    def find(self, gvk: Gvk) -> Node | None:
        """What checks objects of a kind; None if the release does not serve it."""
        if gvk not in self._kinds:
            self._kinds[gvk] = self._compile(f"{gvk.api_version}/{gvk.kind}")
        return self._kinds[gvk]

    def metadata(self) -> Node:
        """What checks the metadata of any object."""
        return self._struct("meta.v1.ObjectMeta")

    def has_group(self, group: str) -> bool:
        """Tell whether an API group is one of Kubernetes' own in this release."""
        return group in self._groups

    def kinds(self) -> tuple[Gvk, ...]:
        """All kinds of the release."""
        found = []
        for key, line in self._table.kinds.items():
            if _holds(_options(line)[2], self.minor):
                api_version, _, kind = key.rpartition("/")
                found.append(Gvk(_group(key), api_version.rpartition("/")[2], kind))
        return tuple(found)

    def served_versions(self, gvk: Gvk) -> tuple[str, ...]:
        """All apiVersions under which the release serves a kind of a group; stable ones first."""
        found = [other.api_version for other in self.kinds() if (other.group, other.kind) == (gvk.group, gvk.kind)]
        return tuple(sorted(found, key=lambda text: ("alpha" in text, "beta" in text, text)))

    def first_release(self, gvk: Gvk) -> int:
        """The first shipped release that serves a kind; 0 if none does."""
        line = self._table.kinds.get(f"{gvk.api_version}/{gvk.kind}")
        return next((minor for minor in releases() if line and _holds(_options(line)[2], minor)), 0)

    def lifecycle(self, gvk: Gvk) -> Lifecycle | None:
        """When a kind came and went; None for those that stay."""
        facts = self._table.lifecycles.get(f"{gvk.api_version}/{gvk.kind}")
        return Lifecycle(*facts) if facts else None

    def _compile(self, key: str) -> Node | None:
        line = self._table.kinds.get(key)
        if line is None:
            return None
        name, _, ranges = _options(line)
        if not _holds(ranges, self.minor):
            return None
        known = _Lazy(self, name, lenient=False)
        known.load()
        root = Struct()
        root.fields = {"apiVersion": SCALARS["s"], "kind": SCALARS["s"], **known.fields}
        root.required = tuple(field for field in known.required if field != "status")
        if "status" in root.fields:
            # What a manifest says there is not applied, so nothing in it can be missing.
            root.fields["status"] = (
                self._field(json.loads(self._table.lines[name])["p"]["status"], lenient=True) or Node()
            )
        return root

    def _struct(self, name: str, *, lenient: bool = False) -> Struct:
        struct = self._structs.get((name, lenient))
        if struct is None:
            struct = self._structs[name, lenient] = _Lazy(self, name, lenient=lenient)
        return struct

    def fill(self, struct: Struct, name: str, *, lenient: bool) -> None:
        """Decode a definition into a struct; its fields' own definitions wait until a value needs them."""
        body = json.loads(self._table.lines[name])
        fields = {}
        for field, line in body["p"].items():
            node = self._field(line, lenient=lenient)
            if node is not None:
                fields[field] = node
        struct.fields = fields
        if not lenient:
            required = [_options(line) for line in body.get("r", ())]
            struct.required = tuple(field for field, _, ranges in required if _holds(ranges, self.minor))

    def _field(self, line: str | list[str], *, lenient: bool) -> Node | None:
        for text in (line,) if isinstance(line, str) else line:
            kind, options, ranges = _options(text)
            if _holds(ranges, self.minor):
                return self._node(kind, {} if lenient else options, lenient=lenient)
        return None

    def _node(self, kind: str, options: dict[str, str], *, lenient: bool) -> Node:
        if kind[0] == "[":
            item = self._node(kind[1:], {"e": options["e"]} if "e" in options else {}, lenient=lenient)
            keys = tuple(options["k"].split(",")) if "k" in options else ()
            return Items(item, keys, unique="u" in options, defaults=self._key_defaults(kind[1:], keys))
        if kind[0] == "{":
            return Entries(self._node(kind[1:], {}, lenient=lenient))
        if kind == "s" and "e" in options:
            return Text(frozenset(options["e"].split(",")))
        return SCALARS.get(kind) or self._struct(kind, lenient=lenient)

    def _key_defaults(self, name: str, keys: tuple[str, ...]) -> dict[str, str]:
        if "s d=" not in self._table.lines.get(name, ""):
            return {}
        fields = json.loads(self._table.lines[name])["p"]
        found = {key: _options(str(fields[key]))[1].get("d") for key in keys}
        return {key: value for key, value in found.items() if value is not None}


class _Lazy(Struct):
    """A struct that decodes its definition when the first value comes."""

    __slots__ = ("_lenient", "_name", "_release")

    def __init__(self, release: Release, name: str, *, lenient: bool) -> None:
        super().__init__()
        self._release: Release | None = release
        self._name, self._lenient = name, lenient

    def check(self, value: Any, path: tuple[str | int, ...], out: Problems) -> None:
        """Append what is wrong."""
        self.load()
        super().check(value, path, out)

    def load(self) -> None:
        """Decode the definition, unless that is done."""
        if self._release is not None:
            release, self._release = self._release, None
            release.fill(self, self._name, lenient=self._lenient)


def _group(key: str) -> str:
    parts = key.split("/")
    return parts[0] if len(parts) == 3 else ""


@lru_cache(maxsize=2)
def release(minor: int) -> Release:
    """The built-in kinds of one shipped release."""
    return Release(minor)
