"""Programs run in an environment of their own, bounded, and leave nothing running."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ocisync.model.errors import OcisyncError, Unavailable
from ocisync.model.limits import YAML_BYTES
from ocisync.render import programs
from tests.support.waiting import eventually


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


def test_nothing_of_the_callers_environment_is_seen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_TOKEN", "hunter2")
    monkeypatch.setenv("AWS_PROFILE", "x")
    seen = dict(
        line.split("=", 1)
        for line in programs.run(["/usr/bin/env"], home, home, timeout_s=120).output.decode().splitlines()
    )
    assert set(seen) - {"PWD", "SHLVL", "_"} == set(programs.scrubbed(home))
    places = {name for name, value in seen.items() if value.startswith(str(home))}
    assert {"HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "KUBECONFIG", "HELM_PLUGINS", "TMPDIR"} <= places


def test_a_program_that_does_not_end_is_killed_with_what_it_started(home: Path, tmp_path: Path) -> None:
    program = script(tmp_path / "slow", f"sleep 300 & echo $! > {tmp_path}/child; wait")
    child = ""
    for seconds in (1, 10, 60):  # a busy machine may not even have started it in the shorter ones
        with pytest.raises(Unavailable, match=f"slow did not end within {seconds} s"):
            programs.run([str(program)], home, home, timeout_s=seconds)
        if (tmp_path / "child").exists() and (child := (tmp_path / "child").read_text().strip()):
            break
    eventually(lambda: _is_zombie(int(child)), what="the end of the child")


def _is_zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def test_endless_output_is_no_endless_memory(home: Path) -> None:
    code = f"import sys\nfor _ in range({YAML_BYTES // 65536 + 2}): sys.stdout.write('x' * 65536)"
    with pytest.raises(OcisyncError, match=f"printed more than {YAML_BYTES >> 20} MiB"):
        programs.run([sys.executable, "-c", code], home, home, timeout_s=120)


def test_a_failure_is_what_was_written_to_standard_error(home: Path, tmp_path: Path) -> None:
    ended = programs.run([str(script(tmp_path / "p", "echo out; echo why >&2; exit 3"))], home, home, timeout_s=120)
    assert (ended.output, ended.failure) == (b"out\n", "why")
    assert programs.run([str(script(tmp_path / "q", "exit 3"))], home, home, timeout_s=120).failure == "exit code 3"


def test_a_file_that_is_no_program_is_an_error(home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0")
    broken.chmod(0o755)
    with pytest.raises(OcisyncError, match="cannot run"):
        programs.run([str(broken)], home, home, timeout_s=120)


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("v5.8.2", "v5.8.2"),
        ("{Version:kustomize/v4.5.7 GitCommit:x BuildDate:2022-08-02T16:35:54Z}", "v4.5.7"),
        ("{kustomize/v5.0.0  2023-01-01T00:00:00Z}", "v5.0.0"),
    ],
)
def test_kustomize_tells_its_version_in_three_ways(printed: str, version: str, home: Path, tmp_path: Path) -> None:
    script(tmp_path / "kustomize", f"echo '{printed}'")
    found = programs.find_kustomize({"PATH": str(tmp_path)}, home)
    assert (str(found), found.command[1:]) == (f"kustomize@{version}", ("build",))


def test_the_kustomize_inside_kubectl_is_taken_if_there_is_no_other(home: Path, tmp_path: Path) -> None:
    script(tmp_path / "kubectl", "echo 'Client Version: v1.36.1'; echo 'Kustomize Version: v5.8.1'")
    found = programs.find_kustomize({"PATH": str(tmp_path)}, home)
    assert (str(found), found.command[1:]) == ("kubectl-kustomize@v5.8.1", ("kustomize",))


@pytest.mark.parametrize(("printed", "version"), [("v4.3.1", "v4.3.1"), ("v3.15.2+g1a500d5", "v3.15.2")])
def test_helm_tells_its_version(printed: str, version: str, home: Path, tmp_path: Path) -> None:
    script(tmp_path / "helm", f"echo '{printed}'")
    assert str(programs.find_helm({"PATH": str(tmp_path)}, home)) == f"helm@{version}"


def test_a_program_without_a_version_is_not_trusted_to_render(home: Path, tmp_path: Path) -> None:
    script(tmp_path / "helm", "echo hello")
    with pytest.raises(OcisyncError, match="does not tell its version: hello"):
        programs.find_helm({"PATH": str(tmp_path)}, home)


@pytest.mark.parametrize("find", [programs.find_kustomize, programs.find_helm])
def test_a_missing_program_has_a_hint(find: object, home: Path, tmp_path: Path) -> None:
    with pytest.raises(OcisyncError, match="not on PATH") as caught:
        find({"PATH": str(tmp_path)}, home)  # type: ignore[operator]
    assert caught.value.reason == "ToolMissing"
    assert "install" in caught.value.hint
