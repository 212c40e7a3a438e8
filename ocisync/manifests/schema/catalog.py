"""Find the schema of an object and hold the object against it.

Kinds are looked for among Kubernetes' own in the release that is aimed at, then in the CustomResourceDefinitions that
were given. A kind of Kubernetes' own groups that the release does not serve is an error that says what to write
instead; a custom kind without a definition is a warning, told once (an error, if kinds are to be strict).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ocisync.kit.yamlio import Path
from ocisync.manifests.rules import Rule
from ocisync.manifests.schema import builtin
from ocisync.manifests.schema.custom import CustomKind
from ocisync.manifests.schema.definition import Definition, definitions
from ocisync.manifests.schema.formats import is_left_open
from ocisync.manifests.schema.nodes import Problems
from ocisync.manifests.schema.problem import Problem, did_you_mean
from ocisync.manifests.schema.structural import DefinitionError
from ocisync.model.errors import UsageError
from ocisync.model.resource import Gvk, JsonObject, ManifestObject

_RELEASE = re.compile(r"v?1\.(\d{1,3})(?:\.\d+)?\Z")
_VERSION = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?\Z")
_API_VERSION: Path = ("apiVersion",)
_KIND: Path = ("kind",)
_MESSAGE_CHARS = 1_000


def parse_release(text: str) -> int:
    """The minor number of a Kubernetes release as people write it: `1.36`, `v1.36.2`. Empty: the newest shipped.

    Raises:
        UsageError: it is none, or its schemas are not shipped.
    """
    known = builtin.releases()
    if not text:
        return known[-1]
    match = _RELEASE.match(text)
    if match is None or int(match[1]) not in known:
        hint = f"one of {', '.join(f'1.{minor}' for minor in known)}"
        raise UsageError(f"no schemas of Kubernetes {text[:40]!r}", hint=hint)
    return int(match[1])


def is_definition(item: ManifestObject) -> bool:
    """Tell whether an object defines a custom kind."""
    return item.gvk == Gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition")


@dataclass(slots=True)
class _Custom:
    definition: Definition
    check: CustomKind | None = None  # made when the first object of the kind comes
    broken: bool = False


class Catalog:
    """All schemas for one run.

    Args:
        minor: the Kubernetes release, as `parse_release` gives it.
        strict_kinds: a custom kind without a definition is an error.
        more: makes further definitions, asked for only if a kind is not found otherwise.
    """

    def __init__(
        self, minor: int, *, strict_kinds: bool = False, more: Callable[[], Iterable[JsonObject]] | None = None
    ) -> None:
        self._release = builtin.release(minor)
        self._custom: dict[Gvk, _Custom] = {}
        self._strict = strict_kinds
        self._more = more
        self._told: set[Gvk] = set()

    def define(self, body: JsonObject) -> Problems:
        """Take a CustomResourceDefinition; its problems, if it cannot be used."""
        try:
            for definition in definitions(body):
                self._custom[definition.gvk] = _Custom(definition)
        except DefinitionError as error:
            return [Problem(("spec",), Rule.BAD_DEFINITION, f"the definition cannot be used: {error}")]
        return []

    def check(self, item: ManifestObject) -> Problems:
        """All that is wrong with an object, as its kind's schema says."""
        out: Problems = []
        # SOPS keeps its own data in this field; what decrypts the object takes it away.
        sops = item.body.get("sops")
        body = (
            {key: value for key, value in item.body.items() if key != "sops"} if isinstance(sops, dict) else item.body
        )
        node = self._release.find(item.gvk)
        if node is not None:
            node.check(body, (), out)
            self._deprecation(item.gvk, out)
        elif (custom := self._find_custom(item.gvk)) is not None:
            self._check_custom(custom, body, out)
        else:
            self._unknown(item.gvk, out)
        if body is not item.body:
            out = [problem for problem in out if not _is_encrypted(body, problem.path)]
        return [_in_one_line(problem) for problem in out]

    def _deprecation(self, gvk: Gvk, out: Problems) -> None:
        life = self._release.lifecycle(gvk)
        if life is None or not life.deprecated or life.deprecated > self._release.minor:
            return
        removed = f" and will be gone in 1.{life.removed}" if life.removed else ""
        newer = next(iter(self._release.served_versions(gvk)), gvk.api_version)
        instead = life.replacement or (newer if newer != gvk.api_version else "")
        instead = f": use {instead}" if instead else ""
        text = f"{gvk.kind} of {gvk.api_version} is deprecated since Kubernetes 1.{life.deprecated}{removed}{instead}"
        out.append(Problem(_API_VERSION, Rule.DEPRECATED_API, text))

    def _find_custom(self, gvk: Gvk) -> _Custom | None:
        if gvk not in self._custom and self._more is not None and not self._release.has_group(gvk.group):
            more, self._more = self._more, None
            for body in more():
                for definition in definitions(body):
                    self._custom.setdefault(definition.gvk, _Custom(definition))
        return self._custom.get(gvk)

    def _check_custom(self, custom: _Custom, body: JsonObject, out: Problems) -> None:
        definition = custom.definition
        gvk = definition.gvk
        if not definition.served:
            text = f"{gvk.kind} of {gvk.api_version} is not served (any more): its definition says `served: false`"
            out.append(Problem(_API_VERSION, Rule.REMOVED_API, text))
        if definition.deprecated:
            text = definition.warning or f"{gvk.kind} of {gvk.api_version} is deprecated"
            out.append(Problem(_API_VERSION, Rule.DEPRECATED_API, text))
        if definition.schema is None or custom.broken:
            self._release.metadata().check(body.get("metadata"), ("metadata",), out)
            return
        if custom.check is None:
            try:
                custom.check = CustomKind(
                    definition.schema, self._release.metadata(), drops_status=definition.drops_status
                )
            except DefinitionError as error:
                custom.broken = True
                text = f"the definition of {gvk.kind} {gvk.api_version} cannot be used: {error}"
                out.append(Problem(_KIND, Rule.BAD_DEFINITION, text))
                return
        custom.check.check(body, (), out)
        for note in custom.check.unchecked():
            out.append(Problem(_KIND, Rule.UNCHECKED_RULE, f"{gvk.kind} {gvk.api_version}: {note}"))

    def _unknown(self, gvk: Gvk, out: Problems) -> None:
        if not _VERSION.match(gvk.version):
            text = f"apiVersion {gvk.api_version!r} is none: it is written GROUP/VERSION"
            out.append(Problem(_API_VERSION, Rule.UNKNOWN_KIND, text))
            return
        minor = self._release.minor
        life = self._release.lifecycle(gvk)
        served = self._release.served_versions(gvk)
        if life is not None and life.removed and life.removed <= minor:
            stays = life.replacement or next(iter(served), "")
            instead = f": use {stays}" if stays else ", and nothing replaces it"
            text = f"{gvk.kind} of {gvk.api_version} is gone since Kubernetes 1.{life.removed}{instead}"
            out.append(Problem(_API_VERSION, Rule.REMOVED_API, text))
            return
        first = self._release.first_release(gvk)
        if first > minor:
            text = f"{gvk.kind} of {gvk.api_version} is new in Kubernetes 1.{first}; this is for 1.{minor}"
            out.append(Problem(_API_VERSION, Rule.UNKNOWN_KIND, f"{text}{_use(served)}"))
        elif first:
            out.append(
                Problem(_API_VERSION, Rule.REMOVED_API, f"{gvk.kind} of {gvk.api_version} is gone{_use(served)}")
            )
        elif self._release.has_group(gvk.group):
            out.append(self._no_kind(gvk, served))
        elif others := sorted(other.api_version for other in self._custom if _same_kind(other, gvk)):
            text = f"no version {gvk.version} of {gvk.kind} is defined: use {' or '.join(others)}"
            out.append(Problem(_API_VERSION, Rule.UNKNOWN_KIND, text))
        elif self._strict or gvk not in self._told:
            self._told.add(gvk)
            rule = Rule.UNKNOWN_KIND if self._strict else Rule.MISSING_SCHEMA
            text = f"no definition of {gvk.kind} {gvk.api_version}: its fields are not checked; give one with --schema"
            out.append(Problem(_KIND, rule, text))

    def _no_kind(self, gvk: Gvk, served: tuple[str, ...]) -> Problem:
        minor = self._release.minor
        if served:
            return Problem(_API_VERSION, Rule.UNKNOWN_KIND, f"{gvk.api_version} has no {gvk.kind}{_use(served)}")
        same = [other.kind for other in self._release.kinds() if other.group == gvk.group]
        text = f"Kubernetes 1.{minor} has no {gvk.kind} in {gvk.api_version}{did_you_mean(gvk.kind, same)}"
        return Problem(_KIND, Rule.UNKNOWN_KIND, text)


def _in_one_line(problem: Problem) -> Problem:
    """Messages quote keys and kinds, which may be anything."""
    text = problem.message
    if text.isprintable() and len(text) <= _MESSAGE_CHARS:
        return problem
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:_MESSAGE_CHARS])
    return replace(problem, message=shown)


def _is_encrypted(value: Any, path: Path) -> bool:
    """Tell whether SOPS put its text in the place of a value."""
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return False
    return isinstance(value, str) and value.startswith("ENC[") and is_left_open(value)


def _use(served: tuple[str, ...]) -> str:
    return f": use {served[0]}" if served else ""


def _same_kind(one: Gvk, other: Gvk) -> bool:
    return (one.group, one.kind) == (other.group, other.kind)
