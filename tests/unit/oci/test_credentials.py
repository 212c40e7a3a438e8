from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.model.errors import InvalidInput, OcisyncError, UsageError
from ocisync.oci.credentials import (
    ConfigSource,
    Credential,
    config_paths,
    default_credentials,
    parse_creds,
    parse_docker_config,
    parse_helper_answer,
    pull_secret_credentials,
)


def entry(user: str = "u", password: str = "p") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def config(**document: object) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("host", "path", "user"),
    [
        ("r.example", "other", "whole"),
        ("r.example", "team", "team"),
        ("r.example", "team/a", "a"),
        ("r.example", "team/a/deep", "a"),
        ("r.example", "team/ab", "team"),
        ("r.example", "teams", "whole"),
        ("r.example:5000", "x", "port"),
        ("R.EXAMPLE", "x", "whole"),
        ("a.wild.example", "x", "wild"),
        ("b.a.wild.example", "x", None),
        ("unknown.example", "x", None),
    ],
)
def test_the_longest_matching_key_wins(host: str, path: str, user: str | None) -> None:
    auths = {
        "r.example/team": entry("team"),
        "r.example": entry("whole"),
        "r.example/team/a": entry("a"),
        "https://r.example:5000/v2/": entry("port"),
        "*.wild.example": entry("wild"),
    }
    found = parse_docker_config(config(auths=auths), "c").find(host, path)
    assert (found.username if found else None) == user


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"])
@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_has_many_names(key: str, host: str) -> None:
    assert parse_docker_config(config(auths={key: entry()}), "c").find(host, "library/alpine") == Credential("u", "p")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (entry("u", "p:with:colons"), Credential("u", "p:with:colons")),
        ({"username": "u", "password": "p"}, Credential("u", "p")),
        ({"identitytoken": "t"}, Credential(identity_token="t")),
        ({**entry("00000000-0000-0000-0000-000000000000", ""), "identitytoken": "t"}, None),
        ({"auth": base64.b64encode(b"<token>:t").decode()}, Credential(identity_token="t")),
        ({"registrytoken": "t"}, Credential(registry_token="t")),
        ({}, None),
        ({"email": "a@b"}, None),
    ],
)
def test_entries_of_all_kinds_are_read(value: dict[str, str], expected: Credential | None) -> None:
    found = parse_docker_config(config(auths={"r.example": value}), "c").find("r.example", "x")
    if "identitytoken" in value and "auth" in value:
        assert found is not None
        assert found.identity_token == "t"
    else:
        assert found == expected


def test_a_broken_entry_is_named_without_its_content_and_the_others_count() -> None:
    auths = {"bad.example": {"auth": "%%secret%%"}, "odd.example": "text", "good.example": entry()}
    parsed = parse_docker_config(config(auths=auths), "config.json")
    assert parsed.find("good.example", "x") == Credential("u", "p")
    assert len(parsed.problems) == 2
    assert "secret" not in str(parsed.problems)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_config_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"config\.json"):
        parse_docker_config(data, "config.json")


def test_a_config_error_does_not_quote_the_file() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_docker_config(b'{"auths": {"r": {"auth": "c2VjcmV0"', "config.json")
    assert caught.value.__cause__ is None
    assert "c2VjcmV0" not in str(caught.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(["auths", "auth", "credHelpers", "credsStore", "r.example", "username"]), x
            )
        ),
    )
)
def test_any_json_is_survived(value: object) -> None:
    try:
        parsed = parse_docker_config(json.dumps(value).encode(), "c")
    except OcisyncError:
        return
    parsed.find("r.example", "x")
    parsed.helper_for("r.example")


def test_the_legacy_flat_form_of_a_pull_secret_is_read() -> None:
    data = json.dumps({"https://r.example/v1/": entry()}).encode()
    assert pull_secret_credentials([("pull", data)]).find("r.example", "x") == Credential("u", "p")


def test_a_pull_secret_never_runs_a_helper(tmp_path: Path) -> None:
    data = config(auths={}, credsStore="marker", credHelpers={"r.example": "marker"})
    assert pull_secret_credentials([("pull", data)]).find("r.example", "x") is None


def test_secrets_are_not_in_a_repr() -> None:
    shown = repr(Credential("user", "p4ssw0rd", "1dentity", "r3gistry"))
    assert "user" in shown
    assert not {word for word in ("p4ssw0rd", "1dentity", "r3gistry") if word in shown}


@pytest.mark.parametrize("text", ["", "nocolon", ":password"])
def test_creds_without_a_user_are_a_usage_error_that_does_not_repeat_them(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_creds(text)
    assert "password" not in caught.value.message


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'{"ServerURL":"r","Username":"u","Secret":"s"}', Credential("u", "s")),
        (b'{"Username":"<token>","Secret":"s"}', Credential(identity_token="s")),
        (b'{"Username":"u","Secret":""}', None),
        (b"[]", None),
        (b"credentials not found", None),
    ],
)
def test_helper_answers_are_read(answer: bytes, expected: Credential | None) -> None:
    assert parse_helper_answer(answer) == expected


