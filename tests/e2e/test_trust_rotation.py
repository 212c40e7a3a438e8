"""Keys that are rotated, revoked and denied on a live agent: what stops, what goes on, and what is told."""

from __future__ import annotations

from typing import Any

from ocisync.signing.keys import Signer
from tests.support.agent import USER_AGENT, AgentProcess, Tenant, config_map
from tests.support.controlplane import ControlPlane
from tests.support.trust import signer
from tests.support.waiting import eventually

NEW = signer("next")


def authority(name: str, key: Signer) -> dict[str, Any]:
    return {"name": name, "key": {"pem": key.public.pem}}


def written(control_plane: ControlPlane, tenant: Tenant, since: int, *, beside: str = "") -> list[str]:
    """The agent's writes to objects of the tenant; its status and Events apart."""
    return [
        f"{event.verb} {event.resource}/{event.name} {event.code}"
        for event in control_plane.audit.events(since=since, user_agent=USER_AGENT, namespace=tenant.namespace)
        if event.verb in {"create", "update", "patch", "delete", "deletecollection"}
        and event.resource not in {"events", "artifactsyncs"}
        and event.name != beside
    ]


def with_neighbour(tenant: Tenant) -> Tenant:
    """Another sync of the tenant, whose object is watched by the same watch: what it heals comes later."""
    other = tenant.beside("neighbour")
    other.push({"other.yaml": config_map("other", version="1")})
    other.write_sync()
    other.wait_ready()
    return other


def test_a_rotation_is_seamless_and_changes_no_digest(shared_agent: AgentProcess, tenant: Tenant) -> None:
    pushed = tenant.push({"settings.yaml": config_map("settings", version="1")})
    tenant.write_sync()
    assert tenant.wait_ready(pushed.descriptor.digest)["applied"]["signers"] == ["release-key"]
    tenant.write_policy(authorities=[authority("old", tenant.key), authority("new", NEW)])
    tenant.registry.sign(pushed.descriptor, NEW, tenant.claims())
    tenant.ask()
    tenant.write_policy(authorities=[authority("new", NEW)])

    def moved() -> bool:
        return bool(tenant.status()["applied"]["signers"] == ["new"])

    eventually(moved, what="the new key vouches for what runs")
    tenant.wait_ready(pushed.descriptor.digest)
    lost = [line for line in shared_agent.logs("stalled", sync=f"{tenant.namespace}/{tenant.name}")]
    assert lost == []  # no moment without trust
    (applied,) = shared_agent.logs("applied", sync=f"{tenant.namespace}/{tenant.name}")
    assert applied["digest"] == pushed.descriptor.digest


def test_a_revoked_key_stops_what_is_new_at_once_and_not_the_corrections(
    shared_agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane
) -> None:
    first = tenant.push({"settings.yaml": config_map("settings", version="1")})
    tenant.write_sync(source={"repository": tenant.registry.repository, "tag": tenant.tag, "interval": "1h"})
    tenant.wait_ready(first.descriptor.digest)
    polls, mark = tenant.polls(), control_plane.audit.mark()
    tenant.write_policy(authorities=[authority("new", NEW)])
    refused = tenant.wait_condition("Verified", "False", "UnknownSigner")
    assert tenant.polls() == polls  # the policy is watched: not even one poll
    assert "no authority of the policy" in refused["message"]

    tenant.edit("settings", version="by-hand")
    tenant.wait_value("settings", "version", "1")
    second = tenant.push({"settings.yaml": config_map("settings", version="2")})  # by the old key
    tenant.ask()
    assert tenant.condition("Verified")["status"] == "False"
    assert tenant.status()["applied"]["digest"] == first.descriptor.digest
    # The correction: refused because of the conflict, then with force. Nothing else.
    assert written(control_plane, tenant, mark) == [f"patch configmaps/settings {code}" for code in (409, 200)]

    tenant.registry.sign(second.descriptor, NEW, tenant.claims())
    tenant.ask()
    tenant.wait_ready(second.descriptor.digest)
    tenant.wait_value("settings", "version", "2")

    def refusals() -> list[str]:
        told = tenant.events(reason="UnknownSigner", kind="ArtifactSync")
        return [event["message"] for event in told if second.descriptor.digest in event["message"]]

    text = eventually(refusals, what="the refusal is told")[0]
    assert text.startswith(f"{second.descriptor.digest} is refused (rule signer): ")
    assert tenant.key.public.fingerprint in text and "sign it with the key of new: cosign sign" in text
    line = next(
        line
        for line in shared_agent.logs("stalled", sync=f"{tenant.namespace}/{tenant.name}")
        if line["digest"] == second.descriptor.digest
    )
    assert line["rule"] == "signer" and tenant.key.public.fingerprint in str(line["signers"])
    assert line["fix"].startswith("sign it with the key of new")


