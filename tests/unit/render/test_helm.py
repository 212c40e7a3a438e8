"""What is done to a chart's output, and how helm's words become findings."""

from __future__ import annotations

import pytest

from ocisync.model.tree import Origin
from ocisync.render import helm
from ocisync.render.layout import Mode, RenderOptions, Unit

UNIT = Unit(Mode.HELM, "apps/shop", "apps/shop/manifests.yaml", ("apps/v.yaml",))
FILES = {
    "apps/shop/Chart.yaml": b"name: shop\n",
    "apps/shop/templates/a.yaml": b"{{ now }}",
    "apps/shop/charts/db/templates/b.yaml": b"",
}


def document(name: str, hook: str = "", source: str = "shop/templates/a.yaml") -> str:
    annotations = f'  annotations:\n    "helm.sh/hook": {hook}\n' if hook else ""
    return f"---\n# Source: {source}\nkind: X\nmetadata:\n  name: {name}\n{annotations}"


def test_the_chart_is_named_after_everything_that_could_be_a_flag() -> None:
    options = RenderOptions(values=("v.yaml",), api_versions=("x.example/v1",))
    assert helm.arguments(UNIT, options, FILES) == (
        "--namespace", "default", "--kube-version", "1.34.0", "--include-crds", "--skip-tests",
        "--api-versions", "x.example/v1", "--values", "./apps/v.yaml", "--", "shop", "./apps/shop",
    )  # fmt: skip
    named = helm.arguments(UNIT, RenderOptions(release="--debug", kubernetes_version="1.36.0"), FILES)
    assert named[-3:] == ("--", "--debug", "./apps/shop")
    assert "1.36.0" in named


@pytest.mark.parametrize("chart", [b"", b"- a", b"name: 1", b"a: [", b"name: ''"])
def test_a_broken_chart_is_left_to_helm(chart: bytes) -> None:
    assert helm.arguments(UNIT, RenderOptions(), {"apps/shop/Chart.yaml": chart})[-2] == "release"


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ("template: shop/templates/a.yaml:3:5: executing", "apps/shop/templates/a.yaml:3:5"),
        ("parse error at (shop/templates/a.yaml:7): unclosed", "apps/shop/templates/a.yaml:7"),
        ("template: shop/charts/db/templates/b.yaml:1:2: x", "apps/shop/charts/db/templates/b.yaml:1:2"),
        ("template: shop/templates/other.yaml:3:5: x", "apps/shop/Chart.yaml"),
        ("boom", "apps/shop/Chart.yaml"),
    ],
)
def test_complaints_are_at_the_template_that_they_name(message: str, place: str) -> None:
    assert str(helm.complaint(UNIT, message, FILES)) == f"{place}: helm: {message}"


@pytest.mark.parametrize(
    ("hook", "published"),
    [
        ("", True), ("pre-install", True), ("pre-install,post-upgrade", True), ("pre-install,pre-delete", True),
        ("pre-delete", False), ("post-delete, pre-rollback", False), ("test", False), ("test-success", False),
    ],
)  # fmt: skip
def test_hooks_that_must_not_run_now_are_left_out(hook: str, published: bool) -> None:
    text = document("a") + document("b", hook) + document("c")
    data, origins, warnings = helm.without_other_hooks(UNIT, text.encode())
    assert (data.decode() == text) is published
    assert [name for name in "abc" if f"name: {name}" in data.decode()] == (
        ["a", "b", "c"] if published else ["a", "c"]
    )
    assert len(warnings) == (1 if hook else 0)
    assert len(origins) == (3 if published else 2)


def test_lines_of_the_result_lead_to_their_template() -> None:
    text = document("a") + document("b", "test") + document("c", source="shop/charts/db/templates/b.yaml")
    data, origins, _ = helm.without_other_hooks(UNIT, text.encode())
    assert origins == (
        Origin(UNIT.output, 1, "apps/shop/templates/a.yaml"),
        Origin(UNIT.output, 6, "apps/shop/charts/db/templates/b.yaml"),
    )
    assert data.decode().splitlines()[5] == "---"


def test_a_difference_names_the_field_and_not_the_values() -> None:
    first = document("a") + "data:\n  password: hunter1\n"
    finding = helm.difference(UNIT, first.encode(), first.replace("hunter1", "hunter2").encode())
    assert "templates/a.yaml (at 'password')" in finding.message
    assert "hunter" not in finding.message


def test_only_actions_that_read_the_clock_are_told() -> None:
    files = {
        "apps/shop/templates/a.yaml": b"now\n{{ .Values.now }}\n{{ now | date }}\nx{{- ago .X }}",
        "apps/templates/b": b"{{ now }}",
    }
    assert [finding.line for finding in helm.clock_uses(UNIT, files)] == [3, 4]
