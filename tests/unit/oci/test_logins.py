"""Logins are kept as docker keeps them: atomically, for the owner alone, and without touching what others wrote."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ocisync.model.errors import InvalidInput, OcisyncError, UsageError
from ocisync.oci.credentials import ConfigSource, Credential, parse_docker_config
from ocisync.oci.logins import login_file, remove_login, store_login

CI = Credential("ci", "pass word:ü")


def read(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(file.read_bytes())
    return loaded


def found(file: Path, host: str = "r.example", **environ: str) -> Credential | None:
    return ConfigSource(parse_docker_config(file.read_bytes(), "f"), environ).find(host, "x")


def test_a_login_makes_the_file_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "config.json"
    assert store_login(file, "r.example", CI, {}).helper == ""
    assert found(file) == CI
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert list(file.parent.iterdir()) == [file]


def test_what_others_wrote_stays_in_its_order(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    before = {
        "HttpHeaders": {"X": "ü"},
        "auths": {"r.example/team": {"auth": "dTpw"}, "o.example": {"auth": "dTpw", "extra": [1]}},
        "currentContext": "default",
    }
    file.write_text(json.dumps(before))
    file.chmod(0o644)
    store_login(file, "r.example", CI, {})
    after = read(file)
    assert list(after) == list(before)
    added = after["auths"].pop("r.example")
    assert after == before
    assert added == {"auth": "Y2k6cGFzcyB3b3JkOsO8"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert remove_login(file, "r.example", {}).found
    assert read(file) == before


@pytest.mark.parametrize(
    "old", ["r.example", "https://r.example", "https://r.example/v1/", "r.example/v2", "R.EXAMPLE"]
)
def test_older_spellings_are_replaced(tmp_path: Path, old: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {old: {"identitytoken": "old"}}}))
    store_login(file, "r.example", CI, {})
    assert list(read(file)["auths"]) == ["r.example"]
    file.write_text(json.dumps({"auths": {old: {"identitytoken": "old"}}}))
    assert remove_login(file, "r.example", {}).found
    assert read(file)["auths"] == {}


def test_docker_hub_has_docker_s_own_name(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    store_login(file, "docker.io", CI, {})
    assert list(read(file)["auths"]) == ["https://index.docker.io/v1/"]
    assert found(file, "registry-1.docker.io") == CI
    assert remove_login(file, "index.docker.io", {}).found


def test_logging_out_without_a_login_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    assert not remove_login(file, "r.example", {}).found
    assert not file.exists()
    file.write_text(' {"auths": {}}')
    assert not remove_login(file, "r.example", {}).found
    assert file.read_text() == ' {"auths": {}}'


@pytest.mark.parametrize("text", ["[]", "{", '{"auths": []}', "\0", '"x"', '{"auths": 7}'])
def test_a_file_that_is_no_login_file_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(InvalidInput):
        store_login(file, "r.example", CI, {})
    with pytest.raises(InvalidInput):
        remove_login(file, "r.example", {})
    assert file.read_text() == text


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    store_login(file, "r.example", CI, {})
    assert found(file) == CI


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    link = tmp_path / "config.json"
    link.symlink_to(tmp_path / "dotfiles" / "docker.json")
    store_login(link, "r.example", CI, {})
    assert link.is_symlink()
    assert found(link) == CI


def test_a_folder_that_is_none_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("")
    with pytest.raises(OcisyncError, match=r"folder/config\.json"):
        store_login(tmp_path / "folder" / "config.json", "r.example", CI, {})


def test_logins_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store_login(file, f"r{number}.example", CI, {}), range(24)))
    assert len(read(file)["auths"]) == 24


KEYCHAIN = """
case "$1" in
store) cat > "$HOME/kept" ;;
erase) read key; [ -f "$HOME/kept" ] || { echo credentials not found; exit 1; }; rm "$HOME/kept" ;;
get) [ -f "$HOME/kept" ] && cat "$HOME/kept" || { echo credentials not found; exit 1; } ;;
esac
"""


@pytest.fixture
def keychain(tmp_path: Path) -> dict[str, str]:
    program = tmp_path / "docker-credential-chain"
    program.write_text("#!/bin/sh" + KEYCHAIN)
    program.chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}


@pytest.mark.parametrize("config", [{"credsStore": "chain"}, {"credHelpers": {"r.example": "chain"}}])
def test_a_helper_keeps_the_secret_and_the_file_does_not(
    tmp_path: Path, keychain: dict[str, str], config: dict[str, object]
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    assert store_login(file, "r.example", CI, keychain).helper == "chain"
    assert read(file) == {**config, "auths": {"r.example": {}}}
    assert json.loads((tmp_path / "kept").read_text())["ServerURL"] == "r.example"
    assert found(file, **keychain) == CI
    assert remove_login(file, "r.example", keychain).found
    assert found(file, **keychain) is None
    assert not remove_login(file, "r.example", keychain).found


@pytest.mark.parametrize("script", ["exit 1", "echo hunter2; exit 2", "exec sleep 60"])
def test_a_helper_that_fails_keeps_the_old_state_and_its_words_to_itself(tmp_path: Path, script: str) -> None:
    program = tmp_path / "docker-credential-chain"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    file = tmp_path / "config.json"
    file.write_text('{"credsStore": "chain"}')
    with pytest.raises(OcisyncError, match="docker-credential-chain") as caught:
        store_login(file, "r.example", CI, {"PATH": f"{tmp_path}:/usr/bin:/bin"}, timeout_s=0.5)
    assert "hunter2" not in str(caught.value)
    assert file.read_text() == '{"credsStore": "chain"}'


def test_logins_go_where_they_are_looked_for_first() -> None:
    assert login_file({"HOME": "/h"}) == Path("/h/.docker/config.json")
    assert login_file({"HOME": "/h", "DOCKER_CONFIG": "/d"}) == Path("/d/config.json")
    assert login_file({"HOME": "/h", "DOCKER_CONFIG": "/d", "REGISTRY_AUTH_FILE": "/r"}) == Path("/r")
    assert login_file({}, Path("mine")) == Path("mine")
    with pytest.raises(UsageError):
        login_file({})
