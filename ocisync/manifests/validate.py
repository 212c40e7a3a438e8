"""Judge manifests before anything is uploaded: all findings together, each at its place, no value ever printed.

Errors: one object twice (both places named), names that no API server takes, labels and annotations that are not
strings, annotations of ours that the engine would refuse, dependencies that are missing or go in a circle, plain
Secrets, key-like files, objects over etcd's limit; with a catalog of schemas, also all that an object's kind does not
allow. Warnings: text that looks like a credential, image tags that move, deprecated API versions, custom
kinds without a definition. Every finding carries the name of its rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache

from ocisync.kit.yamlio import Path
from ocisync.manifests import order, secrets
from ocisync.manifests.images import pod_images
from ocisync.manifests.parse import FilePlaces, is_manifest
from ocisync.manifests.rules import WARNINGS, Rule
from ocisync.manifests.schema.catalog import Catalog, is_definition
from ocisync.model import limits
from ocisync.model.errors import Finding
from ocisync.model.resource import ManifestObject, ObjectId
from ocisync.model.tree import TreeFile
from ocisync.model.values import dataclass

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")
_SUBDOMAIN_CHARS = 253
_QUALIFIED = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
# Names of these are path segments: RBAC has `system:node`, signing requests what their client likes.
_FREE_NAMES = frozenset({"rbac.authorization.k8s.io", "certificates.k8s.io"})
_FREE_KINDS = frozenset({("policy", "PodDisruptionBudget")})
_LABEL_NAMES = frozenset({("", "Namespace"), ("", "Service"), ("apps", "StatefulSet")})
# Their pods' names are longer, and labels hold them.
_NAME_CHARS = {("batch", "CronJob"): 52, ("batch", "Job"): 63}
_STRINGS = (("labels",), ("annotations",))
_PLAIN_HINT = "encrypt it, create it in the cluster, or name it with --allow-plain-secret"


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found. Errors stop a push, warnings are shown."""

    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


def check(
    objects: Sequence[ManifestObject],
    files: Sequence[TreeFile],
    *,
    allow_plain_secrets: Collection[str] = (),
    catalog: Catalog | None = None,
    show: Callable[[str], str] = str,
) -> Report:
    """Judge objects and the files they are from.

    Args:
        objects: as parsed.
        files: the whole tree, manifests or not.
        allow_plain_secrets: `NAMESPACE/NAME` (`NAME` without a namespace) of Secrets that may be in the clear.
        catalog: schemas to hold the objects against; definitions among the objects are added to it first.
        show: names a file in a message as the user does.
    """
    inspector = _Inspector(files, frozenset(allow_plain_secrets), catalog)
    inspector.duplicates(objects, show)
    inspector.order(objects)
    inspector.define(objects)
    for item in objects:
        inspector.check_object(item)
    for file in files:
        inspector.check_file(file)
    return Report(_sorted(inspector.errors), _sorted(inspector.warnings))


def _sorted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: (finding.file, finding.line, finding.column, finding.message)))


