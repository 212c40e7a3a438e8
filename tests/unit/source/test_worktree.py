"""Files as they are, whether Git knows them yet or not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocisync.model.errors import NotFound
from ocisync.source.worktree import read_worktree
from tests.support.gitrepo import GitRepo


def names(path: Path, git: str | None = "git") -> list[str]:
    return [file.path for file in read_worktree(path, environ=dict(os.environ), git=git).files]


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x: 1\n")


def test_a_plain_directory_gives_all_files_but_ignored_ones(tmp_path: Path) -> None:
    write(tmp_path, "b/c.yaml", "a.yaml", "skip/d.yaml", ".git/config")
    (tmp_path / ".ocisyncignore").write_text("skip/\n")
    assert names(tmp_path, git=None) == [".ocisyncignore", "a.yaml", "b/c.yaml"]


def test_in_a_repository_changed_and_new_files_count_and_ignored_or_deleted_ones_do_not(tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "repo")
    repo.write({"deploy/a.yaml": "old: 1\n", "deploy/gone.yaml": "x: 1\n", ".gitignore": "build/\n"})
    repo.commit()
    write(repo.path, "deploy/new.yaml", "deploy/build/out.yaml")
    (repo.path / "deploy/a.yaml").write_text("changed: 1\n")
    (repo.path / "deploy/gone.yaml").unlink()
    tree = read_worktree(repo.path / "deploy", environ=dict(os.environ))
    assert [(file.path, file.data) for file in tree.files] == [("a.yaml", b"changed: 1\n"), ("new.yaml", b"x: 1\n")]
    assert tree.findings == ()


def test_without_git_every_file_counts(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml")
    assert names(tmp_path, git="no-such-program") == ["a.yaml"]


def test_what_cannot_be_packed_is_told_and_not_raised(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml")
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    (tmp_path / "folder").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.yaml")
    tree = read_worktree(tmp_path, environ={}, git=None)
    assert [file.path for file in tree.files] == ["a.yaml"]
    assert [finding.file for finding in tree.findings] == ["folder", "link.yaml", "pipe.yaml"]


def test_a_directory_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_worktree(tmp_path / "nothing", environ={})
