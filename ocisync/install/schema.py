"""Small builders for structural OpenAPI v3 schemas, so that the CRDs read like the documentation of their fields."""

from __future__ import annotations

from ocisync.model.resource import JsonObject

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?([0-9]+(\.[0-9]+)?s)?([0-9]+ms)?$"
NAME_CHARS = 253


def text(
    description: str, *, most: int = 1024, least: int = 0, pattern: str = "", default: str | None = None
) -> JsonObject:
    """A bounded string."""
    out: JsonObject = {"type": "string", "description": description, "maxLength": most}
    if least:
        out["minLength"] = least
    if pattern:
        out["pattern"] = pattern
    if default is not None:
        out["default"] = default
    return out


def choice(description: str, *values: str, default: str | None = None) -> JsonObject:
    """One of some words."""
    out: JsonObject = {"type": "string", "description": description, "enum": list(values)}
    if default is not None:
        out["default"] = default
    return out


def duration(description: str, default: str | None = None) -> JsonObject:
    """A Go duration."""
    return text(description, most=32, least=2, pattern=DURATION_PATTERN, default=default)


def flag(description: str, *, default: bool | None = None) -> JsonObject:
    """True or false."""
    out: JsonObject = {"type": "boolean", "description": description}
    if default is not None:
        out["default"] = default
    return out


def whole(description: str, *, least: int | None = None, most: int | None = None) -> JsonObject:
    """A 64-bit integer."""
    out: JsonObject = {"type": "integer", "format": "int64", "description": description}
    if least is not None:
        out["minimum"] = least
    if most is not None:
        out["maximum"] = most
    return out


def record(
    description: str,
    properties: JsonObject,
    *,
    required: tuple[str, ...] = (),
    rules: tuple[tuple[str, str], ...] = (),
    open_world: bool = False,
) -> JsonObject:
    """An object.

    Args:
        description: what it is.
        properties: its fields.
        required: fields that must be there.
        rules: CEL expressions with their messages.
        open_world: keep unknown fields, so that the reader sees (and refuses) a typo that pruning would hide.
    """
    out: JsonObject = {"type": "object", "description": description, "properties": properties}
    if required:
        out["required"] = list(required)
    if rules:
        out["x-kubernetes-validations"] = [{"rule": rule, "message": message} for rule, message in rules]
    if open_world:
        out["x-kubernetes-preserve-unknown-fields"] = True
    return out


def many(
    description: str, item: JsonObject, *, most: int, keys: tuple[str, ...] = (), kind: str = "atomic"
) -> JsonObject:
    """A list; with `keys` a map list, so that several appliers can own different entries."""
    out: JsonObject = {"type": "array", "description": description, "items": item, "maxItems": most}
    out["x-kubernetes-list-type"] = "map" if keys else kind
    if keys:
        out["x-kubernetes-list-map-keys"] = list(keys)
    return out


def mapping(description: str, *, most: int = 64, value_chars: int = 4096) -> JsonObject:
    """A map of strings."""
    return {
        "type": "object",
        "description": description,
        "maxProperties": most,
        "additionalProperties": {"type": "string", "maxLength": value_chars},
    }


def name_reference(description: str) -> JsonObject:
    """A `…Ref: {name}` field."""
    return record(description, {"name": text("Its name.", most=NAME_CHARS, least=1)}, required=("name",))


def conditions() -> JsonObject:
    """The standard list of conditions."""
    return many(
        "What is true of the object now.",
        record(
            "One condition.",
            {
                "type": text("Its name.", most=316),
                "status": choice("True, False or Unknown.", "True", "False", "Unknown"),
                "reason": text("One word why.", most=1024),
                "message": text("A sentence for people.", most=32768),
                "observedGeneration": whole("Generation of the spec it speaks of.", least=0),
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When its status last changed.",
                },
            },
            required=("type", "status", "reason", "message", "lastTransitionTime"),
        ),
        most=20,
        keys=("type",),
    )
