"""Runs pytest again and again, each time in a child that finds libraries imported, but not the package or its tests.

Reads one JSON list of arguments a line, answers with one line: exit code and output. Most of the time of a short test
run is the import of libraries.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import tempfile

# What the package imports late, too. None of them is a plugin of pytest, which would be imported anew in vain.
_LIBRARIES = (
    "pytest", "click", "yaml", "requests", "rich.console", "nacl.secret", "pathspec", "dulwich.repo", "oras.provider",
    "cryptography.x509", "cryptography.hazmat.primitives.serialization", "sigstore.verify", "sigstore.sign",
    "rfc3161_client", "kubernetes.client", "kubernetes.dynamic",
)  # fmt: skip


def main() -> None:
    """Serve until standard input ends."""
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        code, output = _run(json.loads(line))
        sys.stdout.write(json.dumps([code, output]) + "\n")
        sys.stdout.flush()


def _run(arguments: list[str]) -> tuple[int, str]:
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        child = os.fork()
        if not child:
            code = 70
            try:
                with open(os.devnull) as nothing:  # noqa: PTH123 - a child has little to say
                    os.dup2(nothing.fileno(), 0)
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                import pytest

                code = int(pytest.main(arguments))
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read()


if __name__ == "__main__":
    main()
