from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ocisync.model import limits
from ocisync.model.descriptor import FLUX_CONFIG, FLUX_LAYER, OCI_INDEX, OCI_MANIFEST, Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import InvalidInput, Refused, UsageError
from ocisync.pack.artifact import build, check_config, parse_manifest
from ocisync.pack.tar import count_entries, gzip, write_tar
from ocisync.pack.untar import Caps, read_layer, unpack
from tests.support.artifacts import artifact, tree_of, verified

FILES = {"a.yaml": "kind: Namespace\n", "b/c.yaml": "kind: Service\n"}


def test_the_same_tree_gives_the_same_bytes() -> None:
    one, two = artifact(FILES), artifact(dict(reversed(FILES.items())))
    assert (one.manifest, one.config, one.layer) == (two.manifest, two.config, two.layer)


def test_the_manifest_is_an_image_of_one_layer() -> None:
    built = artifact(FILES)
    document = json.loads(built.manifest)
    assert set(document) == {"annotations", "config", "layers", "mediaType", "schemaVersion"}
    assert document["annotations"] == {
        "org.opencontainers.image.created": "2026-03-01T12:00:00Z",
        "org.opencontainers.image.revision": "main@sha1:" + "a" * 40,
        "org.opencontainers.image.source": "https://git.example/acme/shop",
    }
    assert document["layers"] == [
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": sha256_digest(built.layer),
            "size": len(built.layer),
        }
    ]
    config = json.loads(built.config)
    assert config["rootfs"] == {"type": "layers", "diff_ids": [built.diff_id]}
    assert config["created"] == "2026-03-01T12:00:00Z"
    assert (config["os"], config["architecture"]) == ("linux", "amd64")


def test_the_flux_profile_changes_media_types_only() -> None:
    flux = build(tree_of(FILES), profile="flux")
    assert (flux.config_descriptor.media_type, flux.layer_descriptor.media_type) == (FLUX_CONFIG, FLUX_LAYER)
    assert (flux.config, flux.layer) == (artifact(FILES).config, artifact(FILES).layer)
    assert parse_manifest(flux.manifest, flux.descriptor).layer == flux.layer_descriptor


def test_free_annotations_are_written_and_reserved_ones_refused() -> None:
    built = build(tree_of(FILES), annotations={"org.opencontainers.image.version": "1.0.0"})
    assert parse_manifest(built.manifest, built.descriptor).annotations["org.opencontainers.image.version"] == "1.0.0"
    with pytest.raises(UsageError, match="commit time"):
        build(tree_of(FILES), annotations={"org.opencontainers.image.created": "x"})


def test_unpacking_gives_the_files_back() -> None:
    built = artifact(FILES)
    assert {file.path: file.data.decode() for file in unpack(verified(built), built.config, built.layer)} == FILES


def test_a_changed_layer_byte_or_config_byte_is_refused() -> None:
    built = artifact(FILES)
    broken = built.layer[:-1] + bytes([built.layer[-1] ^ 1])
    with pytest.raises(Refused, match="layer is not sha256:") as caught:
        unpack(verified(built), built.config, broken)
    assert caught.value.reason == "BadArtifact"
    with pytest.raises(Refused, match="config is not sha256:"):
        unpack(verified(built), built.config + b" ", built.layer)


def test_a_config_that_claims_other_content_is_refused() -> None:
    honest, other = artifact(FILES), artifact({"a.yaml": "kind: ClusterRoleBinding\n"})
    manifest = json.loads(other.manifest)
    manifest["config"] = honest.config_descriptor.as_dict()
    raw = json.dumps(manifest).encode()
    forged = replace(other, manifest=raw, descriptor=Descriptor(OCI_MANIFEST, sha256_digest(raw), len(raw)))
    with pytest.raises(Refused, match="unpacks to"):
        unpack(verified(forged), honest.config, other.layer)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mediaType": OCI_INDEX}, "index"),
        ({"manifests": []}, "index"),
        ({"mediaType": "application/json"}, "mediaType"),
        ({"schemaVersion": 1}, "mediaType"),
        ({"layers": []}, "exactly one layer"),
        ({"layers": [{}]}, "layer type"),
        ({"config": None}, "no config"),
        ({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json"}}, "config type"),
        ({"annotations": {"a": 1}}, "annotations"),
    ],
)
def test_a_foreign_manifest_is_refused(change: dict[str, Any], words: str) -> None:
    raw = json.dumps({**json.loads(artifact(FILES).manifest), **change}).encode()
    with pytest.raises(Refused, match=words) as caught:
        parse_manifest(raw, Descriptor(OCI_MANIFEST, sha256_digest(raw), len(raw)))
    assert caught.value.reason == "BadArtifact"


@pytest.mark.parametrize("size", [-1, True, "1", 10**12, None])
def test_a_layer_of_absurd_size_is_refused(size: object) -> None:
    document = json.loads(artifact(FILES).manifest)
    document["layers"][0]["size"] = size
    raw = json.dumps(document).encode()
    with pytest.raises(Refused, match="layer size"):
        parse_manifest(raw, Descriptor(OCI_MANIFEST, sha256_digest(raw), len(raw)))


def test_manifest_bytes_of_another_digest_are_refused() -> None:
    built = artifact(FILES)
    with pytest.raises(Refused, match="another digest"):
        parse_manifest(built.manifest + b" ", built.descriptor)


@pytest.mark.parametrize("config", [b"[]", b"{}", b'{"rootfs":{"diff_ids":[]}}', b'{"rootfs":{"diff_ids":["x"]}}'])
def test_a_config_without_one_content_digest_is_refused(config: bytes) -> None:
    built = artifact(FILES)
    with pytest.raises(Refused, match="its config"):
        check_config(config, parse_manifest(built.manifest, built.descriptor))


def test_what_no_agent_would_unpack_is_not_packed() -> None:
    with pytest.raises(InvalidInput, match="big: 34603008 bytes, more than the limit"):
        artifact({"big": bytes(range(256)) * (33 * 4096)})
    with pytest.raises(InvalidInput, match="as a bomb"):
        artifact({"zeros": bytes(20 << 20)})


def test_the_manifest_for_another_compression_of_the_same_tar_differs_in_the_layer_only() -> None:
    built = artifact(FILES)
    other = Descriptor(built.layer_descriptor.media_type, "sha256:" + "1" * 64, 1)
    expected = json.loads(built.manifest) | {"layers": [other.as_dict()]}
    assert json.loads(built.manifest_with_layer(other)) == expected
    assert built.manifest_with_layer(built.layer_descriptor) == built.manifest


def test_more_entries_than_an_agent_unpacks_are_refused_when_packed() -> None:
    # Each file has a directory of its own, and names that are not ASCII need a second header.
    files = {f"ü{number}/a": b"" for number in range(limits.UNPACKED_ENTRIES // 4 + 1)}
    with pytest.raises(InvalidInput, match="tar entries"):
        build(tree_of(files))


@pytest.mark.parametrize("path", ["a", "a/b/c", "ü/b", "d/" * 20 + "n" * 90])
def test_entries_are_counted_as_a_reader_counts_them(path: str) -> None:
    files = tree_of({path: b"x"}).files
    count = count_entries(files)
    layer = gzip(write_tar(files))
    assert read_layer(layer, Caps(entries=count))[0] == files
    with pytest.raises(Refused, match=f"more than {count - 1} entries"):
        read_layer(layer, Caps(entries=count - 1))
