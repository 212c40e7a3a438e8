"""Whatever is wrong with an artifact: nothing of it is applied, what runs stays, and a person is told why."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable

import pytest

from ocisync.model.descriptor import OCI_MANIFEST, Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.pack.artifact import BuiltArtifact
from tests.support.agent import AgentProcess, Tenant, config_map
from tests.support.trust import signer
from tests.support.waiting import eventually

Attack = Callable[[Tenant], None]

GOOD = {"settings.yaml": config_map("settings", version="good")}
BAD = {"settings.yaml": config_map("settings", version="bad"), "more.yaml": config_map("more", a="1")}


def _unsigned(tenant: Tenant) -> None:
    tenant.push(BAD, sign=False)


def _wrong_key(tenant: Tenant) -> None:
    built = tenant.build(BAD)
    tenant.registry.push(built)
    tenant.registry.sign(built.descriptor, signer("stranger"), tenant.claims())
    tenant.registry.push(built, tenant.tag)


def _other_repository(tenant: Tenant) -> None:
    built = tenant.build(BAD)
    tenant.registry.push(built)
    tenant.registry.sign(built.descriptor, tenant.key, tenant.claims(repository="registry.example/elsewhere"))
    tenant.registry.push(built, tenant.tag)


def _other_tag(tenant: Tenant) -> None:
    built = tenant.build(BAD)
    tenant.registry.push(built)
    tenant.registry.sign(built.descriptor, tenant.key, tenant.claims(tag="staging"))
    tenant.registry.push(built, tenant.tag)


def _older(tenant: Tenant) -> None:
    built = tenant.build(BAD)
    tenant.registry.push(built)
    tenant.registry.sign(built.descriptor, tenant.key, tenant.claims(sequence="1000000000"))
    tenant.registry.push(built, tenant.tag)


def _changed_manifest(tenant: Tenant) -> None:
    built = tenant.push(GOOD, tag="elsewhere")
    changed = json.loads(built.manifest)
    changed["annotations"]["org.opencontainers.image.title"] = "changed"
    tenant.registry.store.put_manifest(json.dumps(changed).encode(), OCI_MANIFEST, tenant.tag)


def _foreign_image(tenant: Tenant) -> None:
    built = tenant.build(GOOD)
    layer = Descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", "", 0)
    tenant.registry.push(built, "elsewhere")
    foreign = json.loads(built.manifest)
    foreign["layers"][0]["mediaType"] = layer.media_type
    tenant.registry.store.put_manifest(json.dumps(foreign).encode(), OCI_MANIFEST, tenant.tag)


def _hostile(*members: tuple[str, bytes, str]) -> Attack:
    """A signed artifact whose layer an honest packer would never make."""

    def attack(tenant: Tenant) -> None:
        tenant.push(_with_tar(tenant.build(GOOD), _tar(members)))

    return attack


def _bomb(tenant: Tenant) -> None:
    tenant.push(_with_tar(tenant.build(GOOD), _tar((("zeros.yaml", b"\0" * (64 << 20), ""),))))


ATTACKS: dict[str, tuple[Attack, str]] = {
    "unsigned": (_unsigned, "Unsigned"),
    "wrong key": (_wrong_key, "UnknownSigner"),
    "signature for another repository": (_other_repository, "WrongRepository"),
    "signature for another tag": (_other_tag, "WrongTag"),
    "older than what runs": (_older, "RolledBack"),
    "changed manifest": (_changed_manifest, "Unsigned"),
    "tag moved to a foreign artifact": (_foreign_image, "BadArtifact"),
    "path traversal": (_hostile(("../../etc/evil.yaml", b"a: 1\n", "")), "BadArtifact"),
    "symbolic link": (_hostile(("link.yaml", b"", "/etc/passwd")), "BadArtifact"),
    "bomb": (_bomb, "BadArtifact"),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_an_attack_is_refused_and_what_runs_stays(
    attack: tuple[Attack, str], shared_agent: AgentProcess, tenant: Tenant
) -> None:
    good = tenant.push(GOOD)
    tenant.write_sync()
    tenant.wait_ready(good.descriptor.digest)
    before = _version(tenant)
    attack[0](tenant)
    refused = tenant.wait_condition("Verified", "False", attack[1])
    assert len(refused["message"]) > 20
    assert tenant.condition("Stalled")["status"] == "True"
    assert tenant.status()["applied"]["digest"] == good.descriptor.digest
    assert _version(tenant) == before
    assert tenant.cluster.kubectl("get", "configmap", "more", "-n", tenant.namespace, "--ignore-not-found") == ""
    # What runs is still kept equal to what was verified.
    tenant.cluster.kubectl("patch", "configmap", "settings", "-n", tenant.namespace, "-p", '{"data":{"version":"x"}}')
    tenant.wait_value("settings", "version", "good")


def test_a_changed_layer_byte_is_refused(shared_agent: AgentProcess, tenant: Tenant) -> None:
    good = tenant.push(GOOD)
    tenant.write_sync()
    tenant.wait_ready(good.descriptor.digest)
    before = _version(tenant)
    bad = tenant.build(BAD)
    tenant.registry.push(bad)
    tenant.registry.sign(bad.descriptor, tenant.key, tenant.claims())
    tenant.corrupt(bad.layer_descriptor.digest)
    tenant.registry.store.put_manifest(bad.manifest, OCI_MANIFEST, tenant.tag)
    refused = tenant.wait_condition("Verified", "False", "BadArtifact")
    assert bad.layer_descriptor.digest in refused["message"]
    assert _version(tenant) == before


def test_without_a_policy_the_registry_is_never_asked(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push(GOOD)

    def heard(action: str) -> bool:
        return bool(shared_agent.logs("trust changed", what="policy", name=tenant.policy_name, action=action))

    # Policies and syncs are watched apart.
    eventually(lambda: heard("added"), what="the agent knows of the policy")
    tenant.cluster.kubectl("delete", "trustpolicy", tenant.policy_name)
    eventually(lambda: heard("removed"), what="the agent knows that it is gone")
    tenant.write_sync()
    tenant.wait_condition("Verified", "False", "NoPolicy")
    path = tenant.registry.repository.partition("/")[2]
    assert f'"HEAD /v2/{path}/manifests/{tenant.tag} ' not in tenant.registry_log()


def _version(tenant: Tenant) -> str:
    live = tenant.cluster.get("configmap", "settings", namespace=tenant.namespace)
    version: str = live["metadata"]["resourceVersion"]
    return version


def _tar(members: tuple[tuple[str, bytes, str], ...]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data, link in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _with_tar(built: BuiltArtifact, tar: bytes) -> BuiltArtifact:
    """The same artifact around another tar; config, manifest and digests agree, as an attacker would see to."""
    layer = gzip.compress(tar, mtime=0)
    config = json.loads(built.config)
    config["rootfs"]["diff_ids"] = [sha256_digest(tar)]
    raw_config = json.dumps(config).encode()
    layer_descriptor = Descriptor(built.layer_descriptor.media_type, sha256_digest(layer), len(layer))
    config_descriptor = Descriptor(built.config_descriptor.media_type, sha256_digest(raw_config), len(raw_config))
    manifest = json.loads(built.manifest)
    manifest["config"].update(digest=config_descriptor.digest, size=config_descriptor.size)
    manifest["layers"][0].update(digest=layer_descriptor.digest, size=layer_descriptor.size)
    raw = json.dumps(manifest).encode()
    return BuiltArtifact(
        manifest=raw,
        config=raw_config,
        layer=layer,
        descriptor=Descriptor(OCI_MANIFEST, sha256_digest(raw), len(raw)),
        config_descriptor=config_descriptor,
        layer_descriptor=layer_descriptor,
        diff_id=sha256_digest(tar),
        annotations=built.annotations,
    )
