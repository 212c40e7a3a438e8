"""What is wrong with a pod, in one bounded sentence. Pure.

    fails     a container that crashes again and again, whose image cannot be had, or that cannot be made
    holds up  no node takes the pod, or a container runs without becoming ready

Counts of restarts and the pauses between them are left out: they move on by themselves, and a status would with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ocisync.cluster.health import (
    CURRENT,
    Health,
    conditions,
    failed,
    is_true,
    number,
    progressing,
    said,
    section,
)
from ocisync.kit.log import redact
from ocisync.model.values import dataclass

_STUCK: Final = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "ImageInspectError",
    }
)
_SAID_CHARS: Final = 160


@dataclass(frozen=True, slots=True)
class Trouble:
    """`fails`: it will not get better by itself. `text` names the container."""

    fails: bool
    text: str


def trouble(obj: Mapping[str, Any]) -> Trouble | None:
    """What is wrong with a pod; None while there is nothing to tell."""
    status = section(obj, "status")
    found = conditions(obj)
    if section(obj, "metadata").get("deletionTimestamp") or is_true(found, "Ready"):
        return None
    if str(status.get("phase")) in {"Succeeded", "Failed"}:
        return None  # its controller makes another
    containers = list(_containers(status))
    for name, state, last in containers:
        waiting = section(state, "waiting")
        if str(waiting.get("reason")) in _STUCK:
            return Trouble(True, f"container {name}: {_stuck(waiting, last)}")
    scheduled = found.get("PodScheduled", {})
    if scheduled.get("reason") == "Unschedulable":
        return Trouble(False, _short(said(scheduled, "no node takes it"), "Unschedulable"))
    for name, state, _ in containers:
        if section(state, "waiting").get("reason") == "ErrImagePull":
            return Trouble(
                False, f"container {name}: {_short(section(state, 'waiting').get('message'), 'ErrImagePull')}"
            )
        ended = section(state, "terminated")
        if ended and number(ended, "exitCode") != 0:
            return Trouble(False, f"container {name}: {_exit(ended)}")
    for item in _statuses(status, "containerStatuses"):
        if "running" in section(item, "state") and item.get("ready") is False:
            return Trouble(False, f"container {item.get('name')} runs and is not ready")
    return None


def pod(obj: Mapping[str, Any]) -> Health:
    """Ready, or ended well; a container that cannot start is a failure."""
    status = section(obj, "status")
    phase = str(status.get("phase") or "")
    found = conditions(obj)
    if phase == "Succeeded":
        return CURRENT
    if phase == "Failed":
        return failed(said(status, "the pod failed"))
    wrong = trouble(obj)
    if wrong is not None and wrong.fails:
        return failed(wrong.text)
    if is_true(found, "Ready"):
        return CURRENT
    if phase == "Running" and found.get("Ready", {}).get("reason") == "PodCompleted":
        return CURRENT
    if wrong is not None:
        return progressing(wrong.text)
    return progressing(f"phase {phase}, not ready" if phase else "waiting for a node")


def _statuses(status: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    items = status.get(name)
    yield from (item for item in (items if isinstance(items, list) else []) if isinstance(item, dict))


def _containers(status: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Name, state and last state; those that run first come first."""
    for name in ("initContainerStatuses", "containerStatuses"):
        for item in _statuses(status, name):
            yield str(item.get("name")), section(item, "state"), section(section(item, "lastState"), "terminated")


def _stuck(waiting: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    reason = str(waiting.get("reason"))
    if reason == "CrashLoopBackOff":
        # Its own message names the pause, which grows.
        return f"{reason}, {_exit(last)}" if last else reason
    return _short(waiting.get("message"), reason)


def _exit(ended: Mapping[str, Any]) -> str:
    reason = ended.get("reason")
    text = f"exit code {number(ended, 'exitCode')}" + (f" ({reason})" if reason and reason != "Error" else "")
    return _short(ended.get("message"), text)


def _short(message: Any, before: str) -> str:
    """`before: message`, on one line and without secrets; containers may write anything."""
    words = redact(" ".join(str(message or "").split()))
    if len(words) > _SAID_CHARS:
        words = "…" + words[-_SAID_CHARS:] if before.startswith("exit") else words[:_SAID_CHARS] + "…"
    return f"{before}: {words}" if words else before
