"""Makes `docs/reference/`: the command line from its own help, the custom resources from their own schemas."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ocisync.cli.app import COMMANDS, root
from ocisync.install import crds
from ocisync.model.resource import JsonObject

_HEAD = "<!-- Generated from the program; `pytest tests/docs --update-golden` writes it anew. -->\n\n"


def command_line() -> str:
    """`docs/reference/cli.md`."""
    parts = [_HEAD, "# Command line\n"]
    # The first context that asks a command for its help flags decides them for the whole process.
    settings = {**root.context_settings, "max_content_width": 100, "terminal_width": 100}
    parent = click.Context(root, info_name="ocisync", **settings)
    for name in COMMANDS:
        command = root.get_command(parent, name)
        assert command is not None
        parts += _command(command, name, parent)
    return "".join(parts)


def _command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent, max_content_width=100, terminal_width=100)
    yield f"\n## {context.command_path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for sub, inner in command.commands.items():
            yield from _command(inner, sub, context)


def custom_resources() -> str:
    """`docs/reference/resources.md`."""
    parts = [_HEAD, "# Custom resources\n"]
    for definition in (crds.artifact_sync(), crds.trust_policy()):
        spec = definition["spec"]
        schema = spec["versions"][0]["schema"]["openAPIV3Schema"]
        scope = "namespaced" if spec["scope"] == "Namespaced" else "cluster-scoped"
        parts.append(f"\n## {spec['names']['kind']}\n\n{schema['description']} `ocisync.dev/v1alpha1`, {scope}.\n")
        for part in ("spec", "status"):
            parts.append(f"\n### {part}\n\n| field | type | default | meaning |\n|---|---|---|---|\n")
            parts += _rows(schema["properties"][part], part)
    return "".join(parts)


def _rows(schema: JsonObject, path: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        default = f"`{field['default']}`" if "default" in field and not isinstance(field["default"], dict) else ""
        must = " **(required)**" if name in schema.get("required", ()) else ""
        yield f"| `{here}` | {_type(field)} | {default} | {field.get('description', '')}{must} |\n"
        yield from _rows(field, here)
        if field.get("type") == "array":
            yield from _rows(field["items"], f"{here}[]")


def _type(field: JsonObject) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "int or string"
    if "enum" in field:
        return " \\| ".join(str(word) for word in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    return str(field.get("type", "any"))
