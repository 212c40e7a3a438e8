from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ocisync.model.errors import InvalidInput, NotFound, OcisyncError, Refused, Unavailable, UsageError
from ocisync.model.tree import SourceTree
from ocisync.source.git import read_tree
from ocisync.source.repository import committer_time
from tests.support.gitrepo import GIT_ENVIRONMENT, GitRepo

FILES = {"apps/a.yaml": "a: 1\n", "apps/deep/b.yaml": "b: 1\n", "other/c.yaml": "c: 1\n"}


@pytest.fixture(params=["git", None], ids=["git", "dulwich"])
def git(request: pytest.FixtureRequest) -> str | None:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    made = GitRepo(tmp_path / "repo")
    made.commit(FILES)
    return made


def read(
    path: Path,
    git: str | None,
    *,
    rev: str = "HEAD",
    ref: str = "",
    source: str = "",
    allow_dirty: bool = False,
    environ: Mapping[str, str] | None = None,
) -> SourceTree:
    given = {**GIT_ENVIRONMENT, **(environ or {})}
    return read_tree(path, rev=rev, ref=ref, source=source, allow_dirty=allow_dirty, environ=given, git=git)


def paths(tree: SourceTree) -> list[str]:
    return [file.path for file in tree.files]


def test_the_committed_tree_is_read_with_its_name(repo: GitRepo, git: str | None) -> None:
    tree = read(repo.path, git)
    commit = repo.git("rev-parse", "HEAD")
    assert {file.path: file.data.decode() for file in tree.files} == FILES
    assert tree.provenance.commit == commit
    assert tree.provenance.revision == f"main@sha1:{commit}"
    assert tree.provenance.committed_at == datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
    assert not tree.provenance.dirty


def test_a_sub_directory_is_read_relative_to_itself(repo: GitRepo, git: str | None) -> None:
    assert paths(read(repo.path / "apps", git)) == ["a.yaml", "deep/b.yaml"]


def test_an_uncommitted_change_is_refused_by_name(repo: GitRepo, git: str | None) -> None:
    repo.write({"apps/a.yaml": "a: 2\n"})
    with pytest.raises(Refused, match=r"uncommitted changes: apps/a\.yaml") as caught:
        read(repo.path / "apps", git)
    assert caught.value.reason == "Dirty"
    assert "--allow-dirty" in caught.value.hint


@pytest.mark.parametrize("change", ["stage", "delete", "untracked"])
def test_every_kind_of_change_counts(repo: GitRepo, git: str | None, change: str) -> None:
    if change == "stage":
        repo.write({"apps/a.yaml": "a: 3\n"})
        repo.git("add", "-A")
    elif change == "delete":
        (repo.path / "apps/a.yaml").unlink()
    else:
        repo.write({"apps/new.yaml": "n: 1\n"})
    with pytest.raises(Refused, match="uncommitted changes: apps/"):
        read(repo.path / "apps", git)


def test_changes_elsewhere_do_not_matter(repo: GitRepo, git: str | None) -> None:
    repo.write({"other/c.yaml": "c: 2\n", "apps2/x": "y"})
    assert not read(repo.path / "apps", git).provenance.dirty


def test_ignored_files_are_no_change(repo: GitRepo, git: str | None) -> None:
    repo.commit({".gitignore": "*.tmp\n"})
    repo.write({"apps/x.tmp": "y"})
    assert paths(read(repo.path / "apps", git)) == ["a.yaml", "deep/b.yaml"]


def test_allowed_changes_are_packed_and_marked(repo: GitRepo, git: str | None) -> None:
    repo.commit({".gitignore": "*.tmp\n"})
    repo.write({"apps/a.yaml": "a: 2\n", "apps/new.yaml": "n: 1\n", "apps/x.tmp": "y"})
    (repo.path / "apps/deep/b.yaml").unlink()
    tree = read(repo.path / "apps", git, allow_dirty=True)
    assert {file.path: file.data for file in tree.files} == {"a.yaml": b"a: 2\n", "new.yaml": b"n: 1\n"}
    assert tree.provenance.dirty
    assert tree.provenance.revision.endswith("-dirty")


