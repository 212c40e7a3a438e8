"""The product's image as its users get it: the real Dockerfile, built and run without a container engine.

`Builder` makes the image with buildah, whose chroot isolation needs root but no kernel features of its own.
`ImageContainer` runs commands in it as the Deployment of `ocisync install` does: as the configured user, without
capabilities, as process 1, on a root file system that is read-only but for the mounts the Deployment has.
Base, wheels, and the built image stay in the cache of the real servers; an unchanged image is not built again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import imageparts
from tests.servers.build import UnavailableError, cache_directory
from tests.support import requirements
from tests.support.agent import AgentProcess
from tests.support.process import Server, clean_environment
from tests.support.waiting import eventually

SOURCES = ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "locks", "ocisync")
HOW = (
    "run the tests as root (or in a user namespace that may mount) on Debian or Ubuntu"
    " with the packages buildah and debootstrap"
)

# Runs as root in namespaces of its own. $1 is the root; then TARGET SOURCE pairs to bind until "--", each with the
# mode (ro or rw) before it; then the command.
_ENTER = """
set -eu
root=$1; shift
mount --bind "$root" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o nosuid,mode=755,size=64k tmpfs "$root/dev"
for node in null zero full random urandom; do
  : >"$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"
done
while [ "$1" != -- ]; do
  mount --bind "$3" "$root$2"
  mount -o "remount,bind,$1,nosuid,nodev" "$root$2"
  shift 3
done
shift
mount -o remount,bind,ro "$root"
exec chroot "$root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of this machine inside the container."""

    source: Path
    target: str
    writable: bool = False


