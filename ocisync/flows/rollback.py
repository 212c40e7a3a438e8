"""Going back: to the last good artifact when a new one fails, or to one of its history when a person asks.

The tag still leads to what failed, so Ready stays False and the offered digest is in quarantine: it is not run again
until the tag moves or a person lifts it (`ocisync reconcile --retry`). The order makes a kill at any instant safe:

    ① the status says what is in quarantine, and what runs instead
    ② that is judged again, by the policies of now, from the copy that was kept or from the registry
    ③ it is applied as any artifact is: guarded, pruned after everything was applied

Only an artifact that never was healthy here is gone back from: trouble that comes later is the cluster's. What is run
again may be older than the watermark, since this sync has run it before (the agent's own record says so); deny lists,
ages, expiries, floors and every other rule hold. If it is refused, what failed stays, and the status says why.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ocisync.flows.offer import leads_to
from ocisync.flows.outcome import (
    ArtifactFacts,
    Failed,
    Outcome,
    Quarantine,
    Reason,
    Stalled,
    Waiting,
)
from ocisync.flows.situation import Situation
from ocisync.kit.log import logger
from ocisync.model.clock import format_rfc3339
from ocisync.model.digest import is_digest
from ocisync.model.spec import SelectorKind

_LOG = logger("rollback")
_REQUEST = re.compile(r"(sha256:[0-9a-f]{64})@[0-9A-Za-z:.+-]{1,64}\Z")
_MESSAGE_CHARS = 400
SUCCEEDED = "Succeeded"


class Rollback:
    """The decisions of one pass about it."""

    def __init__(self, situation: Situation) -> None:
        self._s = situation

    def review(self) -> Quarantine | None:
        """End a quarantine that is over; begin one that was asked for, and return it."""
        memory, spec, now_run = self._s.memory, self._s.spec, self._s.memory.quarantine
        if now_run is not None:
            offered = memory.offered
            if offered is not None and offered.digest != now_run.digest:
                _LOG.info("quarantine ends: the tag has moved", sync=spec.key, digest=now_run.digest)
                memory.quarantine = None
            elif spec.retry == now_run.id:
                _LOG.info("quarantine lifted", sync=spec.key, digest=now_run.digest)
                memory.quarantine = memory.refusal = None
                memory.unhealthy_since = memory.failed_since = None
        if not spec.rollback or spec.rollback == memory.rollback or memory.offered is None:
            return None
        memory.rollback = spec.rollback
        wanted = self._requested(memory.offered)
        if wanted is not None:
            memory.quarantine, memory.refusal = wanted, None
        return wanted

    def due(self, outcome: Outcome) -> Quarantine | None:
        """The quarantine that this outcome calls for; None if things stay as they are."""
        memory, enforced = self._s.memory, self._s.memory.enforced
        offered = memory.offered
        if not self._s.spec.roll_back or memory.quarantine is not None or enforced is None or offered is None:
            return None
        if enforced.facts.digest != offered.digest or not enforced.verdict.allowed or not self._failed(outcome):
            return None
        history = self._s.recorded.history
        if any(past.artifact.digest == offered.digest and past.outcome == SUCCEEDED for past in history):
            return None
        healthy = (past.artifact for past in history if past.outcome == SUCCEEDED)
        others = (artifact for artifact in healthy if artifact.digest != offered.digest)
        source = self._s.spec.source
        pinned = source.kind is SelectorKind.DIGEST
        good = next((artifact for artifact in others if pinned or leads_to(source, artifact.tag)), None)
        if good is None or not is_digest(good.digest):
            return None
        return self._quarantine(enforced.facts, good, outcome.reason, outcome.message)

    def told(self, outcome: Outcome) -> Outcome:
        """The outcome of a pass while something is in quarantine: it says so, and is never Ready."""
        found, enforced = self._s.memory.quarantine, self._s.memory.enforced
        if found is None or outcome.reason in {Reason.SUSPENDED, Reason.PAUSED}:
            return outcome
        facts = replace(outcome.facts, quarantine=found)
        there = enforced is not None and enforced.facts.digest == found.to.digest
        if there and facts.health.healthy and outcome.reason == Reason.SUCCEEDED:
            text = f"{self.why(found)}; {_name(found.to)} runs instead until the tag moves; {self._retry()}"
            return Stalled(Reason.ROLLED_BACK, text, facts)
        text = f"{self.why(found)}; going back to {_name(found.to)}: {outcome.message}"
        return replace(outcome, message=text, facts=facts)

    def begun(self, quarantine: Quarantine) -> Waiting:
        """What the status says before anything is written."""
        facts = replace(self._s.facts(), quarantine=quarantine)
        return Waiting(Reason.PROGRESSING, f"{self.why(quarantine)}; going back to {_name(quarantine.to)}", 0.0, facts)

    def why(self, quarantine: Quarantine) -> str:
        """What is in quarantine, and for what reason."""
        name = _name(ArtifactFacts(digest=quarantine.digest, revision=quarantine.revision))
        if quarantine.reason == "Requested":
            return f"{name} was left: {quarantine.message}"
        return f"{name} failed ({quarantine.reason}): {quarantine.message}"

    def _retry(self) -> str:
        return f"try it again: ocisync reconcile {self._s.spec.name} --namespace {self._s.spec.namespace} --retry"

    @staticmethod
    def _failed(outcome: Outcome) -> bool:
        match outcome:
            case Failed(reason=Reason.HEALTH_TIMEOUT | Reason.HEALTH_FAILED):
                return True
            case Stalled(reason=Reason.APPLY_FAILED | Reason.PRUNE_DEFERRED):
                return True
        return False

    def _requested(self, offered: ArtifactFacts) -> Quarantine | None:
        spec = self._s.spec
        match = _REQUEST.match(spec.rollback)
        if match is None:
            _LOG.warning("a request for a rollback cannot be read", sync=spec.key, request=spec.rollback[:200])
            return None
        if match[1] == offered.digest:
            self._s.memory.quarantine = self._s.memory.refusal = None
            return None
        known = [past.artifact for past in self._s.recorded.history if past.artifact.digest == match[1]]
        if not known or not leads_to(spec.source, known[0].tag):
            _LOG.warning("a request for a rollback to what was not run from here", sync=spec.key, digest=match[1])
            return None
        return self._quarantine(offered, known[0], "Requested", "a person asked to go back")

    def _quarantine(self, bad: ArtifactFacts, good: ArtifactFacts, reason: str, message: str) -> Quarantine:
        now = format_rfc3339(self._s.ports.clock.now())
        return Quarantine(bad.digest, bad.revision, good, str(reason), message[:_MESSAGE_CHARS], now)


def _name(artifact: ArtifactFacts) -> str:
    return f"{artifact.digest} ({artifact.revision})" if artifact.revision else artifact.digest
