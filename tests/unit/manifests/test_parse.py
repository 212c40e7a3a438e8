from __future__ import annotations

import pytest

from ocisync.manifests.parse import is_manifest, parse_tree
from ocisync.manifests.select import files_under, under
from ocisync.model.errors import InvalidInput
from ocisync.model.resource import ManifestObject, ObjectId
from ocisync.model.tree import TreeFile

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: shop}\n"


def files(items: dict[str, str]) -> tuple[TreeFile, ...]:
    return tuple(TreeFile(path, text.encode()) for path, text in items.items())


def findings(items: dict[str, str]) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        parse_tree(files(items))
    return [str(finding) for finding in caught.value.findings]


def test_documents_become_objects_that_know_their_place() -> None:
    text = f"# head\n{CONFIG % 'a'}---\n---\n{CONFIG % 'b'}"
    first, second = parse_tree(files({"apps/x.yaml": text}))
    assert first.id == ObjectId("", "ConfigMap", "shop", "a")
    assert (first.place, second.place) == ("apps/x.yaml:2", "apps/x.yaml:7")


def test_manifests_are_yaml_and_json_outside_dot_directories() -> None:
    assert [is_manifest(path) for path in ("a.yaml", "b/c.yml", "d.json")] == [True] * 3
    assert not any(map(is_manifest, (".github/x.yaml", "a/.b/c.yaml", ".sops.yaml", "x.md", "yaml", "a.yaml.bak")))
    text = '{"apiVersion": "apps/v1",\n "kind": "Deployment", "metadata": {"name": "a"}}'
    (item,) = parse_tree(files({"a.json": text, ".github/ci.yaml": "on: push", "README.md": "# x"}))
    assert (item.gvk.api_version, item.place) == ("apps/v1", "a.json:1")


def test_lists_are_replaced_by_their_items() -> None:
    text = """\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: a}
- apiVersion: v1
  kind: SecretList
  items:
  - apiVersion: v1
    kind: Secret
    metadata: {name: b}
"""
    assert [(item.id.name, item.line) for item in parse_tree(files({"l.yaml": text}))] == [("a", 4), ("b", 10)]


def test_a_bad_item_of_a_list_is_found_at_its_line() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {}\n"
    assert findings({"l.yaml": text}) == ["l.yaml:6:3: no metadata.name"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("just text", "f.yaml:1:1: not a Kubernetes object: expected a mapping"),
        ("a: 1", "f.yaml:1:1: no apiVersion and no kind"),
        ("kind: A", "f.yaml:1:1: no apiVersion"),
        ("apiVersion: v1", "f.yaml:1:1: no kind"),
        ("apiVersion: 1\nkind: A", "f.yaml:1:1: apiVersion must be a string"),
        ("apiVersion: v1\nkind: A", "f.yaml:1:1: no metadata"),
        ("apiVersion: v1\nkind: A\nmetadata: x", "f.yaml:3:1: metadata must be a mapping"),
        ("apiVersion: v1\nkind: A\nmetadata:\n  name: 1", "f.yaml:4:3: metadata.name must be a string"),
        ("apiVersion: v1\nkind: A\nmetadata:\n  name: y", "f.yaml:4:3: metadata.name must be a string"),
        ("apiVersion: v1\nkind: A\nmetadata:\n  name: a\n  namespace: 7", "f.yaml:5:3: metadata.namespace must be"),
        ("apiVersion: v1\nkind: Pod\nmetadata:\n  generateName: a-", "f.yaml:4:3: generateName makes a new object"),
        ("apiVersion: v1\nkind: Config\nclusters: []\nusers: []", "f.yaml:1:1: a kubeconfig"),
        ("a: 1\na: 2", "f.yaml:2:1: key 'a' is already set"),
        ("a: [", "f.yaml:2:1: "),
    ],
)
def test_what_is_no_object_is_named_with_its_place(text: str, expected: str) -> None:
    (found,) = findings({"f.yaml": text})
    assert found.startswith(expected)


def test_all_findings_of_all_files_come_together() -> None:
    assert len(findings({"a.yaml": "kind: A", "b.yaml": "a: [", "c.yaml": "x", "ok.yaml": CONFIG % "a"})) == 3


@pytest.mark.parametrize(
    ("name", "tool"),
    [("kustomization.yaml", "kustomize build"), ("Kustomization", "kustomize build"), ("Chart.yaml", "helm template")],
)
def test_a_directory_that_needs_rendering_is_one_finding_that_says_how(name: str, tool: str) -> None:
    items = {f"app/{name}": "resources: []", "app/templates/x.yaml": "{{ not yaml", "b.yaml": CONFIG % "a"}
    (found,) = findings(items)
    assert found.startswith(f"app/{name}: ")
    assert f"push it with --render auto, or push what `{tool}` prints" in found
    assert [item.id.name for item in parse_tree(files({f"app/{name}": "x", "b.yaml": CONFIG % "a"}), lenient=True)] == [
        "a"
    ]


def test_a_sync_takes_what_is_below_its_path() -> None:
    tree = files({p: CONFIG % "a" for p in ("eu/a.yaml", "eu/x/b.yaml", "eu-2/c.yaml", "d.yaml")})
    objects = parse_tree(tree)

    def chosen(path: str) -> list[str]:
        found = [item.file for item in under(objects, path)]
        assert [file.path for file in files_under(tree, path)] == found
        return found

    assert len(chosen("")) == len(chosen(".")) == len(chosen("./")) == 4
    assert chosen("eu") == chosen("./eu/") == ["eu/a.yaml", "eu/x/b.yaml"]
    assert chosen("eu/x/b.yaml") == ["eu/x/b.yaml"]
    assert chosen("e") == []


def test_objects_are_values() -> None:
    (item,) = parse_tree(files({"a.yaml": CONFIG % "a"}))
    assert isinstance(item, ManifestObject)
    assert item.body["metadata"]["name"] == "a"
