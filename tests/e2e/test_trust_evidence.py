"""What an agent keeps, needs and survives: its own evidence, its cluster's roots, a registry that is hostile."""

from __future__ import annotations

import base64
import json
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ocisync.model.ref import fallback_tag
from tests.support.agent import AgentProcess, Installation, Tenant, apply, config_map, place, running
from tests.support.hostileregistry import TAG, Answer, HostileRegistry, endless_pages, index
from tests.support.minisigstore import GITHUB, MiniSigstore, Wish
from tests.support.waiting import eventually

LIMIT_MIB = 100  # the agent's budget


def test_kept_evidence_outlives_the_registrys_and_is_verified_from_its_bytes(
    agent: AgentProcess, tenant: Tenant
) -> None:
    built = tenant.push({"settings.yaml": config_map("settings", version="1")})
    tenant.write_sync()
    tenant.wait_ready(built.descriptor.digest)
    _collect_garbage(tenant, fallback_tag(built.descriptor.digest))
    tenant.ask()
    assert tenant.condition("Verified")["status"] == "True"
    agent.kill()
    agent.start()
    tenant.edit("settings", version="by-hand")
    tenant.wait_value("settings", "version", "1")
    tenant.ask()
    assert tenant.condition("Verified")["status"] == "True"

    agent.kill()
    for path in (agent.cache / "blobs").iterdir():
        data = path.read_bytes()
        if b"dsseEnvelope" in _payloads(data):
            path.write_bytes(data.replace(b"a", b"b"))
    agent.start()
    refused = tenant.wait_condition("Verified", "False", "Unsigned")
    assert built.descriptor.digest in refused["message"]
    agent.assert_sound()


def _collect_garbage(tenant: Tenant, tag: str) -> None:
    """Delete what a tag leads to, as a cleanup does that knows no signatures."""
    found = tenant.registry.store.resolve(tag)
    assert found is not None
    host, _, path = tenant.registry.repository.partition("/")
    request = urllib.request.Request(f"http://{host}/v2/{path}/manifests/{found.digest}", method="DELETE")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 202
    assert tenant.registry.store.resolve(tag) is None


def _payloads(data: bytes) -> bytes:
    try:
        items = json.loads(data)["items"]
    except (ValueError, KeyError, TypeError):
        return b""
    return b"".join(base64.b64decode(item["payload"]) for item in items)


def test_an_agent_writes_nothing_to_its_home_and_looks_for_no_root_but_the_clusters(
    installation: Installation, tenant: Tenant, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    sigstore, root = MiniSigstore(), f"root-{tenant.namespace}"
    meta = {"name": root, "namespace": tenant.installation.namespace}
    data = {"trusted_root.json": sigstore.root_bytes().decode()}
    apply(tenant.cluster, [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}])
    rule = {
        "issuer": GITHUB,
        "subjectGlob": "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v*",
        "claims": {"sourceRepository": "https://github.com/acme/shop"},
        "trustedRootRef": {"name": root},
    }
    key = {"name": "release-key", "key": {"secretRef": {"name": tenant.policy_name}}}
    tenant.write_policy(authorities=[{"name": "workflow", "keyless": rule}, key], threshold=2)
    built = tenant.build({"settings.yaml": config_map("settings", version="1")})
    tenant.registry.push(built)
    signature = sigstore.sign(
        built.descriptor.digest, tenant.claims(), Wish(signed_at=datetime.now(UTC) - timedelta(minutes=1))
    )
    tenant.registry.attach_bundle(built.descriptor, signature.payload)
    tenant.registry.sign(built.descriptor, tenant.key, tenant.claims())
    tenant.registry.push(built, tenant.tag)
    tenant.write_sync()
    with running(installation.agent(tmp_path / "agent", home=home)) as agent:
        status = tenant.wait_ready(built.descriptor.digest)
        assert status["applied"]["signers"] == ["release-key", "workflow"]
        (line,) = agent.logs("trust changed", what="root", name=root)
        assert line["action"] == "added" and line["new"].startswith("sha256:")
    assert list(home.iterdir()) == []
    assert {path.name for path in (tmp_path / "agent").iterdir()} == {"agent.log", "cache"}


@pytest.fixture
def hostile(tenant: Tenant) -> Iterator[HostileRegistry]:
    """Signs with the tenant's key."""
    files = {"settings.yaml": json.dumps(config_map("settings", version="1"))}
    with HostileRegistry(tenant.key, files) as server:
        yield server


def test_a_hostile_registry_costs_an_agent_little_and_never_the_good_signature(
    agent: AgentProcess, tenant: Tenant, hostile: HostileRegistry
) -> None:
    match = [{"repository": hostile.repository}]
    tenant.write_policy(match=match)
    source = {"repository": hostile.repository, "tag": TAG, "interval": "1h"}
    hostile.lists(*(hostile.junk(number) for number in range(10_000)))
    tenant.write_sync(source=source)
    refused = tenant.wait_condition("Verified", "False", "EvidenceTruncated")
    assert hostile.artifact.descriptor.digest in refused["message"]
    # Each of them once in one look; if this comes late, there was a second look at the same ones.
    assert len({path for _, path in hostile.requests if "manifests/sha256:" in path}) <= 202

    huge = hostile.put_bundle(b"huge", served=Answer(b"x" * 2**20, size=200 * 2**20), size=200 * 2**20)
    lying = hostile.put_bundle(b"y" * 1000, served=Answer(b"y" * 2**20, size=200 * 2**20))
    hostile.lists(huge, lying)
    tenant.ask()
    assert tenant.condition("Verified")["reason"] == "Unsigned"
    hostile.page = endless_pages([hostile.junk(0)])
    tenant.ask()
    assert tenant.condition("Verified")["reason"] == "EvidenceTruncated"
    nothing = index(None)
    hostile.page = lambda _path: nothing
    tenant.ask()
    assert tenant.condition("Verified")["reason"] == "Unsigned"
    junk = [{**hostile.junk(number), "artifactType": "x/junk"} for number in range(900)]
    hostile.lists(huge, lying, *junk, hostile.good)
    tenant.ask()
    tenant.wait_ready(hostile.artifact.descriptor.digest)
    eventually(lambda: agent.rss_mib() < LIMIT_MIB, what=f"the agent is below {LIMIT_MIB} MiB")


def test_a_policy_that_moves_while_an_artifact_is_fetched_decides_before_anything_is_written(
    agent: AgentProcess, tenant: Tenant, hostile: HostileRegistry
) -> None:
    match = [{"repository": hostile.repository}]
    tenant.write_policy(match=match)
    hostile.lists(hostile.good)
    layer, denied = hostile.artifact.layer_descriptor.digest, threading.Event()

    def deny(path: str) -> None:
        if layer not in path or denied.is_set():
            return
        denied.set()
        tenant.write_policy(match=match, deny={"digests": [hostile.artifact.descriptor.digest]})

        def loaded() -> bool:
            policy = tenant.cluster.api("GET", place("TrustPolicy", "", tenant.policy_name))
            return bool((policy.get("status") or {}).get("observedGeneration") == policy["metadata"]["generation"])

        eventually(loaded, what="the agent has seen the deny list")

    hostile.before = deny
    tenant.write_sync(source={"repository": hostile.repository, "tag": TAG, "interval": "1h"})
    tenant.wait_condition("Verified", "False", "Denied")
    assert denied.is_set()
    assert not tenant.cluster.kubectl("get", "configmap", "settings", "-n", tenant.namespace, "--ignore-not-found")
    assert "applied" not in tenant.status()
