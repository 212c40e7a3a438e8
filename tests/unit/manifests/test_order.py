"""Annotations that ask for order, ownership and deletion, judged before an upload."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ocisync.manifests.order import circles, problems
from ocisync.manifests.parse import read_tree
from ocisync.manifests.validate import check
from ocisync.model.resource import ManifestObject, ObjectId, gvk_of, id_of
from ocisync.model.tree import TreeFile


def item(name: str, namespace: str = "n", **annotations: str) -> ManifestObject:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace} if namespace else {"name": name}
    metadata["annotations"] = {f"ocisync.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    return ManifestObject(id_of(body), gvk_of(body), body, "f.yaml", 1)


def told(*items: ManifestObject) -> list[str]:
    return [f"{found.rule}: {found.message}" for found in problems(items)]


def test_values_that_the_engine_would_refuse_are_errors() -> None:
    assert told(item("a", wave="soon")) == [
        "annotation: annotation ocisync.dev/wave: 'soon' is no whole number from -10000 to 10000"
    ]
    assert "is not of the form group/kind/namespace/name" in told(item("a", depends_on="ConfigMap/b"))[0]
    assert told(item("a", prune="disabled", force="enabled", apply="Ignore", protect="confirm", wave="-3")) == []


def test_a_key_of_ours_that_means_nothing_is_told_with_what_was_meant() -> None:
    assert told(item("a", depend_on="/ConfigMap/n/b")) == [
        "unknown-annotation: annotation ocisync.dev/depend-on means nothing; meant is ocisync.dev/depends-on?"
    ]


def test_a_dependency_is_looked_for_beside_the_object_and_in_namespaces_that_are_not_known_yet() -> None:
    assert told(item("a", depends_on="/ConfigMap//b"), item("b")) == []
    assert told(item("a", "", depends_on="/ConfigMap/later/b"), item("b", "")) == []
    assert told(item("a", depends_on="/ConfigMap/m/b"), item("b"))[0].startswith(
        "missing-dependency: depends on ConfigMap m/b, which is not here"
    )


def test_a_circle_is_refused_at_its_place_before_anything_is_uploaded() -> None:
    text = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}
  annotations:
    ocisync.dev/depends-on: /ConfigMap/shop/{other}
---
"""
    data = text.format(name="a", other="b") + text.format(name="b", other="a")
    files = (TreeFile("all.yaml", data.encode()),)
    report = check(read_tree(files).objects, files)
    assert [str(finding) for finding in report.errors] == [
        "all.yaml:6:5: dependency circle: ConfigMap a → ConfigMap b → ConfigMap a"
    ]
    assert report.errors[0].rule == "dependency-circle"


IDS = [ObjectId("", "ConfigMap", "n", f"o{number}") for number in range(8)]


@given(st.dictionaries(st.sampled_from(IDS), st.lists(st.sampled_from(IDS), max_size=4).map(tuple)))
def test_circles_are_found_exactly_where_there_are_some(needs: dict[ObjectId, tuple[ObjectId, ...]]) -> None:
    found = circles(needs)
    for circle in found:
        assert all(after in needs[before] for before, after in zip(circle, (*circle[1:], circle[0]), strict=True))
        assert circle[0] == min(circle)
    left = {id_: set(wanted) & needs.keys() for id_, wanted in needs.items()}
    while free := [id_ for id_, wanted in left.items() if not wanted]:
        for id_ in free:
            del left[id_]
        left = {id_: wanted - set(free) for id_, wanted in left.items()}
    assert bool(found) == bool(left)
