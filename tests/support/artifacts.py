"""Artifacts for tests: trees, built artifacts, and what `flows.verify` would hand on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from ocisync.model.artifact import Verdict, VerdictReason, Verified
from ocisync.model.tree import Provenance, SourceTree, TreeFile
from ocisync.pack.artifact import BuiltArtifact, build, parse_manifest

COMMIT_TIME = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def tree_of(files: Mapping[str, bytes | str], *, commit: str = "a" * 40, at: datetime = COMMIT_TIME) -> SourceTree:
    """A source tree as Git would give it."""
    items = tuple(
        TreeFile(path, data.encode() if isinstance(data, str) else data) for path, data in sorted(files.items())
    )
    return SourceTree(items, Provenance(commit, f"main@sha1:{commit}", at, "https://git.example/acme/shop"))


def verified(built: BuiltArtifact, repository: str = "registry.example/shop", tag: str = "production") -> Verified:
    """A verified artifact, without a policy."""
    manifest = parse_manifest(built.manifest, built.descriptor)
    return Verified(repository, tag, manifest, Verdict(True, VerdictReason.VERIFIED, "for a test"))


def artifact(files: Mapping[str, bytes | str]) -> BuiltArtifact:
    """Files packed with the default profile."""
    return build(tree_of(files))
