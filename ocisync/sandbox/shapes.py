"""The shape of an object: its fields, types and merge rules, from the built-in table or from a CRD's schema.

A `Shape` tells the merge (`fields.py`) which lists are keyed, sets or atomic, and the checks
(`validation.py`) which fields and types exist. The built-in shapes come from `builtin.json`, a compact form
of Kubernetes' own OpenAPI document; a CRD's shape is read from its structural schema with
`x-kubernetes-list-type`, `x-kubernetes-list-map-keys`, `x-kubernetes-map-type`,
`x-kubernetes-preserve-unknown-fields`, `x-kubernetes-int-or-string` and `x-kubernetes-embedded-resource`.

Where nothing is known (`ANY`), maps are merged key by key and lists are atomic, as the real server does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Final

Json = Any  # open-world JSON


@dataclass(slots=True, eq=False)
class Shape:
    """One node. `kind` is scalar, struct, dict, list or any; other columns as they make sense."""

    kind: str
    scalar: str = ""  # s string, i integer, n number, b boolean, q quantity, x int-or-string, t time
    fields: dict[str, Shape] = field(default_factory=dict)  # struct
    element: Shape | None = None  # dict, list
    atomic: bool = False
    keys: tuple[str, ...] = ()  # list: the map keys; a non-atomic list without keys is a set
    key_defaults: dict[str, Json] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    preserve: bool = False  # struct: unknown fields are kept
    merge_key: str = ""  # strategic merge patch
    merge_scalars: bool = False
    schema: Mapping[str, Json] = field(default_factory=dict)  # CRD: the node's own schema, for value checks
    name: str = ""  # struct: the Go type, for messages

    def child(self, name: str) -> Shape | None:
        """Return the shape of a field or key; None when it is not declared."""
        if self.kind == "struct":
            found = self.fields.get(name)
            return found if found is not None else (ANY if self.preserve else None)
        if self.kind == "dict":
            return self.element
        return ANY if self.kind == "any" else None


ANY: Final = Shape("any")
_SCALARS: Final = {code: Shape("scalar", scalar=code) for code in "sinbqxt"}


@cache
def builtin_shapes() -> dict[str, Shape]:
    """Return `group/version/Kind` (core: `version/Kind`) -> shape of every built-in kind."""
    document = json.loads(resources.files("ocisync.sandbox").joinpath("builtin.json").read_text())
    definitions = {
        name: Shape(
            "struct",
            atomic=spec.get("m") == "atomic",
            required=tuple(spec.get("r", ())),
            name=name.rpartition(":")[2].rpartition(".")[2],
        )
        for name, spec in document["defs"].items()
    }
    for name, spec in document["defs"].items():
        # In place: atomic twins of this definition share the table.
        definitions[name].fields.update({key: _builtin(sub, definitions) for key, sub in spec["p"].items()})
        if not spec["p"]:
            definitions[name].preserve = True
    return {kind: definitions[name] for kind, name in document["kinds"].items()}


def _builtin(spec: Json, definitions: Mapping[str, Shape]) -> Shape:
    if spec == "*":
        return ANY
    if isinstance(spec, str):
        return _SCALARS[spec]
    if "v" in spec:
        return _SCALARS[spec["y"]]
    if "$" in spec:
        target = definitions[spec["$"]]
        if spec.get("a") and not target.atomic:
            # The definition may still be empty here, so the atomic twin shares its tables.
            return Shape("struct", fields=target.fields, atomic=True, required=target.required)
        return target
    if "d" in spec:
        return Shape("dict", element=_builtin(spec["d"], definitions), atomic=bool(spec.get("a")))
    element = _builtin(spec["l"], definitions)
    return Shape(
        "list",
        element=element,
        atomic=spec["t"] == "atomic",
        keys=tuple(spec.get("k", ())),
        key_defaults=_KEY_DEFAULTS if "protocol" in spec.get("k", ()) else {},
        merge_key=spec.get("pk", ""),
        merge_scalars=bool(spec.get("ps")),
    )


_KEY_DEFAULTS: Final[dict[str, Json]] = {"protocol": "TCP"}  # the only defaulted key of the built-in kinds


_ALWAYS_THERE: Final = frozenset(
    (
        "spec", "status", "metadata", "strategy", "updateStrategy", "template", "jobTemplate", "resources",
        "loadBalancer", "scaleTargetRef", "podSelector", "source", "involvedObject",
    )
)  # fmt: skip


def zero(shape: Shape) -> Json:
    """Return what an empty object of a built-in kind already has.

    The real server compares a new object with an empty one of its Go type, whose plain structs are there, though empty.
    They count as unchanged, so whoever creates the object does not own them as such.
    """
    made: dict[str, Json] = {}
    for name, child in shape.fields.items():
        if child.kind == "struct" and name in _ALWAYS_THERE:
            made[name] = zero(child)
        elif name == "containers":
            made[name] = None
    return made


def crd_shape(schema: Mapping[str, Json] | None) -> Shape:
    """Return the shape of a custom resource from its version's `openAPIV3Schema`."""
    root = _custom(schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    if root.kind == "any":
        root = Shape("struct", preserve=True)
    root.fields = dict(root.fields) | _type_meta()
    return root


def _type_meta() -> dict[str, Shape]:
    return {
        "apiVersion": _SCALARS["s"],
        "kind": _SCALARS["s"],
        "metadata": builtin_shapes()["v1/ConfigMap"].fields["metadata"],
    }


def _custom(schema: Mapping[str, Json]) -> Shape:
    preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if schema.get("x-kubernetes-int-or-string"):
        return Shape("scalar", scalar="x", schema=schema)
    kind = schema.get("type")
    if kind == "array":
        return _custom_list(schema)
    if kind == "object" or schema.get("properties"):
        return _custom_object(schema, preserve=preserve)
    codes = {"string": "s", "integer": "i", "number": "n", "boolean": "b"}
    if kind in codes:
        return Shape("scalar", scalar=codes[str(kind)], schema=schema)
    return Shape("any", schema=schema)


def _custom_list(schema: Mapping[str, Json]) -> Shape:
    element = _custom(schema.get("items") or {"x-kubernetes-preserve-unknown-fields": True})
    keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
    properties = (schema.get("items") or {}).get("properties") or {}
    return Shape(
        "list",
        element=element,
        atomic=schema.get("x-kubernetes-list-type", "atomic") == "atomic",
        keys=keys,
        key_defaults={key: properties[key]["default"] for key in keys if "default" in properties.get(key, {})},
        schema=schema,
    )


def _custom_object(schema: Mapping[str, Json], *, preserve: bool) -> Shape:
    atomic = schema.get("x-kubernetes-map-type") == "atomic"
    free = schema.get("additionalProperties")
    if isinstance(free, Mapping):
        return Shape("dict", element=_custom(free), atomic=atomic, schema=schema)
    if free is True:
        return Shape("dict", element=ANY, atomic=atomic, schema=schema)
    fields = {name: _custom(sub) for name, sub in (schema.get("properties") or {}).items()}
    if schema.get("x-kubernetes-embedded-resource"):
        fields |= _type_meta()
    required = tuple(schema.get("required", ()))
    return Shape("struct", fields=fields, atomic=atomic, required=required, preserve=preserve, schema=schema)
