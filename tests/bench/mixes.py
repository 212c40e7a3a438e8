"""Sets of objects for the row about the life of an artifact: what is applied, what changes, what goes.

Definitions are cluster-scoped, so each set has a group of its own; `scope` is a word that nobody else uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench import inputs
from tests.bench.inputs import Manifest

_LABELS = {"app.kubernetes.io/part-of": "bench"}


@dataclass(frozen=True, slots=True)
class Mix:
    """A set of about `count` objects; `make(scope, count, changed)` gives them, so many in another version."""

    name: str
    count: int
    make: Callable[[str, int, int], list[Manifest]]


def config_maps(scope: str, count: int, changed: int = 0) -> list[Manifest]:
    """Nothing but small ConfigMaps."""
    return [*inputs.config_maps(count, "2")[:changed], *inputs.config_maps(count)[changed:]]


def mixed(scope: str, count: int, changed: int = 0) -> list[Manifest]:
    """What a platform team keeps: definitions, custom resources, workloads, and what belongs to them.

    Of 3,000: 10 definitions, 990 custom resources, 500 each of Deployments, Services and ConfigMaps, 200 Secrets, 200
    service accounts, 100 roles. Changed are ConfigMaps and custom resources.
    """
    part = max(1, count // 6)
    small = max(1, count // 15)
    kinds = max(1, count // 300)
    roles = max(1, count // 30)
    custom = max(1, count - kinds - 3 * part - 2 * small - roles)
    maps = config_maps(scope, part, min(part, changed - changed // 2))
    return [
        *(_definition(scope, number) for number in range(kinds)),
        *(_custom(scope, number % kinds, number, 2 if number < changed // 2 else 1) for number in range(custom)),
        *inputs.deployments(part),
        *(_service(number) for number in range(part)),
        *maps,
        *(_secret(number) for number in range(small)),
        *(_plain("v1", "ServiceAccount", f"account-{number:04d}") for number in range(small)),
        *(_role(number) for number in range(roles)),
    ]


def without_most(objects: Sequence[Manifest], share: float = 0.6) -> list[Manifest]:
    """The same set with this share taken out, evenly from each kind; definitions stay."""
    kept, seen = [], 0.0
    for item in objects:
        if item["kind"] == "CustomResourceDefinition":
            kept.append(item)
            continue
        seen += share
        if seen >= 1.0:
            seen -= 1.0
        else:
            kept.append(item)
    return kept


def _plain(version: str, kind: str, name: str) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": _LABELS}}


def _service(number: int) -> Manifest:
    ports = [{"port": 80, "protocol": "TCP", "targetPort": 8080}]
    name = f"web-{number:03d}"
    return {**_plain("v1", "Service", name), "spec": {"selector": {"app": name}, "ports": ports}}


def _secret(number: int) -> Manifest:
    return {**_plain("v1", "Secret", f"token-{number:04d}"), "data": {"token": "bm90IGEgcmVhbCBvbmU="}}


def _role(number: int) -> Manifest:
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    return {**_plain("rbac.authorization.k8s.io/v1", "Role", f"reader-{number:03d}"), "rules": [rule]}


def _definition(scope: str, number: int) -> Manifest:
    group, kind, plural = f"{scope}.bench.example", f"Widget{number}", f"widget{number}s"
    properties = {"size": {"type": "integer"}, "note": {"type": "string"}}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    return {
        **_plain("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"{plural}.{group}"),
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def _custom(scope: str, kind: int, number: int, size: int) -> Manifest:
    made = _plain(f"{scope}.bench.example/v1", f"Widget{kind}", f"widget-{number:04d}")
    return {**made, "spec": {"size": size, "note": f"entry {number}"}}
