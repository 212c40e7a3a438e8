"""Groups of flags that commands share, so that a flag means the same everywhere."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ocisync.kit import log

_TIMEOUT_MAX_S = 86_400  # sockets take no endless ones

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _stack(*decorators: Callable[[Any], Any]) -> Callable[[_Command], _Command]:
    def apply(function: _Command) -> _Command:
        decorated: Any = function
        for decorator in reversed(decorators):
            decorated = decorator(decorated)
        return decorated  # type: ignore[no-any-return]

    return apply


def output_option(*forms: str) -> Callable[[_Command], _Command]:
    """`-o text|json|yaml|name`."""
    return _stack(
        click.option(
            "-o",
            "--output",
            "form",
            type=click.Choice(forms or ("text", "json", "yaml", "name")),
            default="text",
            show_default=True,
            help="Form of the answer on stdout.",
        )
    )


def _configure_logs(ctx: click.Context, parameter: click.Parameter, value: int) -> int:
    level = logging.WARNING if value == 0 else logging.INFO if value == 1 else logging.DEBUG
    log.configure(sys.stderr, level=level, json_lines=False)
    return value


def common_options(function: _Command) -> _Command:
    """`-v` and `-q`."""
    return _stack(
        click.option(
            "-v",
            "--verbose",
            count=True,
            callback=_configure_logs,
            expose_value=False,
            help="More detail (-vv: debug).",
        ),
        click.option("-q", "--quiet", is_flag=True, help="No progress, no notes; errors only."),
    )(function)


def _finite(ctx: click.Context, parameter: click.Parameter, value: float) -> float:
    if not value <= _TIMEOUT_MAX_S:  # also true for nan, which every range lets pass
        raise click.BadParameter(f"{value:g} is not a number of seconds up to {_TIMEOUT_MAX_S}")
    return value


def registry_options(function: _Command) -> _Command:
    """Everything that reaching a registry may need."""
    return _stack(
        click.option(
            "--plain-http", is_flag=True, default=None, help="Speak http to the registry (implied for loopback)."
        ),
        click.option(
            "--ca-file", type=click.Path(path_type=Path), help="Certificate authorities of the registry, PEM."
        ),
        click.option(
            "--cert-file", type=click.Path(path_type=Path), help="Client certificate to show to the registry, PEM."
        ),
        click.option("--key-file", type=click.Path(path_type=Path), help="Private key of --cert-file, PEM."),
        click.option(
            "--creds",
            metavar="USER:PASSWORD",
            envvar="OCISYNC_CREDS",
            help="Registry login; also read from OCISYNC_CREDS.",
        ),
        click.option(
            "--registry-config",
            type=click.Path(path_type=Path),
            help="Login file in docker's format instead of the usual places.",
        ),
        click.option(
            "--timeout",
            "timeout_s",
            type=click.FloatRange(min=0.1),
            callback=_finite,
            default=30.0,
            show_default=True,
            help="Seconds for each answer.",
        ),
    )(function)


def cluster_options(function: _Command) -> _Command:
    """Which cluster, which context."""
    return _stack(
        click.option(
            "--kubeconfig",
            type=click.Path(path_type=Path),
            envvar="KUBECONFIG",
            help="Cluster access file (default: as kubectl).",
        ),
        click.option("--context", "context", default="", help="Context of the kubeconfig."),
    )(function)


def environment() -> dict[str, str]:
    """The process environment as a value; only front ends read it."""
    return dict(os.environ)
