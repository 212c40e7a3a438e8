"""What the mirror commands print for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ocisync.cli import output
from ocisync.kit.sizes import readable as size

if TYPE_CHECKING:
    from ocisync.mirror.plan import Plan, RepositoryPlan


def plan(found: Plan) -> str:
    """A table of repositories, then the tags that change."""
    rows = [_row(one) for one in found.repositories]
    lines = [output.table(rows, ("SOURCE", "DESTINATION", "MANIFESTS", "BLOBS", "TO MOVE"))]
    for one in found.repositories:
        for tag in one.tags:
            if tag.writes or tag.action == "Refused":
                name = f"{one.destination.location}:{tag.named.name}"
                was = f" (now {tag.current})" if tag.current else ""
                lines.append(f"tag {tag.action.value.lower()}  {name} → {tag.named.digest}{was}")
    if found.writes:
        lines.append(f"{size(found.bytes_to_move)} to move; what one registry has already is linked where it can be")
    else:
        lines.append("the destination has everything")
    return "\n".join(output.plain(part) for line in lines for part in line.split("\n"))


def _row(one: RepositoryPlan) -> tuple[str, ...]:
    manifests = len(one.part.items) + len(one.part.beside)
    writes = len(one.missing | one.unlisted) + sum(item.action != "There" for item in one.beside)
    blobs = one.part.blobs()
    return (
        one.part.place.location,
        one.destination.location,
        f"{writes} of {manifests}",
        f"{len(one.blobs)} of {len(blobs)}",
        f"{size(sum(blob.size for blob in one.blobs))} of {size(sum(blob.size for blob in blobs.values()))}",
    )


def report(answer: Mapping[str, Any]) -> str:
    """What was copied, then the sums."""
    lines = []
    for item in answer["artifacts"]:
        if item["role"] == "Artifact":
            tag = f":{item['tag']}" if item["tag"] else ""
            lines.append(f"{item['source']} → {item['destination']}{tag}")
    images = sum(item["role"] == "Image" for item in answer["artifacts"])
    if images:
        lines.append(f"and {images} image{'s' if images > 1 else ''}")
    moved, there = answer["moved"], answer["there"]
    lines.append(
        f"moved      {moved['blobs']} blobs ({size(moved['bytes'])}), {moved['linkedBlobs']} linked,"
        f" {moved['manifests']} manifests, {moved['signatureTags']} signature tags, {moved['tags']} tags"
    )
    lines.append(f"was there  {there['blobs']} blobs, {there['manifests']} manifests, {there['tags']} tags")
    if answer["failed"]:
        lines.append(f"failed     {len(answer['failed'])}")
    lines += [f"removed    {tag}" for tag in answer["prunedTags"]]
    return "\n".join(output.plain(line) for line in lines)


def mapping(answer: Mapping[str, Any]) -> str:
    """Two pieces of YAML to be pasted."""
    from ocisync.kit import yamlio

    text = "# ArtifactSync, spec:\n" + yamlio.dump({name: answer[name] for name in answer if name != "remap"})
    if answer["remap"]:
        text += "# TrustPolicy, spec.repositoryClaim:\n" + yamlio.dump({"remap": answer["remap"]})
    return text.rstrip("\n")
