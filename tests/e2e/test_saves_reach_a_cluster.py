"""`push --watch --reconcile`: a save of a file is an object in the cluster, long before the next poll."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import yaml

from ocisync.signing.keys import dump_private
from tests.support.agent import AgentProcess, Tenant, config_map
from tests.support.process import clean_environment
from tests.support.sandboxes import CHECKOUT
from tests.support.waiting import eventually


def test_a_save_is_in_the_cluster_without_waiting_for_a_poll(
    agent: AgentProcess, tenant: Tenant, tmp_path: Path
) -> None:
    directory = tmp_path / "deploy"
    directory.mkdir()
    (directory / "a.yaml").write_text(yaml.safe_dump(config_map("a", k="1")))
    key = tmp_path / "dev.key"
    key.write_bytes(dump_private(tenant.key, password=None))
    tenant.write_sync(source={"repository": tenant.registry.repository, "tag": tenant.tag, "interval": "1h"})
    command = [
        sys.executable, "-m", "ocisync", "push", str(directory), f"{tenant.registry.repository}:{tenant.tag}",
        "--no-git", "--watch", "--sign-key", str(key), "--sign-each-save",
        "--reconcile", f"{tenant.namespace}/{tenant.name}", "--kubeconfig", str(tenant.cluster.kubeconfig),
    ]  # fmt: skip
    out = tmp_path / "out.log"
    with out.open("wb") as log:
        watching = subprocess.Popen(
            command,
            env=clean_environment(tmp_path, PYTHONPATH=str(CHECKOUT)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        for value in ("1", "2"):
            (directory / "a.yaml").write_text(yaml.safe_dump(config_map("a", k=value)))
            tenant.wait_value("a", "k", value)
        ready = f"{tenant.namespace}/{tenant.name}  Ready=True"
        eventually(lambda: ready in out.read_text(), what="the outcome is told")
    finally:
        watching.send_signal(signal.SIGINT)
        try:
            code = watching.wait(timeout=120)
        finally:
            watching.kill()
            watching.wait()
    assert code == 130, out.read_text()