def helper(directory: Path, name: str, script: str) -> None:
    path = directory / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def ask(
    directory: Path, host: str = "r.example", timeout_s: float = 120.0, **document: object
) -> tuple[Credential | None, list[str]]:
    warnings: list[str] = []
    parsed = parse_docker_config(config(**document), "c")
    environ = {"PATH": f"{directory}:/usr/bin:/bin"}
    return ConfigSource(parsed, environ, warnings.append, timeout_s).find(host, "x"), warnings


def test_a_helper_is_asked_for_its_host_with_the_host_on_stdin(tmp_path: Path) -> None:
    helper(tmp_path, "echo", 'read host; printf \'{"Username":"%s %s","Secret":"s"}\' "$1" "$host"')
    found, warnings = ask(tmp_path, credHelpers={"r.example": "echo"}, auths={"r.example": entry("file")})
    assert (found, warnings) == (Credential("get r.example", "s"), [])
    assert ask(tmp_path, "docker.io", credsStore="echo")[0] == Credential("get https://index.docker.io/v1/", "s")
    assert ask(tmp_path, "other.example", credHelpers={"r.example": "echo"})[0] is None


def test_a_login_in_the_file_comes_before_the_store(tmp_path: Path) -> None:
    helper(tmp_path, "echo", 'printf \'{"Username":"store","Secret":"s"}\'')
    assert ask(tmp_path, credsStore="echo", auths={"r.example": entry("file")})[0] == Credential("file", "p")
    assert ask(tmp_path, credsStore="echo", auths={"r.example": {}})[0] == Credential("store", "s")


@pytest.mark.parametrize(
    ("script", "warned"),
    [
        ("echo 'credentials not found in native keychain'; exit 1", 0),
        ("echo boom >&2; exit 1", 1),
        ("exec sleep 60", 1),
        ("echo nonsense", 0),
    ],
)
def test_a_helper_that_fails_is_done_without(tmp_path: Path, script: str, warned: int) -> None:
    helper(tmp_path, "odd", script)
    timeout_s = 0.2 if "sleep" in script else 120.0
    found, warnings = ask(
        tmp_path, timeout_s=timeout_s, credHelpers={"r.example": "odd"}, auths={"r.example": entry("file")}
    )
    assert found == Credential("file", "p")
    assert len(warnings) == warned


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "-x", "a b", "missing"])
def test_a_helper_that_is_no_program_is_not_run(tmp_path: Path, name: str) -> None:
    found, warnings = ask(tmp_path, credHelpers={"r.example": name})
    assert found is None
    assert len(warnings) == (1 if name else 0)


def test_login_files_are_looked_for_where_other_tools_look() -> None:
    environ = {"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/1"}
    plain = ("/h/.docker/config.json", "/run/user/1/containers/auth.json", "/h/.config/containers/auth.json")
    assert config_paths(environ) == tuple(map(Path, plain))
    chosen = config_paths({**environ, "DOCKER_CONFIG": "/d", "REGISTRY_AUTH_FILE": "/r.json"})
    assert chosen[:2] == (Path("/r.json"), Path("/d/config.json"))
    assert config_paths({}) == ()
    assert config_paths({}, 7) == (Path("/run/containers/7/auth.json"),)
    assert config_paths({"XDG_RUNTIME_DIR": "/x"}, 7) == (Path("/x/containers/auth.json"),)


def test_sources_are_asked_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(config(auths={"r.example": entry("file")}))
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    login = {"OCISYNC_REGISTRY_USERNAME": "env", "OCISYNC_REGISTRY_PASSWORD": "p"}

    def user(environ: dict[str, str], creds: str = "") -> str:
        found = default_credentials("r.example", environ, creds=creds).find("r.example", "x")
        return found.username if found else ""

    assert user(environ) == "file"
    assert user({**environ, **login}) == "env"
    assert user({**environ, **login}, "flag:p") == "flag"
    assert user({**environ, **login, "OCISYNC_REGISTRY_HOST": "other.example"}) == "file"
    assert user({}) == ""


def test_given_logins_are_for_the_opened_registry_only() -> None:
    login = {"OCISYNC_REGISTRY_USERNAME": "env", "OCISYNC_REGISTRY_PASSWORD": "p"}
    sources = default_credentials("r.example", login, creds="flag:p")
    assert sources.find("other.example", "x") is None


def test_a_named_config_file_must_exist_and_is_the_only_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(config(auths={"r.example": entry("home")}))
    (tmp_path / "named.json").write_bytes(config(auths={}))
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    named = default_credentials("r.example", environ, config_file=tmp_path / "named.json")
    assert named.find("r.example", "x") is None
    with pytest.raises(UsageError, match="missing"):
        default_credentials("r.example", environ, config_file=tmp_path / "missing.json")


def test_a_usual_file_that_cannot_be_read_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    warnings: list[str] = []
    environ = {"DOCKER_CONFIG": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "none")}
    assert default_credentials("r.example", environ, warn=warnings.append).find("r.example", "x") is None
    assert warnings == [f"cannot read registry config {tmp_path / 'config.json'}: Is a directory; going on without it"]
