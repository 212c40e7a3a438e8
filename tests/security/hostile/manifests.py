"""Manifests that are no YAML for kubectl, no objects, or too much."""

from __future__ import annotations

from collections.abc import Iterator

from tests.oracle.answers import read_fixture
from tests.oracle.cases import all_cases
from tests.security.hostile.common import MIB, OBJECT, Case

PUSH = ("push", "in", "oci-layout:out:1", "--no-git", "--revision", "x", "--dry-run", "-q")


def yaml_cases() -> Iterator[Case]:
    """What kubectl refuses too, from the oracle's cases; what is no object; and what grows."""
    fixture = read_fixture(dict(all_cases()))
    refused = [(name, data) for name, data, answer in fixture if answer.documents is None]
    chosen = [item for item in refused if not item[0].startswith(("soup", "combined", "grown", "mutated", "tag"))]
    chosen += [item for item in refused if item[0].startswith(("soup", "mutated", "tag"))][::25]
    for name, data in chosen:
        yield Case(f"yaml {name}", PUSH, {"in/a.yaml": data}, places=True)
    for name, text in NO_OBJECTS.items():
        yield Case(f"object {name}", PUSH, {"in/a.yaml": text.encode()}, places=True)
    for name, made in growing().items():
        yield Case(f"growing {name}", PUSH, {"in/a.yaml": made})


NO_OBJECTS = {
    "a string": "text",
    "a number": "1",
    "a list": "- a",
    "a list of objects": "- apiVersion: v1\n  kind: ConfigMap",
    "an empty mapping": "{}",
    "no kind": "apiVersion: v1\nmetadata: {name: a}",
    "no apiVersion": "kind: ConfigMap\nmetadata: {name: a}",
    "no metadata": "apiVersion: v1\nkind: ConfigMap",
    "no name": "apiVersion: v1\nkind: ConfigMap\nmetadata: {}",
    "an empty name": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ''}",
    "a name that is a number": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 1}",
    "a name that is a boolean": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}",
    "a name with a slash": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a/b}",
    "a name that climbs": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ..}",
    "a name too long": f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {'a' * 300}}}",
    "a name with control characters": 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "a\\e[2J"}',
    "a namespace with a slash": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: a/b}",
    "a namespace that is a number": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: 1}",
    "metadata as a list": "apiVersion: v1\nkind: ConfigMap\nmetadata: []",
    "metadata as a string": "apiVersion: v1\nkind: ConfigMap\nmetadata: a",
    "kind as a list": "apiVersion: v1\nkind: [ConfigMap]\nmetadata: {name: a}",
    "kind as a number": "apiVersion: v1\nkind: 1\nmetadata: {name: a}",
    "apiVersion as a number": "apiVersion: 1\nkind: ConfigMap\nmetadata: {name: a}",
    "generateName": "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}",
    "twice": OBJECT + "---\n" + OBJECT,
    "a kubeconfig": "apiVersion: v1\nkind: Config\nclusters: []\nusers: []",
    "a Secret": "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {p: hunter2hunter2}",
    "a Secret in a List": "apiVersion: v1\nkind: List\nitems:\n"
    "- apiVersion: v1\n  kind: Secret\n  metadata: {name: a}\n  data: {p: aHVudGVyMg==}",
    "Lists in Lists": "{apiVersion: v1, kind: List, items: [" * 6 + "]}" * 6,
    "a List of numbers": "apiVersion: v1\nkind: List\nitems: [1, 2]",
    "a List without items": "apiVersion: v1\nkind: List",
    "an unknown field": OBJECT + "dta: {a: b}",
    "a number where a string belongs": OBJECT + "data: {a: 1}",
    "labels as a list": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: [b]}",
}


def growing() -> dict[str, bytes]:
    """What a few bytes can make large, and what is large."""
    ten = ", ".join
    laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    laughs += [f"a{i}: &a{i} [{ten([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    maps = ["a0: &a0 {k: v}"] + [f"a{i}: &a{i} {{k: *a{i - 1}, l: *a{i - 1}}}" for i in range(1, 60)]
    merges = ["a0: &a0 {k: v}"] + [f"a{i}: &a{i} {{<<: *a{i - 1}, k{i}: *a{i - 1}}}" for i in range(1, 60)]
    deep_anchor = ["a0: &a0 [[[[[[[[[x]]]]]]]]]"] + [f"a{i}: &a{i} [[[[[[[[[*a{i - 1}]]]]]]]]]" for i in range(1, 40)]
    return {
        "a billion laughs": "\n".join(laughs).encode(),
        "mappings of mappings by alias": "\n".join(maps).encode(),
        "merges of merges": "\n".join(merges).encode(),
        "depth by alias": "\n".join(deep_anchor).encode(),
        "an alias of itself": b"a: &a [*a]",
        "brackets": b"[" * MIB,
        "braces": b"{" * MIB,
        "dashes": b"- " * MIB,
        "question marks": b"? " * MIB,
        "nested mappings": "".join(" " * i + "a:\n" for i in range(2_000)).encode(),
        "JSON depth": b'{"a":' * 200_000,
        "JSON brackets": b'{"a":' + b"[" * MIB,
        "JSON values": b'{"a":[' + b"{}," * (2 * MIB) + b"{}]}",
        "values": b"[" + b"[]," * 800_000 + b"]",
        "mappings": b"- {a: b}\n" * 300_000,
        "keys": b"".join(b"k%d: v\n" % i for i in range(400_000)),
        "duplicate keys": b"a: 1\n" * 200_000,
        "documents": b"---\n{}\n" * 30_000,
        "separators": b"---\n" * (2 * MIB),
        "anchors": b"".join(b"- &a%d x\n" % i for i in range(20_000)),
        "aliases": b"- &a {k: [x, x, x]}\n" + b"- *a\n" * 500_000,
        "a scalar": b"a: '" + b"x" * (15 * MIB) + b"'",
        "a number": b"a: " + b"9" * (15 * MIB),
        "a hexadecimal number": b"a: 0x" + b"f" * (15 * MIB),
        "an unclosed quote": b'a: "' + b"x\\n" * (5 * MIB),
        "a folded scalar": b"a: >\n" + b"  x\n" * (3 * MIB),
        "blank lines": b"\n" * (15 * MIB) + b"a",
        "comments": b"#\n" * (7 * MIB) + b"a",
        "bytes": b"a: " + b"x" * (17 * MIB),
        "respelled scalars": b"[" + b"a:," * 100_000 + b"]",
        "respelled tags": b"[" + b"!a,b x, " * 10_000,
        "question marks in scalars": b"[" + b"a?b, " * 200_000 + b"]",
        "findings": b"".join(b"---\na: %d\na: 2\n" % i for i in range(19_000)),
    }
