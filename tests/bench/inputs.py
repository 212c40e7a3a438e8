"""Input of benchmarks: small ConfigMaps and Deployments that do not need a node, and Git repositories of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.gitrepo import GitRepo

Manifest = dict[str, Any]


def config_maps(count: int, mark: str = "1") -> list[Manifest]:
    """ConfigMaps of about 300 bytes."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"settings-{number:05d}", "labels": {"app.kubernetes.io/part-of": "bench"}},
            "data": {"number": str(number), "mark": mark, "text": f"entry {number} " + "x" * 120},
        }
        for number in range(count)
    ]


def deployments(count: int) -> list[Manifest]:
    """Deployments with no replicas: healthy without a node, and with a field to tamper with."""
    return [_deployment(f"web-{number:03d}") for number in range(count)]


def _deployment(name: str) -> Manifest:
    labels = {"app": name}
    container = {"name": "main", "image": "registry.example/web:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def yaml_of(manifest: Manifest) -> str:
    """A manifest as a person writes it: block style, one key on a line."""
    return "".join(f"{line}\n" for line in _block(manifest, 0))


def _block(value: Any, depth: int) -> list[str]:
    pad = "  " * depth
    lines: list[str] = []
    for key, item in value.items():
        if isinstance(item, dict):
            lines += [f"{pad}{key}:", *_block(item, depth + 1)]
        elif isinstance(item, list):
            lines.append(f"{pad}{key}:")
            for entry in item:
                if not isinstance(entry, dict):
                    lines.append(f"{pad}- {json.dumps(entry)}")
                    continue
                first, *rest = _block(entry, depth + 1)
                lines += [f"{pad}- {first.strip()}", *rest]
        else:
            lines.append(f"{pad}{key}: {json.dumps(item)}")
    return lines


def files_of(manifests: Sequence[Manifest]) -> dict[str, str | bytes]:
    """One file for each object, a hundred to a directory."""
    return {
        f"{number // 100:03d}/{manifest['kind'].lower()}-{manifest['metadata']['name']}.yaml": yaml_of(manifest)
        for number, manifest in enumerate(manifests)
    }


def repository(directory: Path, files: int) -> GitRepo:
    """A clean work tree with one commit of this many files."""
    repo = GitRepo(directory)
    repo.commit(files_of(config_maps(files)))
    return repo
