"""The corpus of malformed and hostile inputs: what each writes into a directory, and the command that must refuse it.

Everything is generated, from lists and from fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.security.hostile import layers, manifests, registry, trust
from tests.security.hostile.common import Case

GROUPS: dict[str, Callable[[], Iterator[Case]]] = {
    "yaml": manifests.yaml_cases,
    "layers": layers.layer_cases,
    "manifests": registry.manifest_cases,
    "configs": registry.config_cases,
    "indexes": registry.index_cases,
    "bundles": trust.bundle_cases,
    "keys": trust.key_cases,
    "policies": trust.policy_cases,
    "logins": trust.login_cases,
    "roots": trust.root_cases,
}
