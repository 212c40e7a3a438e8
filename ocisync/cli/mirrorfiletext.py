"""What the commands around mirror files print for people."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ocisync.cli import output
from ocisync.kit.sizes import readable as size

if TYPE_CHECKING:
    from ocisync.mirror.archive import Head


def json_line(answer: Mapping[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False)


def _joined(lines: list[str]) -> str:
    return "\n".join(output.plain(line) for line in lines)


def saved(answer: Mapping[str, Any], target: str) -> str:
    """What the file holds."""
    lines = []
    for part in answer["repositories"]:
        tags = ", ".join(part["tags"]) or "no tags"
        lines.append(
            f"{part['name']}  {part['manifests']} manifests, {part['blobs']} blobs ({size(part['bytes'])}), {tags}"
        )
    kind = f"a delta to {answer['base'][:19]}…" if answer["base"] else "complete"
    signed = "signed" if answer["signed"] else "not signed"
    lines.append(f"saved  {target}  {size(answer['size'])}, {kind}, {signed}")
    lines += [f"carries  {item['name']}  {item['digest']}" for item in answer["cargo"]]
    return _joined(lines)


def loaded(answer: Mapping[str, Any]) -> str:
    """What was judged and what was moved."""
    lines = [f"{name} → {place}" for name, place in answer["repositories"].items()]
    lines += [_verdict(one) for one in answer["judged"]]
    moved, there = answer["moved"], answer["there"]
    lines.append(
        f"moved      {moved['blobs']} blobs ({size(moved['bytes'])}), {moved['linkedBlobs']} linked,"
        f" {moved['manifests']} manifests, {moved['signatureTags']} signature tags, {moved['tags']} tags"
    )
    lines.append(f"was there  {there['blobs']} blobs, {there['manifests']} manifests, {there['tags']} tags")
    if answer["failed"]:
        lines.append(f"failed     {len(answer['failed'])}")
    if answer["senders"]:
        lines.append(f"complete   by {', '.join(answer['senders'])}")
    if answer["receipt"]:
        lines.append(f"receipt    {answer['receipt']}")
    return _joined(lines)


def _verdict(one: Mapping[str, Any]) -> str:
    if not one["judged"]:
        return f"not judged {one['name']}: {one['message']}"
    return f"{'verified  ' if one['allowed'] else 'refused   '} {one['name']}: {one['message']}"


def verified(answer: Mapping[str, Any], head: Head, file: str) -> str:
    """What was checked."""
    lines = [_verdict(one) for one in answer["judged"]]
    blobs = sum(1 for _ in head.contents.rest())
    lines.append(
        f"sound  {file}  {len(head.data)} manifests and small files, {blobs} blobs, created {answer['created']}"
    )
    if answer["base"]:
        lines.append(f"a delta to {answer['base']}")
    if answer["senders"]:
        lines.append(f"complete by {', '.join(answer['senders'])}")
    elif answer["signed"]:
        lines.append("signed; by whom is not known without --sender-key")
    else:
        lines.append("not signed: nobody says that it is complete")
    if not answer["judged"]:
        lines.append("no artifact was judged: add --policy FILE or --key FILE")
    return _joined(lines)


def cargo(answer: Mapping[str, Any], file: str) -> str:
    """What can be adopted."""
    if not answer["carried"]:
        return output.plain(f"{file} carries no keys, policies or trusted roots")
    lines = [f"{item['fingerprint']}  {item['name']}" for item in answer["carried"]]
    version = answer["version"] or "none"
    lines.append(f"version {version}; nothing of this is trusted")
    lines.append(f"adopt:  ocisync mirror trust {shlex.quote(file)} --fingerprint sha256:… --to DIR")
    return _joined(lines)


def adopted(answer: Mapping[str, Any]) -> str:
    """What was adopted."""
    return _joined([f"adopted  {path}" for path in answer["adopted"]] + [f"version  {answer['adoptedVersion']}"])
