"""What is wrong with a pod, in one bounded sentence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.cluster.health_pods import Trouble, pod, trouble


def made(*containers: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1"},
        "status": {"phase": "Running", "containerStatuses": list(containers), **status},
    }  # fmt: skip


def waiting(why: str, said: str = "", container: str = "main", **last: Any) -> dict[str, Any]:
    """A container that waits; what is known of its last run are keyword arguments."""
    state = {"waiting": {"reason": why, "message": said}}
    return {"name": container, "state": state, "ready": False, **({"lastState": {"terminated": last}} if last else {})}


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
RUNNING = {"name": "main", "ready": False, "state": {"running": {"startedAt": "t"}}}

CASES = [
    ("crash loop", made(waiting("CrashLoopBackOff", "back-off 5m0s", exitCode=3, reason="Error", message="no db")),
     Trouble(True, "container main: CrashLoopBackOff, exit code 3: no db")),
    ("out of memory", made(waiting("CrashLoopBackOff", "back-off", exitCode=137, reason="OOMKilled")),
     Trouble(True, "container main: CrashLoopBackOff, exit code 137 (OOMKilled)")),
    ("crash loop without last words", made(waiting("CrashLoopBackOff", "back-off 10s")),
     Trouble(True, "container main: CrashLoopBackOff")),
    ("no image", made(waiting("ImagePullBackOff", 'Back-off pulling image "x:1"')),
     Trouble(True, 'container main: ImagePullBackOff: Back-off pulling image "x:1"')),
    ("image not had at the first try", made(waiting("ErrImagePull", "manifest unknown")),
     Trouble(False, "container main: ErrImagePull: manifest unknown")),
    ("no config map", made(waiting("CreateContainerConfigError", 'configmap "app" not found')),
     Trouble(True, 'container main: CreateContainerConfigError: configmap "app" not found')),
    ("init containers go first",
     made(waiting("PodInitializing"),
          initContainerStatuses=[waiting("CrashLoopBackOff", container="init", exitCode=1)]),
     Trouble(True, "container init: CrashLoopBackOff, exit code 1")),
    ("crashed once", made({"name": "main", "state": {"terminated": {"exitCode": 2, "message": "oops"}}}),
     Trouble(False, "container main: exit code 2: oops")),
    ("no node", made(phase="Pending", conditions=[UNSCHEDULABLE]), Trouble(False, "Unschedulable: 0/3 nodes")),
    ("not ready", made(RUNNING), Trouble(False, "container main runs and is not ready")),
    ("starting", made(waiting("ContainerCreating"), phase="Pending"), None),
    ("ready", made(waiting("CrashLoopBackOff"), conditions=[{"type": "Ready", "status": "True"}]), None),
    ("its controller makes another", made(waiting("CrashLoopBackOff"), phase="Failed"), None),
    ("going", {**made(waiting("CrashLoopBackOff")), "metadata": {"deletionTimestamp": "t"}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_trouble_of(obj: dict[str, Any], expected: Trouble | None) -> None:
    assert trouble(obj) == expected


def test_last_words_are_cut_at_their_beginning_and_hold_no_credentials() -> None:
    words = "x " * 500 + "Authorization: Bearer abcdefghijklmnop end of the log"
    found = trouble(made(waiting("CrashLoopBackOff", exitCode=1, message=words)))
    assert found is not None and len(found.text) < 260
    assert found.text.endswith("end of the log") and "abcdefghijklmnop" not in found.text


def test_pauses_and_counts_that_move_by_themselves_are_left_out() -> None:
    texts = {
        str(trouble(made({**waiting("CrashLoopBackOff", f"back-off {pause}", exitCode=1), "restartCount": count})))
        for pause, count in (("10s", 1), ("40s", 3), ("5m0s", 17))
    }
    assert len(texts) == 1


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4), lambda inner: (
    st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(
        ["status", "phase", "conditions", "containerStatuses", "state", "waiting", "reason", "type", "metadata"]
    ), inner, max_size=4)
), max_leaves=12)  # fmt: skip


@given(JSON)
def test_a_pod_of_any_shape_is_judged_without_an_error(status: Any) -> None:
    live = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "status": status}
    trouble(live)
    pod(live)
