"""Keeps logins where docker and podman keep them: `ocisync login` and `logout` on one login file.

- The file is read anew, changed and replaced under a lock on its folder, so that two logins at once keep both; what is
  not ours in it stays as it is. It is readable by its owner alone.
- Where the file names a credential helper for the host (`credHelpers`, else `credsStore`), the helper keeps the secret
  and the file only an empty mark, as docker does.
- A file that is no login file is left alone.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ocisync.kit.atomic import write_bytes
from ocisync.model.errors import InvalidInput, OcisyncError, UsageError
from ocisync.model.values import dataclass
from ocisync.oci.credentials import MAX_CONFIG_BYTES, Credential, config_paths, keys_of, parse_docker_config, server_key
from ocisync.oci.helpers import HELPER_TIMEOUT_S, HelperFailed, ask_helper


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a login is kept, or was.

    Attributes:
        file: the login file.
        helper: the credential helper that holds the secret; empty if the file does.
        found: logout only: there was a login.
    """

    file: Path
    helper: str = ""
    found: bool = True


def login_file(environ: Mapping[str, str], config_file: Path | None = None) -> Path:
    """The file that logins go to: `config_file`, else the first of the usual places.

    Raises:
        UsageError: the environment names no place, not even a home.
    """
    paths = (config_file,) if config_file is not None else config_paths(environ)
    if not paths:
        raise UsageError("no place for logins: HOME is not set", hint="pass --registry-config FILE")
    return paths[0]


def store_login(
    file: Path,
    host: str,
    credential: Credential,
    environ: Mapping[str, str],
    *,
    timeout_s: float = HELPER_TIMEOUT_S,
) -> Kept:
    """Keep a login for a whole host, replacing an older one.

    Raises:
        InvalidInput: the file is no login file.
        OcisyncError: it cannot be written, or its helper does not take the login.
    """
    key = server_key(host)

    def change(document: dict[str, Any], helper: str) -> Kept:
        entry: dict[str, str] = {}
        if helper:
            secret = {"ServerURL": key, "Username": credential.username, "Secret": credential.password}
            _tell_helper(helper, "store", json.dumps(secret).encode(), environ, timeout_s)
        else:
            pair = f"{credential.username}:{credential.password}"
            entry["auth"] = base64.b64encode(pair.encode()).decode()
        auths = document.setdefault("auths", {})
        for old in keys_of(host, auths):
            # Tokens and helpers' marks of an older login would be preferred to the new one by some tools.
            del auths[old]
        auths[key] = entry
        return Kept(file, helper)

    return _change(file, host, change)


def remove_login(file: Path, host: str, environ: Mapping[str, str], *, timeout_s: float = HELPER_TIMEOUT_S) -> Kept:
    """Forget the login for a whole host; entries for single repositories of it stay.

    Raises:
        InvalidInput: the file is no login file.
        OcisyncError: it cannot be written, or its helper fails.
    """
    if not file.exists():
        return Kept(file, found=False)

    def change(document: dict[str, Any], helper: str) -> Kept:
        auths = document.get("auths", {})
        old = keys_of(host, auths)
        for key in old:
            del auths[key]
        erased = bool(helper) and _tell_helper(helper, "erase", server_key(host).encode(), environ, timeout_s)
        return Kept(file, helper, found=bool(old) or erased)

    return _change(file, host, change)


def _tell_helper(helper: str, action: str, text: bytes, environ: Mapping[str, str], timeout_s: float) -> bool:
    answer = ask_helper(helper, action, text, environ, timeout_s)
    if answer.status == 0:
        return True
    if action == "erase" and answer.not_found:
        return False
    raise HelperFailed(f"docker-credential-{helper} {action} failed with status {answer.status}")


def _change(file: Path, host: str, change: Callable[[dict[str, Any], str], Kept]) -> Kept:
    """Read, change and replace the file, alone."""
    target = file.resolve()  # a link into a folder of dotfiles stays a link
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(target.parent):
            before = _read(target)
            document = _document(before, str(file))
            config = parse_docker_config(before if before.strip() else b"{}", str(file))
            kept = change(document, config.helper_for(host) or config.store)
            after = json.dumps(document, indent="\t", ensure_ascii=False).encode() + b"\n"
            if kept.found:
                write_bytes(target, after, mode=0o600)
            return kept
    except OSError as error:
        raise OcisyncError(f"cannot write logins to {file}: {error.strerror or error}") from error


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        return b""


def _document(data: bytes, where: str) -> dict[str, Any]:
    if not data.strip():
        return {}
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("auths", {}), dict):
        # Not chained: the decoder's message would quote the file, which holds secrets.
        raise InvalidInput(
            f"{where}: not a login file, so it is left as it is", hint="mend it, or pass --registry-config FILE"
        ) from None
    return document


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold a folder's lock: it leaves no file behind and survives the replacing of what it protects."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
