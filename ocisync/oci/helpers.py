"""Credential helpers: the programs `docker-credential-NAME get|store|erase` that docker, podman and others share.

A helper gets its input on stdin and answers on stdout with a status of 0 or a sentence and another status. It may take
`HELPER_TIMEOUT_S` seconds and answer with `HELPER_BYTES`; what takes or says more is killed with all it started. What
it says on stderr is dropped: it could hold secrets.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import field

from ocisync.model.errors import OcisyncError
from ocisync.model.values import dataclass

HELPER_TIMEOUT_S = 20.0
HELPER_BYTES = 1024 * 1024
INPUT_BYTES = 32 * 1024  # below what every pipe takes at once, so that writing cannot block
_POLL_S = 0.05

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


class HelperFailed(OcisyncError):
    """A helper cannot be run, took too long, or said too much. The message never holds its answer."""

    default_reason = "CredentialHelperFailed"


@dataclass(frozen=True, slots=True)
class HelperAnswer:
    """What a helper said. The output is a secret."""

    status: int
    output: bytes = field(repr=False)

    @property
    def not_found(self) -> bool:
        """The protocol's normal "no login": helpers differ in how they spell it."""
        return self.status != 0 and b"not found" in self.output.lower()


def ask_helper(
    name: str, action: str, text: bytes, environ: Mapping[str, str], timeout_s: float = HELPER_TIMEOUT_S
) -> HelperAnswer:
    """Run `docker-credential-NAME ACTION` with `text` on its stdin.

    Raises:
        HelperFailed: no answer.
    """
    if not _NAME.match(name):
        raise HelperFailed(f"credential helper name {name[:80]!r} is not a program name")
    program = f"docker-credential-{name}"
    if len(text) > INPUT_BYTES:
        raise HelperFailed(f"{program}: more than {INPUT_BYTES} bytes to give it")
    try:
        process = subprocess.Popen(  # noqa: S603 - the name is checked, the user's own configuration asks for it
            [program, action],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ) or None,
            start_new_session=True,
        )
    except OSError as error:
        raise HelperFailed(f"{program} cannot be run: {error.strerror or 'unknown error'}") from error
    with process:
        try:
            output = _converse(process, text, program, timeout_s)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        return HelperAnswer(process.returncode, output)


def _converse(process: subprocess.Popen[bytes], text: bytes, program: str, timeout_s: float) -> bytes:
    """Write, read to the end, and wait for the end."""
    deadline = time.monotonic() + timeout_s
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None  # noqa: S101 - both are pipes, as asked for
    assert stdout is not None  # noqa: S101
    with contextlib.suppress(BrokenPipeError):  # a helper may answer without reading
        stdin.write(text)
        stdin.flush()
    with contextlib.suppress(BrokenPipeError):
        stdin.close()
    out = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while True:
            # A program that the helper leaves running may hold the pipe open: its own end is an end as well.
            ended = process.poll() is not None
            ready = selector.select(0 if ended else min(_POLL_S, max(deadline - time.monotonic(), 0)))
            data = os.read(stdout.fileno(), 64 * 1024) if ready else b""
            out += data
            if len(out) > HELPER_BYTES:
                raise HelperFailed(f"{program} said more than {HELPER_BYTES} bytes")
            if (ended and not data) or (ready and not data):
                break
            if time.monotonic() >= deadline:
                raise HelperFailed(f"{program} did not answer within {timeout_s:g} s")
    try:
        process.wait(max(deadline - time.monotonic(), _POLL_S))
    except subprocess.TimeoutExpired:
        raise HelperFailed(f"{program} did not end within {timeout_s:g} s") from None
    return bytes(out)
