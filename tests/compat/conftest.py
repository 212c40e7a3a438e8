"""A directory that every tool shall get back as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, cli, repo
from tests.support.gitrepo import GitRepo

__all__ = ["cli", "repo"]

OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: shop}\ndata: {k: v}\n"

Push = Callable[..., str]


@pytest.fixture
def files(repo: GitRepo) -> dict[str, bytes]:
    """Committed to `repo` below `deploy/`: what shall come back."""
    wanted = {
        "app.yaml": OBJECT % "app",
        "sub/deep/b.yaml": OBJECT % "b",
        "ünïcode/日本.yaml": OBJECT % "c",
        "long-" * 25 + "/" + "name-" * 25 + ".yaml": OBJECT % "d",
        "README.md": "no manifest",
        "empty.txt": "",
    }
    repo.commit({f"deploy/{path}": text for path, text in wanted.items()})
    return {path: text.encode() for path, text in wanted.items()}


@pytest.fixture
def push(cli: Cli, repo: GitRepo, files: dict[str, bytes], repository: str) -> Push:
    """`ocisync push` of these files to `repository`, under a tag and with flags; the digest."""

    def publish(tag: str, *flags: str) -> str:
        ran = cli("push", str(repo.path / "deploy"), f"{repository}:{tag}", *flags, "-o", "json")
        assert ran.exit_code == 0, ran.err
        digest: str = json.loads(ran.out)["digest"]
        return digest

    return publish


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }
