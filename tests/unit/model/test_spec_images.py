"""`spec.images` and `spec.imagePaths` of a sync."""

from __future__ import annotations

from typing import Any

import pytest

from ocisync.model.errors import InvalidInput
from ocisync.model.image import ImageMap, ImageMove
from ocisync.model.spec import SyncSpec, parse_sync

SITE = [{"from": "docker.io", "to": "mirror.local/docker.io"}]


def parsed(**spec: Any) -> SyncSpec:
    source = {"repository": "mirror.local/shop", "tag": "production"}
    return parse_sync({"metadata": {"name": "shop", "namespace": "apps"}, "spec": {"source": source, **spec}})


def test_a_sync_without_a_map_rewrites_nothing() -> None:
    assert parsed().images == ImageMap()


def test_a_map_and_its_paths_are_read() -> None:
    found = parsed(images=SITE, imagePaths=["Prometheus.monitoring.coreos.com=/spec/image"]).images
    assert found.moves == (ImageMove("docker.io", "mirror.local/docker.io"),)
    assert [str(path) for path in found.paths] == ["Prometheus.monitoring.coreos.com=/spec/image"]


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"images": [{"from": "nginx", "to": "mirror.local"}]}, r"spec\.images.*docker\.io/nginx"),
        ({"images": [{"from": "docker.io"}]}, r"spec\.images.*to ''"),
        ({"images": [*SITE, {"from": "index.docker.io", "to": "b.local"}]}, "two entries"),
        ({"images": [{**SITE[0], "paths": []}]}, r"spec\.images\[0\]: unknown field 'paths'"),
        ({"images": {"from": "a"}}, "expected a list"),
        ({"images": SITE, "imagePaths": ["Prometheus"]}, "bad image path"),
        ({"images": SITE, "imagePaths": ["ConfigMap=/metadata/name"]}, "name of an object"),
        ({"imagePaths": ["Prometheus.x=/spec/image"]}, "nothing to rewrite"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(spec: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        parsed(**spec)
