"""The threat table, as far as mirror files go: what comes in a file vouches for nothing in that file. T-numbers are
those of docs/trust.md.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocisync.cli.app import run
from ocisync.kit import yamlio
from ocisync.oci.client import open_store
from ocisync.sandbox.registry import Registry
from ocisync.signing import bundle
from ocisync.signing.keys import Signer, dump_private
from tests.support.signedrepository import SignedRepository
from tests.support.trust import policy, signer

CI, EVE = signer("ci"), signer("eve")
FILES = {"app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: honest}\n"}


@pytest.fixture
def near() -> Iterator[Registry]:
    with Registry() as running:
        yield running


@pytest.fixture
def far() -> Iterator[Registry]:
    with Registry() as running:
        yield running


def mirror(*arguments: object, code: int = 0) -> None:
    assert run(["mirror", *map(str, arguments), "-q"]) == code, arguments


def public(directory: Path, by: Signer, name: str) -> Path:
    path = directory / f"{name}.pub"
    path.write_text(by.public.pem)
    return path


def private(directory: Path, by: Signer, name: str) -> Path:
    path = directory / f"{name}.key"
    path.write_bytes(dump_private(by, password=None))
    return path


def trusting(directory: Path, by: Signer, repository: str, signed: str) -> Path:
    """A policy file that trusts one key for a repository and what was signed under another name."""
    document = policy(match=[{"repository": repository}], by=("ci",))
    document["spec"]["authorities"] = [{"name": "ci", "key": {"pem": by.public.pem}}]
    document["spec"]["repositoryClaim"] = {"mode": "Require", "remap": [{"signed": signed, "here": repository}]}
    path = directory / f"policy-{by.fingerprint[7:15]}.yaml"
    path.write_text(yamlio.dump(document))
    return path


def there(repository: str, tag: str) -> bool:
    with open_store(repository) as store:
        return store.resolve(tag) is not None


# T34: trust in a file is cargo --------------------------------------------------------------------------------------


def test_t34_keys_and_policies_in_a_file_never_judge_that_file(near: Registry, far: Registry, tmp_path: Path) -> None:
    source, target = f"{near.address}/shop/config", f"{far.address}/mirror/shop"
    repo = SignedRepository(source)
    repo.sign(repo.push(FILES, "production").descriptor, EVE)
    file = tmp_path / "evil.tar"
    mirror("save", f"{source}:production", "-o", file, "--sign-key", private(tmp_path, EVE, "eve"),
           "--with-trust", public(tmp_path, EVE, "release"), "--with-trust", trusting(tmp_path, EVE, target, source),
           "--trust-version", "9")  # fmt: skip
    mine = tmp_path / "mine"
    mine.mkdir()
    mirror("load", file, target, "--policy", trusting(mine, CI, target, source), code=4)
    mirror("load", file, target, "--key", public(mine, CI, "ci"), code=4)
    mirror("verify", file, "--key", public(mine, CI, "ci"), code=4)
    mirror("load", file, target, "--sender-key", public(mine, CI, "sender"), code=4)
    assert not there(target, "production")


def test_t34_trust_is_adopted_by_fingerprint_or_by_a_known_key_with_a_rising_version(
    near: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, trusted = f"{near.address}/shop/config", tmp_path / "trusted"
    repo = SignedRepository(source)
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    known, unknown = public(tmp_path, CI, "known"), public(tmp_path, EVE, "unknown")
    key = private(tmp_path, CI, "known")

    def saved(name: str, version: int) -> Path:
        file = tmp_path / name
        mirror("save", f"{source}:production", "-o", file, "--sign-key", key, "--with-trust", unknown,
               "--trust-version", version)  # fmt: skip
        return file

    first, second = saved("first.tar", 1), saved("second.tar", 2)
    mirror("trust", first, "--signed-by", unknown, "--to", trusted, code=4)
    mirror("trust", first, "--fingerprint", "sha256:" + "0" * 64, "--to", trusted, code=4)
    assert not trusted.exists()
    mirror("trust", second, "--signed-by", known, "--to", trusted)
    assert (trusted / "unknown.pub").read_text() == EVE.public.pem
    mirror("trust", first, "--signed-by", known, "--to", trusted, code=4)  # an old edition
    mirror("trust", second, "--signed-by", known, "--to", trusted, code=4)  # the same again
    capsys.readouterr()
    assert run(["mirror", "trust", str(first), "-o", "json"]) == 0
    fingerprint = json.loads(capsys.readouterr().out)["carried"][0]["fingerprint"]
    (trusted / "unknown.pub").unlink()
    mirror("trust", first, "--fingerprint", fingerprint, "--to", trusted)
    assert (trusted / "unknown.pub").exists()
    assert json.loads((trusted / "adopted.json").read_text())["version"] == 2


def test_t34_a_private_key_never_travels(near: Registry, tmp_path: Path) -> None:
    source = f"{near.address}/shop/config"
    SignedRepository(source).push(FILES, "production")
    secret = private(tmp_path, CI, "ci")
    mirror("save", f"{source}:production", "-o", tmp_path / "x.tar", "--with-trust", secret, code=1)
    assert not (tmp_path / "x.tar").exists()


# T35: referrers of another repository -------------------------------------------------------------------------------


def test_t35_a_signature_of_another_repository_in_the_same_file_does_not_count(
    near: Registry, far: Registry, tmp_path: Path
) -> None:
    signed, bare = f"{near.address}/signed/config", f"{near.address}/bare/config"
    first, second = SignedRepository(signed), SignedRepository(bare)
    built = first.push(FILES, "production")
    made = bundle.make(CI, built.descriptor.digest, {})  # names no repository: only the place says whose it is
    first.attach_bundle(built.descriptor, made)
    second.push(FILES, "production")
    file, key = tmp_path / "both.tar", public(tmp_path, CI, "ci")
    mirror("save", f"{signed}:production", f"{bare}:production", "-o", file)
    mirror("load", file, f"{far.address}/mirror", "--key", key, code=4)
    assert not there(f"{far.address}/mirror/signed/config", "production")
    mirror("load", file, f"{far.address}/mirror", "--key", key, "--partial", code=4)
    assert there(f"{far.address}/mirror/signed/config", "production")
    assert not there(f"{far.address}/mirror/bare/config", "production")


def test_t35_a_referrer_is_loaded_into_its_own_repository_alone(near: Registry, far: Registry, tmp_path: Path) -> None:
    signed, bare = f"{near.address}/signed/config", f"{near.address}/bare/config"
    first, second = SignedRepository(signed), SignedRepository(bare)
    built = first.push(FILES, "production")
    first.attach_bundle(built.descriptor, bundle.make(CI, built.descriptor.digest, {}))
    second.push(FILES, "production")
    file = tmp_path / "both.tar"
    mirror("save", f"{signed}:production", f"{bare}:production", "-o", file)
    mirror("load", file, f"{far.address}/mirror")  # unjudged: what matters is what arrives where
    counts = []
    for name in ("signed", "bare"):
        with open_store(f"{far.address}/mirror/{name}/config") as store:
            counts.append(len(store.referrers(built.descriptor.digest).descriptors))
    assert counts == [1, 0]


def test_t35_a_list_of_contents_that_was_changed_is_not_the_senders(
    near: Registry, far: Registry, tmp_path: Path
) -> None:
    """Whoever moves a referrer to another repository in the list breaks the sender's signature."""
    source, target = f"{near.address}/shop/config", f"{far.address}/mirror/shop"
    repo = SignedRepository(source)
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    file, sender = tmp_path / "shop.tar", public(tmp_path, EVE, "sender")
    mirror("save", f"{source}:production", "-o", file, "--sign-key", private(tmp_path, EVE, "sender"))
    mirror("verify", file, "--sender-key", sender)
    with_contents(file, lambda payload: payload.replace(b'"role":"Referrer"', b'"role":"Artifact"'))
    mirror("verify", file, code=0)  # sound in itself, but nobody's
    mirror("verify", file, "--sender-key", sender, code=4)
    mirror("load", file, target, "--sender-key", sender, code=4)
    assert not there(target, "production")


def with_contents(file: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the list of contents and keep its signature."""
    with tarfile.open(file) as archive:
        parts = [(info, (archive.extractfile(info) or io.BytesIO()).read()) for info in archive]
    with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as archive:
        for info, data in parts:
            if info.name == "contents.json":
                envelope = json.loads(data)
                payload = change(base64.b64decode(envelope["payload"]))
                data = json.dumps({**envelope, "payload": base64.b64encode(payload).decode()}).encode()
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
