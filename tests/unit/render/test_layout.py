"""Which directories are environments, what belongs to them, and what is left as it is."""

from __future__ import annotations

import pytest

from ocisync.model.tree import TreeFile
from ocisync.render.layout import Layout, RenderOptions, plan

BASE = "resources: [a.yaml]\n"


def laid(files: dict[str, str], mode: str = "auto", prefix: str = "", values: tuple[str, ...] = ()) -> Layout:
    return plan([TreeFile(path, text.encode()) for path, text in files.items()], prefix, RenderOptions(mode, values))


def outputs(layout: Layout) -> list[str]:
    assert layout.findings == ()
    return [unit.output for unit in layout.units]


def kept(layout: Layout) -> list[str]:
    return [file.path for file in layout.kept]


def test_overlays_are_environments_and_what_they_refer_to_is_not() -> None:
    layout = laid(
        {
            "base/kustomization.yaml": BASE, "base/a.yaml": "", "base/patches/p.yaml": "",
            "part/kustomization.yml": "kind: Component\n", "unused/Kustomization": "kind: Component\n",
            "over/prod/kustomization.yaml": "resources: [../../base]\ncomponents: [../../part/]\n",
            "over/stage/Kustomization": "bases: ['../../base/']\n",
            "plain/b.yaml": "", "README.md": "",
        }
    )  # fmt: skip
    assert outputs(layout) == ["over/prod/manifests.yaml", "over/stage/manifests.yaml"]
    assert kept(layout) == ["plain/b.yaml", "README.md"]


def test_an_overlay_of_an_overlay_makes_a_building_block_of_it() -> None:
    files = {
        "a/kustomization.yaml": "{}",
        "b/kustomization.yaml": "resources: [../a]",
        "c/kustomization.yaml": "resources: [../b]",
    }
    assert outputs(laid(files)) == ["c/manifests.yaml"]
    inside = laid({f"top/{name}": text for name, text in files.items()}, prefix="top/b")
    assert outputs(inside) == ["top/b/manifests.yaml"], "what lies outside makes no building block of it"


def test_the_top_may_be_an_environment_with_others_below() -> None:
    files = {
        "kustomization.yaml": BASE,
        "a.yaml": "",
        "notes.md": "",
        "sub/kustomization.yaml": "{}",
        "sub/x/y.yaml": "",
    }
    layout = laid(files)
    assert outputs(layout) == ["manifests.yaml", "sub/manifests.yaml"]
    assert kept(layout) == []


def test_charts_are_environments_unless_they_are_parts_of_a_chart() -> None:
    files = {
        "shop/Chart.yaml": "", "shop/charts/db/Chart.yaml": "", "shop/templates/a.yaml": "{{", "tools/Chart.yaml": "",
        "tools/envs/eu/values.yaml": "", "tools/envs/us/values.yaml": "", "tools/envs/README": "",
        "tools/envs/deep/er/values.yaml": "", "values/common.yaml": "",
    }  # fmt: skip
    layout = laid(files, "helm", values=("values/common.yaml",))
    assert outputs(layout) == ["shop/manifests.yaml", "tools/eu/manifests.yaml", "tools/us/manifests.yaml"]
    assert [unit.values for unit in layout.units] == [
        ("values/common.yaml",),
        ("tools/envs/eu/values.yaml", "values/common.yaml"),
        ("tools/envs/us/values.yaml", "values/common.yaml"),
    ]
    assert kept(layout) == [], "values are no manifests"


def test_hidden_directories_are_left_alone() -> None:
    layout = laid({".github/kustomization.yaml": "resources: [../gone]", "a.yaml": "", ".x/Chart.yaml": ""})
    assert (outputs(layout), kept(layout)) == ([], [".github/kustomization.yaml", "a.yaml", ".x/Chart.yaml"])


@pytest.mark.parametrize(
    ("reference", "up"), [("../base", 1), ("../../base", 2), ("../../../a/base", 3), ("./x/../../base", 1), ("..", 1)]
)
def test_references_above_the_top_say_how_far(reference: str, up: int) -> None:
    layout = laid({"kustomization.yaml": f"resources: [{reference}]\n"})
    assert (layout.levels_up, layout.findings) == (up, ())


def test_published_paths_are_those_below_the_prefix() -> None:
    files = {
        "base/kustomization.yaml": "resources: [../common]", "common/kustomization.yaml": "{}", "base/a.yaml": "",
        "deploy/prod/kustomization.yaml": "resources: [../../base]\n", "deploy/plain.yaml": "", "other/Chart.yaml": "",
    }  # fmt: skip
    layout = laid(files, prefix="deploy")
    assert outputs(layout) == ["deploy/prod/manifests.yaml"]
    assert kept(layout) == ["deploy/plain.yaml"]


K, C = "kustomization.yaml", "Chart.yaml"
REFUSED: dict[str, tuple[dict[str, str], str, str]] = {
    "remote": ({K: "resources: [a.yaml, 'ssh://x/y']", "a.yaml": ""}, "auto", f"{K}:1:21: 'ssh://x/y' is not in this"),
    "absolute": ({K: "resources: [/etc]"}, "auto", f"{K}:1:13: '/etc' is not in this commit"),
    "gone": ({K: "components: [x]"}, "auto", f"{K}:1:14: 'x' is no file or directory"),
    "above and gone": ({f"a/{K}": "resources: [../b]", "c": ""}, "auto", f"a/{K}:1:13: '../b' is no file"),
    "no YAML": ({K: "a: ["}, "auto", f"{K}:"),
    "charts": ({K: "helmCharts: [{name: x}]"}, "kustomize", f"{K}:1:1: helmCharts"),
    "a circle": ({f"a/{K}": "resources: [../b]", f"b/{K}": "resources: [../a]"}, "auto", "every kustomization here"),
    "not asked for helm": ({K: "{}", f"c/{C}": ""}, "kustomize", f"c/{C}: a chart: use --render auto"),
    "not asked for kustomize": ({K: "{}", f"c/{C}": ""}, "helm", f"{K}: a kustomization: use --render auto"),
    "both": ({K: "{}", C: ""}, "auto", f"{K}: beside {C}"),
    "nothing": ({"a.yaml": ""}, "helm", f".: nothing to render: no {C}"),
    "one output for two": (
        {C: "", "envs/a/values.yaml": "", f"a/{K}": "{}"},
        "auto",
        "renders to a/manifests.yaml, as",
    ),
}


@pytest.mark.parametrize(("files", "mode", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_a_finding(files: dict[str, str], mode: str, message: str) -> None:
    assert any(message in str(finding) for finding in laid(files, mode).findings)


def test_both_tools_for_one_directory_are_no_question_if_one_is_named() -> None:
    files = {"kustomization.yaml": "{}", "Chart.yaml": ""}
    assert outputs(laid(files, "kustomize")) == ["manifests.yaml"]


def test_values_must_be_committed() -> None:
    (finding,) = laid({"Chart.yaml": ""}, "helm", values=("no.yaml",)).findings
    assert str(finding).startswith("no.yaml: no such file with values")
