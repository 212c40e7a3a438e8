"""`python -m ocisync.sandbox --dir DIR`: run the sandbox until SIGTERM or Ctrl-C.

Prints one JSON line when both servers listen:

    {"registry": "127.0.0.1:41001", "kubeconfig": "DIR/kubeconfig", "apiserver": "http://127.0.0.1:41002", "pid": 4711}
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from ocisync.sandbox.registryauth import Account, Auth
from ocisync.sandbox.server import Sandbox


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        prog="python -m ocisync.sandbox",
        description="Run an OCI registry and a small in-memory Kubernetes API on loopback ports.",
        epilog="example: python -m ocisync.sandbox --dir /tmp/sandbox --registry-port 5000",
    )
    made.add_argument("--dir", type=Path, required=True, help="where the kubeconfig and the registry's content go")
    made.add_argument("--registry-port", type=int, default=0, help="port of the registry (default: a free one)")
    made.add_argument("--api-port", type=int, default=0, help="port of the Kubernetes API (default: a free one)")
    made.add_argument("--no-referrers", action="store_true", help="act as a registry without the referrers API")
    made.add_argument("--no-controllers", action="store_true", help="leave workloads without pods and status")
    made.add_argument("--memory", action="store_true", help="keep the registry's content in memory")
    made.add_argument("--user", metavar="NAME:PASSWORD", help="ask for this login on the registry")
    made.add_argument("--bearer", action="store_true", help="with --user: ask for bearer tokens instead of basic login")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until asked to stop."""
    options = parser().parse_args(arguments)
    auth: Auth | None = None
    if options.user:
        name, _, password = options.user.partition(":")
        auth = Auth({name: Account(password)}, scheme="bearer" if options.bearer else "basic")
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    sandbox = Sandbox(
        options.dir.resolve(),
        registry_port=options.registry_port,
        api_port=options.api_port,
        referrers=not options.no_referrers,
        auth=auth,
        controllers=not options.no_controllers,
        persistent=not options.memory,
    )
    with sandbox:
        ready = {
            "registry": sandbox.registry.address,
            "kubeconfig": str(sandbox.kubeconfig),
            "apiserver": sandbox.apiserver.url,
            "pid": os.getpid(),
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
