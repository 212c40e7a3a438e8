"""The drill of docs/security.md, typed as it stands there: a stolen key is denied, and what is good is trusted anew."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from ocisync.cli.app import run
from ocisync.sandbox.registry import Registry
from tests.support.gitrepo import GitRepo
from tests.support.trust import policy

TEXT = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
DRILL = TEXT.partition("## Drill:")[2].partition("\n## ")[0]
STEPS = re.split(r"^\*\*\d\. ", DRILL, flags=re.MULTILINE)[1:]
MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n"


def commands(step: int) -> list[list[str]]:
    """The `ocisync` commands of a step; `kubectl` and `status` need a cluster and are left out."""
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", STEPS[step - 1], re.DOTALL) for line in block.splitlines()
    ]
    words = [shlex.split(line) for line in lines]
    return [found[1:] for found in words if found[0] == "ocisync" and found[1] != "status"]


class Desk:
    """A terminal, where the placeholders of the document have their values."""

    def __init__(self, capfd: pytest.CaptureFixture[str], values: Mapping[str, str]) -> None:
        self._capfd = capfd
        self.values = dict(values)

    def type(self, words: list[str]) -> tuple[int, str]:
        """Run one command."""
        for placeholder, value in self.values.items():
            words = [word.replace(placeholder, value) for word in words]
        self._capfd.readouterr()
        code = run(words)
        shown = self._capfd.readouterr()
        return code, shown.out + shown.err


def test_the_drill_works_as_it_is_written(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    git = GitRepo(tmp_path)
    git.commit({"deploy/a.yaml": MANIFEST})
    with Registry() as server:
        desk = Desk(capfd, {"registry.example": server.address})
        assert desk.type(["keys", "generate", "ci"])[0] == 0
        repository = f"oci://{server.address}/shop"
        pushed = [
            "push",
            "deploy",
            f"{repository}:1.4.0",
            f"{repository}:production",
            "--sign-key",
            "ci.key",
            "-o",
            "name",
        ]
        assert desk.type(pushed)[0] == 0
        assert desk.type(["verify", f"{repository}:production", "--key", "ci.pub", "-o", "json"])[0] == 0
        spec = {"match": [{"repository": f"{server.address}/shop"}]}
        authorities = [{"name": "ci", "key": {"pem": Path("ci.pub").read_text()}}]
        write(policy("shop", by=(), **spec, authorities=authorities))

        show, impact, check = commands(1)
        fingerprint = desk.type(show)[1].split()[0]
        desk.values["sha256:…"] = fingerprint
        code, said = desk.type(impact)
        assert code == 3, said
        deny = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", STEPS[0], re.DOTALL)[0].replace("sha256:…", fingerprint))
        write(policy("shop", by=(), **spec, authorities=authorities, **deny))
        assert desk.type(check)[0] == 0
        explain = commands(4)[-1]
        code, said = desk.type(explain)
        assert (code, "denied key" in said) == (4, True), said

        for words in commands(2):
            code, said = desk.type(words)
            assert code == 0, said
        digest = json.loads(desk.type(["inspect", f"{repository}:production", "-o", "json"])[1])["digest"]

        desk.values["sha256:…"] = digest
        for words in commands(3):
            code, said = desk.type(words)
            assert code == 0, said

        authorities.append({"name": "next", "key": {"pem": Path("next.pub").read_text()}})
        write(policy("shop", by=(), **spec, authorities=authorities, **deny))
        for words in commands(4):
            code, said = desk.type(words)
            assert code == 0, said


def write(document: object) -> None:
    """policy.yaml, where the drill looks for it."""
    Path("policy.yaml").write_text(yaml.safe_dump(document))
