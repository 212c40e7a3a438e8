"""What an object in an artifact asks for by its annotations: order, ownership, deletion. Parsed strictly, pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from ocisync.model.resource import ObjectId
from ocisync.model.spec import ADOPT, APPLY, DEPENDS_ON, FORCE, PROTECT, PRUNE, WAVE
from ocisync.model.values import dataclass

OBJECT_ANNOTATIONS = frozenset({ADOPT, APPLY, DEPENDS_ON, FORCE, PROTECT, PRUNE, WAVE})
_WAVES = range(-10_000, 10_001)


class ApplyMode(StrEnum):
    """The annotation `ocisync.dev/apply`."""

    OVERRIDE = "Override"
    IF_NOT_PRESENT = "IfNotPresent"
    IGNORE = "Ignore"


@dataclass(frozen=True, slots=True)
class ObjectOptions:
    """What the annotations of one manifest ask for. `adopt` is the id of the sync it is taken over from."""

    prune: bool = True
    force: bool = False
    apply: ApplyMode = ApplyMode.OVERRIDE
    depends_on: tuple[ObjectId, ...] = ()
    wave: int = 0
    protect: bool = False
    adopt: str = ""


_DEFAULT_OPTIONS = ObjectOptions()


def parse_dependency(text: str) -> ObjectId | None:
    """Parse `group/kind/namespace/name`; the core group may be empty or `core`. None if it is not of that form."""
    parts = text.strip().split("/")
    if len(parts) != 4 or not parts[1] or not parts[3]:
        return None
    group = "" if parts[0] == "core" else parts[0]
    return ObjectId(group, parts[1], parts[2], parts[3])


def parse_options(annotations: Mapping[str, str]) -> ObjectOptions:
    """Read our annotations.

    Raises:
        ValueError: a value is none of those allowed; the message names the annotation.
    """
    if not any(key.startswith("ocisync.dev/") for key in annotations):
        return _DEFAULT_OPTIONS
    return ObjectOptions(
        prune=not _chosen(annotations, PRUNE, "disabled", "enabled"),
        force=_chosen(annotations, FORCE, "enabled", "disabled"),
        apply=_mode(annotations.get(APPLY, "Override")),
        depends_on=_dependencies(annotations.get(DEPENDS_ON, "")),
        wave=_wave(annotations.get(WAVE, "0")),
        protect=_chosen(annotations, PROTECT, "confirm"),
        adopt=annotations.get(ADOPT, ""),
    )


def _chosen(annotations: Mapping[str, str], key: str, yes: str, no: str = "") -> bool:
    value = annotations.get(key, no)
    if value not in (yes, no):
        raise ValueError(f"annotation {key}: {value!r} is not one of: {yes}{f', {no}' if no else ''}")
    return value == yes


def _mode(value: str) -> ApplyMode:
    try:
        return ApplyMode(value)
    except ValueError:
        allowed = ", ".join(ApplyMode)
        raise ValueError(f"annotation {APPLY}: {value!r} is not one of: {allowed}") from None


def _wave(value: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,5}", value.strip()) or int(value) not in _WAVES:
        raise ValueError(f"annotation {WAVE}: {value!r} is no whole number from -10000 to 10000")
    return int(value)


def _dependencies(value: str) -> tuple[ObjectId, ...]:
    found = []
    for part in value.strip().removeprefix("[").removesuffix("]").replace("\n", ",").split(","):
        if not part.strip():
            continue
        dependency = parse_dependency(part)
        if dependency is None:
            raise ValueError(f"annotation {DEPENDS_ON}: {part.strip()!r} is not of the form group/kind/namespace/name")
        found.append(dependency)
    return tuple(found)
