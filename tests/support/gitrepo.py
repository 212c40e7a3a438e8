"""Throw-away Git repositories for tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

GIT_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "C",
    "GIT_COMMITTER_EMAIL": "c@example.com",
    "GIT_AUTHOR_DATE": "2026-03-01T10:00:00+02:00",
    "GIT_COMMITTER_DATE": "2026-03-01T12:00:00+02:00",
    # After a big commit git tidies up in a process of its own, under the feet of whoever reads the directory next.
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "gc.auto",
    "GIT_CONFIG_VALUE_0": "0",
    "GIT_CONFIG_KEY_1": "maintenance.auto",
    "GIT_CONFIG_VALUE_1": "false",
}


class GitRepo:
    """A repository with a work tree at `path`."""

    def __init__(self, path: Path, *init: str) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        if not (path / ".git").exists():
            self.git("init", "-q", "-b", "main", *init)

    def git(self, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
        """Run git here and return its output."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            env={**GIT_ENVIRONMENT, **(environ or {})},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout.strip()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Write files into the work tree."""
        for name, data in files.items():
            full = self.path / name
            full.parent.mkdir(parents=True, exist_ok=True)
            full.write_bytes(data.encode() if isinstance(data, str) else data)

    def commit(self, files: Mapping[str, str | bytes] | None = None, *, at: str = "") -> str:
        """Write files, commit everything, and return the commit id."""
        self.write(files or {})
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x", environ={"GIT_COMMITTER_DATE": at} if at else {})
        return self.git("rev-parse", "HEAD")

    def clone(self, path: Path, *options: str) -> GitRepo:
        """Clone this repository to `path`."""
        self.git("clone", "-q", *options, self.path.as_uri(), str(path))
        return GitRepo(path)
