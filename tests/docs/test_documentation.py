"""Documents say what the program does: links lead somewhere, commands parse, references are generated."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from ocisync.cli.app import root
from ocisync.install import crds
from tests.docs import reference

TOP = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [TOP / "README.md", *TOP.glob("docs/**/*.md"), *TOP.glob("examples/**/*.md"), *TOP.glob("tests/**/*.md")]
)
IDS = [str(path.relative_to(TOP)) for path in DOCUMENTS]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"```(?:sh|bash|console)\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    targets = [target for target in LINK.findall(document.read_text()) if "://" not in target]
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert missing == []


def _typed_commands(text: str) -> list[list[str]]:
    found = []
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for piece in re.split(r"\s*(?:\||&&|;|>)\s*", line.split(" #")[0]):
                stripped = piece.strip().removeprefix("$ ")
                stripped = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", stripped)
                if stripped.startswith("ocisync "):
                    found.append(shlex.split(stripped.replace("…", "x"))[1:])
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_every_command_that_a_document_shows_has_its_flags(document: Path) -> None:
    wrong = []
    for words in _typed_commands(document.read_text()):
        command: click.Command = root
        rest = list(words)
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            inner = command.get_command(click.Context(command), rest.pop(0))
            if inner is None:
                wrong.append(f"no such command: {' '.join(words)}")
                break
            command = inner
        known = {flag for item in command.params for flag in (*item.opts, *item.secondary_opts)} | {
            "--help",
            "-h",
            "--version",
        }
        wrong += [
            f"{flag} in: {' '.join(words)}"
            for flag in (word.partition("=")[0] for word in rest)
            if flag.startswith("-") and flag not in {*known, "-"}
        ]
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "text"),
    [("cli.md", reference.command_line), ("resources.md", reference.custom_resources)],
    ids=["cli", "resources"],
)
def test_the_reference_is_what_the_program_says(name: str, text: object, update_golden: bool) -> None:
    assert callable(text)
    file = TOP / "docs" / "reference" / name
    made = text()
    if update_golden:
        file.write_text(made)
    assert made == file.read_text(), "run pytest tests/docs --update-golden and look at the difference"


def test_every_field_of_the_custom_resources_is_described() -> None:
    silent: list[str] = []

    def walk(schema: dict[str, object], path: str) -> None:
        properties = schema.get("properties")
        for name, field in (properties if isinstance(properties, dict) else {}).items():
            if not field.get("description") and name not in ("apiVersion", "kind", "metadata"):
                silent.append(f"{path}.{name}")
            walk(field, f"{path}.{name}")
            walk(field.get("items", {}), f"{path}.{name}[]")

    for definition in (crds.artifact_sync(), crds.trust_policy()):
        walk(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], definition["spec"]["names"]["kind"])
    assert silent == []


def test_the_changelog_speaks_of_the_version_to_come() -> None:
    assert "## [Unreleased]" in (TOP / "CHANGELOG.md").read_text()


def test_no_file_names_a_machine_path_or_a_tool_of_its_making() -> None:
    words = re.compile(r"(?<![\w./])/(?:work|root|farm)/\w|\bissue #?\d+\b|\bsession\b.*\bhelper\b", re.IGNORECASE)
    guilty = [str(path.relative_to(TOP)) for path in DOCUMENTS if words.search(path.read_text())]
    assert guilty == []
