"""`.imgpkg/images.yml` of an artifact: which image, by digest, a text in its manifests means.

imgpkg and kbld call the file an ImagesLock. The text of an entry is kbld's annotation; an entry without one stands for
itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ocisync.kit import yamlio
from ocisync.model.errors import Finding, InvalidInput, UsageError
from ocisync.model.image import KBLD_ID, LOCK, parse_image
from ocisync.model.ref import Reference
from ocisync.model.tree import TreeFile


def lock_of(files: Iterable[TreeFile]) -> TreeFile | None:
    """The lock among the files of an artifact; None if there is none."""
    return next((file for file in files if file.path == LOCK), None)


def locked_images(lock: TreeFile, findings: list[Finding]) -> dict[str, Reference]:
    """The images of a lock by the text that they stand for; what is wrong with it is added to the findings."""
    named: dict[str, Reference] = {}
    try:
        documents = yamlio.parse_documents(lock.data, lock.path)
    except InvalidInput as error:
        findings += error.findings or (Finding(lock.path, 0, 0, error.message),)
        return named
    for document in documents:
        value = document.value
        if not isinstance(value, dict) or value.get("kind") != "ImagesLock":
            findings.append(Finding(lock.path, document.line, 0, "this is no ImagesLock"))
            continue
        entries = value.get("images") or []
        for entry in entries if isinstance(entries, list) else [entries]:
            reference = digest_reference(entry)
            if reference is None:
                findings.append(Finding(lock.path, document.line, 0, "an image of the lock is no reference by digest"))
                continue
            annotations = entry.get("annotations")
            text = annotations.get(KBLD_ID) if isinstance(annotations, dict) else None
            named[text if isinstance(text, str) and text else str(reference)] = reference
    return named


def digest_reference(entry: Any) -> Reference | None:
    """The image of an entry of a lock; None if it is no image by digest."""
    text = entry.get("image") if isinstance(entry, dict) else None
    try:
        found = parse_image(text) if isinstance(text, str) else None
    except UsageError:
        return None
    return found if found is not None and found.digest else None


def digests(lock: Mapping[str, Reference]) -> dict[str, str]:
    """Only which digest a text means."""
    return {text: reference.digest for text, reference in lock.items()}
