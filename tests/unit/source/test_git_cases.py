"""What CI systems and people do to checkouts. Both readers, the git binary and dulwich, give the same answer."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from ocisync.model.errors import InvalidInput, NotFound, OcisyncError, Refused
from ocisync.model.tree import SourceTree
from ocisync.pack.artifact import build
from ocisync.source.git import read_tree
from tests.support.gitrepo import GIT_ENVIRONMENT, GitRepo

FILES = {"apps/a.yaml": "a: 1\n", "apps/deep/b.yaml": "b: 1\n", "other/c.yaml": "c: 1\n"}
SOMEBODY = 12_345  # a user id that nobody has


@pytest.fixture(params=["git", None], ids=["git", "dulwich"])
def git(request: pytest.FixtureRequest) -> str | None:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    made = GitRepo(tmp_path / "repo")
    made.commit(FILES)
    return made


def read(path: Path, git: str | None, *, rev: str = "HEAD", allow_dirty: bool = False) -> SourceTree:
    return read_tree(path, rev=rev, allow_dirty=allow_dirty, environ=GIT_ENVIRONMENT, git=git)


def paths(tree: SourceTree) -> list[str]:
    return [file.path for file in tree.files]


def digest(tree: SourceTree) -> str:
    return build(tree, annotations={}).descriptor.digest


# Which commit, and what it is called -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[GitRepo, str, str]:
    """A clone with two commits, tags on the first, branches on the second; and both commits. Only read."""
    tmp_path = tmp_path_factory.mktemp("history")
    origin = GitRepo(tmp_path / "origin")
    first = origin.commit(FILES)
    origin.git("tag", "v1.0.0")
    origin.git("tag", "-a", "-m", "x", "annotated")
    second = origin.commit({"apps/a.yaml": "a: 2\n"})
    origin.git("branch", "feature/x")
    return origin.clone(tmp_path / "clone"), first, second


@pytest.mark.parametrize(
    ("rev", "ref", "is_first"),
    [
        ("HEAD", "main", False),
        ("@", "main", False),
        ("main", "main", False),
        ("refs/heads/main", "main", False),
        ("origin/main", "main", False),
        ("refs/remotes/origin/main", "main", False),
        ("origin/feature/x", "feature/x", False),
        ("v1.0.0", "v1.0.0", True),
        ("annotated", "annotated", True),
        ("refs/tags/annotated", "annotated", True),
        ("HEAD~1", "HEAD", True),
        ("HEAD^", "HEAD", True),
        ("main~1", "HEAD", True),
        ("@~", "HEAD", True),
        ("main^0", "HEAD", False),
    ],
)
def test_a_revision_is_found_and_named_as_git_does(
    history: tuple[GitRepo, str, str], git: str | None, rev: str, ref: str, is_first: bool
) -> None:
    clone, first, second = history
    commit = first if is_first else second
    # Two tags point at the first commit, so neither names it by itself.
    assert read(clone.path / "apps", git, rev=rev).provenance.revision == f"{ref}@sha1:{commit}"


def test_a_commit_id_may_be_short(history: tuple[GitRepo, str, str], git: str | None) -> None:
    clone, first, _ = history
    assert read(clone.path, git, rev=first[:8]).provenance.commit == first


@pytest.mark.parametrize("rev", ["v9", "feature/x", "HEAD~9", "main^3", "", " ", "-x", "--help", "HEAD:apps", "a b"])
def test_a_revision_that_is_none_is_not_found(history: tuple[GitRepo, str, str], git: str | None, rev: str) -> None:
    with pytest.raises(NotFound, match="no commit"):
        read(history[0].path, git, rev=rev)


def test_a_directory_that_only_an_older_commit_has_can_be_published(repo: GitRepo, git: str | None) -> None:
    repo.git("rm", "-q", "-r", "other")
    repo.commit()
    assert not (repo.path / "other").exists()
    assert paths(read(repo.path / "other", git, rev="HEAD~1")) == ["c.yaml"]
    with pytest.raises(NotFound, match="is not a directory"):
        read(repo.path / "other", git)
    with pytest.raises(NotFound, match="no directory 'nowhere'"):
        read(repo.path / "nowhere", git, rev="main")


def test_a_file_is_no_directory(repo: GitRepo, git: str | None) -> None:
    for rev in ("HEAD", "main"):
        with pytest.raises(NotFound, match=r"a\.yaml is not a directory"):
            read(repo.path / "apps/a.yaml", git, rev=rev)


def test_a_branch_without_a_commit_publishes_only_what_is_named(repo: GitRepo, git: str | None) -> None:
    repo.git("checkout", "-q", "--orphan", "fresh")
    with pytest.raises(NotFound, match="no commit yet"):
        read(repo.path, git)
    assert paths(read(repo.path / "apps", git, rev="main")) == ["a.yaml", "deep/b.yaml"]


# How CI checks out -----------------------------------------------------------------------------------------------


def test_a_sparse_checkout_publishes_what_is_committed(repo: GitRepo, git: str | None) -> None:
    repo.git("sparse-checkout", "set", "apps")
    assert not (repo.path / "other").exists()
    assert paths(read(repo.path, git)) == sorted(FILES)


def test_a_clone_that_borrows_its_objects_is_read(repo: GitRepo, git: str | None, tmp_path: Path) -> None:
    repo.git("clone", "-q", "--shared", str(repo.path), str(tmp_path / "borrows"))
    assert paths(read(tmp_path / "borrows" / "apps", git)) == ["a.yaml", "deep/b.yaml"]


def test_a_submodule_is_published_from_its_own_checkout(repo: GitRepo, git: str | None, tmp_path: Path) -> None:
    inner = GitRepo(tmp_path / "inner")
    commit = inner.commit({"x.yaml": "x: 1\n"})
    repo.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.path.as_uri(), "apps/sub")
    repo.commit()
    assert read(repo.path / "apps/sub", git).provenance.commit == commit
    repo.git("submodule", "deinit", "-q", "--force", "apps/sub")
    with pytest.raises(InvalidInput, match="apps/sub is a submodule whose files are not here") as caught:
        read(repo.path / "apps/sub", git)
    assert "git submodule update --init apps/sub" in caught.value.hint


def test_packed_objects_and_refs_are_read(repo: GitRepo, git: str | None) -> None:
    repo.git("tag", "-a", "-m", "x", "v1")
    repo.git("pack-refs", "--all")
    repo.git("gc", "-q")
    assert read(repo.path / "apps", git).provenance.revision.startswith("v1@sha1:")


def test_a_checkout_with_other_line_ends_is_clean_and_gives_the_committed_bytes(repo: GitRepo, git: str | None) -> None:
    repo.commit({".gitattributes": "*.yaml text eol=crlf\n"})
    repo.git("rm", "-q", "-r", "--cached", ".")
    repo.git("reset", "-q", "--hard")
    assert (repo.path / "apps/a.yaml").read_bytes() == b"a: 1\r\n"
    assert read(repo.path / "apps", git).files[0].data == b"a: 1\n"


def test_a_partial_clone_without_git_says_what_is_missing(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("config", "uploadpack.allowFilter", "true")
    first = repo.git("rev-parse", "HEAD")
    repo.commit({"apps/a.yaml": "a: 2\n"})
    clone = repo.clone(tmp_path / "partial", "--filter=blob:none")
    with pytest.raises(InvalidInput, match="is missing in") as caught:
        read(clone.path / "apps", None, rev=first)
    assert "git fetch" in caught.value.hint


def test_a_directory_reached_through_a_link_is_the_directory(repo: GitRepo, git: str | None, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(repo.path / "apps")
    assert paths(read(tmp_path / "link", git)) == ["a.yaml", "deep/b.yaml"]


# Executable bits -------------------------------------------------------------------------------------------------


def test_executable_bits_are_neither_packed_nor_a_change(repo: GitRepo, git: str | None) -> None:
    plain = digest(read(repo.path / "apps", git))
    (repo.path / "apps/a.yaml").chmod(0o755)
    tree = read(repo.path / "apps", git)
    assert not tree.provenance.dirty
    assert digest(tree) == plain


def test_a_committed_executable_has_the_content_of_any_other_file(repo: GitRepo, git: str | None) -> None:
    before = build(read(repo.path / "apps", git), annotations={}).diff_id
    (repo.path / "apps/a.yaml").chmod(0o755)
    repo.git("update-index", "--chmod=+x", "apps/a.yaml")
    repo.git("commit", "-q", "-m", "x")
    assert repo.git("ls-tree", "HEAD", "apps/a.yaml").startswith("100755")
    assert build(read(repo.path / "apps", git), annotations={}).diff_id == before


# Work trees in the middle of something ---------------------------------------------------------------------------


def test_an_unresolved_merge_is_a_change(repo: GitRepo, git: str | None) -> None:
    repo.git("checkout", "-q", "-b", "one")
    repo.commit({"apps/a.yaml": "one\n"})
    repo.git("checkout", "-q", "main")
    repo.commit({"apps/a.yaml": "two\n"})
    with pytest.raises(subprocess.CalledProcessError):
        repo.git("merge", "-q", "one")
    with pytest.raises(Refused, match=r"uncommitted changes: apps/a\.yaml"):
        read(repo.path / "apps", git)
    assert b"<<<<<<<" in read(repo.path / "apps", git, allow_dirty=True).files[0].data


def test_a_file_that_is_only_announced_is_a_change(repo: GitRepo, git: str | None) -> None:
    repo.write({"apps/new.yaml": "n: 1\n"})
    repo.git("add", "--intent-to-add", "apps/new.yaml")
    with pytest.raises(Refused, match=r"apps/new\.yaml"):
        read(repo.path / "apps", git)


def test_pipes_and_sockets_are_not_looked_at(repo: GitRepo, git: str | None) -> None:
    os.mkfifo(repo.path / "apps/pipe.yaml")
    assert paths(read(repo.path / "apps", git)) == ["a.yaml", "deep/b.yaml"]


def test_a_new_link_is_refused_also_when_changes_are_allowed(repo: GitRepo, git: str | None) -> None:
    (repo.path / "apps/link.yaml").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match=r"link\.yaml: is a symlink"):
        read(repo.path / "apps", git, allow_dirty=True)


def test_the_ignore_file_of_the_work_tree_counts_when_changes_are_allowed(repo: GitRepo, git: str | None) -> None:
    repo.write({"apps/.ocisyncignore": "deep\n", "apps/a.yaml": "a: 2\n"})
    assert paths(read(repo.path / "apps", git, allow_dirty=True)) == [".ocisyncignore", "a.yaml"]


def test_the_ignore_file_of_another_commit_is_the_one_that_it_holds(repo: GitRepo, git: str | None) -> None:
    first = repo.git("rev-parse", "HEAD")
    repo.commit({"apps/.ocisyncignore": "deep\n"})
    assert paths(read(repo.path / "apps", git)) == [".ocisyncignore", "a.yaml"]
    assert paths(read(repo.path / "apps", git, rev=first)) == ["a.yaml", "deep/b.yaml"]


def test_a_directory_whose_files_are_all_ignored_is_empty(repo: GitRepo, git: str | None) -> None:
    repo.commit({"apps/.ocisyncignore": "*\n"})
    assert paths(read(repo.path / "apps", git)) == []


# Odd names -------------------------------------------------------------------------------------------------------


def test_names_that_no_artifact_may_hold_are_refused_by_name(repo: GitRepo, git: str | None) -> None:
    repo.write({"odd/new\nline.yaml": "1", "odd/back\\slash.yaml": "2", "odd/.wh.gone": "3", "odd/good.yaml": "4"})
    (repo.path / os.fsdecode(b"odd/lat\xe9.yaml")).write_text("5")
    repo.commit()
    tree = read(repo.path / "odd", git)
    with pytest.raises(InvalidInput) as caught:
        build(tree, annotations={})
    told = {finding.file: finding.message for finding in caught.value.findings}
    assert len(told) == 4
    reasons = ["holds a '.wh.' deletion mark", "holds a backslash", "holds a control character", "is not UTF-8"]
    assert [f"this path {reason}; no artifact can hold it" for reason in reasons] == sorted(told.values())
    assert all(name.encode() for name in told), "names can be printed"


def test_case_and_accents_keep_names_apart(repo: GitRepo, git: str | None) -> None:
    names = {"odd/A.yaml": "1", "odd/a.yaml": "2", "odd/e\u0301.yaml": "3", "odd/\xe9.yaml": "4", "odd/ .yaml": "5"}
    repo.commit(names)
    assert len(paths(read(repo.path / "odd", git))) == 5


# Whose repository it is ------------------------------------------------------------------------------------------


def give_away(path: Path) -> None:
    for folder, _, names in os.walk(path):
        for name in ("", *names):
            os.chown(Path(folder) / name, SOMEBODY, SOMEBODY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_repository_that_somebody_else_put_above_the_directory_runs_nothing(tmp_path: Path, git: str | None) -> None:
    top = GitRepo(tmp_path / "shared")
    top.commit({"mine/a.yaml": "a: 1\n"})
    mark = tmp_path / "ran"
    top.git("config", "filter.x.clean", f"touch {mark}; cat")
    (top.path / ".git/info/attributes").write_text("* filter=x\n")
    os.utime(top.path / "mine/a.yaml", (1, 1))
    give_away(top.path / ".git")
    with pytest.raises(OcisyncError, match="dubious ownership") as caught:
        read(top.path / "mine", git)
    assert git or "safe.directory" in caught.value.hint
    assert not mark.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_checkout_of_another_user_is_read(repo: GitRepo, git: str | None) -> None:
    give_away(repo.path)
    assert stat.S_ISDIR((repo.path / ".git").stat().st_mode)
    assert paths(read(repo.path / "apps", git)) == ["a.yaml", "deep/b.yaml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_user_s_checkout_in_a_linked_worktree_is_read(repo: GitRepo, git: str | None, tmp_path: Path) -> None:
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    give_away(repo.path)
    give_away(tmp_path / "side")
    assert read(tmp_path / "side", git).provenance.revision.startswith("side@sha1:")
