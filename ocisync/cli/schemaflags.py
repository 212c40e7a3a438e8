"""The flags that say which schemas objects are held against: the same for `push` and `validate`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.model.errors import InvalidInput, NotFound, UsageError
from ocisync.model.limits import YAML_BYTES
from ocisync.model.resource import JsonObject
from ocisync.model.tree import TreeFile

if TYPE_CHECKING:
    from ocisync.flows.check import SchemaOptions, Unit

NAMES = ("kubernetes_version", "schemas", "with_schema", "strict_kinds")
MANIFEST_EXTENSIONS = (".yaml", ".yml", ".json")
_MAX_FILES = 10_000


def schema_options(function: Any) -> Any:
    """Add --kubernetes-version, --schema, --no-schema and --strict-kinds."""
    options = (
        click.option(
            "--kubernetes-version",
            default="",
            metavar="1.NN",
            help="Release whose schemas and API versions count (default: the newest known).",
        ),
        click.option(
            "--schema",
            "schemas",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="FILE|DIR",
            help="CustomResourceDefinitions of kinds that the manifests use but do not define; repeat for more.",
        ),
        click.option(
            "--no-schema",
            "with_schema",
            flag_value=False,
            default=True,
            type=bool,
            help="Do not hold objects against schemas.",
        ),
        click.option("--strict-kinds", is_flag=True, help="Refuse custom kinds without a definition."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def taken_from(flags: dict[str, Any]) -> SchemaOptions | None:
    """Take the values of these flags out of a command's arguments; None if objects are not held against schemas.

    Raises:
        UsageError: flags that contradict each other.
        NotFound: no such file of definitions.
    """
    release, schemas, wanted, strict = (flags.pop(name) for name in NAMES)
    if not wanted:
        for name, value in (("--schema", schemas), ("--kubernetes-version", release), ("--strict-kinds", strict)):
            if value:
                raise UsageError(f"--no-schema and {name} contradict each other", hint="leave one of them out")
        return None
    from ocisync.flows.check import SchemaOptions

    units = tuple(unit for path in schemas for unit in _definitions(path))
    return SchemaOptions(release, units, strict_kinds=strict, more=own_definitions)


def own_definitions() -> Iterator[JsonObject]:
    """Definitions of ocisync's own kinds, so that syncs and policies in an artifact are checked, too."""
    from ocisync.install import crds

    yield crds.artifact_sync()
    yield crds.trust_policy()


def _definitions(path: Path) -> Iterator[Unit]:
    if not path.is_dir():
        yield file_unit(path)
        return
    found = [
        Path(folder) / name
        for folder, _, names in os.walk(path)
        for name in names
        if name.endswith(MANIFEST_EXTENSIONS)
    ]
    if len(found) > _MAX_FILES:
        raise InvalidInput(f"--schema: {path} holds more than {_MAX_FILES} files", hint="name the files")
    # A directory of definitions often holds other files as well.
    units = [unit for file in sorted(found) if b"CustomResourceDefinition" in (unit := file_unit(file)).files[0].data]
    if not units:
        raise NotFound(
            f"--schema: no CustomResourceDefinition in {path}", hint="name a file or directory that holds some"
        )
    yield from units


def file_unit(path: Path) -> Unit:
    """One file that the user named, read as a manifest even if its name begins with a dot."""
    from ocisync.flows.check import Unit

    with path.open("rb") as stream:
        data = stream.read(YAML_BYTES + 1)
    inside = path.name.lstrip(".") if path.name.endswith(MANIFEST_EXTENSIONS) else path.name
    return Unit((TreeFile(inside or path.name, data),), name=str(path), lenient=True)