def test_allowing_changes_changes_nothing_in_a_clean_tree(repo: GitRepo, git: str | None) -> None:
    assert read(repo.path, git, allow_dirty=True) == read(repo.path, git)


def test_another_revision_ignores_the_work_tree(repo: GitRepo, git: str | None) -> None:
    first = repo.git("rev-parse", "HEAD")
    repo.commit({"apps/a.yaml": "a: 2\n"})
    repo.write({"apps/a.yaml": "a: 3\n"})
    tree = read(repo.path / "apps", git, rev=first)
    assert tree.files[0].data == b"a: 1\n"
    assert tree.provenance.revision == f"HEAD@sha1:{first}"
    assert read(repo.path / "apps", git, rev="main").provenance.revision.startswith("main@sha1:")


def test_what_does_not_exist_is_named(repo: GitRepo, git: str | None, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no commit 'v9'"):
        read(repo.path, git, rev="v9")
    with pytest.raises(NotFound, match="no commit '--all'"):
        read(repo.path, git, rev="--all")
    (repo.path / "new").mkdir()
    with pytest.raises(NotFound, match="no directory 'new'"):
        read(repo.path / "new", git)
    with pytest.raises(NotFound, match="is not a directory"):
        read(repo.path / "missing", git)
    with pytest.raises(NotFound, match="not in a Git repository") as caught:
        read(tmp_path, git)
    assert "--no-git" in caught.value.hint
    empty = GitRepo(tmp_path / "empty")
    with pytest.raises(NotFound, match="no commit yet"):
        read(empty.path, git)


def test_a_shallow_clone_is_enough(repo: GitRepo, git: str | None, tmp_path: Path) -> None:
    repo.commit({"apps/a.yaml": "a: 2\n"})
    clone = repo.clone(tmp_path / "shallow", "--depth=1")
    assert read(clone.path, git).files == read(repo.path, git).files


def test_a_linked_worktree_is_read_like_any_other(repo: GitRepo, git: str | None, tmp_path: Path) -> None:
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    tree = read(tmp_path / "side" / "apps", git)
    assert paths(tree) == ["a.yaml", "deep/b.yaml"]
    assert tree.provenance.revision.startswith("side@sha1:")


def test_a_detached_head_without_a_tag_is_called_head(repo: GitRepo, git: str | None) -> None:
    repo.git("checkout", "-q", "--detach")
    assert read(repo.path, git).provenance.revision.startswith("HEAD@sha1:")


def test_the_only_tag_at_the_commit_names_it(repo: GitRepo, git: str | None) -> None:
    repo.git("tag", "-a", "-m", "x", "v1.2.3")
    assert read(repo.path, git).provenance.revision.startswith("v1.2.3@sha1:")
    repo.git("tag", "stable")
    assert read(repo.path, git).provenance.revision.startswith("main@sha1:")


def test_the_ref_that_was_typed_wins(repo: GitRepo, git: str | None) -> None:
    commit = repo.git("rev-parse", "HEAD")
    environ = {"GITHUB_SHA": commit, "GITHUB_REF_NAME": "from-ci"}
    assert read(repo.path, git, environ=environ).provenance.revision == f"from-ci@sha1:{commit}"
    assert read(repo.path, git, environ=environ, ref="refs/heads/x").provenance.revision == f"x@sha1:{commit}"


def test_sha256_repositories_are_named_so(tmp_path: Path, git: str | None) -> None:
    repo = GitRepo(tmp_path / "long", "--object-format=sha256")
    commit = repo.commit(FILES)
    assert len(commit) == 64
    tree = read(repo.path / "apps", git)
    assert tree.provenance.revision == f"main@sha256:{commit}"
    assert paths(tree) == ["a.yaml", "deep/b.yaml"]


def test_a_checkout_of_another_user_is_read(repo: GitRepo) -> None:
    environ = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    with pytest.raises(subprocess.CalledProcessError):
        repo.git("status", environ=environ)
    assert paths(read(repo.path / "apps", "git", environ=environ)) == ["a.yaml", "deep/b.yaml"]


def test_variables_of_a_git_hook_do_not_redirect_the_reading(repo: GitRepo, tmp_path: Path) -> None:
    other = GitRepo(tmp_path / "other")
    other.commit({"x": "y"})
    environ = {"GIT_DIR": str(other.path / ".git"), "GIT_INDEX_FILE": str(tmp_path / "nothing")}
    assert paths(read(repo.path / "apps", "git", environ=environ)) == ["a.yaml", "deep/b.yaml"]


def test_links_submodules_and_lfs_pointers_are_refused_together(repo: GitRepo, git: str | None, tmp_path: Path) -> None:
    inner = GitRepo(tmp_path / "inner")
    inner.commit({"x": "y"})
    repo.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.path.as_uri(), "apps/sub")
    (repo.path / "apps/link.yaml").symlink_to("a.yaml")
    repo.commit({"apps/big.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"})
    with pytest.raises(InvalidInput) as caught:
        read(repo.path / "apps", git)
    assert [(finding.file, finding.message.split(";")[0]) for finding in caught.value.findings] == [
        ("link.yaml", "is a symlink"),
        ("sub", "is a submodule"),
        ("big.bin", "is a Git LFS pointer"),
    ]
    repo.commit({"apps/.ocisyncignore": "link.yaml\nsub\n*.bin\n"})
    assert paths(read(repo.path / "apps", git)) == [".ocisyncignore", "a.yaml", "deep/b.yaml"]


