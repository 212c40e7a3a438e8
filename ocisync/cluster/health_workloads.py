"""Health of what runs: the numbers that `kubectl rollout status` waits for, and the conditions that mean "never"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ocisync.cluster import health_pods
from ocisync.cluster.health import (
    CURRENT,
    Health,
    HealthStatus,
    PodQuery,
    Rule,
    behind,
    conditions,
    failed,
    is_true,
    number,
    progressing,
    said,
    section,
)


def _unobserved(obj: Mapping[str, Any]) -> str:
    """Like `behind`, but for kinds whose controllers always write observedGeneration: absent is late too."""
    if "observedGeneration" not in section(obj, "status"):
        return "waiting for its controller"
    return behind(obj)


def selector_text(selector: Mapping[str, Any]) -> str:
    """A label selector as a list request has it; empty if it selects everything or is none."""
    parts = [f"{key}={value}" for key, value in sorted(section(selector, "matchLabels").items())]
    expressions = selector.get("matchExpressions")
    for item in expressions if isinstance(expressions, list) else []:
        key, values = item.get("key"), ",".join(map(str, item.get("values") or ()))
        word = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": f"{key}"}
        parts.append(word.get(str(item.get("operator")), f"!{key}"))
    return ",".join(parts)


def _pods(obj: Mapping[str, Any], label: str = "", value: str = "") -> PodQuery | None:
    """The pods of a workload's newest revision, which `label` tells from older ones."""
    selector = selector_text(section(section(obj, "spec"), "selector"))
    if not selector or (label and not value):
        return None
    return PodQuery(f"{selector},{label}={value}" if label else selector)


def _pods_of_deployment(obj: Mapping[str, Any]) -> PodQuery | None:
    plain, metadata = _pods(obj), section(obj, "metadata")
    revision = section(metadata, "annotations").get("deployment.kubernetes.io/revision")
    if plain is None or not revision:
        return None
    return PodQuery(plain.selector, str(metadata.get("uid") or ""), str(revision))


def deployment(obj: Mapping[str, Any]) -> Health:
    """All replicas updated and available, none left of the old set, deadline not exceeded."""
    late = _unobserved(obj)
    if late:
        return progressing(late)
    found = conditions(obj)
    progress = found.get("Progressing", {})
    if progress.get("reason") == "ProgressDeadlineExceeded":
        return Health(HealthStatus.FAILED, said(progress, "progress deadline exceeded"), _pods_of_deployment(obj))
    if is_true(found, "ReplicaFailure"):
        # A quota or an admission rule in the way may go away: the time-out decides, as for kstatus.
        return progressing(said(found["ReplicaFailure"], "pods cannot be created"))
    spec, status = section(obj, "spec"), section(obj, "status")
    wanted = number(spec, "replicas", 1)
    pods = _pods_of_deployment(obj)
    updated, total = number(status, "updatedReplicas"), number(status, "replicas")
    if updated < wanted:
        return progressing(f"{updated} of {wanted} new replicas created", pods)
    if total > updated:
        return progressing(f"{total - updated} old replicas still running", pods)
    available = number(status, "availableReplicas")
    if available < updated:
        return progressing(f"{available} of {updated} replicas available", pods)
    if number(status, "readyReplicas") < wanted:
        return progressing(f"{number(status, 'readyReplicas')} of {wanted} replicas ready", pods)
    return CURRENT


def replica_set(obj: Mapping[str, Any]) -> Health:
    """All replicas labelled, available and ready."""
    late = _unobserved(obj)
    if late:
        return progressing(late)
    found = conditions(obj)
    if is_true(found, "ReplicaFailure"):
        return progressing(said(found["ReplicaFailure"], "pods cannot be created"))
    wanted, status = number(section(obj, "spec"), "replicas", 1), section(obj, "status")
    for field, word in (
        ("fullyLabeledReplicas", "labelled"),
        ("availableReplicas", "available"),
        ("readyReplicas", "ready"),
    ):
        if number(status, field) < wanted:
            return progressing(f"{number(status, field)} of {wanted} replicas {word}", _pods(obj))
    if number(status, "replicas") > wanted:
        return progressing(f"{number(status, 'replicas') - wanted} replicas too many")
    return CURRENT


