"""Check: what an upload would be refused for, told all at once; the same for `push` and for `validate`.

Several trees may be checked in one run (directories and single files that a person names): each is judged for itself,
as an artifact of its own, while definitions of custom kinds found in any of them serve all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ocisync.manifests import validate
from ocisync.manifests.parse import ParsedTree, read_tree
from ocisync.manifests.rules import Rule
from ocisync.manifests.schema.catalog import Catalog, is_definition, parse_release
from ocisync.model.errors import Finding, InvalidInput
from ocisync.model.resource import JsonObject
from ocisync.model.tree import TreeFile
from ocisync.model.values import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """Files that are judged together.

    Attributes:
        files: paths are those inside an artifact.
        prefix: what findings put before these paths, so that they name files as the user does.
        name: what findings call the only file, whatever its path.
        lenient: pass over a `kustomization.yaml` or `Chart.yaml`; for files that were named one by one.
        findings: what reading them told already.
        needs_objects: that there is no object is an error: somebody named the wrong place.
    """

    files: tuple[TreeFile, ...]
    prefix: str = ""
    name: str = ""
    lenient: bool = False
    findings: tuple[Finding, ...] = ()
    needs_objects: bool = False

    def shown(self, path: str) -> str:
        """A file as the user names it."""
        return self.name or self.prefix + path


@dataclass(frozen=True, slots=True)
class SchemaOptions:
    """How objects are held against schemas.

    Attributes:
        release: of Kubernetes, as `1.36`; empty: the newest whose schemas are shipped.
        definitions: files with CustomResourceDefinitions besides those that are checked.
        strict_kinds: a custom kind without a definition is an error, not a warning.
        more: makes definitions that are known anyway; asked only if a kind is not found otherwise.
    """

    release: str = ""
    definitions: tuple[Unit, ...] = ()
    strict_kinds: bool = False
    more: Callable[[], Iterable[JsonObject]] | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found. Errors forbid an upload."""

    objects: int
    files: int
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


def check_units(
    units: Sequence[Unit], *, allow_plain_secrets: Sequence[str] = (), schema: SchemaOptions | None = None
) -> Checked:
    """Check several trees. Without `schema`, objects are not held against schemas.

    Raises:
        UsageError: schemas of that release are not shipped.
        InvalidInput: a file of `schema.definitions` holds no definition.
    """
    catalog = open_catalog(schema) if schema is not None else None
    parsed = [read_tree(unit.files, lenient=unit.lenient) for unit in units]
    if catalog is not None and len(units) > 1:
        _define(catalog, parsed)
    errors: list[Finding] = []
    warnings: list[Finding] = []
    for unit, tree in zip(units, parsed, strict=True):
        report = validate.check(
            tree.objects, unit.files, allow_plain_secrets=allow_plain_secrets, catalog=catalog, show=unit.shown
        )
        errors.extend(_named(unit, (*unit.findings, *tree.findings, *report.errors)))
        if unit.needs_objects and not (tree.objects or tree.findings or unit.findings):
            place = unit.name or unit.prefix.rstrip("/") or "."
            errors.append(Finding(place, 0, 0, f"no manifest among {len(unit.files)} files", Rule.FILE))
        warnings.extend(_named(unit, report.warnings))
    return Checked(
        sum(len(tree.objects) for tree in parsed),
        sum(len(unit.files) for unit in units),
        tuple(errors),
        tuple(warnings),
    )


def _named(unit: Unit, findings: Iterable[Finding]) -> Iterable[Finding]:
    if not unit.prefix and not unit.name:
        return findings
    return (replace(finding, file=unit.shown(finding.file)) for finding in findings)


def _define(catalog: Catalog, parsed: Sequence[ParsedTree]) -> None:
    for tree in parsed:
        for item in tree.objects:
            if is_definition(item):
                catalog.define(item.body)  # its problems are told where it is checked


def open_catalog(schema: SchemaOptions) -> Catalog:
    """Schemas as the options want them. Raises as `check_units`."""
    catalog = Catalog(parse_release(schema.release), strict_kinds=schema.strict_kinds, more=schema.more)
    findings: list[Finding] = []
    for unit in schema.definitions:
        tree = read_tree(unit.files, lenient=True)
        found = [item for item in tree.objects if is_definition(item)]
        problems = [*tree.findings]
        if not found and not problems:
            text = "holds no CustomResourceDefinition of apiextensions.k8s.io/v1"
            problems.append(Finding(unit.name, 0, 0, text, Rule.BAD_DEFINITION))
        for item in found:
            problems += [
                Finding(item.file, item.line, 0, told.message, told.rule) for told in catalog.define(item.body)
            ]
        findings.extend(_named(unit, problems))
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise InvalidInput(f"--schema: {findings[0]}{more}", findings=tuple(findings))
    return catalog
