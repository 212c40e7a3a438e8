"""Run a renderer: found on PATH, in an environment of its own, bounded in time and output.

A run sees nothing of the caller's environment (no credentials, no configuration, no plugins, no cluster) and every
proxy is a closed port, so that nothing is fetched by accident. It is no sandbox: the tools are trusted, what they
render is the commit that is about to be published.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from ocisync.model.errors import OcisyncError, Unavailable
from ocisync.model.limits import MIB, YAML_BYTES
from ocisync.model.values import dataclass

_CLOSED = "http://127.0.0.1:9"  # the discard port: nothing listens there
_SYSTEM_PATH = "/usr/bin:/bin"  # for tools that are wrapper scripts
_VERSION = re.compile(r"v?(\d+\.\d+(?:\.\d+)?(?:-[0-9A-Za-z.-]+)?)")
_MESSAGE_BYTES = 1 * MIB
_VERSION_S = 30.0
_running: set[int] = set()  # groups of processes; whoever interrupts us must not leave them behind


@dataclass(frozen=True, slots=True)
class Program:
    """A tool that is ready to run. `version` as `v5.8.2`."""

    name: str
    command: tuple[str, ...]
    version: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. `failure` is what the tool wrote to standard error if it failed, else empty."""

    output: bytes
    failure: str = ""
    messages: str = ""


def scrubbed(home: Path) -> dict[str, str]:
    """The environment of a run, all of whose places are below `home`."""
    proxies = {name: _CLOSED for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy")}
    return {
        **proxies,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_DATA_HOME": str(home / "data"),
        "TMPDIR": str(home),
        "PATH": _SYSTEM_PATH,
        "KUBECONFIG": str(home / "no-kubeconfig"),
        "HELM_PLUGINS": str(home / "no-plugins"),
        "HELM_NO_PLUGINS": "1",
        "GIT_ALLOW_PROTOCOL": "file",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
        "TZ": "UTC",
    }


def find_kustomize(environ: Mapping[str, str], home: Path) -> Program:
    """`kustomize`, else the one inside `kubectl`.

    Raises:
        OcisyncError: neither is on PATH.
    """
    path = environ.get("PATH", os.defpath)
    if program := shutil.which("kustomize", path=path):
        return Program("kustomize", (program, "build"), _version([program, "version"], home))
    if program := shutil.which("kubectl", path=path):
        found = _version([program, "version", "--client"], home, after="Kustomize Version")
        return Program("kubectl-kustomize", (program, "kustomize"), found)
    raise OcisyncError(
        "kustomize is not on PATH, nor is kubectl",
        reason="ToolMissing",
        hint="install kustomize (https://kubectl.docs.kubernetes.io/installation/kustomize/), or push rendered files",
    )


def find_helm(environ: Mapping[str, str], home: Path) -> Program:
    """`helm`, version 3 or 4.

    Raises:
        OcisyncError: it is not on PATH.
    """
    program = shutil.which("helm", path=environ.get("PATH", os.defpath))
    if program is None:
        raise OcisyncError(
            "helm is not on PATH",
            reason="ToolMissing",
            hint="install helm (https://helm.sh/docs/intro/install/), or push rendered files",
        )
    return Program("helm", (program, "template"), _version([program, "version", "--template", "{{.Version}}"], home))


def _version(command: Sequence[str], home: Path, *, after: str = "") -> str:
    ended = run(command, home, home, timeout_s=_VERSION_S)
    text = ended.output.decode(errors="replace")
    found = _VERSION.search(text, max(text.find(after), 0))
    if ended.failure or found is None:
        said = (ended.failure or text).strip().splitlines()
        raise OcisyncError(f"{command[0]} does not tell its version: {said[0] if said else 'no output'}")
    return f"v{found[1]}"


def run(command: Sequence[str], directory: Path, home: Path, *, timeout_s: float) -> Ended:
    """Run to the end and take what it prints.

    Raises:
        Unavailable: it did not end in time; it was killed.
        OcisyncError: it cannot be started, or prints more than one file may hold.
    """
    shown = Path(command[0]).name
    try:
        process = subprocess.Popen(  # noqa: S603  # a program from PATH and arguments of ours; no shell
            list(command),
            cwd=directory,
            env=scrubbed(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that what it starts ends with it
        )
    except OSError as err:
        raise OcisyncError(f"cannot run {command[0]}: {err.strerror}") from err
    assert process.stdout is not None and process.stderr is not None  # noqa: S101  # pipes were asked for
    _running.add(process.pid)
    taken = (_Taken(process.stdout, YAML_BYTES), _Taken(process.stderr, _MESSAGE_BYTES))
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise Unavailable(
            f"{shown} did not end within {timeout_s:.0f} s", hint="run it by hand to see what it waits for"
        ) from None
    finally:
        _kill(process.pid)
        process.wait()
        _running.discard(process.pid)
        for stream in taken:
            stream.finish()
    output, messages = taken[0], taken[1].data.decode(errors="replace")
    if output.over:
        raise OcisyncError(f"{shown} printed more than {YAML_BYTES >> 20} MiB", hint="publish less in one environment")
    failure = (messages.strip() or f"exit code {process.returncode}") if process.returncode else ""
    return Ended(bytes(output.data), failure, messages)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@atexit.register
def _kill_all() -> None:
    for group in tuple(_running):
        _kill(group)


class _Taken:
    """Reads a pipe to its end, and keeps no more than `limit` bytes."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self.data = bytearray()
        self.over = False
        self._stream = stream
        self._limit = limit
        self._thread = threading.Thread(target=self._read, name="renderer", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while part := self._stream.read(65_536):
            room = self._limit - len(self.data)
            self.over |= len(part) > room
            self.data += part[:room]

    def finish(self) -> None:
        self._thread.join(10)
        self._stream.close()