def test_ignored_paths_are_neither_packed_nor_dirty(repo: GitRepo, git: str | None) -> None:
    repo.commit({"apps/.ocisyncignore": "/deep\n*.md\n!keep.md\n", "apps/x.md": "", "apps/keep.md": ""})
    repo.write({"apps/y.md": "new"})
    tree = read(repo.path / "apps", git)
    assert paths(tree) == [".ocisyncignore", "a.yaml", "keep.md"]


def test_contents_are_raw(repo: GitRepo, git: str | None) -> None:
    repo.commit({".gitattributes": "*.txt text eol=crlf export-ignore\n*.yaml export-subst\n"})
    repo.commit({"raw/a.txt": "one\ntwo\n", "raw/b.yaml": "$Format:%H$\n", "raw/c": bytes(range(256))})
    repo.git("checkout", "-q", "--", ".")
    tree = read(repo.path / "raw", git)
    assert [file.data for file in tree.files] == [b"one\ntwo\n", b"$Format:%H$\n", bytes(range(256))]


def test_strange_names_are_read(repo: GitRepo, git: str | None) -> None:
    repo.commit({"odd/with space.yaml": "1", "odd/grün.yaml": "2", "odd/-x*[a].yaml": "3", "odd/:(top)x": "4"})
    assert set(paths(read(repo.path / "odd", git))) == {"with space.yaml", "grün.yaml", "-x*[a].yaml", ":(top)x"}
    repo.commit({":(glob)**/a.yaml": "1"})
    repo.write({"odd/with space.yaml": "changed"})
    with pytest.raises(Refused, match=r"odd/with space\.yaml"):
        read(repo.path / "odd", git)


def test_a_token_in_the_remote_does_not_leave_the_machine(repo: GitRepo, git: str | None) -> None:
    repo.git("remote", "add", "origin", "https://x-access-token:ghs_SECRET@git.example/acme/shop.git?token=SECRET2")
    source = read(repo.path, git).provenance.source
    assert source == "https://git.example/acme/shop"


def test_a_clone_of_a_local_path_names_no_source(repo: GitRepo, git: str | None, tmp_path: Path) -> None:
    clone = repo.clone(tmp_path / "clone")
    assert read(clone.path, git).provenance.source == ""
    commit = clone.git("rev-parse", "HEAD")
    environ = {
        "CI_COMMIT_SHA": commit,
        "CI_PROJECT_URL": "https://gitlab.example/acme/shop",
        "CI_COMMIT_REF_NAME": "rel",
    }
    found = read(clone.path, git, environ=environ).provenance
    assert (found.source, found.revision) == ("https://gitlab.example/acme/shop", f"rel@sha1:{commit}")


