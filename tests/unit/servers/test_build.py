"""The cache of real servers: found without Go, and a clear word where it cannot be filled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import build


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv("OCISYNC_TEST_CACHE", str(directory))
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    return directory


def put(cache: Path, entry: str, name: str) -> Path:
    executable = cache / entry / name
    executable.parent.mkdir(parents=True)
    executable.touch(mode=0o755)
    return executable


@pytest.mark.parametrize("name", build.GO_SERVERS)
def test_a_copied_cache_serves_a_machine_without_go(cache: Path, name: str) -> None:
    executable = put(cache, f"{name}-{build.GO_SERVERS[name].source_key()}-go1.99.0", name)
    assert build.find(name) == executable


def test_a_server_built_from_another_module_is_not_taken(cache: Path) -> None:
    put(cache, "kwok-0123456789abcdef-go1.99.0", "kwok")
    assert build.find("kwok") is None


def test_without_go_the_build_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["kwok"]) == 1
    assert "NOT READY kwok: the Go tool chain is missing; install Go ≥ 1.26" in capsys.readouterr().err


def test_the_path_of_a_missing_server_is_an_error_with_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["--print-path", "cosign"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "python tests/servers/build.py cosign" in shown.err


def test_the_path_of_a_ready_server_is_all_that_is_printed(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    executable = put(cache, f"kwok-{build.GO_SERVERS['kwok'].source_key()}-go1.99.0", "kwok")
    assert build.main(["--print-path", "kwok"]) == 0
    assert capsys.readouterr().out == f"{executable}\n"


def test_a_command_that_downloads_is_tried_again_and_given_up_in_the_end(tmp_path: Path) -> None:
    count = 'echo x >> "$0.tries"; test "$(wc -l < "$0.tries")" -ge'
    flaky, broken = tmp_path / "flaky", tmp_path / "broken"
    for script, enough in ((flaky, 2), (broken, 99)):
        script.write_text(f"PATH=/usr/bin:/bin\n{count} {enough}\n")
    build._run(["/bin/sh", str(flaky)], tmp_path, "flaky", build.TRIES)
    with pytest.raises(build.UnavailableError, match="exit code 1"):
        build._run(["/bin/sh", str(broken)], tmp_path, "broken", build.TRIES)
    assert len((tmp_path / "broken.tries").read_text().splitlines()) == build.TRIES
