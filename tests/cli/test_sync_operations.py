"""wait, history, rollback, suspend, resume, pause and reconcile --retry; an agent's part is played by hand."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from ocisync.cli.rollback import choose
from ocisync.cli.wait import Wish, judge, standing
from ocisync.model.errors import ExitCode, OcisyncError
from tests.cli.conftest import Cli
from tests.cli.test_syncs import Syncs, syncs
from tests.support.waiting import eventually

__all__ = ["syncs"]

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAST: list[dict[str, Any]] = [
    {"digest": C, "tag": "production", "revision": f"main@sha1:{COMMIT}", "outcome": "Applied", "time": "t3"},
    {"digest": B, "tag": "production", "revision": "main@sha1:bbb", "outcome": "Succeeded", "time": "t2",
     "signers": ["ci"]},
    {"digest": A, "tag": "staging", "revision": "main@sha1:aaa", "outcome": "Succeeded", "time": "t1"},
]  # fmt: skip


def at(syncs: Syncs, *rest: str) -> tuple[str, ...]:
    return (*rest, "-n", syncs.namespace, "--kubeconfig", syncs.kubeconfig)


# --- wait, decided --------------------------------------------------------------------------------------------------


def sync(ready: str = "True", reason: str = "Succeeded", message: str = "fine", **status: Any) -> dict[str, Any]:
    rows = [{"type": "Ready", "status": ready, "reason": reason, "message": message}, *status.pop("conditions", [])]
    observed = status.pop("observed", 2)
    return {
        "metadata": {"namespace": "apps", "name": "shop", "generation": 2},
        "spec": {"source": {"repository": "registry.example/shop", "tag": "production"}},
        "status": {"observedGeneration": observed, "conditions": rows, **status},
    }


STALLED = {"type": "Stalled", "status": "True"}
UNVERIFIED = {"type": "Verified", "status": "False"}
ON_B: dict[str, Any] = {"applied": {"digest": B}, "source": {"digest": B}}
ON_C: dict[str, Any] = {"applied": {"digest": C}, "source": {"digest": C}}
TRIED_C: dict[str, Any] = {"applied": {"digest": B}, "source": {"digest": C}, "lastAttempted": {"digest": C}}

DECISIONS = [
    ("ready", sync(**ON_B), Wish(), 0),
    ("ready with it", sync(**ON_B), Wish(B), 0),
    ("ready with another", sync(**ON_B), Wish(C), None),
    ("an older spec", sync(observed=1, **ON_B), Wish(), None),
    ("on the way", sync("Unknown", "Progressing", **TRIED_C), Wish(C), None),
    ("refused", sync("False", "Unsigned", conditions=[STALLED, UNVERIFIED], **TRIED_C), Wish(C), 4),
    ("held", sync("False", "ApprovalRequired", conditions=[STALLED], **TRIED_C), Wish(C), 1),
    ("stalled with another", sync("False", "Unsigned", conditions=[STALLED, UNVERIFIED], **TRIED_C), Wish(A), None),
    ("not healthy in time", sync("False", "HealthCheckTimedOut", **ON_C), Wish(C), 1),
    ("crashes", sync("False", "HealthCheckFailed", **ON_C), Wish(), 1),
    ("tried again", sync("False", "ApplyFailed", **TRIED_C), Wish(C), None),
    ("suspended", sync("False", "Suspended", conditions=[STALLED], **ON_B), Wish(C), 1),
    ("paused", sync("False", "Paused", conditions=[STALLED], **ON_B), Wish(C), 1),
    ("gone back from", sync("False", "RolledBack", quarantine={"digest": C, "reason": "x", "message": "y"}, **ON_B),
     Wish(C), 1),
    ("replaced by a newer one", sync("Unknown", "Progressing", history=PAST, **ON_C), Wish(B), 0),
    ("applied and never healthy", sync(history=[{**PAST[0], "outcome": "Failed"}], **ON_B), Wish(C), 1),
    ("by revision", sync(applied={"digest": C, "revision": f"main@sha1:{COMMIT}"}), Wish("", f"main@sha1:{COMMIT}"), 0),
    ("by commit", sync(applied={"digest": C, "revision": f"main@sha1:{COMMIT}"}), Wish("", COMMIT[:7]), 0),
    ("by too little of a commit", sync(applied={"digest": C, "revision": f"main@sha1:{COMMIT}"}), Wish("", COMMIT[:6]),
     None),
    ("healthy", sync("False", "x", conditions=[{"type": "Healthy", "status": "True"}]), Wish(condition="Healthy"), 0),
    ("not deleted", sync(), Wish(condition="Deleted"), None),
    ("deleted", None, Wish(condition="Deleted"), 0),
    ("deleted meanwhile", None, Wish(B), 5),
]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "wish", "code"), [case[1:] for case in DECISIONS], ids=[case[0] for case in DECISIONS]
)
def test_the_waiting_is_over(state: dict[str, Any] | None, wish: Wish, code: int | None) -> None:
    found = judge(state, wish)
    assert (None if found is None else int(found.code)) == code, found


def test_the_rollout_is_told_in_one_line() -> None:
    assert "has not seen this spec" in standing(sync(observed=1), Wish())
    assert standing(sync(**ON_B), Wish(C)) == f"the registry offers {B}; waiting for {C}"
    counted = sync("Unknown", "Progressing", "applying 3 objects", inventory={"objects": 3, "ready": 1}, **TRIED_C)
    assert standing(counted, Wish(C)) == "applying 3 objects (1 of 3 objects healthy)"


# --- rollback, decided ------------------------------------------------------------------------------------------------


def offered(**source: Any) -> dict[str, Any]:
    state = sync(source={"digest": C}, history=PAST)
    state["spec"]["source"] = {"repository": "registry.example/shop", **(source or {"tag": "production"})}
    return state


@pytest.mark.parametrize(("target", "digest"), [("", B), ("2", B), (B, B), (B[7:25], B), (B[:25], B)])
def test_going_back_means(target: str, digest: str) -> None:
    assert choose(offered(), target)["digest"] == digest


@pytest.mark.parametrize(
    ("state", "target", "code", "words"),
    [
        (offered(), "4", ExitCode.NOT_FOUND, "has 3 lines, not 4"),
        (offered(), "0", ExitCode.NOT_FOUND, "has 3 lines, not 0"),
        (offered(), "sha256:" + "d" * 64, ExitCode.NOT_FOUND, "does not have"),
        (offered(), "abc", ExitCode.USAGE, "neither a line number"),
        (offered(), C, ExitCode.USAGE, "is what the registry offers now"),
        (offered(), "3", ExitCode.REFUSED, "came from the tag 'staging'"),
        (offered(digest=C), "", ExitCode.USAGE, "follows a digest"),
        (sync(history=PAST), "", ExitCode.NOT_FOUND, "has not been reached"),
        (sync(source={"digest": B}, history=PAST[:2]), "", ExitCode.NOT_FOUND, "nothing else that was healthy"),
    ],
)
def test_there_is_no_way_back_to(state: dict[str, Any], target: str, code: ExitCode, words: str) -> None:
    with pytest.raises(OcisyncError, match=words) as refused:
        choose(state, target)
    assert refused.value.exit_code is code and refused.value.hint


# --- at the command line ----------------------------------------------------------------------------------------------


def test_history_is_numbered_and_speaks_json(cli: Cli, syncs: Syncs) -> None:
    left = {"digest": C, "reason": "HealthCheckFailed", "message": "pod web-1 crashes", "to": {"digest": B}}
    history = [{**item, "time": f"2026-11-23T12:00:0{n}Z"} for n, item in enumerate(PAST)]
    syncs.make(history=history, quarantine={**left, "time": "2026-11-23T12:00:00Z"}, source={"digest": C})
    ran = cli("history", "shop", *at(syncs))
    head, first, second, *_ = ran.out.splitlines()
    assert head.split() == ["#", "APPLIED", "AT", "OUTCOME", "REVISION", "DIGEST", "SIGNED", "BY"]
    assert first.split()[:3] == ["1", "2026-11-23T12:00:00Z", "Applied"] and second.split()[-1] == "ci"
    assert "HealthCheckFailed: pod web-1 crashes" in ran.out and "--retry" in ran.out
    found = json.loads(cli("history", "shop", *at(syncs), "-o", "json").out)
    assert [(line["number"], line["digest"], line["appliedAt"]) for line in found["history"]][1] == (
        2, B, "2026-11-23T12:00:01Z",
    )  # fmt: skip
    assert found["quarantine"]["digest"] == C
    syncs.make("new")
    assert "applied nothing yet" in cli("history", "new", *at(syncs)).err


def test_rollback_asks_and_prints_what_makes_it_lasting(cli: Cli, syncs: Syncs) -> None:
    history = [{**item, "time": "2026-11-23T12:00:00Z"} for item in PAST]
    syncs.make(history=history, source={"digest": C})
    ran = cli("rollback", "shop", *at(syncs))
    assert ran.exit_code == 0, ran.err
    asked = syncs.read()["metadata"]["annotations"]["ocisync.dev/rollback"]
    assert asked.startswith(f"{B}@20")
    assert f"ocisync tag oci://registry.example/shop@{B} production --rollback --sign-key KEY" in ran.err


def test_rollback_waits_for_the_agent_and_tells_its_refusal(cli: Cli, syncs: Syncs) -> None:
    history = [{**item, "time": "2026-11-23T12:00:00Z"} for item in PAST]
    syncs.make(history=history, source={"digest": C})
    handled = threading.Thread(target=_handle, args=(syncs, history))
    handled.start()
    ran = cli("rollback", "shop", "--wait", "--timeout", "180s", *at(syncs))
    handled.join()
    assert ran.exit_code == 4 and "does not go back there" in ran.err


def _handle(syncs: Syncs, history: list[dict[str, Any]]) -> None:
    name = "ocisync.dev/rollback"
    asked = eventually(
        lambda: (syncs.read()["metadata"].get("annotations") or {}).get(name), what="it is asked", timeout_s=120
    )
    syncs.say(ready="True", lastHandledRollback=asked, history=history, source={"digest": C})


def test_retry_names_the_quarantine_that_it_lifts(cli: Cli, syncs: Syncs) -> None:
    syncs.make()
    nothing = cli("reconcile", "shop", "--retry", *at(syncs))
    assert nothing.exit_code == 5 and "nothing is in quarantine" in nothing.err
    left = {"digest": C, "reason": "x", "message": "y", "time": "2026-11-23T12:00:00Z", "to": {"digest": B}}
    syncs.say(ready="False", quarantine=left)
    assert cli("reconcile", "shop", "--retry", *at(syncs)).exit_code == 0
    assert syncs.read()["metadata"]["annotations"]["ocisync.dev/retry"] == f"{C}@2026-11-23T12:00:00Z"


def test_suspend_says_why_and_resume_takes_it_back(cli: Cli, syncs: Syncs) -> None:
    syncs.make()
    assert cli("suspend", "shop", "--reason", "by\nhand", *at(syncs)).exit_code == 0
    live = syncs.read()
    assert live["spec"]["suspend"] is True
    assert live["metadata"]["annotations"]["ocisync.dev/suspend-reason"] == "by hand"
    resumed = cli("resume", "shop", *at(syncs))
    assert resumed.exit_code == 0 and "is resumed" in resumed.err
    live = syncs.read()
    assert live["spec"]["suspend"] is False
    assert not {key for key in live["metadata"].get("annotations") or {} if "suspend" in key}
    assert "was not suspended" in cli("resume", "shop", *at(syncs)).err


def test_pause_makes_a_config_map_and_takes_it_away(cli: Cli, syncs: Syncs) -> None:
    there = ("--agent-namespace", syncs.namespace, "--kubeconfig", syncs.kubeconfig)
    path = f"/api/v1/namespaces/{syncs.namespace}/configmaps/ocisync-pause"
    assert cli("pause", "--reason", "incident 4711", *there).exit_code == 0
    data = syncs.cluster.api("GET", path)["data"]
    assert data["reason"] == "incident 4711" and data["since"].endswith("Z")
    again = cli("pause", "--reason", "another", *there)
    assert again.exit_code == 0 and "already paused" in again.err and "incident 4711" in again.err
    assert cli("pause", "--resume", *there).exit_code == 0
    assert "nothing was paused" in cli("pause", "--resume", *there).err


def test_wait_follows_by_watch_to_the_end(cli: Cli, syncs: Syncs) -> None:
    syncs.make(ready="Unknown", reason="Progressing", message="0 of 1 objects healthy", source={"digest": B})
    steps = threading.Thread(target=_become_ready, args=(syncs,))
    steps.start()
    ran = cli("wait", "shop", "--digest", B, "--timeout", "180s", *at(syncs))
    steps.join()
    assert ran.exit_code == 0, ran.err
    assert ran.err.splitlines()[-1].endswith("all is well")


def _become_ready(syncs: Syncs) -> None:
    syncs.say(ready="True", message="all is well", applied={"digest": B}, source={"digest": B})


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--digest", "sha256:abc"), 2),
        (("--digest", A, "--revision", "x"), 2),
        (("--timeout", "soon"), 2),
        (("--timeout", "0"), 2),
        (("--timeout", "400h"), 2),
        (("--digest", A, "--timeout", "1s"), 7),
    ],
)
def test_wait_refuses_and_gives_up(cli: Cli, syncs: Syncs, arguments: tuple[str, ...], code: int) -> None:
    syncs.make(source={"digest": B})
    assert cli("wait", "shop", *arguments, *at(syncs)).exit_code == code


def test_a_sync_that_does_not_exist_is_exit_code_5(cli: Cli, syncs: Syncs) -> None:
    for command in ("wait", "history", "rollback", "suspend", "resume"):
        ran = cli(command, "none", *at(syncs))
        assert ran.exit_code == 5 and len(ran.errors) == 1, command
