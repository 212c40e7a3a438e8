"""Every command explains itself, with examples, at little cost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import click
import pytest

from ocisync.cli.app import COMMANDS, root
from tests.cli.conftest import Cli

HEAVY = ("oras", "requests", "kubernetes", "cryptography", "yaml", "sigstore", "rich", "dulwich")
SUBCOMMANDS = {
    "keys": ("generate", "show"),
    "policy": ("init", "check", "test", "impact"),
    "mirror": ("plan", "copy", "sync", "map", "save", "load", "verify", "trust"),
}


def every_command() -> list[tuple[str, ...]]:
    names: list[tuple[str, ...]] = []
    for name in COMMANDS:
        names.append((name,))
        names += [(name, sub) for sub in SUBCOMMANDS.get(name, ())]
    return names


def test_the_root_help_is_as_reviewed(cli: Cli, golden: Callable[[str, str], None]) -> None:
    shown = cli("--help")
    assert shown.exit_code == 0
    golden("help.txt", shown.out)


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_the_help_of_each_command_is_as_reviewed(
    words: tuple[str, ...], cli: Cli, golden: Callable[[str, str], None]
) -> None:
    shown = cli(*words, "--help")
    assert shown.exit_code == 0
    golden(f"help-{'-'.join(words)}.txt", shown.out)


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_each_command_shows_examples_that_name_it(words: tuple[str, ...], cli: Cli) -> None:
    text = cli(*words, "--help").out
    assert "Examples:" in text
    assert f"ocisync {words[0]}" in text.partition("Examples:")[2]


@pytest.mark.parametrize("words", [(), *((name,) for name in SUBCOMMANDS)], ids=" ".join)
def test_a_command_that_needs_another_one_is_answered_with_its_help(words: tuple[str, ...], cli: Cli) -> None:
    ran = cli(*words)
    assert ran.exit_code == 2
    assert ran.out == ""
    assert ran.err == cli(*words, "--help").out


def test_no_command_is_left_out_of_the_list() -> None:
    context = click.Context(root)
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        assert command.name == name


def test_each_option_has_a_help_text() -> None:
    context = click.Context(root)
    silent = []
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        commands = command.commands.values() if isinstance(command, click.Group) else [command]
        for each in commands:
            silent += [
                f"{each.name} {item.name}" for item in each.params if isinstance(item, click.Option) and not item.help
            ]
    assert silent == []


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]], ids=" ".join)
def test_version_and_help_import_no_heavy_library(arguments: list[str]) -> None:
    program = (
        "import sys; sys.argv = ['ocisync', *sys.argv[1:]]\n"
        "from ocisync.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code in (0, None), end.code\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: str, cli: Cli) -> None:
    shown = cli("completion", shell)
    assert shown.exit_code == 0
    assert "_OCISYNC_COMPLETE" in shown.out
