"""What the API itself does after a write: owner references, terminating namespaces, conditions and clean-up of CRDs.

Always on, with or without the demo's controllers, because clients take it for part of the API: a deleted owner's
dependents go (Background), go first (Foreground) or lose the reference (Orphan); a terminating namespace is emptied and
then removed; a CRD gets its conditions, and its deletion removes its resources first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Final

from ocisync.sandbox import crds
from ocisync.sandbox.apierrors import ApiError
from ocisync.sandbox.shapes import Json
from ocisync.sandbox.store import DELETED, Event, Place, Stored, TableKey, owners_of
from ocisync.sandbox.successors import NAMESPACES
from ocisync.sandbox.worker import Worker
from ocisync.sandbox.writes import Deletion, Options, Writer

MANAGER: Final = "kube-controller-manager"


class Garbage:
    """The clean-up worker of one API server."""

    def __init__(self, writer: Writer) -> None:
        """Listen to the store; nothing is done until `worker.start`."""
        self._writer = writer
        self._store = writer.store
        self.worker = Worker("sandbox-garbage", self._handle)
        self._store.listeners.append(self._listen)

    def clear(self) -> None:
        """Forget what waits."""
        self.worker.clear()

    # -- what happened (under the store's lock) ---------------------------------------------------

    def _listen(self, table: TableKey, event: Event) -> None:
        metadata = event.new.value["metadata"]
        place: Place = (table, (metadata.get("namespace", ""), metadata["name"]))
        if event.kind == DELETED:
            if self._store.dependents.get(event.new.uid):
                self.worker.add(("orphaned", event.new.uid))
            self._dependents_moved(event)
            self._contents_moved(metadata)
            return
        if event.old is None and owners_of(event.new):
            self.worker.add(("check", place))
        if table == crds.TABLE or (table == NAMESPACES and metadata.get("deletionTimestamp")):
            self.worker.add((table[1], metadata["name"]))
        if metadata.get("deletionTimestamp") and metadata.get("finalizers"):
            self.worker.add(("finalize", place))

    def _dependents_moved(self, event: Event) -> None:
        """A dependent is gone: an owner that waits for it in the foreground may go on."""
        for reference in event.new.value["metadata"].get("ownerReferences") or ():
            resource = self._writer.catalog.of_kind(reference["apiVersion"], reference["kind"])
            if resource is not None:
                namespace = event.new.value["metadata"].get("namespace", "") if resource.namespaced else ""
                self.worker.add(("finalize", (resource.table, (namespace, reference["name"]))))

    def _contents_moved(self, metadata: Json) -> None:
        parent = self._store.table(NAMESPACES).objects.get(("", metadata.get("namespace", "")))
        if parent is not None and parent.value["metadata"].get("deletionTimestamp"):
            self.worker.add(("namespaces", metadata["namespace"]))
        for stored in self._store.table(crds.TABLE).objects.values():
            if stored.value["metadata"].get("deletionTimestamp"):
                self.worker.add(("customresourcedefinitions", stored.value["metadata"]["name"]))

    # -- what to do -------------------------------------------------------------------------------

    def _handle(self, key: Hashable) -> None:
        assert isinstance(key, tuple)  # noqa: S101 - only _listen adds keys
        kind, subject = key
        if kind == "namespaces":
            self._empty_namespace(subject)
        elif kind == "customresourcedefinitions":
            self._tend_crd(subject)
        elif kind == "orphaned":
            for place in list(self._store.dependents.get(subject, ())):
                self._collect(place)
        elif kind == "check":
            self._collect(subject)
        else:
            self._finalize(subject)

    def _at(self, place: Place) -> Stored | None:
        return self._store.table(place[0]).objects.get(place[1])

    def _delete(self, place: Place, stored: Stored, policy: str = "") -> None:
        resource = self._writer.catalog.of_table(place[0])
        if resource is None:
            return
        try:
            self._writer.delete(resource, place[1][0], place[1][1], Deletion(uid=stored.uid, policy=policy))
        except ApiError:
            return

    def _collect(self, place: Place) -> None:
        """Delete an object none of whose owners exists."""
        with self._store.lock:
            stored = self._at(place)
            owners = owners_of(stored)
            if stored is not None and owners and not any(owner in self._store.uids for owner in owners):
                self._delete(place, stored)

    def _finalize(self, place: Place) -> None:
        """Go on with a foreground or orphaning deletion."""
        with self._store.lock:
            stored = self._at(place)
            if stored is None or not stored.value["metadata"].get("deletionTimestamp"):
                return
            finalizers = stored.value["metadata"].get("finalizers") or []
            dependents = [
                (at, found) for at in self._store.dependents.get(stored.uid, set()) if (found := self._at(at))
            ]
            if "orphan" in finalizers:
                for at, found in dependents:
                    self._disown(at, found, stored.uid)
                self._drop_finalizer(place, stored, "orphan")
            elif "foregroundDeletion" in finalizers:
                for at, found in dependents:
                    if not found.value["metadata"].get("deletionTimestamp"):
                        self._delete(at, found, "Foreground" if self._store.dependents.get(found.uid) else "")
                blocking = [
                    found for at, found in dependents if self._at(at) is not None and _blocks(found, stored.uid)
                ]
                if not blocking:
                    self._drop_finalizer(place, stored, "foregroundDeletion")

    def _disown(self, place: Place, stored: Stored, owner: str) -> None:
        references = stored.value["metadata"].get("ownerReferences") or []
        kept = [reference for reference in references if reference.get("uid") != owner]
        self._change(place, stored, {"ownerReferences": kept or None})

    def _drop_finalizer(self, place: Place, stored: Stored, name: str) -> None:
        kept = [item for item in stored.value["metadata"].get("finalizers") or () if item != name]
        self._change(place, stored, {"finalizers": kept or None})

    def _change(self, place: Place, stored: Stored, metadata: Json) -> None:
        resource = self._writer.catalog.of_table(place[0])
        if resource is not None:
            patch = {"metadata": {**metadata, "uid": stored.uid}}
            media_type = "application/merge-patch+json"
            self._writer.patch(resource, *place[1], media_type, patch, Options(MANAGER, validation="Ignore"))

    def _empty_namespace(self, name: str) -> None:
        with self._store.lock:
            parent = self._store.table(NAMESPACES).objects.get(("", name))
            if parent is None or not parent.value["metadata"].get("deletionTimestamp"):
                return
            contents = list(self._contents(name))
            for place, stored in contents:
                if not stored.value["metadata"].get("deletionTimestamp"):
                    self._delete(place, stored)
            if any(True for _ in self._contents(name)) or parent.value["metadata"].get("finalizers"):
                return
            self._store.erase(self._store.table(NAMESPACES), ("", name))

    def _contents(self, namespace: str) -> Iterator[tuple[Place, Stored]]:
        for table in self._store.tables():
            for key, stored in list(table.objects.items()):
                if key[0] == namespace:
                    yield (table.key, key), stored

    def _tend_crd(self, name: str) -> None:
        with self._store.lock:
            stored = self._store.table(crds.TABLE).objects.get(("", name))
            resource = self._writer.catalog.of_table(crds.TABLE)
            if stored is None or resource is None:
                return
            options = Options("kube-apiserver", validation="Ignore")
            if stored.value["metadata"].get("deletionTimestamp"):
                self._remove_crd(stored)
                return
            status = crds.conditions(stored.value, self._writer.now())
            if status is not None:
                self._writer.replace(resource, "", name, {**stored.value, "status": status}, options, "status")

    def _remove_crd(self, stored: Stored) -> None:
        spec = stored.value["spec"]
        table = self._store.table((spec["group"], spec["names"]["plural"]))
        for key, found in list(table.objects.items()):
            if not found.value["metadata"].get("deletionTimestamp"):
                self._delete((table.key, key), found)
        if not table.objects:
            self._drop_finalizer((crds.TABLE, ("", stored.value["metadata"]["name"])), stored, crds.FINALIZER)
            if self._writer.catalog.of_table(table.key) is None:
                self._store.drop_table(table.key)


def _blocks(stored: Stored, owner: str) -> bool:
    references = stored.value["metadata"].get("ownerReferences") or ()
    return any(reference.get("uid") == owner and reference.get("blockOwnerDeletion") for reference in references)