def test_a_git_that_hangs_is_given_up(repo: GitRepo, tmp_path: Path) -> None:
    slow = tmp_path / "slow-git"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    with pytest.raises(Unavailable, match="did not end"):
        read_tree(repo.path, environ=GIT_ENVIRONMENT, git=str(slow), timeout_s=0.2)


def test_a_broken_repository_is_one_clear_error(tmp_path: Path, git: str | None) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(OcisyncError):
        read(tmp_path, git)


def test_a_linked_worktree_of_another_user_is_read(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    environ = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    assert paths(read(tmp_path / "side", "git", environ=environ)) == sorted(FILES)


def test_a_partial_clone_fetches_what_it_lacks(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("config", "uploadpack.allowFilter", "true")
    repo.commit({"apps/a.yaml": "a: 2\n"})
    clone = repo.clone(tmp_path / "partial", "--filter=blob:none")
    first = repo.git("rev-parse", "HEAD~1")
    assert read(clone.path / "apps", "git", rev=first).files[0].data == b"a: 1\n"


def test_commands_from_the_repositorys_own_configuration_do_not_run(repo: GitRepo, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n")
    script.chmod(0o755)
    repo.git("config", "core.fsmonitor", str(script))
    read(repo.path, "git")
    assert not mark.exists()


def test_a_commit_with_many_files_is_read_at_once(tmp_path: Path, git: str | None) -> None:
    repo = GitRepo(tmp_path / "many")
    repo.commit({f"d{i % 7}/{i:04}.yaml": f"n: {i % 50}\n" for i in range(1500)})
    assert len(read(repo.path, git).files) == 1500


@pytest.mark.parametrize("seconds", ["999999999999", "-99999999999"])
def test_a_committer_time_outside_the_calendar_is_an_error_that_says_so(seconds: str) -> None:
    with pytest.raises(InvalidInput, match="is no date"):
        committer_time(f"tree x\ncommitter A <a@example.com> {seconds} +0000\n\nx".encode())


def test_a_replacement_object_does_not_change_what_a_commit_holds(repo: GitRepo, git: str | None) -> None:
    honest = repo.git("rev-parse", "HEAD")
    other = repo.commit({"apps/a.yaml": "a: replaced\n"})
    repo.git("replace", honest, other)
    assert read(repo.path, git, rev=honest).files[0].data == b"a: 1\n"


@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_a_ref_whose_name_is_not_text_is_not_named(repo: GitRepo, git: str | None, kind: str) -> None:
    name = b"lat\xe9"
    words = [b"branch", b"-m", name] if kind == "branch" else [b"tag", name]
    subprocess.run([b"git", b"-C", str(repo.path).encode(), *words], check=True, env=GIT_ENVIRONMENT)
    revision = read(repo.path, git).provenance.revision
    assert revision.startswith("HEAD@sha1:")
    assert revision.isascii()


def test_a_ref_that_is_not_text_is_refused(repo: GitRepo) -> None:
    with pytest.raises(UsageError, match="bad ref"):
        read(repo.path, "git", ref="lat\udce9")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_repository_that_somebody_else_put_above_the_directory_cannot_run_programs(tmp_path: Path) -> None:
    top = GitRepo(tmp_path / "shared")
    top.commit({"mine/a.yaml": "a: 1\n"})
    mark = tmp_path / "ran"
    top.git("config", "filter.x.clean", f"touch {mark}; cat")
    (top.path / ".git/info/attributes").write_text("* filter=x\n")
    os.utime(top.path / "mine/a.yaml", (1, 1))
    for folder, _, names in os.walk(top.path / ".git"):
        for name in ("", *names):
            os.chown(Path(folder) / name, 12_345, 12_345)
    with pytest.raises(OcisyncError, match="dubious ownership"):
        read(top.path / "mine", "git")
    assert not mark.exists()
    for name in ("", "mine", "mine/a.yaml"):
        os.chown(top.path / name, 12_345, 12_345)
    assert paths(read(top.path / "mine", "git")) == ["a.yaml"], "the checkout of another user, as in CI"
