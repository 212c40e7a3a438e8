"""Every write to the API: create, replace, patch, apply, scale, delete; in-process, the HTTP routes call it.

Order of each write, as on the real server: decode and check fields → namespace → default → field managers → what the
kind sets itself → validation → store, unless nothing changed. A write that changes nothing but times in `managedFields`
is no write: the resourceVersion stays. `dry_run` stops before the store.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from ocisync.sandbox import apierrors, crds, lifecycle, ownership
from ocisync.sandbox.apierrors import ApiError, Cause
from ocisync.sandbox.defaults import default_builtin, default_custom
from ocisync.sandbox.fields import Path, TypedError, same
from ocisync.sandbox.kinds import Catalog, Resource, builtin_resources
from ocisync.sandbox.ownership import APPLY, UPDATE, ConflictsError, ManagerKey, Managers
from ocisync.sandbox.shapes import Json
from ocisync.sandbox.store import Key, Store, Stored, Table
from ocisync.sandbox.successors import (
    NAMESPACES,
    content_differs,
    empty_object,
    held_by_finalizers,
    keep_system_fields,
    key_of,
    patched,
    readable_managers,
    same_but_times,
    same_ownership,
    slashed,
)
from ocisync.sandbox.validation import check, strip_nulls, strip_unknown, unknown_fields, wrong_types


@dataclass(frozen=True, slots=True)
class Options:
    """How to write."""

    manager: str = "unknown"
    dry_run: bool = False
    force: bool = False
    validation: str = "Warn"  # Strict | Warn | Ignore


@dataclass(frozen=True, slots=True)
class Deletion:
    """How to delete."""

    uid: str = ""
    resource_version: str = ""
    policy: str = ""  # Background | Foreground | Orphan
    dry_run: bool = False


@dataclass(slots=True)
class Outcome:
    """What a write left behind."""

    stored: Stored
    created: bool = False
    erased: bool = False
    warnings: list[str] = field(default_factory=list)


class Writer:
    """All writes on one store."""

    def __init__(self, store: Store, now: Callable[[], str]) -> None:
        """`now` gives RFC 3339 times in whole seconds."""
        self.store = store
        self.now = now
        self.builtin = builtin_resources()
        self.catalog = Catalog(self.builtin)

    # -- reading ----------------------------------------------------------------------------------

    def table(self, resource: Resource) -> Table:
        """Return the table of a resource."""
        return self.store.table(resource.table)

    def get(self, resource: Resource, namespace: str, name: str) -> Stored:
        """Return an object. Raises ApiError 404."""
        stored = self.table(resource).objects.get((namespace, name))
        if stored is None:
            raise apierrors.not_found(resource.group, resource.plural, name)
        return stored

    # -- create -----------------------------------------------------------------------------------

    def create(self, resource: Resource, namespace: str, body: Json, options: Options) -> Outcome:
        """Create an object from a POST body."""
        body = self._identify(resource, namespace, "", body)
        value, warnings = self._decode(resource, body, options)
        metadata = value["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
        if metadata.get("resourceVersion"):
            raise ApiError("", "resourceVersion should not be set on objects to be created")
        key = ManagerKey(options.manager, UPDATE, resource.api_version)
        with self.store.lock:
            self._check_new(resource, namespace, metadata.get("name", ""), options)
            entries = metadata.pop("managedFields", None)
            if resource.status:
                value.pop("status", None)
            self._default(resource, value)
            managers = ownership.updated(
                resource.shape,
                empty_object(resource),
                value,
                readable_managers(entries),
                key,
                resource.api_version,
                self.now(),
            )
            return self._insert(resource, namespace, value, managers, options, warnings)

    def _check_new(self, resource: Resource, namespace: str, name: str, options: Options) -> None:
        self._check_namespace(resource, namespace, name)
        if (namespace, name) in self.table(resource).objects:
            raise apierrors.already_exists(resource.group, resource.plural, name)

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        if not resource.namespaced:
            return
        parent = self.store.table(NAMESPACES).objects.get(("", namespace))
        if parent is None:
            raise apierrors.not_found("", "namespaces", namespace)
        if parent.value["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            raise apierrors.forbidden(resource.group, resource.plural, name, why, [cause])

    def _insert(
        self,
        resource: Resource,
        namespace: str,
        value: Json,
        managers: Managers,
        options: Options,
        warnings: list[str],
    ) -> Outcome:
        metadata = value["metadata"]
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"):
            metadata.pop(name, None)
        metadata["uid"] = str(uuid4())
        metadata["creationTimestamp"] = self.now()
        metadata.pop("generation", None)
        if resource.counts_generation or resource.custom:
            metadata["generation"] = 1
        if resource.namespaced:
            metadata["namespace"] = namespace
        lifecycle.prepare_create(resource, value, self.store)
        self._validate(resource, value, None)
        self._seal(value, managers)
        if options.dry_run:
            return Outcome(Stored(value, managers, 0), created=True, warnings=warnings)
        key: Key = (namespace if resource.namespaced else "", metadata["name"])
        stored = self.store.commit(self.table(resource), key, value, managers)
        self._react(resource)
        return Outcome(stored, created=True, warnings=warnings)

    def _react(self, resource: Resource) -> None:
        """A changed CRD changes what is served, before the writer has its answer."""
        if resource.table == crds.TABLE:
            self.catalog = crds.catalog_of(self.builtin, self.store)

    # -- update -----------------------------------------------------------------------------------

    def replace(
        self, resource: Resource, namespace: str, name: str, body: Json, options: Options, subresource: str = ""
    ) -> Outcome:
        """Replace an object, or its status, from a PUT body."""
        body = self._identify(resource, namespace, name, body)
        value, warnings = self._decode(resource, body, options)
        with self.store.lock:
            stored = self.get(resource, namespace, name)
            return self._update(resource, stored, value, options, subresource, warnings)

    def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        media_type: str,
        body: Json,
        options: Options,
        subresource: str = "",
    ) -> Outcome:
        """Patch an object, or its status, by JSON, merge or strategic merge patch."""
        with self.store.lock:
            stored = self.get(resource, namespace, name)
            value = patched(resource, stored.value, media_type, body)
            value = self._identify(resource, namespace, name, value)
            value, warnings = self._decode(resource, value, options)
            return self._update(resource, stored, value, options, subresource, warnings)

    def _update(
        self,
        resource: Resource,
        stored: Stored,
        value: Json,
        options: Options,
        subresource: str,
        warnings: list[str],
    ) -> Outcome:
        """Store `value`, a private copy, as the successor of `stored`."""
        old = stored.value
        self._check_versions(resource, stored, value["metadata"])
        entries = value["metadata"].pop("managedFields", None)
        if subresource == "status":
            value = {**old, "metadata": dict(old["metadata"]), "status": value.get("status")}
            if value["status"] is None:
                del value["status"]
            value["metadata"].pop("managedFields", None)
            entries = None
        else:
            keep_system_fields(resource, old, value)
            self._default(resource, value)
        before = {**old, "metadata": {k: v for k, v in old["metadata"].items() if k != "managedFields"}}
        key = ManagerKey(options.manager, UPDATE, resource.api_version, subresource)
        if ownership.is_reset(entries):
            base: Managers = {}
        else:
            base = (readable_managers(entries) if entries else {}) or stored.managers
        managers = ownership.tracked_update(
            resource.shape, before, value, base, key, resource.api_version, self.now(), exists=True
        )
        return self._store_successor(resource, stored, value, managers, options, warnings)

    def set_status(
        self,
        resource: Resource,
        stored: Stored,
        status: Json,
        manager: str,
        annotations: Mapping[str, str] | None = None,
    ) -> Stored:
        """Replace the status of an object, and set annotations, as a controller does through the status subresource.

        Short, because nothing a client sent is judged.
        """
        with self.store.lock:
            if self.table(resource).objects.get(key_of(stored)) is not stored:
                raise apierrors.stale_version(resource.group, resource.plural, stored.value["metadata"]["name"])
            bare = {key: item for key, item in stored.value["metadata"].items() if key != "managedFields"}
            before = {**stored.value, "metadata": bare}
            value = {**before, "metadata": dict(bare), "status": status}
            if annotations:
                value["metadata"]["annotations"] = {**(bare.get("annotations") or {}), **annotations}
            if same(before, value):
                return stored
            key = ManagerKey(manager, UPDATE, resource.api_version, "status" if resource.status else "")
            managers = ownership.tracked_update(
                resource.shape, before, value, stored.managers, key, resource.api_version, self.now(), exists=True
            )
            self._seal(value, managers)
            return self.store.commit(self.table(resource), key_of(stored), value, managers)

    def _store_successor(
        self,
        resource: Resource,
        stored: Stored,
        value: Json,
        managers: Managers,
        options: Options,
        warnings: list[str],
    ) -> Outcome:
        old = stored.value
        lifecycle.prepare_update(resource, old, value)
        if "generation" in old["metadata"] and content_differs(resource, old, value):
            value["metadata"]["generation"] = old["metadata"]["generation"] + 1
        self._validate(resource, value, old)
        if same_but_times(stored, value, managers):
            return Outcome(stored, warnings=warnings)
        self._seal(value, managers)
        value["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if options.dry_run:
            return Outcome(Stored(value, managers, stored.revision), warnings=warnings)
        key = key_of(stored)
        table = self.table(resource)
        committed = self.store.commit(table, key, value, managers)
        self._react(resource)
        if value["metadata"].get("deletionTimestamp") and not held_by_finalizers(resource, value):
            self.store.erase(table, key)
            self._react(resource)
            return Outcome(committed, erased=True, warnings=warnings)
        return Outcome(committed, warnings=warnings)

    def _check_versions(self, resource: Resource, stored: Stored, metadata: Mapping[str, Json]) -> None:
        name = stored.value["metadata"]["name"]
        uid = metadata.get("uid")
        if uid and uid != stored.uid:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {stored.uid}"
            raise apierrors.conflict(resource.group, resource.plural, name, why)
        version = metadata.get("resourceVersion")
        if version and version != stored.value["metadata"]["resourceVersion"]:
            raise apierrors.stale_version(resource.group, resource.plural, name)

    # -- apply ------------------------------------------------------------------------------------

    def apply(
        self, resource: Resource, namespace: str, name: str, config: Json, options: Options, subresource: str = ""
    ) -> Outcome:
        """Server-side apply."""
        if isinstance(config, dict):
            kind, version = config.get("kind") or resource.kind, config.get("apiVersion") or resource.api_version
            if (kind, version) != (resource.kind, resource.api_version):
                raise apierrors.bad_request(f"invalid object type: {slashed(version)}, Kind={kind}")
        sent = config
        config = self._identify(resource, namespace, name, config)
        if config["metadata"].get("managedFields") is not None:
            raise apierrors.bad_request("metadata.managedFields must be nil")
        if subresource == "status":
            config = {key: item for key, item in config.items() if key in ("apiVersion", "kind", "metadata", "status")}
        elif resource.status and "status" in config:
            config = {key: item for key, item in config.items() if key != "status"}
        try:
            with self.store.lock:
                stored = self.table(resource).objects.get((namespace, name))
                if stored is None:
                    return self._apply_new(resource, namespace, name, config, options, subresource)
                return self._apply_over(resource, stored, config, options, subresource)
        except TypedError as err:
            home = (sent.get("metadata") or {}).get("namespace", "")
            place = f"{home}/{name}; {slashed(resource.api_version)}, Kind={resource.kind}"
            raise ApiError("", f"failed to create typed patch object ({place}): {err}") from err

    def _merged(
        self, resource: Resource, live: Json, config: Json, managers: Managers, options: Options, subresource: str
    ) -> ownership.Applied:
        key = ManagerKey(options.manager, APPLY, "", subresource)
        uid, live_uid = config["metadata"].get("uid"), live.get("metadata", {}).get("uid")
        if uid and live_uid and uid != live_uid:
            cause = apierrors.invalid_value("metadata.uid", uid, "field is immutable")
            raise apierrors.invalid(resource.group, resource.kind, live["metadata"]["name"], [cause])
        try:
            return ownership.applied(
                resource.shape,
                live,
                config,
                managers,
                key,
                resource.api_version,
                self.now(),
                force=options.force,
                nothing=empty_object(resource),
            )
        except ConflictsError as err:
            details = {"causes": err.causes()}
            raise ApiError("Conflict", err.message(), details=details) from err

    def _apply_new(
        self, resource: Resource, namespace: str, name: str, config: Json, options: Options, subresource: str
    ) -> Outcome:
        uid = config["metadata"].get("uid")
        if subresource:
            raise apierrors.not_found(resource.group, resource.plural, name)
        if uid:
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise apierrors.conflict(resource.group, resource.plural, name, why)
        self._check_namespace(resource, namespace, name)
        result = self._merged(resource, {}, config, {}, options, subresource)
        value = strip_nulls(resource.shape, copy.deepcopy(result.merged))
        value.setdefault("metadata", {})
        self._default(resource, value)
        return self._insert(resource, namespace, value, result.managers, options, [])

    def _apply_over(
        self, resource: Resource, stored: Stored, config: Json, options: Options, subresource: str
    ) -> Outcome:
        self._check_versions(resource, stored, {**config["metadata"], "uid": ""})
        old = stored.value
        live = {**old, "metadata": {k: v for k, v in old["metadata"].items() if k != "managedFields"}}
        result = self._merged(resource, live, config, stored.managers, options, subresource)
        if not result.changed and same_ownership(stored.managers, result.managers):
            return Outcome(stored)
        if not result.changed:
            value = {**old, "metadata": dict(live["metadata"])}
        else:
            value = strip_nulls(resource.shape, copy.deepcopy(result.merged))
            keep_system_fields(resource, old, value, status=subresource == "status")
            self._default(resource, value)
        return self._store_successor(resource, stored, value, result.managers, options, [])

    # -- scale ------------------------------------------------------------------------------------

    def scale(self, resource: Resource, stored: Stored, replicas: int, options: Options, operation: str) -> Outcome:
        """Set the replica count through the scale subresource."""
        path = resource.scale_paths[0].strip(".").split(".")
        value = copy.deepcopy(stored.value)
        value["metadata"].pop("managedFields", None)
        target = value
        for part in path[:-1]:
            target = target.setdefault(part, {})
        before = target.get(path[-1])
        if before == replicas:
            return Outcome(stored)
        target[path[-1]] = replicas
        elements: Path = tuple(f"f:{part}" for part in path)
        version = "" if operation == APPLY else resource.api_version
        key = ManagerKey(options.manager, operation, version, "scale")
        holders = [other for other, owned in stored.managers.items() if elements in owned.paths and other != key]
        if operation == APPLY and holders and not options.force:
            conflicts = ConflictsError({other: {elements} for other in holders}, stored.managers)
            raise ApiError("Conflict", conflicts.message(), details={"causes": conflicts.causes()})
        # A Scale omits zero replicas, so scaling to zero takes the field from its owners and gives it to nobody; nor
        # does anybody own the count of a custom resource that had none. Both as seen on the real server.
        taker = key if replicas and not (resource.custom and before is None) else None
        managers = ownership.scaled(stored.managers, elements, taker, resource.api_version) if stored.managers else {}
        return self._store_successor(resource, stored, value, managers, options, [])

    # -- delete -----------------------------------------------------------------------------------

    def delete(self, resource: Resource, namespace: str, name: str, deletion: Deletion) -> Outcome:
        """Delete an object, or mark it when finalizers or its kind hold it."""
        with self.store.lock:
            stored = self.get(resource, namespace, name)
            self._check_preconditions(resource, stored, deletion)
            metadata = stored.value["metadata"]
            finalizers = [f for f in metadata.get("finalizers") or () if f not in ("foregroundDeletion", "orphan")]
            policy = deletion.policy
            if policy in ("Foreground", "Orphan") and not deletion.dry_run:
                finalizers.append("foregroundDeletion" if policy == "Foreground" else "orphan")
            if resource.table == crds.TABLE and crds.FINALIZER not in finalizers:
                finalizers.append(crds.FINALIZER)
            changed = {**stored.value, "metadata": {**metadata, "finalizers": finalizers}}
            if not finalizers:
                del changed["metadata"]["finalizers"]
            if deletion.dry_run:
                return Outcome(stored, erased=not finalizers)
            table, key = self.table(resource), (metadata.get("namespace", ""), name)
            if not held_by_finalizers(resource, changed):
                erased = self.store.erase(table, key)
                self._react(resource)
                return Outcome(erased, erased=True)
            if metadata.get("deletionTimestamp") and metadata.get("finalizers") == finalizers:
                return Outcome(stored)
            changed["metadata"]["deletionTimestamp"] = metadata.get("deletionTimestamp") or self.now()
            if resource.table != NAMESPACES:
                changed["metadata"]["deletionGracePeriodSeconds"] = 0
            if "generation" in metadata and not metadata.get("deletionTimestamp"):
                changed["metadata"]["generation"] = metadata["generation"] + 1
            lifecycle.prepare_delete(resource, changed)
            committed = self.store.commit(table, key, changed, stored.managers)
            self._react(resource)
            return Outcome(committed)

    def _check_preconditions(self, resource: Resource, stored: Stored, deletion: Deletion) -> None:
        metadata = stored.value["metadata"]
        why = ""
        if deletion.uid and deletion.uid != stored.uid:
            why = (
                f"the UID in the precondition ({deletion.uid}) does not match the UID in record ({stored.uid}). "
                "The object might have been deleted and then recreated"
            )
        elif deletion.resource_version and deletion.resource_version != metadata["resourceVersion"]:
            why = (
                f"the ResourceVersion in the precondition ({deletion.resource_version}) does not match the "
                f"ResourceVersion in record ({metadata['resourceVersion']}). The object might have been modified"
            )
        if why:
            raise apierrors.conflict(resource.group, resource.kind, metadata["name"], why)

    # -- shared steps -----------------------------------------------------------------------------

    def _identify(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        """Check that a body is the object that the path names; returns a copy with a metadata of its own."""
        if not isinstance(body, dict):
            raise apierrors.bad_request("the object provided is unrecognized (must be of type object)")
        kind, version = body.get("kind") or resource.kind, body.get("apiVersion") or resource.api_version
        if kind != resource.kind or version != resource.api_version:
            have, want = f"{version}, Kind={kind}", f"{resource.api_version}, Kind={resource.kind}"
            raise apierrors.bad_request(f"{have} does not match the expected {want}")
        metadata = body.get("metadata")
        metadata = dict(metadata) if isinstance(metadata, dict) else {}
        if name and (metadata.get("name") or name) != name:
            text = f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            raise apierrors.bad_request(text)
        if name:
            metadata["name"] = name
        if resource.namespaced:
            if (metadata.get("namespace") or namespace) != namespace:
                raise apierrors.bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
            metadata["namespace"] = namespace
        elif metadata.get("namespace"):
            del metadata["namespace"]
        return {**body, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}

    def _decode(self, resource: Resource, body: Json, options: Options) -> tuple[Json, list[str]]:
        """Check types and unknown fields; returns a private copy that holds declared fields only."""
        if not resource.custom:
            for problem in wrong_types(resource.shape, body):
                what = f"{resource.kind} in version {json.dumps(resource.version)}"
                raise apierrors.bad_request(f"{what} cannot be handled as a {resource.kind}: {problem}")
        warnings: list[str] = []
        if options.validation != "Ignore":
            warnings = [f'unknown field "{path}"' for path in unknown_fields(resource.shape, body)]
            if warnings and options.validation == "Strict":
                what = f"{resource.kind} in version {json.dumps(resource.version)}"
                listed = ", ".join(warnings)
                raise apierrors.bad_request(
                    f"{what} cannot be handled as a {resource.kind}: strict decoding error: {listed}"
                )
        value = strip_nulls(resource.shape, strip_unknown(resource.shape, body))
        return copy.deepcopy(value), warnings

    def _default(self, resource: Resource, value: Json) -> None:
        if resource.custom:
            default_custom(resource.shape, value)
        else:
            default_builtin(resource.table, value)

    def _validate(self, resource: Resource, value: Json, old: Json | None) -> None:
        causes: list[Cause] = check(resource, value, old)
        if resource.table == crds.TABLE:
            causes += crds.check(value)
        if causes:
            raise apierrors.invalid(resource.group, resource.kind, value["metadata"].get("name", ""), causes)

    def _seal(self, value: Json, managers: Managers) -> None:
        value["metadata"].pop("managedFields", None)
        if managers:
            value["metadata"]["managedFields"] = ownership.encode_managers(managers)
