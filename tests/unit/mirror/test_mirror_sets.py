"""MirrorSet files: strict, and everything that is wrong is told at once with its place."""

from __future__ import annotations

import pytest

from ocisync.mirror.mirrorset import parse_mirror_set
from ocisync.model.errors import InvalidInput

GOOD = """apiVersion: ocisync.dev/v1alpha1
kind: MirrorSet
metadata: {name: site}
spec:
  destination: mirror.site.local/all
  images: true
  imagePaths: ["Prometheus.monitoring.coreos.com=/spec/image"]
  imagesFrom: [{from: docker.io, to: cache.example/docker.io}]
  repositories:
  - source: registry.example/shop/config
    tags: [production]
    semver: ">=1.2 <2"
    newest: 3
  - source: oci://registry.example/other
    destination: elsewhere.example/other
    patterns: ["v1.*"]
"""


def findings(text: str) -> list[str]:
    """What is wrong with a file, without the rule's own words."""
    with pytest.raises(InvalidInput) as error:
        parse_mirror_set(text.encode(), "set.yaml")
    return [str(finding) for finding in error.value.findings]


def test_a_file_says_what_goes_where() -> None:
    found = parse_mirror_set(GOOD.encode(), "set.yaml")
    first, second = found.repositories
    assert (first.source.location, first.destination.location) == (
        "registry.example/shop/config",
        "mirror.site.local/all/shop/config",
    )
    assert (first.selection.references, first.selection.newest) == (("production",), 3)
    assert (second.source.location, second.destination.location) == (
        "registry.example/other",
        "elsewhere.example/other",
    )
    assert (found.images, found.images_to) == (True, "mirror.site.local/all")
    assert found.images_from == (("docker.io", "cache.example/docker.io"),)


def test_unknown_fields_are_named_with_their_line() -> None:
    text = GOOD.replace("newest: 3", "newst: 3").replace("  images: true", "  imagez: true")
    told = findings(text)
    assert any(one.startswith("set.yaml:13:") and "newst" in one for one in told)
    assert any(one.startswith("set.yaml:6:") and "imagez" in one for one in told)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("kind: MirrorSet", "kind: Mirror", "MirrorSet"),
        ("newest: 3", "newest: 0", "newest"),
        ("newest: 3", "newest: true", "newest"),
        ('">=1.2 <2"', '"one"', "version range"),
        ("[production]", '["sha256-' + "0" * 64 + '.sig"]', "comes along"),
        ("[production]", '["a b"]', "bad tag"),
        ("    tags: [production]", '    digests: ["sha256:0"]', "hex"),
        ("registry.example/shop/config", "registry.example/shop/config:1.0.0", "repository alone"),
        ("elsewhere.example/other", "mirror.site.local/all/shop/config", "has an entry already"),
        ("oci://registry.example/other", "registry.example/shop/config", "has an entry already"),
        ("  destination: mirror.site.local/all\n", "", "destination"),
        ('    patterns: ["v1.*"]\n', "", "selects nothing"),
        ("images: true", 'images: "yes"', "true or false"),
        ("{from: docker.io, to:", "{from: docker.io, two:", "two"),
        ("metadata: {name: site}", "metadata: {}", "name"),
        ('["Prometheus.monitoring.coreos.com=/spec/image"]', '["prometheus"]', "image path"),
        ("  repositories:", "  repositories: {}\n  other:", "must be a list"),
    ],
)
def test_what_makes_no_sense_is_a_finding(old: str, new: str, word: str) -> None:
    assert old in GOOD
    told = findings(GOOD.replace(old, new, 1))
    assert any(word in one for one in told), told
    assert all(one.startswith("set.yaml:") for one in told)


@pytest.mark.parametrize("text", ["", "[]", "a", "---\na: 1\n---\nb: 2\n", "kind: MirrorSet\nkind: MirrorSet\n"])
def test_what_is_no_single_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_mirror_set(text.encode(), "set.yaml")
