"""The answer to `ocisync why`: values and their JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ocisync.cluster.fieldexpr import Hold
from ocisync.cluster.fields import MISSING
from ocisync.flows.drifthistory import Drifted
from ocisync.flows.setrecord import AppliedSet, SetRecord
from ocisync.model.resource import ObjectId
from ocisync.model.spec import SyncSpec
from ocisync.model.tree import TreeFile


class Origin(StrEnum):
    """Where a value comes from."""

    GIT = "Git"
    REWRITTEN = "GitRewritten"  # by spec.images
    DIFFERS = "DiffersFromGit"
    TARGET = "TargetNamespace"
    MEMBERSHIP = "Membership"  # the label of the sync
    OTHER = "OtherManager"
    ADMISSION = "Admission"  # added to our own request
    STATUS = "Status"
    SERVER = "Server"
    DEFAULT = "DefaultOrAdmission"
    ABSENT = "Absent"
    UNKNOWN = "Unknown"  # it could come from Git, but the artifact could not be read


@dataclass(frozen=True, slots=True)
class Owner:
    """Who applied an object: a sync, as its spec and status say, or `ocisync apply`.

    Attributes:
        spec: of a sync; None if it cannot be read.
        once: the set of `ocisync apply`; None if it is a sync.
    """

    key: str
    sync_id: str
    status: Mapping[str, Any]
    spec: SyncSpec | None = None
    once: AppliedSet | None = None

    @classmethod
    def of_set(cls, found: AppliedSet, set_id: str) -> Owner:
        """The owner of what `ocisync apply` made."""
        kept = found.record or SetRecord(digest=found.attempted)
        applied = {"digest": kept.digest, "revision": kept.revision, "signers": list(kept.signers)}
        status = {"applied": applied, "lastAttempted": {"digest": found.attempted} if kept.digest else {}}
        return cls(f"{found.namespace}/{found.name}", set_id, status, None, found)

    @property
    def title(self) -> str:
        """How sentences name it."""
        return f"set {self.key} of ocisync apply" if self.once is not None else f"sync {self.key}"

    @property
    def repository(self) -> str:
        """Where the artifact is; empty if that is not known, or only a layout has it."""
        if self.spec is not None:
            return self.spec.source.reference.repository
        record = self.once.record if self.once else None
        return record.repository if record is not None else ""

    @property
    def path(self) -> str:
        """Below which directory manifests are applied."""
        if self.spec is not None:
            return self.spec.path
        return self.once.record.path if self.once and self.once.record else ""

    @property
    def namespace(self) -> str:
        """Where objects go for which Git names no namespace."""
        if self.spec is not None:
            return self.spec.target_namespace or self.spec.namespace
        return self.once.namespace if self.once else ""

    @property
    def account(self) -> str:
        """The service account that writes, as `namespace/name`; empty if it is nobody's, or not known."""
        if self.spec is not None:
            return f"{self.spec.namespace}/{self.spec.service_account}"
        record = self.once.record if self.once else None
        return f"{self.namespace}/{record.account}" if record is not None and record.account else ""

    @property
    def directory(self) -> str:
        """The directory that was applied; empty if it was an artifact."""
        record = self.once.record if self.once else None
        return record.source if record is not None and not record.digest else ""

    def artifact(self, key: str = "applied") -> Mapping[str, Any]:
        """`status.applied` or `status.lastAttempted`."""
        found = self.status.get(key)
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Content:
    """What the sync applied. `judged` tells that it was verified here, not only by the agent."""

    repository: str
    digest: str
    revision: str
    source: str
    signers: tuple[str, ...]
    judged: bool
    files: tuple[TreeFile, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """Where Git names something. `value` is as it is written; `images`: `spec.images` gave it another name."""

    file: str
    line: int
    column: int
    value: Any = None
    images: bool = False

    @property
    def place(self) -> str:
        """`file:line:column`, or `file:line`."""
        return f"{self.file}:{self.line}" + (f":{self.column}" if self.column else "")


@dataclass(frozen=True, slots=True)
class Holder:
    """A manager that holds the field, or something of it."""

    manager: str
    operation: str
    subresource: str
    time: str
    hold: Hold | None = None
    fields: int = 0

    def as_json(self) -> dict[str, Any]:
        """The form that scripts read."""
        out: dict[str, Any] = {"manager": self.manager, "operation": self.operation}
        optional = {"subresource": self.subresource, "time": self.time, "fields": self.fields}
        if self.hold is not None:
            out["hold"] = self.hold.value
        return {**out, **{key: value for key, value in optional.items() if value}}


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything there is to say.

    Attributes:
        field: as managedFields name it; empty for the whole object.
        value: of the field now; `MISSING` if the object does not have it.
        desired: what our apply asks for; `MISSING` if Git does not name the field.
        origin: only for a field.
        text: the answer in sentences.
        differing: fields of ours that others hold now, if the whole object was asked about.
        chain: controllers above the object, nearest first.
        applied_at: when our apply changed the object last, by its managedFields.
    """

    object: ObjectId
    field: str
    value: Any
    desired: Any
    origin: Origin | None
    owner: Owner | None
    content: Content | None
    written: Written | None
    holders: tuple[Holder, ...]
    applied_at: str
    text: tuple[str, ...]
    drift: tuple[Drifted, ...] = ()
    differing: tuple[str, ...] = ()
    chain: tuple[ObjectId, ...] = ()
    problems: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The form that scripts read."""
        written, content, owner = self.written, self.content, self.owner
        out: dict[str, Any] = {
            "object": self.object.as_json(),
            "answer": list(self.text),
        }
        if self.field:
            out |= {"field": self.field, "origin": self.origin.value if self.origin else "", "value": _json(self.value)}
        if owner is not None:
            applied = owner.artifact()
            out["sync" if owner.once is None else "set"] = owner.key
            out["artifact"] = {
                "repository": content.repository if content else "",
                "digest": content.digest if content else str(applied.get("digest") or ""),
                "revision": content.revision if content else str(applied.get("revision") or ""),
                "source": content.source if content else "",
                "signers": list(content.signers if content else applied.get("signers") or ()),
                "judgedHere": bool(content and content.judged),
            }
            if owner.once is not None:
                out["directory"], out["runBy"] = owner.directory, owner.once.run_by
            out["appliedAt"] = self.applied_at
        if written is not None:
            out["written"] = {"file": written.file, "line": written.line, "column": written.column}
            if self.field:
                out["written"] |= {"value": _json(written.value), "rewrittenByImages": written.images}
        out["managers"] = [holder.as_json() for holder in self.holders]
        if self.differing:
            out["differing"] = list(self.differing)
        if self.chain:
            out["controllers"] = [str(one) for one in self.chain]
        out["drift"] = [one.as_json() for one in self.drift]
        out["problems"] = list(self.problems)
        return out


def _json(value: Any) -> Any:
    return None if value is MISSING else value
