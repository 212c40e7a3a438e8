from __future__ import annotations

import pytest

from ocisync.flows.memory import Mark
from ocisync.flows.offer import leads_to
from ocisync.model.errors import InvalidInput
from ocisync.model.spec import SelectorKind, SourceSpec, parse_sync


def source(**selector: str) -> SourceSpec:
    spec = {"source": {"repository": "registry.example/shop", **selector}}
    return parse_sync({"metadata": {"name": "shop", "namespace": "apps"}, "spec": spec}).source


def test_a_range_leads_to_its_versions_and_a_tag_to_itself() -> None:
    assert [leads_to(source(semver="^1.2"), tag) for tag in ("1.2.0", "1.9.9", "2.0.0", "latest", "")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    assert leads_to(source(tag="production"), "production")
    assert not leads_to(source(tag="production"), "1.2.0")
    assert not leads_to(source(digest=f"sha256:{'a' * 64}"), "")


def test_a_range_that_is_none_is_refused_with_the_spec() -> None:
    with pytest.raises(InvalidInput, match=r"spec\.source: .*bogus"):
        source(semver="bogus")


def test_only_the_version_that_was_accepted_has_to_lead_to_the_same_digest() -> None:
    mark = Mark(1, "sha256:a", tag="1.0.0")
    assert mark.led_by(SelectorKind.SEMVER, "1.0.0") == "sha256:a"
    assert mark.led_by(SelectorKind.SEMVER, "1.0.1") == ""
    assert Mark(1, "sha256:a").led_by(SelectorKind.TAG, "1.0.0") == "sha256:a"
