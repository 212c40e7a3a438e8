"""Plays a schedule: control plane, registry, relay and agent; then lets everything calm down, and judges."""

from __future__ import annotations

import contextlib
import random
import secrets
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import ClassVar

from ocisync.agent.lease import LEASE_NAME
from ocisync.install.rbac import AGENT_NAME
from ocisync.model.resource import JsonObject
from tests.chaos import oracle
from tests.chaos.schedule import Action, Schedule, Step
from tests.chaos.world import MERGE, Content, Key, Places, Strangers, definition
from tests.support.agent import AgentProcess, Installation, Tenant, apply, place
from tests.support.cluster import ApiError, write_kubeconfig
from tests.support.controlplane import ControlPlane
from tests.support.faultrelay import FaultRelay, Trap
from tests.support.waiting import eventually

CALM_S = 300.0  # for everything to become equal after the last accident; back-offs are part of it
_TRAP_S = 2.5  # how long a step waits for the write that it wants to meet
STARTED, LOST = "agent starts", "lease: lost"
_NO_TRAP = Trap(0, after=False)


class AgentDied(Exception):
    """The agent ended by itself."""


@dataclass(slots=True)
class Scene:
    """Where schedules are played, one after the other."""

    control_plane: ControlPlane
    installation: Installation
    registry: str  # HOST:PORT
    directory: Path
    tell: Callable[[str], None] = lambda _text: None
    token: str = ""

    def __post_init__(self) -> None:
        self.token = self.control_plane.token_for(self.installation.namespace, AGENT_NAME, "24h")

    def play(self, schedule: Schedule) -> list[str]:
        """Play one; its story.

        Raises:
            AssertionError: it ended badly; the message has what is wrong, the story and the agent's last words.
        """
        directory = self.directory / f"seed-{schedule.seed}-{secrets.token_hex(2)}"
        directory.mkdir(parents=True)
        context = ssl.create_default_context(cadata=self.control_plane.authority.decode())
        with FaultRelay(self.control_plane.server.removeprefix("https://"), context) as relay:
            kubeconfig = write_kubeconfig(
                directory / "kubeconfig", relay.url, self.control_plane.authority, {"token": self.token}
            )
            extra = ("--leader-elect", "--identity", f"pod-{schedule.seed}") if schedule.lease else ()
            agent = AgentProcess(kubeconfig, self.installation.namespace, directory / "agent", extra=extra)
            played = _Play(self, schedule, relay, agent)
            try:
                played.run()
            except BaseException as error:
                relay.calm()
                agent.kill()
                if not isinstance(error, AssertionError | ApiError | OSError | AgentDied):
                    raise
                story = "\n  ".join(played.story)
                raise AssertionError(
                    f"seed {schedule.seed} ended badly: {error}\n{schedule}\n  {story}\n{agent.server.log_tail(25)}\n"
                    f"again: python -m tests.chaos --seed {schedule.seed}"
                ) from error
            finally:
                played.clear()
        shutil.rmtree(directory)
        return played.story


