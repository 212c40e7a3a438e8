"""What other tools write is read: the manifest of `flux push artifact` and that of `imgpkg push`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ocisync.model.artifact import Verdict, VerdictReason, Verified
from ocisync.model.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    FLUX_CONFIG,
    FLUX_LAYER,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
)
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import Refused
from ocisync.pack.artifact import check_config, parse_manifest
from ocisync.pack.untar import read_layer, unpack
from tests.support.artifacts import artifact

FILES = {"a.yaml": b"a", "sub/b.yaml": b"b"}
BUILT = artifact(FILES)
FLUX_SAYS = b'{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":null},"config":{}}'


def manifest_of(types: tuple[str, str, str], config: bytes) -> Verified:
    top, config_type, layer_type = types
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": top,
        "config": {"mediaType": config_type, "size": len(config), "digest": sha256_digest(config)},
        "layers": [Descriptor(layer_type, sha256_digest(BUILT.layer), len(BUILT.layer)).as_dict()],
    }
    raw = json.dumps(document).encode()
    manifest = parse_manifest(raw, Descriptor(top, sha256_digest(raw), len(raw)))
    return Verified("registry.example/shop", "", manifest, Verdict(True, VerdictReason.VERIFIED, ""))


FLUX = (OCI_MANIFEST, FLUX_CONFIG, FLUX_LAYER)
IMGPKG = (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER)


@pytest.mark.parametrize(
    ("types", "config"),
    [(FLUX, FLUX_SAYS), (FLUX, BUILT.config), (IMGPKG, BUILT.config)],
    ids=["flux", "ocisync --profile flux", "imgpkg"],
)
def test_manifests_of_other_tools_are_unpacked(types: tuple[str, str, str], config: bytes) -> None:
    verified = manifest_of(types, config)
    assert verified.manifest.descriptor.media_type == types[0]
    assert {file.path: file.data for file in unpack(verified, config, BUILT.layer)} == FILES


def test_a_flux_config_that_names_other_content_is_refused() -> None:
    config = FLUX_SAYS.replace(b"null", json.dumps(["sha256:" + "0" * 64]).encode())
    with pytest.raises(Refused, match="the config names content sha256:000"):
        unpack(manifest_of(FLUX, config), config, BUILT.layer)


@pytest.mark.parametrize("types", [(OCI_MANIFEST, OCI_CONFIG, OCI_LAYER), IMGPKG])
def test_other_configs_must_name_their_content(types: tuple[str, str, str]) -> None:
    with pytest.raises(Refused, match="exactly one"):
        check_config(FLUX_SAYS, manifest_of(types, FLUX_SAYS).manifest)


@pytest.mark.parametrize(
    ("types", "words"),
    [
        ((DOCKER_MANIFEST, OCI_CONFIG, DOCKER_LAYER), "config type"),
        ((DOCKER_MANIFEST, DOCKER_CONFIG, OCI_LAYER), "layer type"),
        ((OCI_MANIFEST, DOCKER_CONFIG, OCI_LAYER), "config type"),
    ],
)
def test_types_that_no_tool_mixes_are_refused(types: tuple[str, str, str], words: str) -> None:
    with pytest.raises(Refused, match=words):
        manifest_of(types, BUILT.config)


def test_the_layer_of_flux_with_its_root_entry_is_read() -> None:
    import io
    import tarfile

    from ocisync.pack.tar import gzip

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in ((".", None), ("a.yaml", b"a"), ("sub", None), ("sub/b.yaml", b"b")):
            info = tarfile.TarInfo(name)
            info.type, info.size = (tarfile.DIRTYPE, 0) if data is None else (tarfile.REGTYPE, len(data))
            info.uid, info.gid, info.uname, info.mtime = 1000, 1000, "runner", 1_700_000_000
            tar.addfile(info, io.BytesIO(data or b""))
    # tarfile pads its output to 20 blocks, all zero.
    assert {file.path: file.data for file in read_layer(gzip(buffer.getvalue()))[0]} == FILES