class _Inspector:
    def __init__(self, files: Sequence[TreeFile], allowed: frozenset[str], catalog: Catalog | None) -> None:
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []
        self._catalog = catalog
        self._files = {file.path: file for file in files}
        self._places: dict[str, FilePlaces] = {}
        self._allowed = allowed

    def duplicates(self, objects: Sequence[ManifestObject], show: Callable[[str], str]) -> None:
        first: dict[ObjectId, ManifestObject] = {}
        for item in objects:
            other = first.setdefault(item.id, item)
            if other is not item:
                message = f"{item.id} is already defined at {show(other.file)}:{other.line}"
                self._add(self._finding(item, (), message, Rule.DUPLICATE_OBJECT))

    def order(self, objects: Sequence[ManifestObject]) -> None:
        for found in order.problems(objects):
            self._add(self._finding(found.item, found.path, found.message, found.rule))

    def define(self, objects: Sequence[ManifestObject]) -> None:
        for item in objects if self._catalog is not None else ():
            if is_definition(item):
                for problem in self._catalog.define(item.body) if self._catalog else ():
                    self._add(self._finding(item, problem.path, problem.message, problem.rule))

    def check_object(self, item: ManifestObject) -> None:
        problem = name_problem(item.id)
        if problem:
            self._add(self._finding(item, ("metadata",), problem, Rule.OBJECT_NAME))
        told = self._check_strings(item)
        for found in self._catalog.check(item) if self._catalog is not None else ():
            # Labels and annotations were judged already, in words that say what to do.
            if not (told and found.path[:1] == ("metadata",) and found.path[1:2] in _STRINGS):
                self._add(self._finding(item, found.path, found.message, found.rule))
        if secrets.is_secret(item) and _secret_name(item) not in self._allowed:
            for where, what in secrets.plain_values(item.body):
                message = f"Secret {_secret_name(item)}: {what}; {_PLAIN_HINT} {_secret_name(item)}"
                self._add(self._finding(item, where, message, Rule.PLAIN_SECRET))
        size = self._size(item)
        if size > limits.OBJECT_BYTES:
            message = f"{item.id} has {size} bytes, more than etcd's limit of {limits.OBJECT_BYTES}"
            self._add(self._finding(item, (), message, Rule.OBJECT_SIZE))
        for path, image in pod_images(item.body):
            why = tag_problem(image) if isinstance(image, str) and image else ""
            if why:
                message = f"image {image[:200]!r} {why}: pin a version or a digest"
                self._add(self._finding(item, path, message, Rule.MOVING_IMAGE_TAG))

    def _add(self, finding: Finding) -> None:
        (self.warnings if finding.rule in WARNINGS else self.errors).append(finding)

    def check_file(self, file: TreeFile) -> None:
        what = secrets.key_file_problem(file.path, file.data, manifest=is_manifest(file.path))
        if what:
            message = f"looks like {what}: remove it, or list it in .ocisyncignore"
            self._add(Finding(file.path, 0, 0, message, Rule.KEY_FILE))
            return
        for line, kind in secrets.credential_lines(file.data):
            self._add(Finding(file.path, line, 0, f"looks like a credential ({kind})", Rule.CREDENTIAL))

    def _check_strings(self, item: ManifestObject) -> bool:
        """Judge labels and annotations; tell whether there was anything to say."""
        before = len(self.errors)
        metadata = item.body["metadata"]
        for field in ("labels", "annotations"):
            values = metadata.get(field)
            if values is None:
                continue
            if not isinstance(values, dict):
                message = f"metadata.{field} must be a mapping"
                self._add(self._finding(item, ("metadata", field), message, Rule.METADATA_STRING))
                continue
            for key, value in values.items():
                if not isinstance(value, str):
                    message = f"metadata.{field}[{key[:100]!r}] must be a string: put it in quotes"
                    self._add(self._finding(item, ("metadata", field, key), message, Rule.METADATA_STRING))
                elif problem := label_problem(key, value) if field == "labels" else annotation_problem(key):
                    message = f"metadata.{field}[{key[:100]!r}]: {problem}"
                    self._add(self._finding(item, ("metadata", field, key), message, Rule.LABEL))
        return len(self.errors) > before

    def _size(self, item: ManifestObject) -> int:
        file = self._files.get(item.file)
        # JSON is at most a few times larger than the YAML it was written as, unless aliases expand.
        if file is not None and len(file.data) < limits.OBJECT_BYTES // 4 and b"&" not in file.data:
            return 0
        return len(json.dumps(item.body, separators=(",", ":"), ensure_ascii=False).encode())

    def _finding(self, item: ManifestObject, path: Path, message: str, rule: Rule) -> Finding:
        file = self._files.get(item.file)
        if file is None:
            return Finding(item.file, item.line, 1, message, rule)
        places = self._places.get(item.file)
        if places is None:
            places = self._places[item.file] = FilePlaces(file)
        line, column = places.find_at(item.line, path)
        return Finding(item.file, line or item.line, column or 1, message, rule)


def _secret_name(item: ManifestObject) -> str:
    return f"{item.id.namespace}/{item.id.name}" if item.id.namespace else item.id.name


@lru_cache(maxsize=4096)  # the same few labels stand in every manifest
def label_problem(key: str, value: str) -> str:
    """Say why an API server would refuse a label; empty if it would not."""
    prefix, slash, name = key.rpartition("/")
    if slash and (not _SUBDOMAIN.match(prefix) or len(prefix) > _SUBDOMAIN_CHARS):
        return "what is before the '/' must be a DNS name in lower case"
    if not _QUALIFIED.match(name):
        return "a key has letters, digits, '-', '_' and '.', at most 63, and ends with a letter or digit"
    if value and not _QUALIFIED.match(value):
        return "a label's value has letters, digits, '-', '_' and '.', at most 63, and ends with a letter or digit"
    return ""


def annotation_problem(key: str) -> str:
    """Say why an API server would refuse an annotation's key; upper case is no reason."""
    prefix, slash, name = key.rpartition("/")
    return label_problem(prefix.lower() + slash + name, "")


def name_problem(object_id: ObjectId) -> str:
    """Say why an API server would refuse an object's name or namespace; empty if it would not."""
    name, namespace = object_id.name, object_id.namespace
    if namespace and not _LABEL.match(namespace):
        return f"bad namespace {namespace[:80]!r}: lower-case letters, digits and '-', at most 63"
    shown = f"bad name {name[:80]!r}"
    kind = (object_id.group, object_id.kind)
    if object_id.group in _FREE_NAMES or kind in _FREE_KINDS:
        if name in (".", "..") or "/" in name or "%" in name:
            return f"{shown}: it must not be '.' or '..' or hold '/' or '%'"
        return ""
    if kind in _LABEL_NAMES:
        return "" if _LABEL.match(name) else f"{shown}: lower-case letters, digits and '-', at most 63"
    most = _NAME_CHARS.get(kind, _SUBDOMAIN_CHARS)
    if len(name) > most or not _SUBDOMAIN.match(name):
        return f"{shown}: lower-case letters, digits, '-' and '.', at most {most}"
    return ""


def tag_problem(image: str) -> str:
    """Say why an image may change under its name; empty if it is pinned or has a version for a tag."""
    if "@" in image or "$" in image:
        return ""
    tag = image.rpartition("/")[2].partition(":")[2]
    if not tag:
        return "has no tag"
    return "" if any(char.isdigit() for char in tag) else "has a tag that moves"
