"""The same commit, pushed from machines that differ in all that should not matter, gives the same manifest digest.

Each push is a process of its own, from a clone of its own, into a repository of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ocisync.pack.artifact import build
from ocisync.source.git import read_tree
from tests.support.gitrepo import GIT_ENVIRONMENT, GitRepo
from tests.support.registries import Registry
from tests.support.sandboxes import CHECKOUT

NOBODY = 65_534
FILES = {
    "deploy/app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndata: {text: grün, day: 2026-03-01}\n",
    "deploy/sub/grün.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n",
    "deploy/sub/crlf.txt": "one\r\ntwo\r\n",
    "deploy/Z.txt": "after a in some locales\n",
    "deploy/run.sh": "#!/bin/sh\n",
}


@dataclass(frozen=True)
class Machine:
    """How a machine, and the clone on it, differ from the first."""

    environ: Mapping[str, str] = field(default_factory=dict)
    umask: int = 0o022
    user: int | None = None
    clone: str = "clone"
    options: tuple[str, ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    detached: bool = False


# The ref is part of the revision: a detached head is named by what CI says of it, as on a machine with a branch.
CI = {"GITHUB_REF_NAME": "main"}
MACHINES = {
    "a strict umask, eastern time, the C locale": Machine({"TZ": "Asia/Kathmandu", "LC_ALL": "C"}, umask=0o077),
    "no umask, western time, a locale that is not there": Machine(
        {"TZ": "America/St_Johns", "LC_ALL": "tr_TR.ISO-8859-9", "PYTHONHASHSEED": "4242"}, umask=0
    ),
    "an ASCII terminal": Machine({"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    "another user and home": Machine({"HOME": "/tmp", "USER": "somebody", "HOSTNAME": "elsewhere"}, user=NOBODY),
    "another clone path and an ssh remote": Machine(
        clone="a long path with späces/and more/of it",
        config={"remote.origin.url": "ssh://git@git.example/acme/shop.git"},
    ),
    "a shallow clone of one branch with a token": Machine(
        options=("--depth=1", "--single-branch", "--no-tags"),
        config={"remote.origin.url": "https://u:t0ken@git.example/acme/shop"},
    ),
    "line ends of Windows and no executable bits": Machine(config={"core.autocrlf": "true", "core.fileMode": "false"}),
    "a detached head in CI": Machine(CI, detached=True),
    "no git binary, another locale, a shallow clone": Machine(
        {"PATH": "/nonexistent", "LC_ALL": "C"}, options=("--depth=1",)
    ),
}
# Another user may not enter the directory of this Python: a rehearsal imports all that a push needs, then the process
# becomes that user.
AS_ANOTHER_USER = """
import contextlib, os, sys
from ocisync.cli.app import run
with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    assert run([*sys.argv[1:], "--dry-run"]) == 0
os.setgroups([]); os.setgid({user}); os.setuid({user})
import ocisync.oci.uploads
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="ocisync-two-machines-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture(scope="module")
def origin(public: Path) -> GitRepo:
    made = GitRepo(public / "origin")
    made.write(FILES)
    (made.path / "deploy/run.sh").chmod(0o755)
    made.commit()
    made.git("config", "uploadpack.allowAnySHA1InWant", "true")
    return made


@pytest.fixture(scope="module")
def expected(origin: GitRepo) -> str:
    """The digest, computed here."""
    source = "https://git.example/acme/shop"
    tree = read_tree(origin.path / "deploy", source=source, environ=GIT_ENVIRONMENT)
    return build(tree, annotations={"team": "shop"}).descriptor.digest


def clone_on(machine: Machine, origin: GitRepo, place: Path) -> GitRepo:
    before = os.umask(machine.umask)
    try:
        clone = origin.clone(place / machine.clone, *machine.options)
        clone.git("config", "remote.origin.url", "https://git.example/acme/shop.git")
        for name, value in machine.config.items():
            clone.git("config", name, value)
        clone.git("checkout", "-q", "--", ".")
        if machine.detached:
            clone.git("checkout", "-q", "--detach")
            clone.git("branch", "-q", "-D", "main")
    finally:
        os.umask(before)
    return clone


@pytest.mark.parametrize("name", MACHINES)
def test_the_same_commit_gives_the_same_digest_on_a_machine_with(
    name: str, origin: GitRepo, expected: str, sandbox_registry: Registry, public: Path
) -> None:
    machine = MACHINES[name]
    if machine.user is not None and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    place = public / re.sub("[^a-z]+", "-", name.lower())
    place.mkdir(mode=0o755)
    place.chmod(0o755)
    clone = clone_on(machine, origin, place)
    environ = {**GIT_ENVIRONMENT, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1", **machine.environ}
    if machine.detached:
        environ["GITHUB_SHA"] = clone.git("rev-parse", "HEAD")
    target = f"oci://{sandbox_registry.host}/machines/{place.name}:dev"
    start = ["-m", "ocisync"] if machine.user is None else ["-c", AS_ANOTHER_USER.format(user=machine.user)]
    done = subprocess.run(
        [sys.executable, *start, "push", "deploy", target, "-a", "team=shop", "-o", "json"],
        cwd=clone.path,
        env=environ,
        umask=machine.umask,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert json.loads(done.stdout)["digest"] == expected


def interpreters() -> dict[str, str]:
    """Other Python minors of this machine: in PATH, and beside the running one as version managers install them."""
    places = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    versions = Path(sys.base_prefix).parent
    places += [str(path) for path in sorted(versions.glob("3.1[1-9]*/bin/python3"))]
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    for place in filter(None, places):
        # A version manager's shim may be there without the version.
        told = subprocess.run(
            [place, "-c", "import sys, zlib; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if told.returncode == 0 and told.stdout.strip():
            found.setdefault(told.stdout.strip(), place)
    return found


def test_the_same_commit_gives_the_same_digest_under_every_python_of_this_machine(
    origin: GitRepo, expected: str
) -> None:
    # Reading the commit and building the artifact need nothing but the standard library, so any interpreter can.
    program = (
        "import os, pathlib, ocisync.source.git as source, ocisync.pack.artifact as artifact\n"
        "tree = source.read_tree(pathlib.Path('deploy'), source='https://git.example/acme/shop', environ=os.environ)\n"
        "print(artifact.build(tree, annotations={'team': 'shop'}).descriptor.digest)\n"
    )
    digests = {}
    for version, python in interpreters().items():
        done = subprocess.run(
            [python, "-c", program],
            cwd=origin.path,
            env={**GIT_ENVIRONMENT, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        digests[version] = done.stdout.strip() or done.stderr
    assert digests == dict.fromkeys(digests, expected)
    assert digests
