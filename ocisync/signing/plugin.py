"""Keys that stay where they are: a program signs, for a KMS, an HSM, an agent.

    exec:PROGRAM[?KEY]       PROGRAM is a path, or a name on PATH; KEY is for the program to understand

    PROGRAM public-key [KEY]     prints the public key, one PUBLIC KEY PEM block
    PROGRAM sign [KEY]           reads the message on standard input, to its end; prints the signature, nothing else

The signature is the one that `Signer.sign` makes: over the whole message, hashed as the kind of key demands (ECDSA
P-256 and RSA PKCS #1 v1.5 with SHA-256, Ed25519 as it is); DER for ECDSA, else raw bytes. It is verified with the
public key before anyone sees it: a program that signs something else, or with another key, is an error.

The program gets the caller's environment, since it must find its credentials there, without what is ours to know
(passwords, logins, identity tokens). It may take `TIMEOUT_S` and say `OUTPUT_BYTES`; what takes or says more is killed
with all that it started. No shell is involved.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ocisync.model.errors import InvalidInput, NotFound, OcisyncError, Unavailable, UsageError
from ocisync.signing.keys import PublicKey, Signer, load_public

SCHEME = "exec:"
TIMEOUT_S = 60.0  # a KMS far away, or a person who touches a token
OUTPUT_BYTES = 64 * 1024  # a public key or a signature is below 4 KiB
_SAID_CHARS = 400
_POLL_S = 0.05
_OURS = re.compile(r"OCISYNC_|COSIGN_PASSWORD\Z|SIGSTORE_ID_TOKEN\Z")


class PluginFailed(OcisyncError):
    """The program did not do what it must; says what it wrote to standard error."""

    default_reason = "SigningPluginFailed"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A program, and the key that it shall use."""

    program: str
    key: str
    environ: Mapping[str, str]
    timeout_s: float = TIMEOUT_S

    def public_key(self) -> PublicKey:
        """Ask for the public key.

        Raises:
            PluginFailed, Unavailable, InvalidInput: it does not give one that is supported.
        """
        return load_public(self._ask("public-key", b""), name=f"public key of {self._name}")

    def signature(self, message: bytes) -> bytes:
        """Ask for a signature, not verified.

        Raises:
            PluginFailed, Unavailable: it does not give one.
        """
        return self._ask("sign", message)

    @property
    def _name(self) -> str:
        return Path(self.program).name

    def _ask(self, action: str, message: bytes) -> bytes:
        what = f"{self._name} {action}"
        command = [self.program, action, *([self.key] if self.key else [])]
        environ = {name: value for name, value in self.environ.items() if not _OURS.match(name)}
        # A file, not a pipe: nothing can block, however late or little the program reads.
        with tempfile.TemporaryFile() as stdin:
            stdin.write(message)
            stdin.seek(0)
            try:
                process = subprocess.Popen(  # noqa: S603 - the user names the program; no shell
                    command,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=environ,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                said = getattr(error, "strerror", None) or "bad name or key"
                raise PluginFailed(f"{what} cannot be run: {said}") from error
        with process:
            try:
                output, said = _heard(process, what, self.timeout_s)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode:
            raise PluginFailed(f"{what} failed with exit code {process.returncode}{_shown(said)}")
        if not output:
            raise PluginFailed(f"{what} printed nothing{_shown(said)}")
        return output


@dataclass(frozen=True, slots=True)
class _Outside:
    """A private key that is not here."""

    plugin: Plugin
    public: PublicKey

    def sign(self, data: bytes) -> bytes:
        signature = self.plugin.signature(data)
        if not self.public.verify(signature, data):
            what = f"{Path(self.plugin.program).name} sign printed {len(signature)} bytes"
            raise PluginFailed(
                f"{what} that are no signature over the message by its public key ({self.public.algorithm})",
                hint="ECDSA signatures are DER over SHA-256 of standard input; nothing else may be printed, no newline",
            )
        return signature


def is_plugin(name: str) -> bool:
    """Tell whether the name of a key means a program."""
    return name.startswith(SCHEME)


def open_plugin(name: str, environ: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> Signer:
    """A signer that asks a program: `exec:PROGRAM[?KEY]`, also written `exec://PROGRAM[?KEY]`.

    Args:
        name: as above.
        environ: of the caller.
        timeout_s: for each question.

    Raises:
        UsageError: no program is named.
        NotFound: it is not there, or cannot be run.
        PluginFailed, Unavailable, InvalidInput: it does not give a public key that is supported.
    """
    wanted, _, key = name.removeprefix(SCHEME).removeprefix("//").partition("?")
    if not wanted:
        raise UsageError(f"{name}: no program is named", hint="--sign-key exec:PROGRAM?KEY")
    if key.startswith("-"):
        raise UsageError(f"{name}: a key must not look like an option")
    program = shutil.which(wanted, path=environ.get("PATH", os.defpath))
    if program is None:
        where = "no program that can be run" if "/" in wanted else "not on PATH"
        raise NotFound(f"signing program {wanted}: {where}", hint="name its path: --sign-key exec:/PATH/TO/PROGRAM?KEY")
    plugin = Plugin(str(Path(program).absolute()), key, dict(environ), timeout_s)
    try:
        public = plugin.public_key()
    except InvalidInput as error:
        hint = error.hint or "`PROGRAM public-key` must print one PUBLIC KEY PEM block"
        raise InvalidInput(error.message, hint=hint, reason=error.reason) from None
    return Signer(public, _Outside(plugin, public))


def _heard(process: subprocess.Popen[bytes], what: str, timeout_s: float) -> tuple[bytes, bytes]:
    """Everything on standard output, and the end of what is on standard error."""
    deadline = time.monotonic() + timeout_s
    stdout, stderr = process.stdout, process.stderr
    assert stdout is not None and stderr is not None  # noqa: S101 - both are pipes, as asked for
    heard = {stdout: bytearray(), stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for stream in heard:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            # What it leaves running may hold the pipes open: its own end is an end as well.
            ended = process.poll() is not None
            ready = selector.select(0 if ended else _POLL_S)
            for key, _ in ready:
                data = os.read(key.fd, 64 * 1024)
                if not data:
                    selector.unregister(key.fileobj)
                (stream,) = [stream for stream in heard if stream is key.fileobj]
                heard[stream] += data
            if len(heard[stdout]) > OUTPUT_BYTES:
                raise PluginFailed(f"{what} printed more than {OUTPUT_BYTES} bytes")
            del heard[stderr][:-OUTPUT_BYTES]
            if ended and not ready:
                break
            if not ended and time.monotonic() >= deadline:
                raise Unavailable(f"{what} did not end within {timeout_s:g} s{_shown(bytes(heard[stderr]))}")
    try:
        process.wait(max(deadline - time.monotonic(), _POLL_S))
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{what} did not end within {timeout_s:g} s") from None
    return bytes(heard[stdout]), bytes(heard[stderr])


def _shown(said: bytes) -> str:
    """What a program wrote to standard error, as the end of a sentence."""
    text = " ".join(said.decode(errors="replace").split())
    text = "".join(char if char.isprintable() else "�" for char in text)
    return f": {text if len(text) <= _SAID_CHARS else '…' + text[-_SAID_CHARS:]}" if text else ""
