"""Compare what two artifacts, or an artifact and a directory, would apply: by object and field, then by file.

Sides are read in full before anything is compared. An artifact is read by digest and unpacked within the usual caps;
it is verified first if the caller trusts somebody, else the answer says that it was not. A directory is read as a push
would pack it. Comments, the layout of manifests and the files that objects stand in are no differences; other files
differ if their bytes do.

Values of Secrets, and annotations that keep a copy of a whole object, are hidden in everything that is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ocisync.flows.fetch import fetch, look
from ocisync.flows.publish import Source, read_source
from ocisync.flows.trust import TrustSet
from ocisync.flows.verify import Request, verify
from ocisync.manifests.difference import Action, FieldChange, FieldPath, Item, ObjectChange, compare, pointer
from ocisync.manifests.parse import is_manifest, needs_rendering, raise_findings, read_tree
from ocisync.manifests.select import files_under
from ocisync.model.artifact import ArtifactManifest, VerdictReason
from ocisync.model.clock import Clock
from ocisync.model.descriptor import REVISION
from ocisync.model.errors import Finding
from ocisync.model.ref import Place
from ocisync.model.resource import JsonObject, ManifestObject
from ocisync.model.spec import SelectorKind
from ocisync.model.tree import TreeFile
from ocisync.model.values import dataclass
from ocisync.oci.store import Store

HIDDEN = "(hidden)"

# Annotations in which tools keep a copy of the object, Secrets included.
_COPIES = frozenset(
    {"kubectl.kubernetes.io/last-applied-configuration", "kapp.k14s.io/original", "objectset.rio.cattle.io/applied"}
)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: as a person named it.
        digest: of an artifact's manifest; empty for a directory.
        signers: who signed it, as far as the caller's trust goes; None if nobody looked.
        repository: where the artifact is; empty if only a layout has it that stands for none.
    """

    name: str
    files: tuple[TreeFile, ...]
    revision: str = ""
    digest: str = ""
    signers: tuple[str, ...] | None = None
    repository: str = ""

    def as_json(self) -> dict[str, object]:
        """The form that scripts read."""
        out: dict[str, object] = {"name": self.name, "revision": self.revision}
        if self.digest:
            out |= {"digest": self.digest, "verified": self.signers is not None, "signers": list(self.signers or ())}
        return out


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that is no manifest: only one side has it, or its bytes differ."""

    action: Action
    path: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs. `rewritten` names manifests whose text differs while all their objects are equal: no difference."""

    old: Side
    new: Side
    objects: tuple[ObjectChange, ...]
    files: tuple[FileChange, ...]
    rewritten: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Nothing differs."""
        return not self.objects and not self.files

    def counts(self) -> dict[str, int]:
        """How many objects were added, removed and changed, and how many other files differ."""
        words = {Action.ADDED: "added", Action.REMOVED: "removed", Action.CHANGED: "changed"}
        out = {word: sum(1 for change in self.objects if change.action is action) for action, word in words.items()}
        return {**out, "files": len(self.files)}

    def as_json(self) -> dict[str, object]:
        """The form that scripts read; secrets are hidden."""
        return {
            "from": self.old.as_json(),
            "to": self.new.as_json(),
            "equal": self.equal,
            "summary": self.counts(),
            "objects": [_object_json(change) for change in self.objects],
            "files": [{"action": change.action.value, "path": change.path} for change in self.files],
        }


def read_artifact(store: Store, reference: Place, trust: TrustSet | None, now: datetime) -> Side:
    """Read an artifact; verified first if there is somebody to trust.

    Raises:
        VerificationRefused: the trusted ones did not sign it.
        NotFound, Refused, Unavailable, AccessDenied: as `fetch.look`.
    """
    if trust is None:
        seen = look(store, reference.digest or reference.tag)
        return artifact_side(str(reference), seen.manifest, seen.files, None, store.repository)
    kind = SelectorKind.DIGEST if reference.digest and not reference.tag else SelectorKind.TAG
    request = Request(store.repository, kind, tag=reference.tag, digest=reference.digest)
    verified = verify(store, trust, request, now=now)
    # A policy with mode Warn lets pass what proves nothing.
    proven = verified.verdict.reason is VerdictReason.VERIFIED
    signers = verified.verdict.signers if proven else None
    return artifact_side(str(reference), verified.manifest, fetch(store, verified).files, signers, store.repository)


def artifact_side(
    name: str,
    manifest: ArtifactManifest,
    files: tuple[TreeFile, ...],
    signers: tuple[str, ...] | None,
    repository: str = "",
) -> Side:
    """An artifact as a side."""
    return Side(name, files, manifest.annotations.get(REVISION, ""), manifest.descriptor.digest, signers, repository)


def read_directory(name: str, source: Source, clock: Clock) -> Side:
    """Read a directory (or standard input) as a push would.

    Raises:
        NotFound, Refused, InvalidInput, UsageError: as for a push.
    """
    if not source.use_git and not source.revision:
        source = replace(source, revision="local")  # only a push needs a name for it
    tree = read_source(source, clock)
    return Side(name, tree.files, tree.provenance.revision)


def compare_sides(old: Side, new: Side, *, path: str = "") -> Comparison:
    """Compare, below `path` only if one is given.

    Raises:
        InvalidInput: manifests that cannot be read; all findings of both sides.
    """
    before, after = (files_under(side.files, path) for side in (old, new))
    same = set(before) & set(after)  # most files, usually: their objects cannot differ
    lefts, rights = ([file for file in files if file not in same] for files in (before, after))
    objects = compare(*_objects((old, lefts), (new, rights)))
    told = {item.file for change in objects for item in (change.old, change.new) if item is not None}
    changed = _files(lefts, rights)
    others = [change for change in changed if needs_rendering(change.path) or not is_manifest(change.path)]
    return Comparison(
        old,
        new,
        objects,
        tuple(others),
        tuple(change.path for change in changed if change not in others and change.path not in told),
    )


def _objects(*sides: tuple[Side, Sequence[TreeFile]]) -> list[tuple[ManifestObject, ...]]:
    out, findings = [], []
    for side, files in sides:
        # An artifact may hold what Flux or Argo CD renders in the cluster; a push refuses such a directory.
        parsed = read_tree(files, lenient=bool(side.digest))
        findings += [_named(side, finding) for finding in parsed.findings]
        out.append(parsed.objects)
    raise_findings(findings)
    return out


def _named(side: Side, finding: Finding) -> Finding:
    return replace(finding, message=f"{finding.message} (in {side.name})")


def _files(old: Iterable[TreeFile], new: Iterable[TreeFile]) -> list[FileChange]:
    before, after = ({file.path: file.data for file in files} for files in (old, new))
    out = []
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            out.append(FileChange(Action.REMOVED, path))
        elif path not in before:
            out.append(FileChange(Action.ADDED, path))
        else:
            out.append(FileChange(Action.CHANGED, path))
    return out


# What is shown ----------------------------------------------------------------------------------------------------


def shown(change: ObjectChange) -> tuple[FieldChange, ...]:
    """The fields of a changed object with everything hidden that must not be seen."""
    secret = change.object.id.kind == "Secret" and not change.object.id.group
    return tuple(
        replace(
            field, old=hidden(field.old, field.path, secret=secret), new=hidden(field.new, field.path, secret=secret)
        )
        for field in change.fields
    )


def hidden(value: Any, path: FieldPath, *, secret: bool) -> Any:
    """A value with everything hidden that must not be seen: below `path` of a Secret, or of another object."""
    if value is None:
        return None
    if isinstance(value, dict):
        return {name: hidden(item, (*path, name), secret=secret) for name, item in value.items()}
    if isinstance(value, list):
        return [
            item if isinstance(item, Item) else hidden(item, (*path, index), secret=secret)
            for index, item in enumerate(value)
        ]
    return HIDDEN if _is_hidden(path, secret) else value


def _is_hidden(path: FieldPath, secret: bool) -> bool:
    if secret and path[:1] in (("data",), ("stringData",)):
        return True
    return path[:2] == ("metadata", "annotations") and len(path) > 2 and path[2] in _COPIES


def _object_json(change: ObjectChange) -> JsonObject:
    item = change.object
    out: JsonObject = {
        "action": change.action.value,
        "apiVersion": item.gvk.api_version,
        "kind": item.id.kind,
        "namespace": item.id.namespace,
        "name": item.id.name,
        "file": {"from": change.old.file if change.old else None, "to": change.new.file if change.new else None},
    }
    if change.fields:
        out["fields"] = [_field_json(field) for field in shown(change)]
    return out


def _field_json(field: FieldChange) -> JsonObject:
    out: JsonObject = {"path": pointer(field.path), "action": field.action.value}
    if field.action is not Action.ADDED:
        out["from"] = _plain(field.old)
    if field.action is not Action.REMOVED:
        out["to"] = _plain(field.new)
    return out


def _plain(value: Any) -> Any:
    """The keys of a reordered list as text; other values as they are."""
    if isinstance(value, list) and value and isinstance(value[0], Item):
        return [str(item) for item in value]
    return value