class Builder:
    """buildah with a store of its own in the tests' cache."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self._buildah = requirements.require_tool("buildah", "buildah")
        self._store = cache_directory() / "image-store"
        self._store.mkdir(parents=True, exist_ok=True)
        self._users = (self._store / "users").open("w")  # locked, shared, while this run has a container
        _require_mounts()

    def build(self) -> str:
        """Builds the image unless it is there; its name."""
        with (self._store / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            base = _parts()
            wheels = imageparts.make_wheels(base)
            base_name = f"localhost/ocisync-base:{base.key}"
            name = f"localhost/ocisync:{self._key(base)}"
            built = self._has(name)
            if not built and self._alone():
                self._forget_images(but=base_name)
            fcntl.flock(self._users, fcntl.LOCK_SH)
            if built:
                return name
            if not self._has(base_name):
                self._import(base, base_name)
            started = time.monotonic()
            self._run(
                "build", "--isolation", "chroot", "--pull=never", "--layers=false",
                "--build-arg", f"BASE={base_name}",
                "--build-arg", "PIP_OPTIONS=--no-index --find-links=/wheels",
                "--volume", f"{wheels}:/wheels:ro",
                *self._policy(), "-t", name, str(self.checkout), offline=True,
            )  # fmt: skip
            sys.stderr.write(f"\nimage built in {time.monotonic() - started:.1f} s\n")
        return name

    def configuration(self, name: str) -> dict[str, Any]:
        """The image's configuration as a runtime reads it."""
        inspected = json.loads(self._run("inspect", "--type", "image", name))
        found: dict[str, Any] = inspected["OCIv1"]["config"]
        return found

    def create(self, name: str) -> tuple[str, Path]:
        """A container of the image; its id and its root folder."""
        container = self._run("from", "--pull=never", *self._policy(), name).strip()
        return container, Path(self._run("mount", container).strip())

    def remove(self, container: str) -> None:
        """Takes a container away."""
        self._run("rm", container)

    def close(self) -> None:
        """Lets other runs remove old images."""
        self._users.close()

    def _import(self, base: imageparts.Base, name: str) -> None:
        container = self._run("from", *self._policy(), "scratch").strip()
        try:
            self._run("add", container, str(base.tar), "/")
            self._run("commit", *self._policy(), container, name)
        finally:
            self.remove(container)

    def _alone(self) -> bool:
        """Whether no other run has a container."""
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _forget_images(self, *, but: str) -> None:
        """Removes containers of killed runs and images of earlier sources: each is hundreds of megabytes."""
        for container in self._run("containers", "--quiet").split():
            self.remove(container)
        for image in json.loads(self._run("images", "--json") or "null") or ():
            if but not in (image.get("names") or ()):
                self._run("rmi", "--force", image["id"])

    def _has(self, name: str) -> bool:
        return bool(self._run("images", "--quiet", "--filter", f"reference={name}").strip())

    def _policy(self) -> tuple[str, str]:
        """Which images are taken: only ours are here. Debian's default file is an optional package."""
        path = self._store / "policy.json"
        path.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        return "--signature-policy", str(path)

    def _key(self, base: imageparts.Base) -> str:
        digest = hashlib.sha256(base.key.encode())
        for name in SOURCES:
            path = self.checkout / name
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in files:
                if file.is_file() and "__pycache__" not in file.parts:
                    digest.update(f"{file.relative_to(self.checkout)}\0".encode())
                    digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def _run(self, *arguments: str, offline: bool = False) -> str:
        storage = ("--root", f"{self._store}/root", "--runroot", f"{self._store}/run", "--storage-driver", "vfs")
        environment = clean_environment(self._store, BUILDAH_ISOLATION="chroot", STORAGE_DRIVER="vfs")
        # chroot isolation builds on the network of buildah, so that is taken away.
        prefix = (str(requirements.require_tool("unshare", "util-linux")), "--net") if offline else ()
        result = subprocess.run(
            [*prefix, str(self._buildah), *storage, *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment, timeout=900,
        )  # fmt: skip
        if result.returncode != 0:
            tail = "\n".join((result.stdout + result.stderr).splitlines()[-30:])
            raise AssertionError(f"buildah {arguments[0]} → {result.returncode}:\n{tail}")
        return result.stdout


class ImageContainer:
    """A container of the built image; commands run in it as its configuration says."""

    def __init__(self, builder: Builder, image: str) -> None:
        self.image = image
        self.configuration = builder.configuration(image)
        self._builder = builder
        self._id, root = builder.create(image)
        self.root = root.resolve()

    def remove(self) -> None:
        """Takes it away."""
        self._builder.remove(self._id)

    @property
    def user(self) -> str:
        """The configured user, UID:GID."""
        return str(self.configuration["User"])

    @property
    def entrypoint(self) -> tuple[str, ...]:
        """What runs, without arguments."""
        return tuple(self.configuration["Entrypoint"])

    def command(
        self,
        argv: Sequence[str],
        *,
        mounts: Sequence[Mount] = (),
        environment: Mapping[str, str] | None = None,
        user: str = "",
    ) -> list[str]:
        """The command of this machine that runs `argv` in the container; needs root."""
        binds: list[str] = []
        for mount in mounts:
            point = self.root / mount.target.lstrip("/")
            # A link inside, such as Debian's /var/run, would lead to a folder of this machine.
            assert point.resolve() == point, f"{mount.target} goes through a link"
            # A runtime makes mount points before the root becomes read-only.
            point.mkdir(parents=True, exist_ok=True)
            binds += ["rw" if mount.writable else "ro", mount.target, str(mount.source)]
        uid, _, gid = (user or self.user).partition(":")
        work = self.configuration.get("WorkingDir") or "/"
        variables = dict(item.split("=", 1) for item in self.configuration["Env"]) | dict(environment or {})
        confined = [
            "/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--bounding-set=-all",
            "--inh-caps=-all", "--no-new-privs", "/usr/bin/env", "-i", "-C", work,
            *(f"{key}={value}" for key, value in variables.items()),
        ]  # fmt: skip
        unshare = [
            str(requirements.require_tool("unshare", "util-linux")),
            "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
        ]  # fmt: skip
        return [*unshare, "/bin/sh", "-c", _ENTER, "enter", str(self.root), *binds, "--", *confined, *argv]

    def run(
        self,
        *argv: str,
        mounts: Sequence[Mount] = (),
        environment: Mapping[str, str] | None = None,
        user: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        return subprocess.run(
            self.command(argv, mounts=mounts, environment=environment, user=user),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    def python(self, code: str, *, user: str = "") -> str:
        """What a Python program prints inside."""
        result = self.run("/opt/ocisync/bin/python", "-c", code, user=user)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()


class ImageAgent(AgentProcess):
    """The agent in a container of the image, started as the Deployment starts it."""

    def __init__(
        self,
        container: ImageContainer,
        arguments: Sequence[str],
        directory: Path,
        *,
        mounts: Sequence[Mount],
        environment: Mapping[str, str],
        address: str,
    ) -> None:
        self.address = address  # where it answers probes
        self.cache = next(mount.source for mount in mounts if mount.target == "/var/cache/ocisync")
        directory.mkdir(parents=True, exist_ok=True)
        command = container.command([*container.entrypoint, *arguments], mounts=mounts, environment=environment)
        self.server = Server("agent", command, directory, clean_environment(directory))

    def stop(self) -> None:
        """SIGTERM to process 1 of the container, as a kubelet does; it must end by itself, with success."""
        if not self.server.running:
            return
        os.kill(self._python_pid(), signal.SIGTERM)
        eventually(lambda: not self.server.running, what="the agent ends after SIGTERM")
        assert self.server.exit_code == 0, self.server.log_tail()


def empty_directory(path: Path, group: int) -> Path:
    """A folder as a kubelet makes an emptyDir with an fsGroup."""
    path.mkdir(parents=True)
    os.chown(path, 0, group)
    path.chmod(0o2777)
    return path


def _parts() -> imageparts.Base:
    try:
        base = imageparts.make_base()
        imageparts.make_wheels(base)
    except UnavailableError as error:
        requirements.missing("what the image is built from", f"{HOW}; {error}")
    return base


def _require_mounts() -> None:
    """Mounting takes root, and some sandboxes forbid it even then."""
    unshare = shutil.which("unshare")
    allowed = os.geteuid() == 0 and unshare is not None
    if unshare is None or not allowed or subprocess.run([unshare, "--mount", "true"], check=False).returncode != 0:
        requirements.missing("the right to mount", HOW)
