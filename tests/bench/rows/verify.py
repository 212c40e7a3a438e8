"""Verifying a signature by key: the command beside cosign's, and the decision alone as the agent makes it."""

from __future__ import annotations

import time

from ocisync.flows.trust import load_policies
from ocisync.flows.verify import Request, reverify
from ocisync.model.descriptor import OCI_MANIFEST
from ocisync.model.spec import SelectorKind
from ocisync.oci.client import open_store
from ocisync.oci.evidence import EvidenceBudget, collect
from tests.bench import measure
from tests.bench.environment import Bench, binary
from tests.bench.measure import Sample
from tests.bench.report import Row
from tests.support.artifacts import artifact
from tests.support.trust import NOW, signer

TITLE = "verify by key"
_COSIGN = "cosign verify --key"


def run(bench: Bench) -> list[Row]:
    """The command, and the decision."""
    return [_command(bench), _decision(bench)]


def _command(bench: Bench) -> Row:
    row = Row("verify", TITLE)
    theirs = row.line(_COSIGN)
    ours = row.line("ocisync verify --key", anchor=_COSIGN, goal="≤ 350 ms")
    repository = bench.signed_repository()
    built = artifact({"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"})
    repository.push(built, "production")
    bench.cosign.sign(f"{repository.repository}@{built.descriptor.digest}", bench.key)
    reference = f"{repository.repository}:production"
    cosign = [
        str(binary("cosign")), "verify", "--key", str(bench.key.public), "--insecure-ignore-tlog=true", reference,
    ]  # fmt: skip
    ocisync = [
        str(bench.installed.ocisync), "verify", f"oci://{reference}", "--key", str(bench.key.public),
    ]  # fmt: skip

    def once(_number: int) -> None:
        theirs.samples.append(measure.command(cosign, bench.home, bench.environment)[0])
        ours.samples.append(measure.command(ocisync, bench.home, bench.environment)[0])

    bench.repeat(once)
    return row


def _decision(bench: Bench) -> Row:
    row = Row("verify-decision", "decide about one artifact whose evidence is at hand, in the process of the agent")
    line = row.line("verdict, one signature, one authority", goal="≤ 5 ms")
    repository = bench.signed_repository()
    key = signer("ci")
    built = repository.push({"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"}, "production")
    repository.sign(built.descriptor, key)
    trust = load_policies([repository.policy()])
    with open_store(repository.repository) as store:
        evidence = collect(store, built.descriptor.digest, budget=EvidenceBudget(time.monotonic))
    request = Request(repository.repository, SelectorKind.TAG, "production")
    times = bench.options.times(200)

    def once(_number: int) -> None:
        started, cpu = time.monotonic(), time.process_time()
        for _ in range(times):
            judged = reverify(built.manifest, OCI_MANIFEST, evidence, trust, request, now=NOW)
            assert judged.verdict.allowed, judged.verdict.message
        line.samples.append(Sample((time.monotonic() - started) / times, (time.process_time() - cpu) / times))

    bench.repeat(once)
    row.notes.append(f"Each round is the mean of {times} verdicts.")
    return row
