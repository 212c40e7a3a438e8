"""Signing programs for tests: the one of tests/assets, and shell scripts that behave as badly as is wanted."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

ASSET = Path(__file__).parents[1] / "assets" / "signing_plugin.py"


def script(directory: Path, body: str, name: str = "kms") -> Path:
    """A shell script that can be run."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def honest(directory: Path) -> Path:
    """The program of tests/assets under the interpreter of this test."""
    return script(directory, f'exec {shlex.quote(sys.executable)} {shlex.quote(str(ASSET))} "$@"', "honest-kms")
