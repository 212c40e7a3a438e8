"""Names of images are read as a container runtime reads them; a map exchanges whole segments of full names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.model.errors import UsageError
from ocisync.model.image import ImageMap, parse_image_map

D = "sha256:" + "a" * 64
SITE = parse_image_map(
    [
        ("docker.io", "mirror.local:5000/docker.io"),
        ("docker.io/library/nginx", "mirror.local:5000/web/nginx"),
        ("quay.io/team", "mirror.local:5000/team"),
        ("registry.local:5000", "mirror.local:5000/old"),
        ("localhost", "mirror.local:5000/laptop"),
    ],
    [],
)


@pytest.mark.parametrize(
    ("written", "here"),
    [
        ("redis", "mirror.local:5000/docker.io/library/redis"),
        ("redis:7.2", "mirror.local:5000/docker.io/library/redis:7.2"),
        (f"redis:7.2@{D}", f"mirror.local:5000/docker.io/library/redis:7.2@{D}"),
        (f"redis@{D}", f"mirror.local:5000/docker.io/library/redis@{D}"),
        ("redis@sha512:" + "0" * 128, "mirror.local:5000/docker.io/library/redis@sha512:" + "0" * 128),
        ("bitnami/redis:1", "mirror.local:5000/docker.io/bitnami/redis:1"),
        ("docker.io/redis", "mirror.local:5000/docker.io/library/redis"),
        ("index.docker.io/library/redis", "mirror.local:5000/docker.io/library/redis"),
        ("registry-1.docker.io/bitnami/redis", "mirror.local:5000/docker.io/bitnami/redis"),
        ("nginx", "mirror.local:5000/web/nginx"),
        ("docker.io/library/nginx/module:2", "mirror.local:5000/web/nginx/module:2"),
        ("nginx-extra:1", "mirror.local:5000/docker.io/library/nginx-extra:1"),
        ("quay.io/team/app:1", "mirror.local:5000/team/app:1"),
        ("quay.io/team", "mirror.local:5000/team"),
        ("registry.local:5000/a/b:1", "mirror.local:5000/old/a/b:1"),
        ("localhost/a", "mirror.local:5000/laptop/a"),
    ],
)
def test_a_name_is_exchanged_and_what_follows_it_is_kept(written: str, here: str) -> None:
    assert SITE.moved(written) == here


@pytest.mark.parametrize(
    "text",
    [
        "quay.io/teams/app:1",
        "quay.io/other/team/app",
        "registry.local:5001/a",
        "ghcr.io/a/b:1",
        "",
        "${IMAGE}",
        "redis:bad tag",
        "Redis",
        "redis@sha256:short",
        "https://docker.io/library/redis",
        "docker.io/../etc",
        "redis\n",
    ],
)
def test_what_no_entry_is_about_and_what_is_no_image_stays(text: str) -> None:
    assert SITE.moved(text) == text


@pytest.mark.parametrize(
    ("moves", "word"),
    [
        ([("nginx", "mirror.local/x")], "docker.io/nginx"),
        ([("docker.io", "mirror/x")], "begin with a registry"),
        ([("docker.io/a:1", "mirror.local/x")], "no prefix"),
        ([("docker.io", "mirror.local/x:1")], "no prefix"),
        ([("docker.io", f"mirror.local/x@{D}")], "no prefix"),
        ([("docker.io", "mirror.local/X")], "no prefix"),
        ([("docker.io", "oci://mirror.local/x")], "no prefix"),
        ([("docker.io", "mirror.local//x")], "no prefix"),
        ([("docker.io", "a.local"), ("index.docker.io/", "b.local")], "two entries"),
    ],
)
def test_prefixes_that_a_runtime_would_read_otherwise_are_refused(moves: list[tuple[str, str]], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        parse_image_map(moves, [])


@pytest.mark.parametrize("path", ["ConfigMap=/metadata/name", "Pod=/kind", "A.b=/metadata/labels/x", "pod=/x", "Pod"])
def test_no_path_leads_to_what_names_an_object(path: str) -> None:
    with pytest.raises(UsageError):
        parse_image_map([("docker.io", "mirror.local")], [path])


def test_a_slash_at_the_end_of_a_prefix_means_nothing() -> None:
    assert parse_image_map([("quay.io/", "mirror.local/quay/")], []).moved("quay.io/a:1") == "mirror.local/quay/a:1"


def test_an_empty_map_moves_nothing() -> None:
    assert not ImageMap()
    assert ImageMap().moved("redis") == "redis"


@given(st.text(max_size=40))
def test_no_text_is_too_strange(text: str) -> None:
    once = SITE.moved(text)
    assert once == text or once.startswith("mirror.local:5000/")
    assert SITE.moved(once) == once