def stateful_set(obj: Mapping[str, Any]) -> Health:
    """Every replica ready and, but for the part that `partition` holds back, of the new revision."""
    late = _unobserved(obj)
    if late:
        return progressing(late)
    spec, status = section(obj, "spec"), section(obj, "status")
    wanted = number(spec, "replicas", 1)
    pods = _pods(obj, "controller-revision-hash", str(status.get("updateRevision") or ""))
    if number(status, "replicas") < wanted:
        return progressing(f"{number(status, 'replicas')} of {wanted} replicas created", pods)
    if number(status, "readyReplicas") < wanted:
        return progressing(f"{number(status, 'readyReplicas')} of {wanted} replicas ready", pods)
    if number(status, "replicas") > wanted:
        return progressing(f"{number(status, 'replicas') - wanted} replicas too many")
    strategy = section(spec, "updateStrategy")
    if strategy.get("type") == "OnDelete":
        return CURRENT  # the user deletes pods: no rollout to wait for
    partition = number(section(strategy, "rollingUpdate"), "partition")
    updated = number(status, "updatedReplicas")
    if partition:
        if updated < wanted - partition:
            return progressing(f"{updated} of {wanted - partition} replicas above the partition updated", pods)
        return CURRENT
    if status.get("currentRevision") != status.get("updateRevision"):
        return progressing(f"{updated} of {wanted} replicas updated", pods)
    return CURRENT


def daemon_set(obj: Mapping[str, Any]) -> Health:
    """A pod of the new revision, available, on every node that should have one."""
    late = _unobserved(obj)
    if late:
        return progressing(late)
    spec, status = section(obj, "spec"), section(obj, "status")
    if "desiredNumberScheduled" not in status:
        return progressing("waiting for its controller")
    wanted = number(status, "desiredNumberScheduled")
    template = section(section(obj, "metadata"), "annotations").get("deprecated.daemonset.template.generation")
    pods = _pods(obj, "pod-template-generation", str(template or ""))
    if number(status, "currentNumberScheduled") < wanted:
        return progressing(f"{number(status, 'currentNumberScheduled')} of {wanted} pods scheduled", pods)
    if section(spec, "updateStrategy").get("type") != "OnDelete" and number(status, "updatedNumberScheduled") < wanted:
        return progressing(f"{number(status, 'updatedNumberScheduled')} of {wanted} pods updated", pods)
    for field, word in (("numberAvailable", "available"), ("numberReady", "ready")):
        if number(status, field) < wanted:
            return progressing(f"{number(status, field)} of {wanted} pods {word}", pods)
    return CURRENT


def job(obj: Mapping[str, Any]) -> Health:
    """Started is enough, as for kstatus; failed is a failure; a suspended job is as it should be.

    Waves wait for its end (`is_running`).
    """
    found = conditions(obj)
    if is_true(found, "Failed"):
        return failed(said(found["Failed"], "the job failed"))
    if is_true(found, "Complete") or is_true(found, "SuccessCriteriaMet") or is_true(found, "Suspended"):
        return CURRENT
    status = section(obj, "status")
    if "startTime" not in status and not section(obj, "spec").get("suspend"):
        return progressing("waiting for its controller")
    if section(obj, "spec").get("suspend"):
        return CURRENT
    ended, wanted = number(status, "succeeded"), number(section(obj, "spec"), "completions", 1)
    return Health(HealthStatus.CURRENT, f"{ended} of {wanted} pods of the job succeeded")


def cron_job(obj: Mapping[str, Any]) -> Health:
    """A schedule is healthy as soon as it exists: its jobs are not part of the sync."""
    return CURRENT if obj else progressing("empty")


def autoscaler(obj: Mapping[str, Any]) -> Health:
    """An HPA that finds what it scales. Missing metrics are not the artifact's fault: it is applied and will scale.

    A cluster without a metrics server would otherwise never become Ready; kstatus calls every HPA current too.
    """
    able = conditions(obj).get("AbleToScale", {})
    if able.get("status") == "False":
        return progressing(said(able, "AbleToScale is False"))
    return CURRENT


def disruption_budget(obj: Mapping[str, Any]) -> Health:
    """The budget has been computed; how many pods are healthy is the workload's business."""
    late = _unobserved(obj)
    if late:
        return progressing(late)
    found = conditions(obj)
    allowed = found.get("DisruptionAllowed", {})
    if allowed.get("reason") == "SyncFailed":
        return failed(said(allowed, "the budget cannot be computed"))
    return CURRENT


RULES: Final[Mapping[tuple[str, str], Rule]] = {
    ("apps", "Deployment"): deployment,
    ("apps", "ReplicaSet"): replica_set,
    ("apps", "StatefulSet"): stateful_set,
    ("apps", "DaemonSet"): daemon_set,
    ("", "Pod"): health_pods.pod,
    ("batch", "Job"): job,
    ("batch", "CronJob"): cron_job,
    ("autoscaling", "HorizontalPodAutoscaler"): autoscaler,
    ("policy", "PodDisruptionBudget"): disruption_budget,
}
