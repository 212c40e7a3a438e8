"""Everything is verified where there is nothing but loopback, and without a policy not a packet is sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import requirements
from tests.support.process import clean_environment

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("offline")]  # one namespace is enough

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What happened inside of the namespace."""
    unshare, binary = requirements.require_tool("unshare", "util-linux"), requirements.require("distribution")
    directory = tmp_path_factory.mktemp("offline")
    home = directory / "home"
    home.mkdir()
    namespace = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
    command = [
        str(unshare), *namespace, sys.executable, "-m", "tests.support.offlineinside", str(directory), str(binary)
    ]  # fmt: skip
    environment = clean_environment(home, PYTHONPATH=str(CHECKOUT), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**result, "home": sorted(path.name for path in home.rglob("*"))}


def test_there_is_no_way_out_and_nobody_looked_for_one(found: dict[str, Any]) -> None:
    assert (found["interfaces"], found["routes"]) == (["lo"], [])
    assert (found["without route"], found["datagrams"]) == (0, 0)  # no refresh of a root, no name looked up
    assert found["home"] == []


@pytest.mark.parametrize("how", ["push", "key", "policy", "legacy", "keyless"])
def test_commands_succeed_with_the_registry_alone(found: dict[str, Any], how: str) -> None:
    ran = found["commands"][how]
    assert ran["code"] == 0, ran["text"]
    assert 1 <= ran["connections"] <= 8  # a push uploads over several


def test_without_a_policy_not_a_packet_is_sent(found: dict[str, Any]) -> None:
    ran = found["no policy"]
    assert ran["code"] == 4 and "no trust policy matches" in ran["text"]
    assert (ran["connections"], ran["packets"]) == (0, 0)
    assert found["calls to the stranger"] == 0  # by the agent neither


def test_an_agent_verifies_and_applies_there(found: dict[str, Any]) -> None:
    assert found["agent"]["signers"] == ["release-key"]
    assert "no trust policy matches" in found["agent"]["refused"]
    assert found["agent"]["home"] == []
