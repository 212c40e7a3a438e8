"""`ocisync completion`: the script that makes a shell complete our commands and flags."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    Examples:
      ocisync completion bash > ~/.local/share/bash-completion/completions/ocisync
      source <(ocisync completion zsh)
      ocisync completion fish > ~/.config/fish/completions/ocisync.fish
    """
    from ocisync.cli.app import root

    completion_class = get_completion_class(shell)
    if completion_class is None:  # the choice above and click's table differ: a programming error
        raise click.UsageError(f"no completion for {shell}")
    click.echo(completion_class(root, {}, "ocisync", "_OCISYNC_COMPLETE").source())
