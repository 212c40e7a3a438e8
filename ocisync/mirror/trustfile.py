"""Keys, policies and trusted roots that travel in a mirror file: cargo until somebody adopts them.

Nothing here judges the file that carried it. A file of the cargo is adopted in one of two ways: somebody names its
fingerprint, which came by another way than the file; or a key that is trusted already signed the file's contents, and
the cargo's version is higher than the one adopted last, so that an old edition cannot be brought back.

Adopted files lie in a directory, beside `adopted.json`, which remembers the version and where each came from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocisync.kit import atomic
from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.mirror.archive import Head
from ocisync.mirror.contents import Cargo, cargo_name
from ocisync.model.digest import is_digest
from ocisync.model.errors import InvalidInput, Refused
from ocisync.model.limits import MIB, MIRROR_CARGO_COUNT
from ocisync.signing.envelope import signers_among
from ocisync.signing.keys import PublicKey

STATE = "adopted.json"
_STATE_BYTES = 1 * MIB


@dataclass(frozen=True, slots=True)
class Adopted:
    """What a directory holds: the version adopted last, and the digest of each file."""

    version: int = 0
    files: Mapping[str, str] | None = None

    def dump(self) -> bytes:
        """The bytes of `adopted.json`."""
        document = {"version": self.version, "files": dict(sorted((self.files or {}).items()))}
        return json.dumps(document, indent=2).encode() + b"\n"


def read_adopted(directory: Path) -> Adopted:
    """What was adopted before.

    Raises:
        InvalidInput: the record is damaged; nothing is adopted by version then.
    """
    path = directory / STATE
    if not path.exists():
        return Adopted()
    try:
        document = parse_json_object(path.read_bytes(), max_bytes=_STATE_BYTES)
    except Malformed as error:
        raise InvalidInput(f"{path}: {error}", hint="restore it, or begin with an empty directory") from error
    version, files = document.get("version"), document.get("files")
    sound = isinstance(files, dict) and all(isinstance(value, str) and is_digest(value) for value in files.values())
    if not isinstance(version, int) or isinstance(version, bool) or version < 0 or not sound:
        raise InvalidInput(f"{path} is no record of adopted files", hint="restore it, or begin with an empty directory")
    return Adopted(version, files)


def by_fingerprint(head: Head, fingerprints: Sequence[str], name: str) -> tuple[Cargo, ...]:
    """The cargo with these digests.

    Raises:
        Refused: the file carries nothing with one of them.
    """
    by_digest = {item.digest: item for item in head.contents.cargo}
    for wanted in fingerprints:
        if wanted not in by_digest:
            raise Refused(
                f"{name} carries nothing with fingerprint {wanted}",
                reason="UnknownFingerprint",
                hint=f"ocisync mirror trust {name} lists what it carries",
            )
    return tuple(by_digest[wanted] for wanted in dict.fromkeys(fingerprints))


def by_key(head: Head, keys: Sequence[PublicKey], adopted: Adopted, name: str) -> tuple[Cargo, ...]:
    """All cargo, because a key that is trusted already vouches for it.

    Raises:
        Refused: none of the keys signed the contents, or the version does not rise.
    """
    if not signers_among(head.sealed, keys):
        raise Refused(
            f"{name} is not signed by a key that is trusted already",
            reason="UnknownSigner",
            hint="adopt by fingerprint, which must come by another way than the file",
        )
    version = head.contents.trust_version
    if not version:
        raise Refused(f"{name}: what it carries has no version", reason="NoVersion", hint="adopt by fingerprint")
    if version <= adopted.version:
        raise Refused(
            f"{name} carries version {version}, and version {adopted.version} was adopted already",
            reason="RolledBack",
            hint="an older edition can be adopted by fingerprint only",
        )
    return head.contents.cargo


def adopt(head: Head, cargo: Sequence[Cargo], directory: Path, *, raise_version: bool) -> Adopted:
    """Write files into the directory, and the record of them last."""
    before = read_adopted(directory)
    directory.mkdir(parents=True, exist_ok=True)
    files = dict(before.files or {})
    for item in cargo[:MIRROR_CARGO_COUNT]:
        atomic.write_bytes(directory / cargo_name(item.name), head.data[item.digest])
        files[item.name] = item.digest
    version = max(before.version, head.contents.trust_version) if raise_version else before.version
    after = Adopted(version, files)
    atomic.write_bytes(directory / STATE, after.dump())
    return after


def cargo_json(head: Head) -> list[dict[str, Any]]:
    """What a file carries, for scripts."""
    return [{"name": item.name, "fingerprint": item.digest, "size": item.size} for item in head.contents.cargo]
