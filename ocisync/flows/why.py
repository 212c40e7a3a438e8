"""Why does a field have this value: which file and line, commit, artifact and apply put it there, or who else did?

The live object says who holds the field (`managedFields`) and which sync it belongs to; the sync's status says which
digest was applied; the artifact with that digest, read by digest, says in which file and line. What the agent judged
when it applied it stands in the status; whoever names keys or policies has it judged here again. Pure but for
`read_content`.

Nothing is invented: a field that nobody holds and Git does not name was a default or came from admission, and who
removed one nobody knows. Values of Secrets are masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from ocisync.cluster.fieldexpr import Hold, Steps, hold_of, path_of, steps_of, value_at
from ocisync.cluster.fields import (
    MISSING,
    PART_OF_PATH,
    ManagerEntry,
    Path,
    lookup,
    lost_paths,
    our_entry,
    parse_managed_fields,
    render,
)
from ocisync.cluster.leave import ignored_pointers, left_to_others
from ocisync.cluster.normalise import applyset_id, normalise
from ocisync.cluster.values import MASKED, same_value, shown
from ocisync.flows.drifthistory import Drifted
from ocisync.flows.fetch import fetch, look
from ocisync.flows.setrecord import set_id_of
from ocisync.flows.trust import TrustSet
from ocisync.flows.verify import Request, verify
from ocisync.flows.whyanswer import Answer, Content, Holder, Origin, Owner, Written
from ocisync.flows.whywords import sentences, who_of
from ocisync.manifests.imagemap import rewrite
from ocisync.manifests.parse import FilePlaces, read_tree
from ocisync.manifests.select import files_under
from ocisync.model.artifact import VerdictReason
from ocisync.model.descriptor import REVISION, SOURCE
from ocisync.model.resource import JsonObject, ManifestObject, ObjectId, id_of, labels_of
from ocisync.model.spec import FIELD_MANAGER, PART_OF_LABEL, SelectorKind
from ocisync.model.tree import TreeFile
from ocisync.oci.store import Store

_SERVER_FIELDS: Final = frozenset(
    {"uid", "creationTimestamp", "resourceVersion", "generation", "managedFields", "deletionTimestamp", "selfLink"}
)
_DRIFTED: Final = 10
_FIELDS: Final = 20


def read_content(
    store: Store, digest: str, trust: TrustSet | None, now: datetime, applied: Mapping[str, Any]
) -> Content:
    """Read an artifact by digest; judged if there is somebody to trust.

    Without, the digest proves that these are the bytes whose verdict stands in the sync's status.

    Raises:
        VerificationRefused: the trusted ones did not sign it.
        NotFound, Refused, Unavailable, AccessDenied: the registry.
    """
    signers = tuple(str(name) for name in applied.get("signers") or ())
    revision = str(applied.get("revision") or "")
    if trust is None:
        seen = look(store, digest)
        manifest, files, judged = seen.manifest, seen.files, False
    else:
        verified = verify(store, trust, Request(store.repository, SelectorKind.DIGEST, digest=digest), now=now)
        manifest, files = verified.manifest, fetch(store, verified).files
        judged = verified.verdict.reason is VerdictReason.VERIFIED
        signers = verified.verdict.signers if judged else ()
        revision = verified.verdict.revision or revision
    notes = manifest.annotations
    return Content(
        repository=store.repository,
        digest=manifest.descriptor.digest,
        revision=revision or notes.get(REVISION, ""),
        source=notes.get(SOURCE, ""),
        signers=signers,
        judged=judged,
        files=files,
    )


def owner_of(live: JsonObject, syncs: Sequence[JsonObject]) -> JsonObject | None:
    """The sync whose label and Apply entry the object carries; None if there is none."""
    label = set_id_of(live)
    if not label:
        return None  # controllers copy labels: alone, one proves nothing
    for sync in syncs:
        metadata = sync.get("metadata") or {}
        if applyset_id(str(metadata.get("name")), str(metadata.get("namespace"))) == label:
            return sync
    return None


@dataclass(frozen=True, slots=True)
class Known:
    """All that was read to answer one question."""

    live: JsonObject
    owner: Owner | None = None
    content: Content | None = None
    drift: tuple[Drifted, ...] = ()
    chain: tuple[ObjectId, ...] = ()
    problems: tuple[str, ...] = field(default=())

    @property
    def object(self) -> ObjectId:
        """Which object."""
        return id_of(self.live)

    @property
    def entries(self) -> tuple[ManagerEntry, ...]:
        """Its managers."""
        return parse_managed_fields(self.live)


@dataclass(frozen=True, slots=True)
class Source:
    """The object as the artifact has it, after `spec.images`, as it is applied; and the file it stands in."""

    raw: ManifestObject
    moved: JsonObject
    desired: JsonObject
    file: TreeFile

    def written(self, path: Path) -> Written | None:
        """Where the field is written; None if it is not."""
        steps = steps_of(self.raw.body, path)
        if steps is None and path[:1] == ("f:data",) and isinstance(self.raw.body.get("stringData"), dict):
            steps = steps_of(self.raw.body, ("f:stringData", *path[1:]))
        if steps is None:
            return None
        value = value_at(self.raw.body, steps)
        line, column = FilePlaces(self.file).find_at(self.raw.line, steps)
        return Written(self.raw.file, line or self.raw.line, column, value, images=value_at(self.moved, steps) != value)


def source_of(known: Known) -> Source | None:
    """The object in what was applied; None if it is not there."""
    owner, content = known.owner, known.content
    if owner is None or content is None:
        return None
    spec, wanted = owner.spec, known.object
    files = files_under(content.files, owner.path)
    default = owner.namespace if wanted.namespace else ""
    for raw in read_tree(files, lenient=True).objects:
        namespace = (raw.id.namespace or default) if wanted.namespace else ""
        if replace(raw.id, namespace=namespace) != wanted:
            continue
        moved = rewrite((raw,), spec.images, content.files).objects[0] if spec else raw
        desired = normalise(moved.body, sync_id=owner.sync_id, namespace=namespace)
        file = next(file for file in files if file.path == raw.file)
        return Source(raw, moved.body, desired, file)
    return None


def explain(known: Known, steps: Steps | None, *, asked: Path = ()) -> Answer:
    """Answer for a field, or for the whole object if none is given.

    Args:
        known: what was read.
        steps: where the field is in the live object; None if it is not there.
        asked: the field, if it is only in Git.
    """
    source = source_of(known)
    if steps is None and not asked:
        return _whole(known, source)
    path = path_of(known.live, steps, known.entries) if steps is not None else asked
    value = value_at(known.live, steps) if steps is not None else MISSING
    desired = lookup(source.desired, path) if source else MISSING
    written = source.written(path) if source else None
    holders = _holders(known.entries, path)
    origin = _origin(known, path, value, desired, written, holders)
    answer = Answer(
        object=known.object,
        field=render(path),
        value=_masked(value, known.object, path),
        desired=_masked(desired, known.object, path),
        origin=origin,
        owner=known.owner,
        content=known.content,
        written=replace(written, value=_masked(written.value, known.object, path)) if written else None,
        holders=holders,
        applied_at=_applied_at(known),
        text=(),
        drift=_drift_of(known, render(path)),
        chain=known.chain,
        problems=known.problems,
    )
    left = _left(known, source, path)
    return replace(answer, text=tuple(sentences(answer, shown(value, known.object, path), desired, path, left)))


def _origin(
    known: Known, path: Path, value: Any, desired: Any, written: Written | None, holders: Sequence[Holder]
) -> Origin:
    if path == PART_OF_PATH:
        return Origin.MEMBERSHIP if known.owner else Origin.OTHER
    if desired is not MISSING:
        if not same_value(desired, value):
            return Origin.DIFFERS
        if written is None:
            return Origin.TARGET
        return Origin.REWRITTEN if written.images else Origin.GIT
    if value is MISSING:
        return Origin.ABSENT
    if path[0] == "f:metadata" and len(path) > 1 and path[1][2:] in _SERVER_FIELDS:
        return Origin.SERVER
    if path[0] in {"f:apiVersion", "f:kind"} or path in {("f:metadata", "f:name"), ("f:metadata", "f:namespace")}:
        return Origin.UNKNOWN if known.owner else Origin.SERVER
    holding = [holder for holder in holders if holder.hold is not Hold.WITHIN] or list(holders)
    if not holding:
        return Origin.DEFAULT
    if any(holder.manager == FIELD_MANAGER and holder.operation == "Apply" for holder in holding):
        return Origin.UNKNOWN
    if all(holder.subresource == "status" for holder in holding):
        return Origin.STATUS
    if all(holder.manager == FIELD_MANAGER for holder in holding):
        return Origin.ADMISSION
    return Origin.OTHER


def _left(known: Known, source: Source | None, path: Path) -> str:
    """Why a difference is none of ours, if it is not."""
    spec = known.owner.spec if known.owner else None
    if spec is None or source is None:
        return ""
    pointers = ignored_pointers(spec.ignore, known.object)
    if left_to_others(path, (), pointers, source.desired):
        return "spec.ignore of the sync leaves this field to others"
    if left_to_others(path, known.entries, pointers, source.desired):
        return "an autoscaler sets it, so it is left alone"
    return ""


def _holders(entries: Sequence[ManagerEntry], path: Path) -> tuple[Holder, ...]:
    held = [(entry, hold) for entry in entries if (hold := hold_of(entry, path)) is not None]
    firm = [pair for pair in held if pair[1] is not Hold.WITHIN]
    return tuple(_holder(entry, hold) for entry, hold in (firm or held))


def _holder(entry: ManagerEntry, hold: Hold | None, fields: int = 0) -> Holder:
    return Holder(entry.manager, entry.operation, entry.subresource, entry.time, hold, fields)


def _whole(known: Known, source: Source | None) -> Answer:
    """About the whole object: whose it is, where it stands, who holds what of it."""
    entries, owner = known.entries, known.owner
    holders = tuple(_holder(entry, None, len(entry.paths())) for entry in entries)
    differing: list[str] = []
    if source is not None:
        differing = _differing(known, source)
    written = Written(source.raw.file, source.raw.line, 0) if source else None
    if owner is not None:
        text = [f"applied by {owner.title}" + (f" from {written.place}" if written else "")]
        if known.content is not None and source is None:
            then = "--prune deletes it" if owner.once else "it is about to be pruned, or kept on purpose"
            text.append(f"the applied artifact does not have it: {then}")
    elif labels_of(known.live).get(PART_OF_LABEL) and our_entry(entries) is not None:
        text = ["its label names a sync or set that does not exist (any more), or that you may not see"]
    else:
        names = ", ".join(dict.fromkeys(h.manager for h in holders if h.subresource != "status")) or "unknown"
        text = [f"no sync owns it; managers: {names}"]
        if known.chain:
            text.append(f"made by {' ← '.join(str(one) for one in known.chain)}")
    return Answer(
        object=known.object,
        field="",
        value=MISSING,
        desired=MISSING,
        origin=None,
        owner=owner,
        content=known.content,
        written=written,
        holders=holders,
        applied_at=_applied_at(known),
        text=tuple(text),
        drift=_drift_of(known, ""),
        differing=tuple(differing),
        chain=known.chain,
        problems=known.problems,
    )


def _differing(known: Known, source: Source) -> list[str]:
    """Fields that Git names and that have another value now."""
    ours = our_entry(known.entries)
    owned = ours.paths() if ours else frozenset()
    out = []
    for path in lost_paths(_leaves(source.desired), owned):
        wanted, found = lookup(source.desired, path), lookup(known.live, path)
        if path not in {("f:apiVersion",), ("f:kind",)} and not same_value(wanted, found):
            who = who_of(_holders(known.entries, path))
            values = f"Git {shown(wanted, known.object, path)}, now {shown(found, known.object, path)}"
            out.append(f"{render(path)}: {values}" + (f", set by {who}" if who else ""))
    return out[:_FIELDS]


def _leaves(body: JsonObject) -> frozenset[Path]:
    """The paths of single values in maps; lists count as a whole where their items have no names."""
    found: set[Path] = set()
    pending: list[tuple[Path, Steps, Any]] = [((), (), body)]
    while pending:
        path, steps, value = pending.pop()
        if isinstance(value, dict) and value:
            pending += [((*path, f"f:{key}"), (*steps, key), below) for key, below in value.items()]
        elif isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
            segments = [path_of(body, (*steps, index))[-1] for index in range(len(value))]
            pending += [
                ((*path, s), (*steps, i), below) for i, (s, below) in enumerate(zip(segments, value, strict=True))
            ]
        elif path:
            found.add(path)
    return frozenset(found)


def _applied_at(known: Known) -> str:
    ours = our_entry(known.entries)
    return ours.time if ours else ""


def _drift_of(known: Known, path: str) -> tuple[Drifted, ...]:
    """What the record has of this object, and of this field if one is given."""
    mine = [one for one in known.drift if one.object == known.object]
    if path:
        mine = [one for one in mine if any(_touches(str(f.get("path")), path) for f in one.entry["fields"])]
    return tuple(mine[-_DRIFTED:])


def _touches(one: str, other: str) -> bool:
    short, long = sorted((one.removesuffix(" (order)"), other), key=len)
    return long == short or long.startswith((f"{short}.", f"{short}["))


def _masked(value: Any, object_id: ObjectId, path: Path) -> Any:
    return MASKED if value is not MISSING and shown(value, object_id, path) == MASKED else value
