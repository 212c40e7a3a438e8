"""Objects of an installation, in order; what is told when one is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from ocisync.cluster.bootstrap import apply_in_order
from ocisync.cluster.client import Cluster, Response
from ocisync.model.errors import ClusterRefused, NotFound, OcisyncError

ROLE: dict[str, Any] = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "agent", "namespace": "shop"},
}
_RESOURCES = [{"resource": "roles", "responseKind": {"kind": "Role"}, "scope": "Namespaced", "verbs": ["get"]}]
_GROUPS = [
    {"metadata": {"name": "rbac.authorization.k8s.io"}, "versions": [{"version": "v1", "resources": _RESOURCES}]}
]


class Refusing(Cluster):
    """Knows Roles, has no object, and answers every write with one status."""

    def __init__(self, status: int, message: str) -> None:
        self._answer = Response(status, {}, json.dumps({"kind": "Status", "message": message}).encode())

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        content_type: str = "",
        accept: str = "",
        timeout_s: float = 0.0,
        as_user: str = "",
        gentle: bool = False,
    ) -> Response:
        if method == "PATCH":
            return self._answer
        if path in {"/api", "/apis"}:
            items = _GROUPS if path == "/apis" else []
            return Response(200, {}, json.dumps({"kind": "APIGroupDiscoveryList", "items": items}).encode())
        return Response(404, {}, b"{}")


def refusal(status: int, message: str) -> OcisyncError:
    with pytest.raises(OcisyncError) as caught:
        list(apply_in_order(Refusing(status, message), [ROLE], lambda seconds: None))
    return caught.value


def test_a_missing_namespace_is_named_with_the_command_that_makes_it() -> None:
    error = refusal(404, 'namespaces "shop" not found')
    assert isinstance(error, NotFound)
    assert "no namespace shop" in error.message
    assert error.hint.startswith("kubectl create namespace shop")


def test_who_may_not_install_hears_which_rights_it_takes() -> None:
    error = refusal(403, 'roles is forbidden: User "u" cannot patch resource "roles"')
    assert isinstance(error, ClusterRefused)
    assert "cluster-admin" in error.hint


def test_what_is_wrong_with_an_object_is_no_matter_of_rights() -> None:
    error = refusal(422, 'Role "agent" is invalid')
    assert isinstance(error, ClusterRefused)
    assert "cluster-admin" not in error.hint
