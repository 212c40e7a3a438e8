"""The controllers of Deployments, ReplicaSets, StatefulSets, DaemonSets and Jobs.

Each call looks at what is stored and takes the next steps.
Rollouts are simple: the new ReplicaSet gets its full size at once and old ones go to zero when it is available
(`Recreate`: before it starts). StatefulSets create and replace pods one by one in order.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import ClassVar, Final

from ocisync.sandbox.kinds import Resource
from ocisync.sandbox.shapes import Json
from ocisync.sandbox.store import Stored, TableKey
from ocisync.sandbox.successors import MERGE_PATCH
from ocisync.sandbox.writes import Deletion, Options, Writer

MANAGER: Final = "kube-controller-manager"
NODE: Final = "sandbox-node"
HASH: Final = "pod-template-hash"
REVISION: Final = "deployment.kubernetes.io/revision"
PODS: Final = ("", "pods")
CLAIMS: Final = ("", "persistentvolumeclaims")
REPLICA_SETS: Final = ("apps", "replicasets")
FATE: Final = "tests.ocisync.dev/fate"


def ready(pod: Json) -> bool:
    """Whether a pod is Ready."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def unpullable(image: str) -> bool:
    """Whether an image can never be pulled: its host is under `.invalid`."""
    return image.partition("/")[0].partition(":")[0].endswith(".invalid")


def fate_of(pod: Json) -> str:
    """Say how a pod ends up: Running, Succeeded, or what is wrong with it.

    The annotation is the one that the simulated nodes of the tests with real servers obey.
    """
    fate = (pod["metadata"].get("annotations") or {}).get(FATE, "")
    if fate:
        return str(fate)
    containers = pod["spec"].get("containers") or ()
    if any(unpullable(item.get("image", "")) for item in containers):
        return "ImagePullBackOff"
    return "Succeeded" if pod["spec"].get("restartPolicy") in ("Never", "OnFailure") else "Running"


