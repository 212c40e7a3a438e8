"""The content of a judged artifact: from the local copy if that still proves itself, else from the registry."""

from __future__ import annotations

from dataclasses import replace

from ocisync.flows.fetch import Fetched, fetch
from ocisync.flows.localcopy import Saved, good
from ocisync.flows.offer import leads_to
from ocisync.flows.outcome import ArtifactFacts, Failed, Stalled
from ocisync.flows.situation import End, Situation, sentence
from ocisync.flows.verify import Judgement, Request, examine_reference, require, reverify
from ocisync.model.artifact import Verdict, VerdictReason, Verified
from ocisync.model.descriptor import REVISION
from ocisync.model.errors import AccessDenied, NotFound, OcisyncError, Refused, Unavailable
from ocisync.model.values import dataclass
from ocisync.pack.untar import unpack


@dataclass(frozen=True, slots=True)
class Content:
    """A judged artifact with its bytes."""

    verified: Verified
    request: Request
    judgement: Judgement
    fetched: Fetched

    @property
    def facts(self) -> ArtifactFacts:
        """The artifact by name."""
        verdict, manifest = self.verified.verdict, self.verified.manifest
        revision = verdict.revision or manifest.annotations.get(REVISION, "")
        return ArtifactFacts(self.verified.tag, self.verified.digest, revision, verdict.signers)


class Contents:
    """Finds content for one pass."""

    def __init__(self, situation: Situation) -> None:
        self._s = situation

    def examined(self, offered: ArtifactFacts) -> Content:
        """Judge the offered digest and get its bytes: the local copy's if it is the same, else the registry's."""
        request = self._s.request(digest=offered.digest)
        for name in ("", good(self._s.spec.key)):
            saved = self._s.saved(name)
            if saved is not None and saved.digest == offered.digest:
                content = self._from_copy(saved, request)
                if content is not None:
                    return content
        try:
            judgement, content = self._from_registry(request)
        except Refused as error:
            judgement, content = Judgement(_bad_artifact(error)), None
        except (Unavailable, AccessDenied, NotFound) as error:
            self._s.source_failed(error)
            facts = self._s.facts(attempted=offered)
            raise End(Failed(error.reason, error.message, facts, self._s.memory.poll_at - self._s.now)) from None
        if content is None:
            raise self._refused(offered, judgement)
        return content

    def known(self) -> Content | None:
        """What was enforced before the process ended: the local copy, else what the sync's status names."""
        saved = self._s.saved()
        if saved is not None:
            content = self._from_copy(saved, self._copy_request(saved))
            if content is not None:
                return content
        offered = self._s.memory.offered
        digest = self._s.status_digest
        if not digest or self._s.memory.source_problem or (offered is not None and offered.digest == digest):
            return None
        try:
            return self._from_registry(self._s.request(digest=digest))[1]
        except OcisyncError:
            return None

    def count_copy(self) -> None:
        """Raise the watermark to what the local copy proves to have been accepted.

        The cluster's record knows of it, unless etcd was restored from a backup while no agent ran. A record that is
        not there was deleted by somebody who wants to start anew.

        Raises:
            Unavailable, ClusterRefused: the watermark cannot be read or written.
        """
        saved, mark = self._s.saved(), self._s.ports.watermarks.read(self._s.spec)
        if saved is None or not mark.digest or saved.digest in (mark.digest, *mark.accepted):
            return
        request, now = self._copy_request(saved), self._s.ports.clock.now()
        judgement = reverify(saved.manifest, saved.media_type, saved.evidence, self._s.trust.set, request, now=now)
        if judgement.verdict.allowed and judgement.verdict.sequence > mark.sequence:
            self._s.ports.watermarks.accept(self._s.spec, self._s.mark(request, saved.digest, judgement.verdict))

    def _copy_request(self, saved: Saved) -> Request:
        tag = saved.tag if leads_to(self._s.spec.source, saved.tag) else ""
        return self._s.request(digest=saved.digest, tag=tag)

    def _from_registry(self, request: Request) -> tuple[Judgement, Content | None]:
        """Judge a digest by what the registry has; its bytes only if it is allowed."""
        store, now = self._s.open(), self._s.ports.clock.now()
        judgement = examine_reference(store, self._s.trust.set, request, now=now)
        if not judgement.verdict.allowed:
            return judgement, None
        verified = require(judgement, request)
        return judgement, Content(verified, request, judgement, fetch(store, verified))

    def _from_copy(self, saved: Saved, request: Request) -> Content | None:
        """The local copy, if it still proves itself."""
        now = self._s.ports.clock.now()
        judgement = reverify(saved.manifest, saved.media_type, saved.evidence, self._s.trust.set, request, now=now)
        if not judgement.verdict.allowed:
            return None
        verified = require(judgement, request)
        try:
            files = unpack(verified, saved.config, saved.layer)
        except Refused:
            return None
        return Content(verified, request, judgement, Fetched(files, saved.config, saved.layer))

    def _refused(self, offered: ArtifactFacts, judgement: Judgement) -> End:
        verdict = judgement.verdict
        attempted = offered
        if judgement.artifact is not None:
            revision = judgement.artifact.manifest.annotations.get(REVISION, "")
            attempted = replace(offered, revision=revision)
        facts = self._s.facts(verdict=verdict, attempted=attempted)
        return self._s.remember(offered.digest, Stalled(verdict.reason, sentence(verdict), facts))


def _bad_artifact(error: Refused) -> Verdict:
    return Verdict(False, VerdictReason.BAD_ARTIFACT, error.message, hint=error.hint)