@dataclass(slots=True)
class _Play:
    """One schedule under way."""

    scene: Scene
    schedule: Schedule
    relay: FaultRelay
    agent: AgentProcess
    story: list[str] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    mark: int = 0
    namespace: str = ""
    places: Places = field(init=False)
    strangers: Strangers = field(init=False)

    @property
    def plane(self) -> ControlPlane:
        return self.scene.control_plane

    def run(self) -> None:
        self._set_up()
        self.agent.start()
        for step in self.schedule.steps:
            self._step(step)
        with contextlib.suppress(AssertionError):  # the last faults may strike before it gets calm
            eventually(lambda: not self.relay.pending, timeout_s=_TRAP_S)
        self.relay.calm()
        self._say(f"calm; faults: {self.relay.faults}, {self.relay.writes} writes of {self.relay.requests} requests")
        self._judge()
        self._end()
        self.agent.stop()
        self._sound()

    # --- Before and after -------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        self.namespace = self.plane.new_namespace(f"chaos-{self.schedule.seed}")
        group = f"{self.namespace}.example.com"
        self.places = Places(self.namespace, group)
        self.strangers = Strangers(self.plane, self.places)
        self.mark = self.plane.audit.mark()
        repository = f"{self.scene.registry}/chaos/{self.namespace}"
        first = Tenant(self.scene.installation, self.namespace, repository, name="one")
        first.prepare()
        tenants = [first, *([first.beside("two")] if self.schedule.syncs > 1 else [])]
        brings = definition(group) if self.schedule.definitions else None
        if brings is not None:
            self._allow_definitions(first)
        self.contents = [
            Content(tenant, prefix, brings if number == 0 else None)
            for number, (tenant, prefix) in enumerate(zip(tenants, "ab", strict=False))
        ]
        self.strangers.create_own([content.sync_id for content in self.contents])
        for content in self.contents:
            content.revise(random.Random(self.schedule.seed))
            content.tenant.write_sync(guard={"maxPrune": "100%"}, prune=True)

    def _allow_definitions(self, tenant: Tenant) -> None:
        """Let the sync's account write definitions: they belong to no namespace."""
        meta = {"name": f"definitions-{self.namespace}"}
        rbac = "rbac.authorization.k8s.io"
        rule = {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["*"]}
        subject = {"kind": "ServiceAccount", "name": tenant.account, "namespace": tenant.namespace}
        role = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": meta, "rules": [rule]}
        binding = {
            "apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": meta, "subjects": [subject],
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": meta["name"]},
        }  # fmt: skip
        apply(self.plane, [role, binding])

    def clear(self) -> None:
        """Leave nothing behind that the next schedule would meet."""
        self.relay.calm()
        self.agent.kill()
        if not self.plane.apiserver.running:
            self.plane.start_apiserver()
        with contextlib.suppress(ApiError):  # a killed agent's lease must not keep the next one waiting
            self._hold_lease("")
        for content in self.contents[:1]:
            content.tenant.remove()
        if self.namespace:
            self.plane.delete_namespace(self.namespace)
        for kind in ("ClusterRoleBinding", "ClusterRole") if self.schedule.definitions else ():
            with contextlib.suppress(ApiError):
                self.plane.api("DELETE", place(kind, "", f"definitions-{self.namespace}"))
        if self.schedule.definitions:
            with contextlib.suppress(ApiError):
                self.plane.api("DELETE", place("CustomResourceDefinition", "", f"widgets.{self.places.group}"))

    # --- Steps ------------------------------------------------------------------------------------------------------

    def _step(self, step: Step) -> None:
        rng = random.Random(step.pick)
        trap = _NO_TRAP
        self._start_again()
        if step.write:
            trap = self.relay.trap(step.write, after=step.after)
            met = trap.wait(_TRAP_S)
            self._say(f"{step} {'during a write' if met else 'while it rests'}")
        else:
            self._say(f"{step}")
        try:
            self._ACTIONS[step.action](self, step, rng, trap)
        finally:
            trap.release()

    def _revise(self, _step: Step, rng: random.Random, _trap: Trap) -> None:
        content = rng.choice(self.contents)
        made = content.revise(rng)
        self._say(f"  {content.tenant.name}: {len(made.objects)} objects, {made.digest[:19]}")

    def _kill(self, _step: Step, _rng: random.Random, trap: Trap) -> None:
        self.agent.kill()
        trap.release()  # what it had sent still arrives
        self.agent.start()

    def _api_restart(self, step: Step, rng: random.Random, trap: Trap) -> None:
        self.plane.stop_apiserver()
        trap.release()
        if step.level > 0.7:
            self._kill(step, rng, trap)
        elif step.level > 0.4:
            self._revise(step, rng, trap)
        self.plane.start_apiserver()

    def _storm(self, step: Step, _rng: random.Random, _trap: Trap) -> None:
        self.relay.throttle(10 + int(step.level * 60))

    def _drop(self, _step: Step, _rng: random.Random, _trap: Trap) -> None:
        self.relay.drop_watches()

    def _gone(self, step: Step, _rng: random.Random, _trap: Trap) -> None:
        self.relay.expire(4 + int(step.level * 16))

    def _slow(self, step: Step, _rng: random.Random, _trap: Trap) -> None:
        self.relay.slow(10 + int(step.level * 40), 0.2 + step.level)

    def _lost(self, step: Step, _rng: random.Random, _trap: Trap) -> None:
        self.relay.lose(1 + int(step.level * 12))

    def _edit(self, step: Step, rng: random.Random, _trap: Trap) -> None:
        for key in self._some(rng, 1 + int(step.level * 5)):
            self._say(f"  {self.strangers.edit(key, rng)}")

    def _delete(self, step: Step, rng: random.Random, _trap: Trap) -> None:
        for key in self._some(rng, 1 + int(step.level * 4)):
            self._say(f"  {self.strangers.delete(key)}")

    def _strip(self, step: Step, rng: random.Random, _trap: Trap) -> None:
        for key in self._some(rng, 1 + int(step.level * 4), proven=True):
            self._say(f"  {self.strangers.strip(key)}")

    def _compact(self, _step: Step, _rng: random.Random, _trap: Trap) -> None:
        self.plane.compact()
        self.relay.drop_watches()

    def _lease(self, _step: Step, _rng: random.Random, trap: Trap) -> None:
        self._wait(lambda: self._held_by() == f"pod-{self.schedule.seed}", "holder of its lease")
        self._hold_lease("pod-of-somebody-else")
        trap.release()
        with contextlib.suppress(AssertionError):  # one that is just starting stands by
            eventually(lambda: not self.agent.server.running, timeout_s=6.0)
        self._hold_lease("")
        self._start_again()

    def _start_again(self) -> None:
        """What a kubelet does with an agent that ended because its lease was lost."""
        if self.schedule.lease and not self.agent.server.running and self.agent.server.exit_code == 1:
            lines = self.agent.server.log.read_text().splitlines()
            began = max(number for number, line in enumerate(lines) if STARTED in line)
            assert any(LOST in line for line in lines[began:])
            self._say("  it lost its lease, ended, and is started again")
            self.agent.start()

    def _held_by(self) -> str:
        return str(self.plane.api("GET", self._lease_path)["spec"].get("holderIdentity"))

    @property
    def _lease_path(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.scene.installation.namespace}/leases/{LEASE_NAME}"

    def _hold_lease(self, holder: str) -> None:
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        change = {"spec": {"holderIdentity": holder, "renewTime": moment}}
        self.plane.api("PATCH", self._lease_path, change, content_type=MERGE)

    _ACTIONS: ClassVar[dict[Action, Callable[[_Play, Step, random.Random, Trap], None]]] = {
        Action.REVISE: _revise, Action.KILL: _kill, Action.API_RESTART: _api_restart, Action.STORM: _storm,
        Action.DROP: _drop, Action.GONE: _gone, Action.SLOW: _slow, Action.LOST: _lost, Action.EDIT: _edit,
        Action.DELETE: _delete, Action.STRIP: _strip, Action.COMPACT: _compact, Action.LEASE: _lease,
    }  # fmt: skip

    def _some(self, rng: random.Random, count: int, *, proven: bool = False) -> list[Key]:
        """Objects that we applied and that exist; `proven`: the inventory knows their uid.

        A label that is stripped before we know the uid leaves an object that nothing proves to be ours.
        """
        live = self._live()
        found = sorted(key for key, item in live.items() if oracle.is_ours(item))
        if proven:
            known = "".join(
                item["data"].get("entries", "")
                for item in self.plane.api("GET", place("ConfigMap", self.scene.installation.namespace))["items"]
                if item.get("data")
            )
            found = [key for key in found if live[key]["metadata"]["uid"] in known]
        return rng.sample(found, min(count, len(found)))

    # --- The end ----------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        for content in self.contents:
            self._wait(partial(_ready, content), "ready")
        self._say("ready")
        self._wait(lambda: self._none(oracle.unequal(self._live(), self.contents)), "equal to the last revisions")
        self._say("equal")
        live = self._live()
        before = oracle.versions(live, self.contents)
        self._none(oracle.touched(live, self.strangers))
        agent_namespace = self.scene.installation.namespace
        self._wait(
            lambda: self._none(oracle.misremembered(self.plane, agent_namespace, self._live(), self.contents)),
            "remembered as it is",
        )
        self._none(oracle.audited(self.plane.audit, self.mark, self.contents, self.strangers))
        # A restart is a full pass over everything: it must find nothing to do.
        self.agent.stop()
        self._sound()
        already = len(self.agent.logs("ready"))
        self.agent.start()
        self._wait(lambda: len(self.agent.logs("ready")) >= already + len(self.contents), "ready again")
        live = self._live()
        self._none(oracle.unequal(live, self.contents))
        after = oracle.versions(live, self.contents)
        moved = [str(key) for key in before if before[key] != after.get(key)]
        assert not moved, f"a pass over what is as it should be wrote {moved}"
        self._none(oracle.touched(live, self.strangers))
        self._none(oracle.audited(self.plane.audit, self.mark, self.contents, self.strangers))

    def _end(self) -> None:
        """The end of the syncs: all of theirs is gone, all else is there."""
        for content in self.contents:
            self.plane.api("DELETE", place("ArtifactSync", self.namespace, content.tenant.name))
        self._wait(lambda: not self.plane.api("GET", place("ArtifactSync", self.namespace))["items"], "ended")
        live = self._live()
        left = [str(key) for key, item in live.items() if oracle.is_ours(item)]
        assert not left, f"the syncs have ended, and this is left: {left}"
        self._none(oracle.touched(live, self.strangers))
        self._none(oracle.audited(self.plane.audit, self.mark, self.contents, self.strangers, ended=True))
        self._say("ended")

    def _wait(self, predicate: Callable[[], bool], what: str) -> None:
        def lives() -> bool:
            if not self.agent.server.running:
                self._start_again()
                if not self.agent.server.running:
                    raise AgentDied(f"the agent ended by itself with exit code {self.agent.server.exit_code}")
            return predicate()

        eventually(lives, timeout_s=CALM_S, what=what, interval_s=0.25)

    def _sound(self) -> None:
        """No part of the agent met a defect."""
        lines = self.agent.server.log.read_text().splitlines()
        defects = [line for line in lines if "Traceback" in line or "with a defect" in line]
        assert not defects, defects[:2]

    def _none(self, wrong: Iterator[str]) -> bool:
        found = list(wrong)
        assert not found, "; ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
        return True

    def _live(self) -> dict[Key, JsonObject]:
        return oracle.read(self.plane, self.places, widgets=self.schedule.definitions)

    def _say(self, text: str) -> None:
        line = f"{time.monotonic() - self.started:6.2f} {text}"
        self.story.append(line)
        self.scene.tell(line)


def _ready(content: Content) -> bool:
    """Whether a sync says that it is ready, with its last revision."""
    status = content.tenant.status()
    said = [item for item in status.get("conditions") or () if item["type"] == "Ready"]
    assert said, "no condition yet"
    assert said[0]["status"] == "True", f"{content.tenant.name}: {said[0]['reason']}: {said[0]['message']}"
    assert status["applied"]["digest"] == content.revisions[-1].digest, f"{content.tenant.name}: an older revision"
    return True
