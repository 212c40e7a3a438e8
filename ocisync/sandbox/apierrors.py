"""Errors of the API server, each rendered as the `Status` object that the real one sends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from ocisync.sandbox.shapes import Json

CODES: Final = {
    "BadRequest": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "MethodNotAllowed": 405,
    "NotAcceptable": 406,
    "AlreadyExists": 409,
    "Conflict": 409,
    "Expired": 410,
    "Gone": 410,
    "RequestEntityTooLarge": 413,
    "UnsupportedMediaType": 415,
    "Invalid": 422,
    "TooManyRequests": 429,
    "InternalError": 500,
    "": 500,
}


class ApiError(Exception):
    """A request that ends in a `Status` of kind Failure."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        details: Json | None = None,
        code: int | None = None,
        plain: bool = False,
    ) -> None:
        """`plain`: the real server answers this one with text, not with a Status."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.code = CODES[reason] if code is None else code
        self.plain = plain
        self.details = details

    def status(self) -> dict[str, Json]:
        """Return the `Status` object."""
        status: dict[str, Json] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        return status | {"code": self.code}


def _details(name: str, group: str, kind: str, **more: Json) -> dict[str, Json]:
    made: dict[str, Json] = {"name": name} if name else {}
    if group:
        made["group"] = group
    return made | {"kind": kind} | more


def qualified(resource: str, group: str) -> str:
    """Write `plural.group`, or the plural alone for the core group."""
    return f"{resource}.{group}" if group else resource


def not_found(group: str, resource: str, name: str) -> ApiError:
    """No such object."""
    text = f'{qualified(resource, group)} "{name}" not found'
    return ApiError("NotFound", text, details=_details(name, group, resource))


def no_such_path() -> ApiError:
    """No such kind or route: the real server answers in plain text."""
    return ApiError("NotFound", "404 page not found\n", plain=True)


def no_such_resource() -> ApiError:
    """A built-in group is there, the resource in it is not."""
    return ApiError("NotFound", "the server could not find the requested resource", details={})


def already_exists(group: str, resource: str, name: str, *, why: str = "") -> ApiError:
    """The name is taken."""
    text = f'{qualified(resource, group)} "{name}" already exists'
    return ApiError("AlreadyExists", why or text, details=_details(name, group, resource))


def conflict(group: str, resource: str, name: str, why: str) -> ApiError:
    """A precondition failed."""
    text = f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {why}'
    return ApiError("Conflict", text, details=_details(name, group, resource))


def stale_version(group: str, resource: str, name: str) -> ApiError:
    """The writer's resourceVersion is not the current one."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(group, resource, name, why)


def bad_request(message: str) -> ApiError:
    """The request makes no sense."""
    return ApiError("BadRequest", message)


def forbidden(group: str, resource: str, name: str, why: str, causes: Sequence[Json] = ()) -> ApiError:
    """Not allowed."""
    details = _details(name, group, resource)
    if causes:
        details["causes"] = list(causes)
    return ApiError("Forbidden", f'{qualified(resource, group)} "{name}" is forbidden: {why}', details=details)


def gone(message: str) -> ApiError:
    """The requested history is no longer kept."""
    return ApiError("Expired", message)


class Cause:
    """One finding of a validation: field, type and words."""

    __slots__ = ("field", "message", "reason")

    def __init__(self, reason: str, field: str, message: str) -> None:
        """`reason` is FieldValueRequired, FieldValueInvalid, FieldValueForbidden, …; `message` without the field."""
        self.reason = reason
        self.field = field
        self.message = message

    def as_json(self) -> dict[str, Json]:
        """Return the Status cause."""
        return {"reason": self.reason, "message": self.message, "field": self.field}

    def __str__(self) -> str:
        """Write the finding as the message lists it."""
        return f"{self.field}: {self.message}"


def required(field: str, why: str = "") -> Cause:
    """A field is missing."""
    return Cause("FieldValueRequired", field, "Required value" + (f": {why}" if why else ""))


def invalid_value(field: str, value: Json, why: str) -> Cause:
    """A field holds a wrong value."""
    return Cause("FieldValueInvalid", field, f"Invalid value: {json.dumps(value, separators=(',', ':'))}: {why}")


def not_supported(field: str, value: Json, allowed: Sequence[str]) -> Cause:
    """A field is not one of an enumeration."""
    listed = ", ".join(f'"{item}"' for item in allowed)
    text = f"Unsupported value: {json.dumps(value)}: supported values: {listed}"
    return Cause("FieldValueNotSupported", field, text)


def forbidden_value(field: str, why: str) -> Cause:
    """A field must not be set or changed so."""
    return Cause("FieldValueForbidden", field, f"Forbidden: {why}")


def wrong_type(field: str, value: Json, wanted: str) -> Cause:
    """A field of a custom resource has the wrong type."""
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    have = names.get(type(value), "null")
    text = f'Invalid value: "{have}": {field} in body must be of type {wanted}: "{have}"'
    return Cause("FieldValueTypeInvalid", field, text)


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """The object fails validation."""
    listed = [str(cause) for cause in causes]
    text = listed[0] if len(listed) == 1 else "[" + ", ".join(listed) + "]"
    details = _details(name, group, kind, causes=[cause.as_json() for cause in causes])
    return ApiError("Invalid", f'{qualified(kind, group)} "{name}" is invalid: {text}', details=details)
