"""Write what a closure holds into one repository, in an order that is safe to be cut anywhere.

Blobs must be there. Then: manifests by digest, parts before their index; referrers one at a time for each subject, and
lists that clients keep read back once rivals had their time; tags beside a digest, brought together with what is there;
and, after everything, the tags. Each function can be repeated: what is there already costs a question at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ocisync.mirror.beside import MERGED_SUFFIXES, union
from ocisync.mirror.closure import Beside, Item, Named, RepositoryClosure
from ocisync.mirror.plan import TagAction, decide_tag
from ocisync.model.errors import NotFound, Refused
from ocisync.oci.store import BatchStore, Manifest, Store

_ROUNDS = 5  # others may write to a shared tag at the same time


def write_items(store: Store, part: RepositoryClosure, items: Sequence[Item]) -> list[Callable[[], None]]:
    """Store manifests by digest; what refers to another of the closure is attached to it.

    Returns:
        What has to be called before anything is tagged, `SETTLE_S` later: lists that clients keep are read back.
    """
    referrers: dict[str, list[bytes]] = {}
    for item in items:  # an item comes after its subject, so a subject that is a referrer itself is stored before
        if item.subject in part.by_digest:
            referrers.setdefault(item.subject, []).append(item.manifest.raw)
        else:
            store.put_manifest(item.manifest.raw, item.manifest.descriptor.media_type, item.digest)
    later: list[Callable[[], None]] = []
    for digest, raws in referrers.items():
        subject = replace(part.by_digest[digest].manifest.descriptor, artifact_type="")
        if isinstance(store, BatchStore):
            confirm = store.attach_all(raws, subject)
            later += [confirm] if confirm is not None else []
        else:
            for raw in raws:
                store.attach(raw, subject)
    return later


def write_beside(store: Store, beside: Beside) -> bool:
    """Write a tag beside a digest, with what others have put there; False if there was nothing to do.

    Raises:
        Refused: the tag holds what cannot be kept, or does not stay.
    """
    ours = beside.item.manifest
    for round_ in range(_ROUNDS):
        theirs = _current(store, beside.tag)
        if beside.suffix in MERGED_SUFFIXES:
            wanted = union(ours, theirs)
            if wanted is None:
                return round_ > 0
            if wanted.config:
                store.put_blob(wanted.config_descriptor, wanted.config)
            store.put_manifest(wanted.raw, wanted.media_type, beside.tag)
        else:
            if theirs is not None and theirs.descriptor.digest == ours.descriptor.digest:
                return round_ > 0
            store.put_manifest(ours.raw, ours.descriptor.media_type, beside.tag)
    raise Refused(
        f"tag {beside.tag} of {store.repository} does not stay as it was written",
        reason="TagMutated",
        hint="somebody else writes to it; try again",
    )


def _current(store: Store, tag: str) -> Manifest | None:
    try:
        return store.manifest(tag)
    except NotFound:
        return None


def write_tag(store: Store, item: Item, named: Named, *, force: bool) -> TagAction:
    """Set one tag, deciding again on what is there now, and read it back.

    Raises:
        Refused: it never moves, or does not stay where it was set.
    """
    found = store.resolve(named.name)
    action = decide_tag(named, found.digest if found is not None else "", force=force)
    if action is TagAction.REFUSED:
        raise Refused(
            f"tag {named.name} of {store.repository} never moves and has got other content meanwhile",
            reason="TagImmutable",
        )
    if action not in (TagAction.SET, TagAction.MOVE):
        return action
    store.put_manifest(item.manifest.raw, item.manifest.descriptor.media_type, named.name)
    after = store.resolve(named.name)
    if after is None or after.digest != named.digest:
        raise Refused(
            f"tag {named.name} of {store.repository} points to {after.digest if after else 'nothing'} right after it"
            f" was set to {named.digest}",
            reason="TagMutated",
            hint="somebody else moves it, or the registry does not let it move; try again",
        )
    return action
