"""Layouts and pulled directories, as a user meets them: what has to be said, what is refused, what stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.model.errors import UsageError
from ocisync.model.ref import LayoutReference, Reference, parse_place
from tests.cli.conftest import Cli
from tests.support.gitrepo import GitRepo

NAME = "registry.example/acme/shop"
DIGEST = "sha256:" + "a" * 64


def names(folder: str) -> list[str]:
    return sorted(item.name for item in Path(folder).iterdir())


@pytest.fixture
def layout(cli: Cli, repo: GitRepo) -> str:
    """A signed push to a layout."""
    assert cli("keys", "generate", "k").exit_code == 0
    place = "oci-layout:out"
    ran = cli("push", str(repo.path / "deploy"), f"{place}:1.0.0", "--sign-key", "k.key", "--as", NAME)
    assert ran.exit_code == 0, ran.err
    assert f"next:  ocisync verify {place}:1.0.0 --key FILE.pub --as {NAME}" in ran.err
    return place


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("oci-layout:out", LayoutReference("out")),
        ("oci-layout:out:1.0", LayoutReference("out", "1.0")),
        ("oci-layout:/a/b.tar:v1", LayoutReference("/a/b.tar", "v1")),
        ("oci-layout:///a/b:v1", LayoutReference("/a/b", "v1")),
        ("oci-layout:a:b/c", LayoutReference("a:b/c")),
        ("oci-layout:a@b/c:x", LayoutReference("a@b/c", "x")),
        (f"oci-layout:out@{DIGEST}", LayoutReference("out", "", DIGEST)),
        (f"oci-layout:out:1.0@{DIGEST}", LayoutReference("out", "1.0", DIGEST)),
        ("oci-layout:.", LayoutReference(".")),
        ("oci://registry.example/shop:1.0", Reference("registry.example", "shop", "1.0")),
    ],
)
def test_references_to_layouts_are_read(text: str, wanted: LayoutReference | Reference) -> None:
    assert parse_place(text) == wanted


@pytest.mark.parametrize(
    "text", ["oci-layout:", "oci-layout::v1", "oci-layout:out:", "oci-layout:out:-x", "oci-layout:a@sha256:12"]
)
def test_what_is_no_reference_to_a_layout_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_place(text)


@given(st.text(max_size=60))
def test_every_text_is_a_place_that_reads_back_or_a_usage_error(text: str) -> None:
    try:
        place = parse_place("oci-layout:" + text)
    except UsageError:
        return
    assert parse_place(str(place)) == place


def test_signing_and_judging_in_a_layout_needs_the_name_of_a_repository(cli: Cli, layout: str, repo: GitRepo) -> None:
    deploy = str(repo.path / "deploy")
    for arguments in (
        ("push", deploy, f"{layout}:2.0.0", "--sign-key", "k.key"),
        ("verify", f"{layout}:1.0.0", "--key", "k.pub"),
        ("pull", f"{layout}:1.0.0", "--key", "k.pub"),
        ("tag", f"{layout}:1.0.0", "x", "--sign-key", "k.key"),
        ("sign", f"{layout}@{DIGEST}", "--sign-key", "k.key"),
    ):
        ran = cli(*arguments)
        assert (ran.exit_code, "--as HOST/REPOSITORY" in ran.err) == (2, True), arguments


def test_looking_at_a_layout_needs_no_name(cli: Cli, layout: str) -> None:
    for arguments in (
        ("list", layout),
        ("inspect", f"{layout}:1.0.0"),
        ("pull", f"{layout}:1.0.0"),
        ("tag", f"{layout}:1.0.0", "x"),
    ):
        assert cli(*arguments).exit_code == 0, arguments


def test_a_layout_that_stands_for_another_repository_does_not_verify(cli: Cli, layout: str) -> None:
    ran = cli("verify", f"{layout}:1.0.0", "--key", "k.pub", "--as", "registry.example/acme/other")
    assert ran.exit_code == 4
    assert NAME in ran.err


def test_a_name_belongs_to_layouts_only_and_is_a_repository(cli: Cli, layout: str) -> None:
    assert cli("verify", f"{NAME}:1.0.0", "--key", "k.pub", "--as", NAME).exit_code == 2
    assert cli("verify", f"{layout}:1.0.0", "--key", "k.pub", "--as", f"{NAME}:1.0.0").exit_code == 2
    assert cli("verify", f"{layout}:1.0.0", "--key", "k.pub", "--as", "no host").exit_code == 2


def test_a_push_that_fails_leaves_a_tar_file_as_it_was(cli: Cli, repo: GitRepo) -> None:
    deploy = str(repo.path / "deploy")
    assert cli("push", deploy, "oci-layout:x.tar:1.0.0").exit_code == 0
    before = Path("x.tar").read_bytes()
    repo.commit({"deploy/more.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more, namespace: shop}\n"})
    ran = cli("push", deploy, "oci-layout:x.tar:1.0.0", "oci-layout:x.tar:new")
    assert ran.exit_code == 4, ran.err
    assert Path("x.tar").read_bytes() == before


def test_a_dry_run_makes_no_layout(cli: Cli, repo: GitRepo) -> None:
    for place in ("out2", "y.tar"):
        assert cli("push", str(repo.path / "deploy"), f"oci-layout:{place}:1.0.0", "--dry-run").exit_code == 0
        assert not Path(place).exists()


def test_the_same_push_again_is_unchanged_and_writes_nothing(cli: Cli, layout: str, repo: GitRepo) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    push = ("push", str(repo.path / "deploy"), f"{layout}:1.0.0", "--sign-key", "k.key", "--as", NAME, "-o", "json")
    answer = json.loads(cli(*push).out)
    assert (answer["unchanged"], answer["repository"]) == (True, NAME)
    assert answer["reference"] == f"{layout}@{answer['digest']}"
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before


# -- pull -----------------------------------------------------------------------------------------


def test_a_warning_says_that_nothing_is_proven_also_when_quiet(cli: Cli, layout: str) -> None:
    ran = cli("pull", f"{layout}:1.0.0", "-d", "files", "-q", "-o", "json")
    assert "warning: oci-layout:out:1.0.0 is NOT verified" in ran.err
    assert json.loads(ran.out)["verified"] is False


def test_a_directory_that_holds_something_is_refused_and_left_alone(cli: Cli, layout: str) -> None:
    Path("files").mkdir()
    Path("files/mine").write_text("mine")
    ran = cli("pull", f"{layout}:1.0.0", "-d", "files")
    assert (ran.exit_code, "--force" in ran.err) == (4, True)
    assert names("files") == ["mine"]
    assert cli("pull", f"{layout}:1.0.0", "-d", "files", "--force").exit_code == 0
    assert names("files") == ["app.yaml", "mine"]


def test_links_in_a_directory_are_replaced_or_refused_and_never_followed(cli: Cli, layout: str, repo: GitRepo) -> None:
    repo.commit({"deploy/sub/b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: shop}\n"})
    assert cli("push", str(repo.path / "deploy"), f"{layout}:2.0.0").exit_code == 0
    Path("files").mkdir()
    Path("elsewhere").mkdir()
    Path("elsewhere/app.yaml").write_text("mine")
    Path("files/app.yaml").symlink_to(Path("elsewhere/app.yaml").absolute())
    assert cli("pull", f"{layout}:1.0.0", "-d", "files", "--force").exit_code == 0
    assert not Path("files/app.yaml").is_symlink()
    assert Path("elsewhere/app.yaml").read_text() == "mine"
    Path("files/sub").symlink_to(Path("elsewhere").absolute())
    ran = cli("pull", f"{layout}:2.0.0", "-d", "files", "--force")
    assert ran.exit_code == 4
    assert "sub is a link or a file" in ran.err
    assert names("elsewhere") == ["app.yaml"]


def test_an_empty_current_directory_is_filled(cli: Cli, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("empty").mkdir()
    here = Path("empty").stat().st_ino
    monkeypatch.chdir("empty")
    assert cli("pull", "oci-layout:../out:1.0.0", "-d", ".").exit_code == 0
    assert names(".") == ["app.yaml"]
    assert Path("../empty").stat().st_ino == here


def test_nothing_stays_beside_a_pulled_directory(cli: Cli, layout: str) -> None:
    before = set(names("."))
    assert cli("pull", f"{layout}:1.0.0", "-d", "deep/er/files").exit_code == 0
    assert set(names(".")) - before == {"deep"}
    assert names("deep/er") == ["files"]


def test_a_file_in_the_place_of_the_directory_is_an_error(cli: Cli, layout: str) -> None:
    Path("files").write_text("mine")
    ran = cli("pull", f"{layout}:1.0.0", "-d", "files")
    assert (ran.exit_code, ran.errors) == (1, ["error: files is no directory"])
    assert Path("files").read_text() == "mine"


def test_the_directory_is_named_after_the_repository(cli: Cli, layout: str) -> None:
    assert cli("pull", f"{layout}:1.0.0", "--as", NAME, "--key", "k.pub").exit_code == 0
    assert names("shop") == ["app.yaml"]
    assert cli("pull", f"{layout}:1.0.0").exit_code == 0
    assert names("out-files") == ["app.yaml"]