def test_suspended_on_revocation_nothing_is_corrected_until_a_new_signature_comes(
    shared_agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane
) -> None:
    pushed = tenant.push({"settings.yaml": config_map("settings", version="1")})
    tenant.write_sync()
    tenant.wait_ready()
    neighbour = with_neighbour(tenant)
    neighbour.registry.sign(neighbour.push({"other.yaml": config_map("other", version="2")}).descriptor, NEW)
    tenant.write_policy(authorities=[authority("new", NEW)], onRevoked="Suspend", tagClaim="IfPresent")
    tenant.wait_condition("Verified", "False", "UnknownSigner")
    mark = control_plane.audit.mark()
    tenant.edit("settings", version="by-hand")
    tenant.ask()
    assert tenant.value("settings", "version") == "by-hand"
    assert written(control_plane, tenant, mark, beside="other") == []
    tenant.registry.sign(pushed.descriptor, NEW, tenant.claims())
    tenant.ask()
    tenant.wait_value("settings", "version", "1")
    tenant.wait_ready(pushed.descriptor.digest)


def test_a_denied_digest_is_not_written_for_whatever_happens_to_its_objects_or_its_policy(
    shared_agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane
) -> None:
    bad = tenant.push({"settings.yaml": config_map("settings", version="1"), "gone.yaml": config_map("gone", a="1")})
    tenant.write_sync()
    tenant.wait_ready()
    neighbour = with_neighbour(tenant)
    tenant.write_policy(deny={"digests": [bad.descriptor.digest]})
    tenant.wait_condition("Verified", "False", "Denied")
    mark = control_plane.audit.mark()
    tenant.edit("settings", version="by-hand")
    tenant.cluster.kubectl("delete", "configmap", "gone", "-n", tenant.namespace)
    neighbour.edit("other", version="by-hand")
    neighbour.wait_value("other", "version", "1")  # the same watch, later
    tenant.ask()
    # A policy that breaks must not lift the stop; the sync is not deleted and created anew by that either.
    tenant.write_policy(deny={"digests": [bad.descriptor.digest]}, threshold=7)
    tenant.wait_condition("Verified", "False", "InvalidPolicy")
    tenant.edit("settings", version="by-hand-again")
    tenant.ask()
    assert written(control_plane, tenant, mark, beside="other") == []
    assert tenant.value("settings", "version") == "by-hand-again"

    good = tenant.push({"settings.yaml": config_map("settings", version="2")})
    tenant.write_policy(deny={"digests": [bad.descriptor.digest]})
    tenant.wait_ready(good.descriptor.digest)
    tenant.wait_value("settings", "version", "2")
    (told,) = eventually(lambda: tenant.events(reason="Denied", kind="ArtifactSync"), what="the alarm is there")
    assert told["type"] == "Warning" and bad.descriptor.digest in told["message"] and "(rule deny)" in told["message"]


def test_a_denied_key_stops_every_write_until_another_key_signs_the_same_digest(
    shared_agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane
) -> None:
    pushed = tenant.push({"settings.yaml": config_map("settings", version="1")})
    tenant.write_sync()
    tenant.wait_ready()
    both = [authority("old", tenant.key), authority("new", NEW)]
    tenant.write_policy(authorities=both, deny={"keys": [tenant.key.public.fingerprint]})
    tenant.wait_condition("Verified", "False", "Denied")
    mark = control_plane.audit.mark()
    tenant.edit("settings", version="by-hand")
    tenant.ask()
    assert written(control_plane, tenant, mark) == []
    tenant.registry.sign(pushed.descriptor, NEW, tenant.claims())
    tenant.ask()
    tenant.wait_ready(pushed.descriptor.digest)
    tenant.wait_value("settings", "version", "1")


def test_every_change_of_policy_and_key_is_an_audit_line(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"settings.yaml": config_map("settings", version="1")})
    tenant.write_sync()
    tenant.wait_ready()

    def lines(what: str) -> list[dict[str, Any]]:
        return shared_agent.logs("trust changed", what=what, name=tenant.policy_name)

    first = lines("policy")[-1]
    assert (first["component"], first["action"], first["by"]) == ("audit", "added", "tests")
    assert lines("key")[-1]["new"] == tenant.key.public.fingerprint
    tenant.write_policy(rollback={"maxAge": "720h"}, formats=["Bundle", "Legacy"])
    line = eventually(lambda: [item for item in lines("policy") if item["action"] == "changed"], what="it is told")[-1]
    assert line["old"] == first["new"] and line["new"] != line["old"]
    assert set(line["fields"]) == {"formats", "rollback.maxAge"}
    old, tenant.key = tenant.key, NEW
    tenant.write_policy()
    line = eventually(lambda: [item for item in lines("key") if item["action"] == "changed"], what="it is told")[-1]
    assert (line["old"], line["new"]) == (old.public.fingerprint, NEW.public.fingerprint)
    tenant.cluster.kubectl("delete", "trustpolicy", tenant.policy_name)
    eventually(lambda: lines("policy")[-1]["action"] == "removed", what="its end is told")
    assert lines("policy")[-1]["new"] == "none"
