"""An artifact of ocisync obeys the rules of every tool that shall read it; and each rule bites."""

from __future__ import annotations

import gzip
import json
import secrets
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.model.errors import InvalidInput
from ocisync.pack.artifact import build
from tests.cli.conftest import Cli, cli, repo  # noqa: F401 - fixtures
from tests.compat import rules
from tests.compat.images import changed, entry, fetched, of_built, with_config, with_entries, with_layer
from tests.compat.rules import RULES, Image
from tests.support.artifacts import tree_of
from tests.support.gitrepo import GitRepo
from tests.support.registries import Registry

FILES = {
    "deploy/app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app, namespace: shop}\n",
    "deploy/sub/deep/b.json": '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}',
    "deploy/ünïcode/日本.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\n",
    "deploy/" + "long-" * 25 + "/" + "name-" * 25 + ".txt": "x",
    "deploy/.hidden/file": "h",
    "deploy/empty": "",
}
OURS = of_built(build(tree_of({"a.yaml": b"a", "sub/b.yaml": b"b"})))


def broken(image: Image) -> dict[str, str]:
    """Rules that an artifact breaks, and how."""
    found = {}
    for name, check in RULES.items():
        problem = check(image)
        if problem:
            found[name] = problem
    return found


@pytest.fixture
def pushed(cli: Cli, repo: GitRepo, sandbox_registry: Registry) -> Callable[..., Image]:  # noqa: F811
    """What a registry has after `ocisync push` with these flags."""
    repo.commit(FILES)
    repository = f"{sandbox_registry.host}/compat/{secrets.token_hex(6)}"

    def push(*flags: str) -> Image:
        ran = cli("push", str(repo.path / "deploy"), f"{repository}:{len(flags)}.0.0", *flags, "-o", "json")
        assert ran.exit_code == 0, ran.err
        return fetched(repository, json.loads(ran.out)["digest"])

    return push


def test_what_push_uploads_obeys_every_rule(pushed: Callable[..., Image]) -> None:
    assert broken(pushed()) == {}


