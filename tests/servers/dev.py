#!/usr/bin/env python3
"""Starts the real servers for work by hand, until Ctrl-C or SIGTERM.

    python -m tests.servers.dev [--nodes N] [--only controlplane,kwok,distribution,olareg]

Prints one JSON object when everything is ready: the kubeconfig, a kubectl command, the addresses of the
registries, and the folder with logs and data. All of it is gone afterwards. Build the servers first:
``python tests/servers/build.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

# So that the file also runs by its path, without the checkout installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.servers import build
from tests.support.controlplane import ControlPlane, Programs
from tests.support.kwok import Kwok
from tests.support.registries import Distribution, Olareg, Registry

PARTS = ("controlplane", "kwok", "distribution", "olareg")


def main() -> int:
    """Starts, prints, waits, stops."""
    parser = argparse.ArgumentParser(description="Start the real servers for work by hand.")
    parser.add_argument("--nodes", type=int, default=3, help="how many nodes kwok plays (default 3)")
    parser.add_argument("--only", default=",".join(PARTS), help="a comma-separated part of: %(default)s")
    options = parser.parse_args()
    parts: list[str] = options.only.split(",")
    signal.signal(signal.SIGTERM, _interrupt)
    if absent := [name for name in parts if build.find(name) is None]:
        for name in absent:
            print(f"{name} is not ready: {build.how_to_get(name)}", file=sys.stderr)
        return 1
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ocisync-dev-")))
        print(json.dumps(_start(parts, options.nodes, directory, stack), indent=2), flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0


def _start(parts: list[str], nodes: int, directory: Path, stack: contextlib.ExitStack) -> dict[str, str]:
    shown = {"directory": str(directory)}
    if "controlplane" in parts:
        control_plane = ControlPlane(Programs.find(), directory / "controlplane")
        stack.callback(control_plane.stop)
        control_plane.start()
        kubectl = [*control_plane.programs.kubectl, "--kubeconfig", str(control_plane.kubeconfig)]
        shown |= {
            "kubeconfig": str(control_plane.kubeconfig),
            "kubectl": shlex.join(kubectl),
            "apiserver": control_plane.server,
            "audit_log": str(control_plane.audit.path),
        }
        if "kwok" in parts:
            kwok = Kwok(_ready("kwok"), control_plane)
            stack.callback(kwok.stop)
            kwok.start(nodes)
    registries: tuple[type[Registry], ...] = (Distribution, Olareg)
    for kind in registries:
        if kind.server in parts:
            registry = kind(_ready(kind.server), directory / kind.server)
            stack.callback(registry.stop)
            registry.start()
            shown[kind.server] = registry.host
    return shown


def _ready(name: str) -> Path:
    found = build.find(name)
    assert found is not None, name
    return found


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
