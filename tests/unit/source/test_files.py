from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ocisync.model.errors import InvalidInput, NotFound, UsageError
from ocisync.source.files import read_directory, read_stdin

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_plain_directory_is_read_sorted_without_git_and_ignored_files(tmp_path: Path) -> None:
    for name in ("b/x.yaml", "a.yaml", ".git/config", "b/skip.md", "b/.git"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".ocisyncignore").write_text("*.md\n.ocisyncignore\n")
    tree = read_directory(tmp_path, revision="build-7", committed_at=NOW, source="git@git.example:a/b.git")
    assert [file.path for file in tree.files] == ["a.yaml", "b/x.yaml"]
    assert tree.provenance.revision == "build-7"
    assert tree.provenance.source == "https://git.example/a/b"
    assert tree.provenance.commit == ""


def test_symlinks_to_files_and_directories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/file").symlink_to("/etc/passwd")
    (tmp_path / "dir").symlink_to("/etc")
    with pytest.raises(InvalidInput) as caught:
        read_directory(tmp_path, revision="x", committed_at=NOW)
    assert sorted(finding.file for finding in caught.value.findings) == ["d/file", "dir"]


def test_a_missing_directory_and_a_missing_revision_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is not a directory"):
        read_directory(tmp_path / "no", revision="x", committed_at=NOW)
    with pytest.raises(UsageError, match="revision is needed"):
        read_stdin(b"", revision="", committed_at=NOW)
    with pytest.raises(UsageError, match="no spaces"):
        read_stdin(b"", revision="a b", committed_at=NOW)


def test_standard_input_is_one_file() -> None:
    tree = read_stdin(b"a: 1\n", revision="x", committed_at=NOW)
    assert [(file.path, file.data) for file in tree.files] == [("manifests.yaml", b"a: 1\n")]


def test_bad_ignore_patterns_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / ".ocisyncignore").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match=r"\.ocisyncignore: not gitignore patterns"):
        read_directory(tmp_path, revision="x", committed_at=NOW)


def test_executable_bits_of_a_plain_directory_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1\n")
    plain = read_directory(tmp_path, revision="x", committed_at=NOW)
    (tmp_path / "a.yaml").chmod(0o755)
    assert read_directory(tmp_path, revision="x", committed_at=NOW) == plain


def test_pipes_are_refused_by_name_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InvalidInput, match=r"pipe\.yaml: is no regular file"):
        read_directory(tmp_path, revision="x", committed_at=NOW)


def test_an_empty_directory_is_an_empty_tree(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert read_directory(tmp_path, revision="x", committed_at=NOW).files == ()
