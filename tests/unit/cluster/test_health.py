"""Health of every kind with a rule: kstatus' words, and what `kubectl rollout status` waits for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.cluster.health import CURRENT, Health, HealthStatus, health, is_running, needs_object, rollup
from ocisync.model.resource import JsonObject, ObjectId

OK, BUSY, BAD = HealthStatus.CURRENT, HealthStatus.IN_PROGRESS, HealthStatus.FAILED
ENDING = HealthStatus.TERMINATING


def obj(api: str, kind: str, spec: JsonObject | None = None, status: Any = None, **metadata: Any) -> JsonObject:
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": "x", "generation": 2, **metadata},
        "spec": spec or {},
        "status": status if status is not None else {},
    }


def cond(kind: str, status: str = "True", reason: str = "R", message: str = "") -> JsonObject:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def deployment(replicas: int = 3, spec: JsonObject | None = None, **status: Any) -> JsonObject:
    counts = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, "readyReplicas": 3}
    return obj(
        "apps/v1", "Deployment", {"replicas": replicas, **(spec or {})}, {"observedGeneration": 2, **counts, **status}
    )


def stateful(spec: JsonObject | None = None, **status: Any) -> JsonObject:
    counts = {"replicas": 3, "readyReplicas": 3, "updatedReplicas": 3, "currentRevision": "a", "updateRevision": "a"}
    return obj("apps/v1", "StatefulSet", {"replicas": 3, **(spec or {})}, {"observedGeneration": 2, **counts, **status})


def daemon(spec: JsonObject | None = None, **status: Any) -> JsonObject:
    names = ("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberAvailable",
             "numberReady")  # fmt: skip
    return obj("apps/v1", "DaemonSet", spec, {"observedGeneration": 2, **dict.fromkeys(names, 2), **status})


def replica_set(**status: Any) -> JsonObject:
    names = ("replicas", "fullyLabeledReplicas", "availableReplicas", "readyReplicas")
    return obj("apps/v1", "ReplicaSet", {"replicas": 2}, {"observedGeneration": 2, **dict.fromkeys(names, 2), **status})


def pod(phase: str, *conditions: JsonObject, **status: Any) -> JsonObject:
    return obj("v1", "Pod", {}, {"phase": phase, "conditions": list(conditions), **status})


def crd(*conditions: JsonObject) -> JsonObject:
    return obj("apiextensions.k8s.io/v1", "CustomResourceDefinition", {}, {"conditions": list(conditions)})


def hpa(*conditions: JsonObject) -> JsonObject:
    return obj("autoscaling/v2", "HorizontalPodAutoscaler", {}, {"conditions": list(conditions)})


def job(spec: JsonObject | None = None, *conditions: JsonObject, **status: Any) -> JsonObject:
    return obj("batch/v1", "Job", spec, {"conditions": list(conditions), **status})


def custom(*conditions: JsonObject, **status: Any) -> JsonObject:
    return obj("example.com/v1", "Widget", {}, {"conditions": list(conditions), **status})


CRASH = {"terminated": {"exitCode": 3, "reason": "Error", "message": "no database"}}
BACKOFF = {
    "name": "web", "lastState": CRASH,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m"}},
}  # fmt: skip

CASES = [
    ("deployment ready", deployment(), OK, ""),
    ("deployment without status", obj("apps/v1", "Deployment"), BUSY, "controller"),
    ("deployment not observed", deployment(observedGeneration=1), BUSY, "generation 2"),
    ("deployment too few updated", deployment(updatedReplicas=1), BUSY, "1 of 3 new"),
    ("deployment still has old pods",
     obj("apps/v1", "Deployment", {"replicas": 3}, {"observedGeneration": 2, "replicas": 4, "updatedReplicas": 3}),
     BUSY, "1 old"),
    ("deployment not available", deployment(availableReplicas=2), BUSY, "2 of 3 replicas available"),
    ("deployment not ready", deployment(readyReplicas=2), BUSY, "2 of 3 replicas ready"),
    ("deployment deadline",
     deployment(conditions=[cond("Progressing", "False", "ProgressDeadlineExceeded", "too slow")]),
     BAD, "too slow"),
    ("deployment quota", deployment(conditions=[cond("ReplicaFailure", message="quota")]), BUSY, "quota"),
    ("replica set ready", replica_set(), OK, ""),
    ("replica set waits", replica_set(readyReplicas=1), BUSY, "1 of 2 replicas ready"),
    ("replica set shrinks", replica_set(replicas=5), BUSY, "too many"),
    ("replica set failure", replica_set(conditions=[cond("ReplicaFailure", message="no")]), BUSY, "no"),
    ("stateful set ready", stateful(), OK, ""),
    ("stateful set creating", stateful(replicas=1), BUSY, "1 of 3 replicas created"),
    ("stateful set waits", stateful(readyReplicas=2), BUSY, "2 of 3 replicas ready"),
    ("stateful set rolling", stateful(updatedReplicas=1, updateRevision="b"), BUSY, "1 of 3 replicas updated"),
    ("stateful set about to be done", stateful(updateRevision="b"), BUSY, "3 of 3 replicas updated"),
    ("stateful set partition done",
     stateful({"updateStrategy": {"rollingUpdate": {"partition": 2}}}, updatedReplicas=1, updateRevision="b"), OK, ""),
    ("stateful set partition rolling",
     stateful({"updateStrategy": {"rollingUpdate": {"partition": 1}}}, updatedReplicas=1, updateRevision="b"),
     BUSY, "above the partition"),
    ("stateful set on delete",
     stateful({"updateStrategy": {"type": "OnDelete"}}, updatedReplicas=0, updateRevision="b"), OK, ""),
    ("daemon set ready", daemon(), OK, ""),
    ("daemon set new", obj("apps/v1", "DaemonSet", {}, {"observedGeneration": 2}), BUSY, "controller"),
    ("daemon set rolling", daemon(updatedNumberScheduled=1), BUSY, "1 of 2 pods updated"),
    ("daemon set on delete", daemon({"updateStrategy": {"type": "OnDelete"}}, updatedNumberScheduled=0), OK, ""),
    ("daemon set waits", daemon(numberAvailable=1), BUSY, "1 of 2 pods available"),
    ("daemon set without nodes",
     obj("apps/v1", "DaemonSet", {}, {"observedGeneration": 2, "desiredNumberScheduled": 0}), OK, ""),
    ("pod ready", pod("Running", cond("Ready")), OK, ""),
    ("pod done", pod("Succeeded"), OK, ""),
    ("pod failed", pod("Failed", message="oom"), BAD, "oom"),
    ("pod crashing", pod("Running", cond("Ready", "False"), containerStatuses=[BACKOFF]), BAD, "code 3: no database"),
    ("pod pending", pod("Pending", cond("PodScheduled", "False", "Unschedulable", "no cpu")), BUSY, "no cpu"),
    ("pod new", obj("v1", "Pod"), BUSY, "node"),
    ("job running", job(None, startTime="t"), OK, "0 of 1 pods of the job succeeded"),
    ("job done", job(None, cond("Complete")), OK, ""),
    ("job failed", job(None, cond("Failed", message="deadline")), BAD, "deadline"),
    ("job new", job(), BUSY, "controller"),
    ("job suspended", job({"suspend": True}), OK, ""),
    ("cron job", obj("batch/v1", "CronJob"), OK, ""),
    ("hpa new", hpa(), OK, ""),
    ("hpa works", hpa(cond("AbleToScale"), cond("ScalingActive")), OK, ""),
    ("hpa without metrics", hpa(cond("AbleToScale"), cond("ScalingActive", "False", "F", "no metrics")), OK, ""),
    ("hpa without target", hpa(cond("AbleToScale", "False", "FailedGetScale", "no target")), BUSY, "no target"),
    ("hpa of a stopped target", hpa(cond("ScalingActive", "False", "ScalingDisabled")), OK, ""),
    ("budget computed", obj("policy/v1", "PodDisruptionBudget", {}, {"observedGeneration": 2}), OK, ""),
    ("budget new", obj("policy/v1", "PodDisruptionBudget"), BUSY, "controller"),
    ("budget broken",
     obj("policy/v1", "PodDisruptionBudget", {}, {
         "observedGeneration": 2, "conditions": [cond("DisruptionAllowed", "False", "SyncFailed", "odd")]}),
     BAD, "odd"),
    ("claim bound", obj("v1", "PersistentVolumeClaim", {}, {"phase": "Bound"}), OK, ""),
    ("claim pending", obj("v1", "PersistentVolumeClaim", {}, {"phase": "Pending"}), BUSY, "Pending"),
    ("claim lost", obj("v1", "PersistentVolumeClaim", {}, {"phase": "Lost"}), BAD, "lost"),
    ("service", obj("v1", "Service", {"type": "ClusterIP"}), OK, ""),
    ("balancer waits", obj("v1", "Service", {"type": "LoadBalancer"}), BUSY, "address"),
    ("balancer", obj("v1", "Service", {"type": "LoadBalancer"}, {"loadBalancer": {"ingress": [{"ip": "1"}]}}), OK, ""),
    ("ingress", obj("networking.k8s.io/v1", "Ingress"), OK, ""),
    ("namespace", obj("v1", "Namespace", {}, {"phase": "Active"}), OK, ""),
    ("namespace ends", obj("v1", "Namespace", {}, {"phase": "Terminating"}), ENDING, "deleted"),
    ("crd new", crd(), BUSY, "established"),
    ("crd served", crd(cond("NamesAccepted"), cond("Established")), OK, ""),
    ("crd installing", crd(cond("NamesAccepted"), cond("Established", "False", "Installing")), BUSY, "established"),
    ("crd name taken", crd(cond("NamesAccepted", "False", "Conflict", "taken")), BAD, "taken"),
    ("api service up",
     obj("apiregistration.k8s.io/v1", "APIService", {}, {"conditions": [cond("Available")]}), OK, ""),
    ("api service down",
     obj("apiregistration.k8s.io/v1", "APIService", {}, {"conditions": [cond("Available", "False", "X", "no pods")]}),
     BUSY, "no pods"),
    ("custom without status", obj("example.com/v1", "Widget"), OK, ""),
    ("custom ready", custom(cond("Ready")), OK, ""),
    ("custom not ready", custom(cond("Ready", "False", "X", "wait")), BUSY, "wait"),
    ("custom unknown", custom(cond("Ready", "Unknown")), BUSY, "R"),
    ("custom stalled", custom(cond("Stalled", message="stuck"), cond("Ready", "False")), BAD, "stuck"),
    ("custom reconciling", custom(cond("Reconciling", message="doing"), cond("Ready")), BUSY, "doing"),
    ("custom behind", custom(cond("Ready"), observedGeneration=1), BUSY, "generation 2"),
    ("custom never observed", custom(observedGeneration=-1), BUSY, "at -1"),
    ("anything deleted", obj("v1", "ConfigMap", deletionTimestamp="t"), ENDING, "deleted"),
    ("config map", obj("v1", "ConfigMap"), OK, ""),
]  # fmt: skip


@pytest.mark.parametrize(("live", "status", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_health_of(live: JsonObject, status: HealthStatus, words: str) -> None:
    found = health(live)
    assert found.status is status, found
    assert words in found.message
    assert (found.message == "") is (status is OK and not is_running(found))


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([case[1] for case in CASES]),
    st.sampled_from(["spec", "status", "metadata"]),
    st.sampled_from(["", "conditions", "replicas", "observedGeneration", "containerStatuses", "updateStrategy"]),
    json_values,
)
def test_no_shape_of_status_raises(live: JsonObject, part: str, name: str, value: Any) -> None:
    broken = {**live, part: {**live[part], name: value} if name else value}
    assert health(broken).status in HealthStatus


@pytest.mark.parametrize(
    ("group", "kind", "whole"),
    [
        ("apps", "Deployment", True),
        ("", "Service", True),
        ("example.com", "Widget", True),
        ("snapshot.storage.k8s.io", "VolumeSnapshot", True),
        ("", "Secret", False),
        ("", "ConfigMap", False),
        ("rbac.authorization.k8s.io", "Role", False),
        ("networking.k8s.io", "NetworkPolicy", False),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", False),
    ],
)
def test_only_kinds_with_health_are_watched_whole(group: str, kind: str, whole: bool) -> None:
    assert needs_object(group, kind) is whole


def test_a_sync_is_as_healthy_as_its_worst_object() -> None:
    def named(name: str) -> ObjectId:
        return ObjectId("apps", "Deployment", "shop", name)

    states = [
        (named("a"), CURRENT),
        (named("b"), Health(BUSY, "1 of 3")),
        (named("c"), Health(BAD, "too slow")),
    ]
    found = rollup(states)
    assert (found.status, found.current, found.total, found.healthy) == (BAD, 1, 3, False)
    assert found.message() == "1 of 3 objects healthy; Deployment.apps shop/c: too slow (and 1 more)"
    assert rollup(states[:1]).healthy
    assert rollup([]).healthy
    more = rollup(states, plain=1000)
    assert (more.current, more.total, more.waiting) == (found.current + 1000, found.total + 1000, found.waiting)
