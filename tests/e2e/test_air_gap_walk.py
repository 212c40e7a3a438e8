"""The walk of docs/air-gap.md, as it is written; the files beside it are files that work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocisync.cli.app import run
from ocisync.oci.client import open_store
from ocisync.sandbox.registry import Registry as Sandbox
from ocisync.signing.keys import dump_private, generate
from tests.support import requirements
from tests.support.cluster import Cluster
from tests.support.images import quick
from tests.support.process import clean_environment
from tests.support.trust import signer
from tests.support.verifying import tagged

TOP = Path(__file__).resolve().parents[2]
DOCUMENT = TOP / "docs" / "air-gap.md"
SCRIPT = TOP / "examples" / "air-gap" / "run.sh"
CRON_JOB = TOP / "examples" / "mirror-cronjob.yaml"
INSIDE = "import tests.support.sigstoreinside as i, os, sys; i.loopback_up(); os.execv(sys.argv[1], sys.argv[1:])"


def test_the_script_is_the_commands_of_the_document_in_their_order() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) >= 10
    script, at = SCRIPT.read_text(), 0
    for block in blocks:
        found = script.find(block, at)
        assert found >= 0, f"examples/air-gap/run.sh does not run this, or not in this order:\n{block}"
        at = found + len(block)
    rest = script[script.index("# -- ") :]
    for block in blocks:
        rest = rest.replace(block, "")
    undocumented = [line for line in rest.splitlines() if line and not line.startswith("#")]
    assert undocumented == []


def test_the_walk_ends_with_both_releases_on_the_far_side(tmp_path: Path) -> None:
    """In a network namespace: its ports are free there, and nothing but loopback is to be reached."""
    unshare = requirements.require_tool("unshare", "util-linux")
    namespace = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = clean_environment(tmp_path, PYTHONPATH=str(TOP), PATH=path, TMPDIR=str(tmp_path))
    log = tmp_path / "walk.log"
    with log.open("wb") as out:  # a pipe would stay open as long as anything that the script started
        done = subprocess.run(
            [str(unshare), *namespace, sys.executable, "-c", INSIDE, "/bin/bash", str(SCRIPT)],
            cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=800, check=False,
        )  # fmt: skip
    said = log.read_text()
    assert done.returncode == 0, said[-6000:]
    for words in (
        "verified   127.0.0.1:5002/shop:production: signed by release",
        "- from: registry.example\n  to: 127.0.0.1:5002/registry.example",
        "- signed: 127.0.0.1:5001/shop\n  here: 127.0.0.1:5002/shop",
        "adopted  trusted/release.pub",
        "saved  delta.tar",
    ):
        assert words in said, said[-6000:]
    assert not (tmp_path / "air-gap").exists()  # in a home of its own


# -- the mirror as a service --------------------------------------------------------------------------------------


@pytest.fixture
def sides() -> Iterator[tuple[Sandbox, Sandbox]]:
    with Sandbox() as near, Sandbox(referrers=False) as far:
        yield near, far


def objects() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(CRON_JOB.read_text()))


def test_an_api_server_accepts_the_cron_job(cluster: Cluster, namespace: str) -> None:
    for item in objects():
        item["metadata"]["namespace"] = namespace
        prefix, plural = ("/api/v1", "configmaps") if item["kind"] == "ConfigMap" else ("/apis/batch/v1", "cronjobs")
        path = f"{prefix}/namespaces/{namespace}/{plural}/{item['metadata']['name']}"
        strict = "?fieldManager=tests&fieldValidation=Strict&dryRun=All"
        answer = cluster.api("PATCH", path + strict, item, content_type="application/apply-patch+yaml")
        assert answer["metadata"]["name"] == item["metadata"]["name"]


def test_the_container_of_the_cron_job_mirrors(
    sides: tuple[Sandbox, Sandbox], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    near, far = sides
    key = signer("ci")
    (tmp_path / "ci.key").write_bytes(dump_private(key, password=None))
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    source = f"{near.address}/shop/config"
    push = (
        "push",
        str(tmp_path / "shop"),
        "--no-git",
        "--revision",
        "r1",
        "--sign-key",
        str(tmp_path / "ci.key"),
        "-q",
    )
    assert run([*push, f"oci://{source}:1.2.0", f"oci://{source}:production"]) == 0
    assert run([*push[:4], "r2", *push[5:], f"oci://{source}:2.0.0"]) == 0
    container = mounted(tmp_path, {"registry.example": near.address, "mirror.site.local": far.address}, key.public.pem)
    assert run(container) == 0, capsys.readouterr().err
    there = f"{far.address}/shop/config"
    assert tagged(there, "production") == tagged(there, "1.2.0") == tagged(source, "production")
    assert tagged(there, "2.0.0") == ""  # the set does not select it
    with open_store(there, quick()) as store:
        assert store.referrers(tagged(source, "production")).descriptors
    stranger = mounted(tmp_path, {"registry.example": near.address, "mirror.site.local": far.address},
                       generate().public.pem)  # fmt: skip
    assert run(stranger) == 4


def mounted(directory: Path, hosts: dict[str, str], pem: str) -> list[str]:
    """The container's command line, its volumes in a directory, for other registries and another key."""
    config, job = objects()
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["command"] == ["ocisync"]
    places = {}
    for mount in container["volumeMounts"]:
        folder = directory / mount["name"]
        folder.mkdir(exist_ok=True)
        places[mount["mountPath"]] = str(folder)
    for name, text in config["data"].items():
        for old, new in hosts.items():
            text = text.replace(old, new)
        if name == "policy.yaml":
            policy = yaml.safe_load(text)
            policy["spec"]["authorities"][0]["key"]["pem"] = pem
            text = yaml.safe_dump(policy)
        (directory / "set" / name).write_text(text)
    (directory / "logins" / ".dockerconfigjson").write_text('{"auths": {}}')
    arguments = []
    for argument in container["args"]:
        for old in sorted(places, key=len, reverse=True):
            if argument.startswith(f"{old}/"):
                argument = places[old] + argument.removeprefix(old)
                break
        arguments.append(argument)
    return arguments
