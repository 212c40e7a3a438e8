from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from ocisync.model.errors import InvalidInput, NotFound, OcisyncError, Unavailable, UsageError
from ocisync.signing.keys import Signer, dump_private
from ocisync.signing.plugin import OUTPUT_BYTES, Plugin, PluginFailed, open_plugin
from tests.support.signingprogram import honest, script
from tests.support.trust import signer
from tests.support.waiting import eventually

PATH = {"PATH": os.environ.get("PATH", os.defpath)}


def public_of(directory: Path, by: Signer) -> str:
    """A shell command that prints a public key."""
    file = directory / "key.pub"
    file.write_text(by.public.pem)
    return f"cat {shlex.quote(str(file))}"


def acting(directory: Path, sign: str, by: str = "ci", *, timeout_s: float = 120.0) -> Signer:
    """A signer whose program answers the first question well, and the second by a shell command."""
    program = script(directory, f'case "$1" in public-key) {public_of(directory, signer(by))};; sign) {sign};; esac')
    return open_plugin(f"exec:{program}?k", PATH, timeout_s=timeout_s)


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ed25519", "rsa-3072"])
@pytest.mark.parametrize("form", ["exec:{program}?{key}", "exec://{program}?{key}"])
def test_a_program_signs_as_the_key_itself_would(tmp_path: Path, algorithm: str, form: str) -> None:
    key = signer(f"plugin-{algorithm}", algorithm)
    (tmp_path / "k.key").write_bytes(dump_private(key, password=None))
    opened = open_plugin(form.format(program=honest(tmp_path), key=tmp_path / "k.key"), PATH)
    assert opened.public == key.public
    message = b"x" * 200_000  # more than a pipe takes
    assert key.public.verify(opened.sign(message), message)


def test_a_name_without_a_slash_is_looked_up_on_the_path(tmp_path: Path) -> None:
    script(tmp_path, f'[ "$1 $#" = "public-key 1" ] && {public_of(tmp_path, signer())}', "my-kms")
    environ = {"PATH": f"{tmp_path}:{PATH['PATH']}"}
    assert open_plugin("exec:my-kms", environ).public == signer().public
    with pytest.raises(NotFound) as refused:
        open_plugin("exec:my-kms", PATH)
    assert "not on PATH" in refused.value.message


@pytest.mark.parametrize("name", ["exec:", "exec://", "exec:?k", "exec:sh?-c"])
def test_a_name_that_names_no_program_or_looks_like_an_option_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        open_plugin(name, PATH)


def test_the_key_is_one_argument_whatever_is_in_it(tmp_path: Path) -> None:
    script(tmp_path, f'[ "$2" = "a b;?\\$(x)" ] && {public_of(tmp_path, signer())}')
    assert open_plugin(f"exec:{tmp_path}/kms?a b;?$(x)", PATH).public == signer().public


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        ("printf abc", "3 bytes that are no signature"),
        ("cat", "are no signature"),
        (":", "printed nothing"),
        ("echo no rights on the key >&2; exit 3", "failed with exit code 3: no rights on the key"),
        (f"head -c {OUTPUT_BYTES + 1} /dev/zero", "printed more than"),
        ("yes", "printed more than"),
    ],
)
def test_what_is_no_signature_is_an_error(tmp_path: Path, sign: str, words: str) -> None:
    with pytest.raises(PluginFailed) as failed:
        acting(tmp_path, sign).sign(b"message")
    assert words in failed.value.message


def test_a_signature_by_another_key_or_over_something_else_is_an_error(tmp_path: Path) -> None:
    for number, signature in enumerate((signer("other").sign(b"message"), signer("ci").sign(b"another message"))):
        file = tmp_path / f"signature-{number}"
        file.write_bytes(signature)
        with pytest.raises(PluginFailed):
            acting(tmp_path, f"cat {file}").sign(b"message")


def test_a_program_that_does_not_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    program = script(tmp_path, f"echo touch the token >&2; sleep 1000 & echo $! > {tmp_path}/child; wait")
    child = ""
    for seconds in (1.0, 10.0, 60.0):  # a busy machine may not even have started it in the shorter ones
        with pytest.raises(Unavailable) as failed:
            Plugin(str(program), "k", PATH, timeout_s=seconds).signature(b"message")
        if (tmp_path / "child").exists() and (child := (tmp_path / "child").read_text().strip()):
            break
    assert f"did not end within {seconds:g} s: touch the token" in failed.value.message
    eventually(lambda: _gone(int(child)), what="what the program started is gone")


def _gone(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def test_a_program_that_leaves_another_running_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "signature").write_bytes(signer("ci").sign(b"message"))
    assert acting(tmp_path, f"cat {tmp_path}/signature; sleep 1000 &").sign(b"message")


def test_what_a_program_says_is_cut_and_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    with pytest.raises(PluginFailed) as failed:
        acting(tmp_path, r"yes 'a \033[31m' | head -c 100000 >&2; printf '\033[2J' >&2; exit 1").sign(b"message")
    assert len(failed.value.message) < 600
    assert "\033" not in failed.value.message


def test_our_secrets_are_not_handed_on_and_the_programs_credentials_are(tmp_path: Path) -> None:
    script(tmp_path, f"env > {tmp_path}/environ; {public_of(tmp_path, signer())}")
    ours = ("OCISYNC_KEY_PASSWORD", "OCISYNC_CREDS", "COSIGN_PASSWORD", "SIGSTORE_ID_TOKEN")
    environ = {**PATH, "AWS_PROFILE": "release", **dict.fromkeys(ours, "secret")}
    open_plugin(f"exec:{tmp_path}/kms", environ)
    seen = (tmp_path / "environ").read_text()
    assert "AWS_PROFILE=release" in seen
    assert "secret" not in seen


@pytest.mark.parametrize("body", ["echo x", "exit 1", "cat /dev/zero", "printf '-----BEGIN PUBLIC KEY-----\\n'"])
def test_a_program_without_a_usable_public_key_is_refused(tmp_path: Path, body: str) -> None:
    with pytest.raises((InvalidInput, PluginFailed)):
        open_plugin(f"exec:{script(tmp_path, body)}", PATH)


def test_a_file_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kms").write_text("text")
    with pytest.raises(NotFound):
        open_plugin(f"exec:{tmp_path}/kms", PATH)
    (tmp_path / "kms").chmod(0o755)
    (tmp_path / "kms").write_bytes(b"\x7fELF")
    with pytest.raises(PluginFailed):
        open_plugin(f"exec:{tmp_path}/kms", PATH)


def test_a_key_that_is_elsewhere_cannot_be_written(tmp_path: Path) -> None:
    opened = acting(tmp_path, ":")
    for form in ("pkcs8", "cosign"):
        with pytest.raises(OcisyncError):
            dump_private(opened, password=b"x", key_format=form)