def template_hash(template: Json) -> str:
    """Name a pod template."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def condition(kind: str, status: bool, reason: str, message: str, now: str, old: Json) -> Json:
    """Make a condition; its transition time stays while its status stays."""
    word = "True" if status else "False"
    before = next((item for item in (old or {}).get("conditions") or () if item["type"] == kind), None)
    moved = before["lastTransitionTime"] if before and before["status"] == word else now
    same = before is not None and before["status"] == word and before["reason"] == reason
    updated = before["lastUpdateTime"] if same and before and "lastUpdateTime" in before else now
    return {
        "type": kind,
        "status": word,
        "reason": reason,
        "message": message,
        "lastTransitionTime": moved,
        "lastUpdateTime": updated,
    }


class Workloads:
    """The workload controllers."""

    TABLES: ClassVar[frozenset[TableKey]] = frozenset(
        {
            ("apps", "deployments"),
            REPLICA_SETS,
            ("apps", "statefulsets"),
            ("apps", "daemonsets"),
            ("batch", "jobs"),
        }
    )

    def __init__(self, writer: Writer) -> None:
        """Write through `writer`."""
        self._writer = writer
        self._store = writer.store

    def reconcile(self, table: TableKey, stored: Stored) -> None:
        """Take the next steps for one workload."""
        {
            "deployments": self._deployment,
            "replicasets": self._replica_set,
            "statefulsets": self._stateful_set,
            "daemonsets": self._daemon_set,
            "jobs": self._job,
        }[table[1]](stored)

    # -- shared -----------------------------------------------------------------------------------

    def _resource(self, table: TableKey) -> Resource:
        found = self._writer.catalog.of_table(table)
        assert found is not None  # noqa: S101 - built-in kinds are always served
        return found

    def _owned(self, table: TableKey, owner: Stored) -> list[Stored]:
        found = [stored for stored in self._store.owned(owner.uid, table) if _controller_of(stored.value) == owner.uid]
        living = [stored for stored in found if not stored.value["metadata"].get("deletionTimestamp")]
        return sorted(living, key=lambda stored: str(stored.value["metadata"]["name"]))

    def _delete(self, table: TableKey, stored: Stored) -> None:
        metadata = stored.value["metadata"]
        self._writer.delete(self._resource(table), metadata["namespace"], metadata["name"], Deletion(uid=stored.uid))

    def _create_pod(self, owner: Stored, template: Json, name: str, labels: Json | None = None) -> None:
        metadata = template.get("metadata") or {}
        pod = {
            "metadata": {
                "name": name,
                "labels": {**(metadata.get("labels") or {}), **(labels or {})},
                "annotations": metadata.get("annotations"),
                "ownerReferences": [_reference(owner)],
            },
            "spec": template["spec"],
        }
        namespace = owner.value["metadata"]["namespace"]
        self._writer.create(self._resource(PODS), namespace, pod, Options(MANAGER, validation="Ignore"))

    def pod_status(self, pod: Json, now: str, address: str) -> Json:
        """Return the status of a pod whose containers have started, or cannot."""
        fate = fate_of(pod)
        up, done = fate == "Running", fate in ("Succeeded", "Failed")
        reason = "PodCompleted" if fate == "Succeeded" else "" if up else "ContainersNotReady"
        conditions: list[Json] = [
            {"type": kind, "status": "True" if up or kind in ("PodScheduled", "Initialized") else "False"}
            | ({"reason": reason} if reason and kind in ("Ready", "ContainersReady") else {})
            | {"lastProbeTime": None, "lastTransitionTime": now}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ]
        statuses = [
            {
                "name": item["name"],
                "image": item.get("image", ""),
                "imageID": "",
                "ready": up,
                "restartCount": 1 if fate == "CrashLoopBackOff" else 0,
                "started": up,
                "state": _container_state(fate, item.get("image", ""), now),
            }
            for item in pod["spec"].get("containers") or ()
        ]
        return {
            "phase": fate if done else "Running" if fate in ("Running", "CrashLoopBackOff") else "Pending",
            "observedGeneration": pod["metadata"].get("generation", 1),
            "qosClass": (pod.get("status") or {}).get("qosClass", "BestEffort"),
            "startTime": now,
            "hostIP": "127.0.0.1",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": conditions,
            "containerStatuses": statuses,
        }

    # -- Deployment -------------------------------------------------------------------------------

    def _deployment(self, stored: Stored) -> None:
        metadata, spec = stored.value["metadata"], stored.value["spec"]
        sets = self._owned(REPLICA_SETS, stored)
        wanted = template_hash(spec["template"])
        current = next((item for item in sets if item.labels.get(HASH) == wanted), None)
        old = [item for item in sets if item is not current]
        recreate = (spec.get("strategy") or {}).get("type") == "Recreate"
        if recreate and any(_replicas(item) or (item.value.get("status") or {}).get("replicas") for item in old):
            for item in old:
                self._resize(item, 0)
        elif not spec.get("paused"):
            revision = 1 + max((int(_annotations(item).get(REVISION, "0")) for item in sets), default=0)
            if current is None:
                current = self._new_replica_set(stored, wanted, revision)
            self._resize(current, spec["replicas"])
            if _available(current) >= spec["replicas"]:
                for item in old:
                    self._resize(item, 0)
        self._deployment_status(metadata["namespace"], metadata["name"])

    def _new_replica_set(self, owner: Stored, name: str, revision: int) -> Stored:
        metadata, spec = owner.value["metadata"], owner.value["spec"]
        template = json.loads(json.dumps(spec["template"]))
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        labels[HASH] = name
        value = {
            "metadata": {
                "name": f"{metadata['name']}-{name}",
                "labels": labels,
                "annotations": {
                    "deployment.kubernetes.io/desired-replicas": str(spec["replicas"]),
                    REVISION: str(revision),
                },
                "ownerReferences": [_reference(owner)],
            },
            "spec": {
                "replicas": spec["replicas"],
                "selector": {"matchLabels": {**(spec["selector"].get("matchLabels") or {}), HASH: name}},
                "template": template,
            },
        }
        options = Options(MANAGER, validation="Ignore")
        return self._writer.create(self._resource(REPLICA_SETS), metadata["namespace"], value, options).stored

    def _resize(self, stored: Stored, replicas: int) -> None:
        if _replicas(stored) != replicas:
            metadata = stored.value["metadata"]
            patch = {"spec": {"replicas": replicas}}
            resource, options = self._resource(REPLICA_SETS), Options(MANAGER, validation="Ignore")
            self._writer.patch(resource, metadata["namespace"], metadata["name"], MERGE_PATCH, patch, options)

    def _deployment_status(self, namespace: str, name: str) -> None:
        resource = self._resource(("apps", "deployments"))
        stored = self._writer.get(resource, namespace, name)
        spec, before, now = stored.value["spec"], stored.value.get("status") or {}, self._writer.now()
        sets = self._owned(REPLICA_SETS, stored)
        wanted = template_hash(spec["template"])
        current = [item for item in sets if item.labels.get(HASH) == wanted]
        total, updated = _sum(sets, "replicas"), _sum(current, "replicas")
        prepared, available = _sum(sets, "readyReplicas"), _sum(sets, "availableReplicas")
        enough = available >= spec["replicas"]
        complete = enough and updated == spec["replicas"] == total
        title = f'ReplicaSet "{current[0].value["metadata"]["name"] if current else name}"'
        conditions = [
            condition(
                "Available",
                enough,
                "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
                f"Deployment {'has' if enough else 'does not have'} minimum availability.",
                now,
                before,
            ),
            condition(
                "Progressing",
                True,
                "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated",
                f"{title} has successfully progressed." if complete else f"{title} is progressing.",
                now,
                before,
            ),
        ]
        status = {"observedGeneration": stored.value["metadata"]["generation"]}
        counts = {
            "replicas": total,
            "updatedReplicas": updated,
            "readyReplicas": prepared,
            "availableReplicas": available,
            "unavailableReplicas": max(max(total, spec["replicas"]) - available, 0),
        }
        status |= {key: number for key, number in counts.items() if number}
        status |= {"terminatingReplicas": 0, "conditions": conditions}
        annotations = {REVISION: _annotations(current[0]).get(REVISION, "1")} if current else None
        self._writer.set_status(resource, stored, status, MANAGER, annotations)

    # -- ReplicaSet -------------------------------------------------------------------------------

    def _replica_set(self, stored: Stored) -> None:
        metadata, spec = stored.value["metadata"], stored.value["spec"]
        pods = self._owned(PODS, stored)
        for _ in range(spec["replicas"] - len(pods)):
            self._create_pod(stored, spec["template"], f"{metadata['name']}-{secrets.token_hex(3)[:5]}")
        surplus = len(pods) - spec["replicas"]
        # Those that are not ready go first, as nobody uses them.
        for pod in sorted(pods, key=lambda pod: ready(pod.value))[: max(surplus, 0)]:
            self._delete(PODS, pod)
        pods = self._owned(PODS, stored)
        prepared = sum(1 for pod in pods if ready(pod.value))
        status = {"replicas": len(pods), "observedGeneration": metadata["generation"]}
        counts = {"fullyLabeledReplicas": len(pods), "readyReplicas": prepared, "availableReplicas": prepared}
        status |= {key: number for key, number in counts.items() if number}
        self._writer.set_status(self._resource(REPLICA_SETS), stored, status, MANAGER)

    # -- StatefulSet ------------------------------------------------------------------------------

    def _stateful_set(self, stored: Stored) -> None:
        metadata, spec = stored.value["metadata"], stored.value["spec"]
        wanted = f"{metadata['name']}-{template_hash(spec['template'])}"
        pods = {pod.value["metadata"]["name"]: pod for pod in self._owned(PODS, stored)}
        names = [f"{metadata['name']}-{index}" for index in range(spec["replicas"])]
        for name in sorted(set(pods) - set(names), reverse=True):
            self._delete(PODS, pods.pop(name))
        parallel = spec.get("podManagementPolicy") == "Parallel"
        for index, name in enumerate(names):
            if name not in pods:
                self._create_claims(stored, index)
                labels = {
                    "controller-revision-hash": wanted,
                    "statefulset.kubernetes.io/pod-name": name,
                    "apps.kubernetes.io/pod-index": str(index),
                }
                self._create_pod(stored, self._with_claims(stored, index), name, labels)
            if not parallel and not (name in pods and ready(pods[name].value)):
                break
        else:
            stale = [name for name in names if name in pods and not _has_revision(pods[name], wanted)]
            if stale and (spec.get("updateStrategy") or {}).get("type") != "OnDelete":
                self._delete(PODS, pods[stale[-1]])
        self._stateful_status(stored, wanted)

    def _create_claims(self, stored: Stored, index: int) -> None:
        metadata = stored.value["metadata"]
        for claim in stored.value["spec"].get("volumeClaimTemplates") or ():
            name = f"{claim['metadata']['name']}-{metadata['name']}-{index}"
            if (metadata["namespace"], name) in self._store.table(CLAIMS).objects:
                continue
            labels = {
                **(claim["metadata"].get("labels") or {}),
                **stored.value["spec"]["selector"].get("matchLabels", {}),
            }
            value = {"metadata": {"name": name, "labels": labels}, "spec": claim["spec"]}
            options = Options(MANAGER, validation="Ignore")
            self._writer.create(self._resource(CLAIMS), metadata["namespace"], value, options)

    def _with_claims(self, stored: Stored, index: int) -> Json:
        template = json.loads(json.dumps(stored.value["spec"]["template"]))
        for claim in stored.value["spec"].get("volumeClaimTemplates") or ():
            base = claim["metadata"]["name"]
            name = f"{base}-{stored.value['metadata']['name']}-{index}"
            volume = {"name": base, "persistentVolumeClaim": {"claimName": name}}
            template["spec"].setdefault("volumes", []).append(volume)
        return template

    def _stateful_status(self, stored: Stored, revision: str) -> None:
        pods = self._owned(PODS, stored)
        prepared = sum(1 for pod in pods if ready(pod.value))
        updated = sum(1 for pod in pods if _has_revision(pod, revision))
        before = stored.value.get("status") or {}
        settled = updated == len(pods) == stored.value["spec"]["replicas"]
        status = {
            "observedGeneration": stored.value["metadata"]["generation"],
            "replicas": len(pods),
            "availableReplicas": prepared,
            "currentRevision": revision if settled else before.get("currentRevision", revision),
            "updateRevision": revision,
            "collisionCount": 0,
        }
        counts = {"readyReplicas": prepared, "currentReplicas": len(pods), "updatedReplicas": updated}
        status |= {key: number for key, number in counts.items() if number}
        self._writer.set_status(self._resource(("apps", "statefulsets")), stored, status, MANAGER)

    # -- DaemonSet --------------------------------------------------------------------------------

    def _daemon_set(self, stored: Stored) -> None:
        metadata, spec = stored.value["metadata"], stored.value["spec"]
        wanted = template_hash(spec["template"])
        pods = self._owned(PODS, stored)
        for pod in pods:
            if not _has_revision(pod, wanted):
                self._delete(PODS, pod)
        if not any(_has_revision(pod, wanted) for pod in pods):
            name = f"{metadata['name']}-{secrets.token_hex(3)[:5]}"
            self._create_pod(stored, spec["template"], name, {"controller-revision-hash": wanted})
        prepared = sum(1 for pod in self._owned(PODS, stored) if ready(pod.value))
        status = {
            "observedGeneration": metadata["generation"],
            "currentNumberScheduled": 1,
            "numberMisscheduled": 0,
            "desiredNumberScheduled": 1,
            "numberReady": prepared,
            "updatedNumberScheduled": 1,
        }
        status |= {"numberAvailable": prepared} if prepared else {"numberUnavailable": 1}
        self._writer.set_status(self._resource(("apps", "daemonsets")), stored, status, MANAGER)

    # -- Job --------------------------------------------------------------------------------------

    def _job(self, stored: Stored) -> None:
        metadata, spec, now = stored.value["metadata"], stored.value["spec"], self._writer.now()
        before = stored.value.get("status") or {}
        if spec.get("suspend") or before.get("conditions"):
            return
        pods = self._owned(PODS, stored)
        phases = [(pod.value.get("status") or {}).get("phase") for pod in pods]
        done, failed = phases.count("Succeeded"), phases.count("Failed")
        wanted = spec.get("completions") or 1
        active = len(pods) - done - failed
        given_up = failed > spec.get("backoffLimit", 6)
        for _ in range(0 if given_up else min(spec.get("parallelism") or 1, wanted - done) - active):
            self._create_pod(stored, spec["template"], f"{metadata['name']}-{secrets.token_hex(3)[:5]}")
            active += 1
        status: Json = {"startTime": before.get("startTime", now), "ready": 0, "terminating": 0}
        counts = {"active": active, "succeeded": done, "failed": failed}
        status |= {"uncountedTerminatedPods": {}} | {key: number for key, number in counts.items() if number}
        if given_up:
            words = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
            status["conditions"] = [_job_condition(kind, *words, now) for kind in ("FailureTarget", "Failed")]
        elif done >= wanted:
            words = ("CompletionsReached", "Reached expected number of succeeded pods")
            status["conditions"] = [_job_condition(kind, *words, now) for kind in ("SuccessCriteriaMet", "Complete")]
            status["completionTime"] = now
        self._writer.set_status(self._resource(("batch", "jobs")), stored, status, MANAGER)


def _container_state(fate: str, image: str, now: str) -> Json:
    if fate == "Running":
        return {"running": {"startedAt": now}}
    if fate in ("Succeeded", "Failed"):
        code, reason = (0, "Completed") if fate == "Succeeded" else (1, "Error")
        return {"terminated": {"exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now}}
    messages = {
        "ImagePullBackOff": f'Back-off pulling image "{image}"',
        "CrashLoopBackOff": "back-off 10s restarting failed container",
    }
    return {"waiting": {"reason": fate if fate in messages else "ContainerCreating", "message": messages.get(fate, "")}}


def _job_condition(kind: str, reason: str, message: str, now: str) -> Json:
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastProbeTime": now,
        "lastTransitionTime": now,
    }


def _reference(owner: Stored) -> Json:
    return {
        "apiVersion": owner.value["apiVersion"],
        "kind": owner.value["kind"],
        "name": owner.value["metadata"]["name"],
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _controller_of(value: Json) -> str:
    references = value["metadata"].get("ownerReferences") or ()
    return next((item["uid"] for item in references if item.get("controller")), "")


def _annotations(stored: Stored) -> dict[str, str]:
    return stored.value["metadata"].get("annotations") or {}


def _replicas(stored: Stored) -> int:
    return int(stored.value["spec"].get("replicas") or 0)


def _available(stored: Stored) -> int:
    return int((stored.value.get("status") or {}).get("availableReplicas") or 0)


def _sum(sets: list[Stored], name: str) -> int:
    return sum(int((item.value.get("status") or {}).get(name) or 0) for item in sets)


def _has_revision(pod: Stored, revision: str) -> bool:
    return pod.labels.get("controller-revision-hash") == revision
