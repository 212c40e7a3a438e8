"""A sync's image map: signed bytes stay, the cluster gets the site's names, and drift is held against those."""

from __future__ import annotations

from typing import Any

from tests.support.agent import AgentProcess, Tenant, apply, config_map, deployment
from tests.support.waiting import eventually

D = "sha256:" + "d" * 64
SITE = [
    {"from": "docker.io", "to": "mirror.site.local/docker.io"},
    {"from": "docker.io/library/redis", "to": "mirror.site.local/cache/redis"},
]


def custom_kind(group: str) -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"engines.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "engines", "singular": "engine", "kind": "Engine", "listKind": "EngineList"},
            "versions": [version],
        },
    }


def image_of(tenant: Tenant, kind: str, name: str) -> str:
    spec = tenant.cluster.get(kind, name, namespace=tenant.namespace)["spec"]
    for part in ("jobTemplate", "spec", "template", "spec"):
        spec = spec.get(part, spec)
    found: str = spec["containers"][0]["image"]
    return found


def cron_job(name: str, image: str) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}
    job = {"spec": {"template": {"spec": pod}}}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": job},
    }


def test_images_are_rewritten_when_applied_and_drift_is_held_against_the_rewritten_value(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    built = tenant.push(
        {
            "web.yaml": deployment("web", image=f"nginx:1.27@{D}"),
            "cache.yaml": deployment("cache", image="redis:7"),
            "own.yaml": deployment("own", image="registry.example/own:1"),
            "night.yaml": cron_job("night", "acme/report"),
        }
    )
    tenant.write_sync(images=SITE)
    status = tenant.wait_ready()
    assert status["applied"]["digest"] == built.descriptor.digest
    assert image_of(tenant, "deployment", "web") == f"mirror.site.local/docker.io/library/nginx:1.27@{D}"
    assert image_of(tenant, "deployment", "cache") == "mirror.site.local/cache/redis:7"
    assert image_of(tenant, "deployment", "own") == "registry.example/own:1"
    assert image_of(tenant, "cronjob", "night") == "mirror.site.local/docker.io/acme/report"
    # The name as it is signed is a change by hand like any other.
    tenant.cluster.kubectl("set", "image", "deployment/cache", "main=redis:7", "-n", tenant.namespace)
    here = "mirror.site.local/cache/redis:7"
    eventually(lambda: image_of(tenant, "deployment", "cache") == here, what="the site's name is back")
    told = eventually(lambda: shared_agent.logs("modified outside GitOps", name="cache"), what="the drift is told")
    assert (told[0]["fields"][0]["old"], told[0]["fields"][0]["new"]) == (here, "redis:7")


def test_a_changed_map_alone_is_applied_and_an_unchanged_one_writes_nothing(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    built = tenant.push(
        {"web.yaml": deployment("web", image="nginx:1"), "settings.yaml": config_map("settings", a="1")}
    )
    tenant.write_sync(images=SITE)
    tenant.wait_ready()
    before = tenant.cluster.get("configmap", "settings", namespace=tenant.namespace)["metadata"]["resourceVersion"]
    tenant.write_sync(images=[{"from": "docker.io", "to": "other.site.local:5000/hub"}])
    new = "other.site.local:5000/hub/library/nginx:1"
    eventually(lambda: image_of(tenant, "deployment", "web") == new, what="the new map is applied")
    status = tenant.wait_ready(built.descriptor.digest)
    found = tenant.cluster.get("artifactsync", "shop", namespace=tenant.namespace)
    assert status["observedGeneration"] == found["metadata"]["generation"]
    generation = tenant.cluster.get("deployment", "web", namespace=tenant.namespace)["metadata"]["generation"]
    tenant.ask()
    after = tenant.cluster.get("deployment", "web", namespace=tenant.namespace)["metadata"]["generation"]
    assert after == generation
    settings = tenant.cluster.get("configmap", "settings", namespace=tenant.namespace)
    assert settings["metadata"]["resourceVersion"] == before
    tenant.write_sync()
    eventually(lambda: image_of(tenant, "deployment", "web") == "nginx:1", what="no map, no rewriting")


def test_images_of_custom_resources_are_rewritten_where_a_path_leads(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    group = f"{tenant.namespace}.example"
    apply(tenant.cluster, [custom_kind(group)])
    engine = {
        "apiVersion": f"{group}/v1",
        "kind": "Engine",
        "metadata": {"name": "main"},
        "spec": {"image": "acme/engine:3", "sidecars": [{"picture": "redis:7"}], "note": "acme/engine:3"},
    }
    try:
        tenant.push({"engine.yaml": engine})
        paths = [f"Engine.{group}=/spec/image", f"Engine.{group}=/spec/sidecars/*/picture"]
        tenant.write_sync(images=SITE, imagePaths=paths)
        tenant.wait_ready()
        spec = tenant.cluster.get(f"engines.{group}", "main", namespace=tenant.namespace)["spec"]
        assert spec == {
            "image": "mirror.site.local/docker.io/acme/engine:3",
            "sidecars": [{"picture": "mirror.site.local/cache/redis:7"}],
            "note": "acme/engine:3",
        }
    finally:
        tenant.cluster.kubectl("delete", "crd", f"engines.{group}", "--wait=false")


def test_a_tag_that_the_artifacts_lock_pins_is_moved_with_its_digest(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    entry = {"image": f"index.docker.io/library/nginx@{D}", "annotations": {"kbld.carvel.dev/id": "nginx:1.27"}}
    lock = {"apiVersion": "imgpkg.carvel.dev/v1alpha1", "kind": "ImagesLock", "images": [entry]}
    tenant.push({"web.yaml": deployment("web", image="nginx:1.27"), ".imgpkg/images.yml": lock})
    tenant.write_sync(images=[{"from": "docker.io/library/nginx", "to": "mirror.site.local/bundle"}])
    tenant.wait_ready()
    assert image_of(tenant, "deployment", "web") == f"mirror.site.local/bundle:1.27@{D}"


def test_a_map_that_means_something_else_to_a_runtime_is_told_by_name(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    tenant.push({"web.yaml": deployment("web", image="nginx:1")})
    tenant.write_sync(images=[{"from": "nginx", "to": "mirror.site.local/nginx"}])
    found = tenant.wait_condition("Ready", "False")
    assert "spec.images" in found["message"] and "docker.io/nginx" in found["message"]
