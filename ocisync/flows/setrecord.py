"""What an apply without an agent leaves about its set of objects, so that `why` can tell where they come from.

Kept as JSON in the ConfigMap that stands for the set, written when everything is applied. Nothing is decided by it: who
may write there may write anything, so it is an answer for people, and the artifact that it names is read by digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ocisync.cluster.client import MERGE_PATCH, Cluster, segment
from ocisync.cluster.fields import our_entry, parse_managed_fields
from ocisync.cluster.inventory import InventoryStore
from ocisync.cluster.normalise import Target, applyset_id
from ocisync.cluster.outcome import classify
from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.model.errors import ClusterRefused, OcisyncError
from ocisync.model.limits import SET_RECORD_BYTES
from ocisync.model.resource import JsonObject, labels_of
from ocisync.model.spec import FIELD_MANAGER, PART_OF_LABEL
from ocisync.model.values import dataclass

PARENT: Final = ("ConfigMap", "")
_PREFIX: Final = "ocisync-apply-"
_KEY: Final = "applied"
_RUN_BY: Final = "apply "  # how the inventory's header begins to say who runs


@dataclass(frozen=True, slots=True)
class SetRecord:
    """What was applied last, as a whole.

    Attributes:
        source: as a person named it.
        repository: where the artifact is; empty for a directory, and for a layout that stands for none.
        digest: of the artifact; empty for a directory.
        account: the service account that was impersonated; empty for the caller.
    """

    source: str = ""
    repository: str = ""
    digest: str = ""
    revision: str = ""
    signers: tuple[str, ...] = ()
    path: str = ""
    account: str = ""


@dataclass(frozen=True, slots=True)
class AppliedSet:
    """A set of objects that `ocisync apply` has made.

    Attributes:
        record: None if nothing was recorded: it was never applied as a whole, or by an ocisync that kept no record.
        attempted: the digest that was tried last, of an artifact or of a directory's files.
        run_by: who ran that, as `person@machine`.
    """

    namespace: str
    name: str
    record: SetRecord | None = None
    attempted: str = ""
    run_by: str = ""

    @classmethod
    def of(cls, parent: JsonObject) -> AppliedSet:
        """The set of a parent, of which no more is known than its name."""
        metadata = parent["metadata"]
        return cls(str(metadata["namespace"]), str(metadata["name"]).removeprefix(_PREFIX))


def parent_name(name: str) -> str:
    """The ConfigMap that stands for a set."""
    return _PREFIX + name


def keep(cluster: Cluster, target: Target, record: SetRecord) -> str:
    """Write a record to the set's parent; what went wrong, in words, and empty if nothing did."""
    kept = {
        "source": record.source, "repository": record.repository, "digest": record.digest, "path": record.path,
        "revision": record.revision, "signers": list(record.signers), "account": record.account,
    }  # fmt: skip
    body = {"metadata": {"uid": target.sync_uid}, "data": {_KEY: json.dumps(kept, separators=(",", ":"))}}
    path = f"/api/v1/namespaces/{segment(target.sync_namespace)}/configmaps/{segment(target.sync_name)}"
    try:
        answer = cluster.request(
            "PATCH",
            path,
            query=(("fieldManager", FIELD_MANAGER),),
            body=json.dumps(body).encode(),
            content_type=MERGE_PATCH,
        )
    except OcisyncError as error:
        return error.message
    return classify(answer).message if answer.status >= 300 else ""


def set_id_of(live: JsonObject) -> str:
    """The id of the set or sync that has applied an object; empty if a copied label is all there is."""
    return labels_of(live).get(PART_OF_LABEL, "") if our_entry(parse_managed_fields(live)) is not None else ""


def set_of(parents: Sequence[JsonObject], set_id: str) -> JsonObject | None:
    """The parent with this id among ConfigMaps; None if none is."""
    for parent in parents:
        metadata: Mapping[str, Any] = parent.get("metadata") or {}
        name, namespace = str(metadata.get("name")), str(metadata.get("namespace"))
        if name.startswith(_PREFIX) and applyset_id(name, namespace, *PARENT) == set_id:
            return parent
    return None


def read_set(cluster: Cluster, parent: JsonObject) -> AppliedSet:
    """The set of a parent, with what its record and its inventory say.

    Raises:
        Unavailable, ClusterRefused: the inventory could not be read, or one of the two makes no sense.
    """
    found = AppliedSet.of(parent)
    store = InventoryStore(cluster, found.namespace, sync_namespace=found.namespace, sync_name=parent_name(found.name))
    store.load()
    who, _, _ = store.header.holder.removeprefix(_RUN_BY).rpartition(" ")
    return replace(found, record=_record(parent), attempted=store.header.digest, run_by=who)


def _record(parent: JsonObject) -> SetRecord | None:
    text = (parent.get("data") or {}).get(_KEY)
    if not isinstance(text, str):
        return None
    try:
        found = parse_json_object(text.encode(errors="replace"), max_bytes=SET_RECORD_BYTES)
    except Malformed as error:
        metadata = parent["metadata"]
        raise ClusterRefused(
            f"ConfigMap {metadata['namespace']}/{metadata['name']}: what was applied cannot be read: {error}",
            hint="somebody changed it; the next ocisync apply writes it anew",
        ) from error

    def word(key: str) -> str:
        value = found.get(key)
        return value if isinstance(value, str) else ""

    if not word("source"):
        return None
    signers = found.get("signers")
    return SetRecord(
        source=word("source"),
        repository=word("repository"),
        digest=word("digest"),
        revision=word("revision"),
        signers=tuple(map(str, signers)) if isinstance(signers, list) else (),
        path=word("path"),
        account=word("account"),
    )
