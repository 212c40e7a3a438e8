"""What a command loads: nothing that it does not use. Start-up is most of the time of short commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.support.gitrepo import GitRepo
from tests.support.process import clean_environment
from tests.support.registries import Registry

PROGRAM = """
import atexit, json, sys

def executed(name):
    # A deferred module is registered without having been run.
    return type(sys.modules[name]).__name__ != "_Deferred"

report = sys.argv.pop(1)
atexit.register(lambda: open(report, "w").write(json.dumps([name for name in sys.modules if executed(name)])))
from ocisync.__main__ import main
main()
"""

# Of other features: none of the commands below may need one of them.
FEATURES = {
    "asyncio", "attr", "cel", "charset_normalizer.cd", "cryptography.x509", "dulwich", "jsonschema", "kubernetes",
    "ocisync.agent", "ocisync.cluster", "ocisync.demo", "ocisync.install", "ocisync.kit.watching",
    "ocisync.mirror", "ocisync.oci.downloads", "ocisync.oci.layout", "ocisync.render",
    "ocisync.sandbox", "ocisync.signing.certificate", "pathspec", "pydantic", "referencing", "rich", "sigstore",
    "watchfiles",
}  # fmt: skip
REGISTRY = {"cryptography", "http.client", "oras", "requests", "ssl", "urllib3", "yaml"}
PUBLISHING = {"ocisync.flows.publish", "ocisync.manifests", "ocisync.source", "yaml"}


def loaded(tmp_path: Path, *arguments: str) -> set[str]:
    """The modules that one command executed, in a process of its own."""
    report = tmp_path / "modules.json"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(report), *arguments],
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(report.read_text()))


def of(modules: set[str], names: set[str]) -> list[str]:
    """Those modules that are one of `names`, or a part of one."""
    return sorted(module for module in modules if any(f"{module}.".startswith(f"{name}.") for name in names))


def test_version_loads_no_library(tmp_path: Path) -> None:
    modules = loaded(tmp_path, "--version")
    assert of(modules, FEATURES | REGISTRY | {"click", "dataclasses", "logging"}) == []
    assert of(modules, {"ocisync"}) == ["ocisync", "ocisync.__main__"]


@pytest.mark.parametrize("arguments", [(), ("push",), ("verify",)], ids=["root", "push", "verify"])
def test_help_loads_neither_registry_nor_cryptography(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    modules = loaded(tmp_path, *arguments, "--help")
    assert of(modules, FEATURES | REGISTRY | {"ocisync.flows", "ocisync.oci", "ocisync.signing"}) == []


def test_help_of_everything_loads_no_command(tmp_path: Path) -> None:
    commands = of(loaded(tmp_path, "--help"), {"ocisync.cli"})
    assert commands == ["ocisync.cli", "ocisync.cli.app", "ocisync.cli.output"]


def test_push_and_verify_with_a_key_load_no_other_feature(
    cli: Cli, repo: GitRepo, sandbox_registry: Registry, tmp_path: Path
) -> None:
    assert cli("keys", "generate", "k").exit_code == 0
    reference = f"oci://{sandbox_registry.host}/imports/shop:dev"
    pushed = loaded(tmp_path, "push", str(repo.path / "deploy"), reference, "--sign-key", "k.key")
    assert of(pushed, FEATURES) == []
    assert "ocisync.flows.publish" in pushed
    verified = loaded(tmp_path, "verify", reference, "--key", "k.pub")
    assert of(verified, FEATURES | PUBLISHING) == []
    assert "ocisync.flows.verify" in verified
