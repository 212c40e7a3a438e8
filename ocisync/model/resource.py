"""Kubernetes objects stay plain dictionaries (open-world data); these are their names and places.

`ObjectId` leaves the version out: the same object is served under several versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ocisync.model.values import dataclass

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Gvk:
    """Group, version and kind; `group` is empty for the core group."""

    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        """`group/version`, or the bare version for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, slots=True, order=True)
class ObjectId:
    """Which object: group, kind, namespace (empty if cluster-scoped) and name."""

    group: str
    kind: str
    namespace: str
    name: str

    @property
    def group_kind(self) -> str:
        """`Kind.group`, or `Kind` in the core group, as kubectl writes it."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    def __str__(self) -> str:
        """`Kind.group namespace/name`: how messages name an object."""
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.group_kind} {place}"

    def as_json(self) -> JsonObject:
        """The form that scripts read, and that records keep."""
        return {"group": self.group, "kind": self.kind, "namespace": self.namespace, "name": self.name}

    def key(self) -> str:
        """A stable one-line key: `group/kind/namespace/name`."""
        return f"{self.group}/{self.kind}/{self.namespace}/{self.name}"

    @classmethod
    def from_key(cls, key: str) -> ObjectId:
        """Parse what `key` wrote.

        Raises:
            ValueError: if it does not have four parts.
        """
        group, kind, namespace, name = key.split("/")
        return cls(group, kind, namespace, name)


@dataclass(frozen=True, slots=True)
class ManifestObject:
    """One object of an artifact with the place it was written: `file:line` (line from 1)."""

    id: ObjectId
    gvk: Gvk
    body: JsonObject
    file: str
    line: int

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"


def gvk_of(obj: Mapping[str, Any]) -> Gvk:
    """Group, version and kind of an object; missing parts are empty."""
    group, version = _group_version(obj)
    return Gvk(group, version, str(obj.get("kind") or ""))


def id_of(obj: Mapping[str, Any]) -> ObjectId:
    """The object's id as its own metadata states it."""
    kind, metadata = str(obj.get("kind") or ""), obj.get("metadata") or {}
    namespace, name = str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
    return ObjectId(_group_version(obj)[0], kind, namespace, name)


def _group_version(obj: Mapping[str, Any]) -> tuple[str, str]:
    api_version = str(obj.get("apiVersion") or "")
    group, slash, version = api_version.partition("/")
    return (group, version) if slash else ("", api_version)


def annotations_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """The object's annotations; empty if there are none."""
    metadata = obj.get("metadata") or {}
    return metadata.get("annotations") or {}


def labels_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """The object's labels; empty if there are none."""
    metadata = obj.get("metadata") or {}
    return metadata.get("labels") or {}