@pytest.mark.parametrize(
    ("profile", "layer"),
    [
        ("flux", "application/vnd.cncf.flux.content.v1.tar+gzip"),
        ("imgpkg", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ],
)
def test_the_other_profiles_break_one_rule_of_argo_cd(profile: str, layer: str, pushed: Callable[..., Image]) -> None:
    found = broken(pushed("--profile", profile))
    assert found.pop("argocd: the_layer_type_is_allowed") == layer
    # Docker's types end in `tar.gzip` all the same, so the layer is content, of a type that is not allowed.
    assert found == {}


def test_an_artifact_with_pinned_images_obeys_every_rule(
    pushed: Callable[..., Image],
    cli: Cli,  # noqa: F811
    repo: GitRepo,  # noqa: F811
    sandbox_registry: Registry,
) -> None:
    image = f"{sandbox_registry.host}/compat/images/web"
    assert cli("push", str(repo.path / "deploy"), f"{image}:1.0.0").exit_code == 0  # any manifest will do
    spec = f"spec: {{containers: [{{name: web, image: '{image}:1.0.0'}}]}}\n"
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n" + spec
    repo.commit({"deploy/pod.yaml": pod})
    made = pushed("--pin-images")
    assert ".imgpkg/images.yml" in {info.name for info, _ in made.all_entries()}
    assert broken(made) == {}


names = st.text(
    st.sampled_from("ab.-_ ~$%()ü日\\/'\"*?:é🐙\u202e") | st.characters(exclude_categories=["Cs"]),
    min_size=1,
    max_size=30,
)


@given(
    st.dictionaries(
        st.lists(names, min_size=1, max_size=3).map("/".join), st.binary(max_size=20), min_size=1, max_size=5
    )
)
def test_whatever_can_be_packed_obeys_every_rule(files: dict[str, bytes]) -> None:
    try:
        built = build(tree_of(files))
    except InvalidInput:
        return
    problems = broken(of_built(built))
    # A tree may bring a lock of its own; the label comes with --pin-images alone.
    assert {name for name in problems if ".imgpkg" not in str(files)} == set()


def two_layers(document: dict[str, list[object]]) -> None:
    document["layers"] = [document["layers"][0]] * 2


def no_layers(document: dict[str, list[object]]) -> None:
    document["layers"] = []


BREAKERS: dict[str, Callable[[], Image]] = {
    "flux: an_index_is_not_searched": lambda: changed(OURS, lambda d: d.update(manifests=[])),
    "flux: the_first_layer_is_gzip": lambda: with_layer(OURS, gzip.decompress(OURS.blob(OURS.layers[0]))),
    "flux: paths_are_relative_and_hold_no_backslash": lambda: with_entries(OURS, [entry("a\\b")]),
    "flux: entries_are_files_or_directories": lambda: with_entries(
        OURS, [entry("a", type=tarfile.SYMTYPE, linkname="b")]
    ),
    "flux: files_are_not_newer_than_now": lambda: with_entries(OURS, [entry("a", mtime=4_000_000_000)]),
    "flux: the_revision_names_branch_and_commit": lambda: changed(OURS, lambda d: d["annotations"].clear()),
    "flux: what_is_not_a_kubernetes_object_is_ignored": lambda: with_entries(
        OURS, [entry(".imgpkg/"), entry(".imgpkg/images.yml")]
    ),
    "argocd: the_top_is_an_image_manifest": lambda: changed(OURS, no_layers),
    "argocd: there_are_at_most_ten_layers": lambda: changed(OURS, lambda d: d["layers"].extend(d["layers"] * 10)),
    "argocd: exactly_one_layer_is_content": lambda: changed(OURS, two_layers),
    "argocd: the_layer_type_is_allowed": lambda: changed(OURS, lambda d: d["layers"][0].update(mediaType="x/y")),
    "argocd: the_config_is_not_that_of_a_chart": lambda: changed(
        OURS, lambda d: d["config"].update(mediaType="application/vnd.cncf.helm.config.v1+json")
    ),
    "argocd: no_path_leaves_the_root": lambda: with_entries(OURS, [entry("a/../../b")]),
    "argocd: the_manifest_is_smaller_than_four_mebibytes": lambda: Image(OURS.manifest + b" " * (4 << 20), OURS.blobs),
    "configsync: every_layer_is_a_tar": lambda: with_layer(OURS, gzip.compress(b"no tar at all" * 100)),
    "configsync: a_directory_stands_before_what_is_in_it": lambda: with_entries(OURS, [entry("a/b"), entry("a/")]),
    "configsync: modes_let_the_reader_in": lambda: with_entries(OURS, [entry("a/", mode=0o700)]),
    "configsync: nothing_is_named_like_a_deletion_mark": lambda: with_entries(OURS, [entry(".wh.a")]),
    "imgpkg: the_config_is_an_image_config": lambda: with_config(OURS, lambda c: c["rootfs"].clear()),
    "imgpkg: the_diff_id_is_that_of_the_tar": lambda: with_config(
        OURS, lambda c: c["rootfs"].update(diff_ids=["sha256:" + "0" * 64])
    ),
    "imgpkg: a_bundle_has_label_and_lock_or_neither": lambda: with_config(
        OURS, lambda c: c["config"].update(Labels={"dev.carvel.imgpkg.bundle": "true"})
    ),
    "imgpkg: no_name_holds_a_backslash": lambda: with_entries(OURS, [entry("a\\b")]),
    "imgpkg: only_files_and_directories_are_unpacked": lambda: with_entries(
        OURS, [entry("a", type=tarfile.LNKTYPE, linkname="b")]
    ),
    "oci: digests_and_sizes_are_true": lambda: changed(OURS, lambda d: d["layers"][0].update(size=1)),
    "oci: the_gzip_stream_is_one_member_without_a_time": lambda: with_layer(
        OURS, OURS.blob(OURS.layers[0]) + gzip.compress(b"")
    ),
    "oci: nobody_owns_the_files": lambda: with_entries(OURS, [entry("a", uid=1000)]),
}


TOO_LARGE = "argocd: unpacked_it_fits_into_one_gigabyte"


def test_every_rule_has_an_artifact_that_breaks_it() -> None:
    assert {*BREAKERS, TOO_LARGE} == set(RULES)


@pytest.mark.parametrize("name", BREAKERS)
def test_each_rule_bites(name: str) -> None:
    assert RULES[name](OURS) == ""
    assert RULES[name](BREAKERS[name]()) != ""


def test_the_rule_of_the_gigabyte_bites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "ARGO_EXTRACTED_BYTES", 100)
    assert RULES[TOO_LARGE](OURS) != ""


def test_the_documentation_counts_the_rules() -> None:
    page = Path(__file__).parents[2] / "docs" / "compatibility.md"
    assert f"{len(RULES)} rules" in page.read_text()
