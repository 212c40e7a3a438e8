"""What a source leads to now: a tag by one HEAD, a version range by the list of tags and one HEAD.

The newest version of the range counts, and only that one: if it can't be trusted, no older one takes its place, since
whoever can hide a signature could otherwise choose among the versions.
"""

from __future__ import annotations

from ocisync.flows.outcome import ArtifactFacts
from ocisync.model.errors import NotFound
from ocisync.model.semver import newest_first, parse_range, parse_version
from ocisync.model.spec import SelectorKind, SourceSpec
from ocisync.oci.store import Store


def offer(store: Store, source: SourceSpec) -> ArtifactFacts:
    """The tag and the digest that a source offers.

    Raises:
        NotFound: no such tag, or no version in the range.
        OcisyncError: the registry.
    """
    if source.kind is SelectorKind.DIGEST:
        return ArtifactFacts(digest=source.selector)
    tag = source.selector if source.kind is SelectorKind.TAG else _newest(store, source)
    descriptor = store.resolve(tag)
    if descriptor is None:
        hint = f"push it, or correct spec.source.{source.kind}"
        raise NotFound(f"{source.reference.repository} has no tag {tag!r}", hint=hint)
    return ArtifactFacts(tag=tag, digest=descriptor.digest)


def leads_to(source: SourceSpec, tag: str) -> bool:
    """Whether this source can lead to a tag at all."""
    if source.kind is SelectorKind.TAG:
        return tag == source.selector
    version = parse_version(tag)
    return source.kind is SelectorKind.SEMVER and version is not None and parse_range(source.selector).matches(version)


def _newest(store: Store, source: SourceSpec) -> str:
    tags = list(store.tags())
    found = newest_first(tags, parse_range(source.selector))
    if found:
        return found[0]
    versions = newest_first(tags)
    there = f"the newest version is {versions[0]}" if versions else "there is no version at all"
    repository = source.reference.repository
    raise NotFound(
        f"{repository} has no version in the range {source.selector!r}; {there}",
        hint=f"push one, or correct spec.source.semver; ocisync list oci://{repository}",
    )
