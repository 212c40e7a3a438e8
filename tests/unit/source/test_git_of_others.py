"""Checkouts of another user: read, without running any program that their configuration names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocisync.model.errors import InvalidInput, OcisyncError, Refused
from ocisync.model.tree import SourceTree
from ocisync.source.git import read_tree
from ocisync.source.worktree import read_worktree
from tests.support.gitrepo import GIT_ENVIRONMENT, GitRepo

SOMEBODY = 12_345  # a user id that nobody has
FILES = {"apps/a.yaml": "a: 1\n", "apps/b.yaml": "b: 1\n", ".gitignore": "build/\n"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(params=["git", None], ids=["git", "dulwich"])
def git(request: pytest.FixtureRequest) -> str | None:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    made = GitRepo(tmp_path / "repo")
    made.commit(FILES)
    return made


def give_away(path: Path) -> None:
    for folder, _, names in os.walk(path):
        for name in ("", *names):
            os.chown(Path(folder) / name, SOMEBODY, SOMEBODY, follow_symlinks=False)


def read(path: Path, git: str | None) -> SourceTree:
    return read_tree(path, environ=GIT_ENVIRONMENT, git=git)


def program(tmp_path: Path) -> tuple[Path, Path]:
    """A program that leaves a mark, and the mark."""
    mark, file = tmp_path / "ran", tmp_path / "program.sh"
    file.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    file.chmod(0o755)
    return file, mark


def test_no_filter_of_theirs_runs(repo: GitRepo, git: str | None, tmp_path: Path) -> None:
    runs, mark = program(tmp_path)
    repo.git("config", "filter.x.clean", str(runs))
    repo.git("config", "filter.y.process", str(runs))
    (repo.path / ".git/info/attributes").write_text("a.yaml filter=x\nb.yaml filter=y\n")
    for name in ("a", "b"):
        os.utime(repo.path / f"apps/{name}.yaml", (1, 1))
    give_away(repo.path)
    assert [file.path for file in read(repo.path / "apps", git).files] == ["a.yaml", "b.yaml"]
    assert not mark.exists()


def test_no_filter_of_their_submodules_runs(repo: GitRepo, tmp_path: Path) -> None:
    runs, mark = program(tmp_path)
    GitRepo(tmp_path / "sub").commit({"f": "f\n"})
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tmp_path / "sub"), "apps/sub")
    repo.commit({})
    sub = GitRepo(repo.path / "apps/sub")
    sub.git("config", "filter.x.clean", str(runs))
    (repo.path / ".git/modules/apps/sub/info").mkdir(exist_ok=True)
    (repo.path / ".git/modules/apps/sub/info/attributes").write_text("f filter=x\n")
    os.utime(sub.path / "f", (1, 1))
    give_away(repo.path)
    with pytest.raises(InvalidInput, match="submodule"):
        read(repo.path / "apps", "git")
    assert not mark.exists()


def test_what_is_missing_is_not_fetched_with_their_programs(repo: GitRepo, tmp_path: Path) -> None:
    runs, mark = program(tmp_path)
    for name, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": str(tmp_path),
        "remote.origin.uploadpack": str(runs),
        "protocol.file.allow": "always",
    }.items():
        repo.git("config", name, value)
    oid = repo.git("rev-parse", "HEAD:apps/a.yaml")
    (repo.path / ".git/objects" / oid[:2] / oid[2:]).unlink()
    give_away(repo.path)
    with pytest.raises(OcisyncError, match="missing"):
        read(repo.path / "apps", "git")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda top: (top / "apps/a.yaml").write_text("a: 2\n"), "apps/a.yaml"),
        (lambda top: (top / "apps/a.yaml").unlink(), "apps/a.yaml"),
        (lambda top: (top / "apps/new.yaml").write_text("n: 1\n"), "apps/new.yaml"),
        (lambda top: (top / "apps/b.yaml").replace(top / "apps/a.yaml"), "apps/a.yaml"),
        (lambda top: ((top / "apps/a.yaml").unlink(), (top / "apps/a.yaml").symlink_to("b.yaml")), "apps/a.yaml"),
    ],
    ids=["changed", "deleted", "new", "moved", "link"],
)
def test_what_they_changed_is_noticed(repo: GitRepo, git: str | None, change: object, named: str) -> None:
    assert callable(change)
    change(repo.path)
    give_away(repo.path)
    with pytest.raises(Refused, match=named):
        read(repo.path / "apps", git)


def test_what_they_staged_is_noticed(repo: GitRepo, git: str | None) -> None:
    (repo.path / "apps/a.yaml").write_text("a: 2\n")
    repo.git("add", ".")
    (repo.path / "apps/a.yaml").write_text("a: 1\n")
    give_away(repo.path)
    with pytest.raises(Refused, match=r"apps/a\.yaml"):
        read(repo.path / "apps", git)


def test_ignored_files_links_and_ends_of_line_of_a_checkout_are_no_changes(repo: GitRepo, git: str | None) -> None:
    (repo.path / "link").symlink_to("apps")
    repo.commit({})
    (repo.path / "apps/a.yaml").write_bytes(b"a: 1\r\n")
    repo.write({"apps/build/x.yaml": "x: 1\n"})
    give_away(repo.path)
    assert not read(repo.path / "apps", git).provenance.dirty


def test_a_sparse_checkout_of_theirs_is_read(repo: GitRepo) -> None:
    repo.commit({"other/c.yaml": "c: 1\n"})
    repo.git("sparse-checkout", "set", "apps")
    assert not (repo.path / "other").exists()
    give_away(repo.path)
    assert len(read(repo.path, "git").files) == 4


def test_a_directory_that_looks_like_a_bare_repository_runs_nothing(repo: GitRepo, tmp_path: Path) -> None:
    runs, mark = program(tmp_path)
    folder = repo.path / "apps"
    repo.git("init", "-q", "--bare", str(folder))
    with (folder / "config").open("a") as file:
        file.write(f"[core]\n\tbare = false\n\tworktree = {repo.path}\n\tfsmonitor = {runs}\n\tsshCommand = {runs}\n")
    names = [file.path for file in read_worktree(folder, environ=GIT_ENVIRONMENT).files]
    assert "a.yaml" in names
    assert not mark.exists()


def test_a_hook_of_a_linked_worktree_checks_what_git_tracks(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    side = GitRepo(tmp_path / "side")
    side.write({"apps/build/x.yaml": "x: 1\n"})
    hook = {"GIT_DIR": side.git("rev-parse", "--absolute-git-dir"), "GIT_INDEX_FILE": str(tmp_path / "none")}
    found = read_worktree(side.path / "apps", environ={**GIT_ENVIRONMENT, **hook})
    assert [file.path for file in found.files] == ["a.yaml", "b.yaml"]


def test_a_repository_that_lacks_an_object_says_so(repo: GitRepo, git: str | None) -> None:
    oid = repo.git("rev-parse", "HEAD:apps/a.yaml")
    (repo.path / ".git/objects" / oid[:2] / oid[2:]).unlink()
    with pytest.raises(InvalidInput, match="missing"):
        read(repo.path / "apps", git)
