#!/usr/bin/env python3
"""Builds the real servers that the tests talk to, into a cache outside the checkout.

    python tests/servers/build.py [NAME|all]…
    python tests/servers/build.py --print-path controlplane

The Go servers come from the Go modules beside this file and need the Go tool chain; distribution is
Debian's package ``docker-registry``, unpacked into the cache without installing it (or used from the
machine when it is installed). Nothing here is fetched any other way.

The cache is ``$OCISYNC_TEST_CACHE``, else ``$XDG_CACHE_HOME/ocisync-tests``, else
``~/.cache/ocisync-tests``. One entry is keyed by the content of its module and the Go version, so a
second run does nothing; entries appear by one rename, under a lock, so runs side by side are safe.
Stdlib only: it runs before any virtual environment exists.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
KUBERNETES_VERSION = "v1.37.2"
KUBERNETES_MINOR = "37"
MINIMUM_GO = "1.26"
TRIES = 3  # of a command that downloads: what came already is kept, and a network has its moments
APT = ("apt-get", "-o", "Acquire::Retries=3")


class UnavailableError(Exception):
    """A server cannot be had here; the message says how to change that."""


@dataclass(frozen=True, slots=True)
class GoServer:
    """One executable built from a Go module beside this file."""

    name: str
    package: str  # what to build; "." is the module's own main
    settings: tuple[tuple[str, str], ...]  # string variables set by the linker: the versions shown
    cold_minutes: int  # on two cores, with empty Go caches

    @property
    def module(self) -> Path:
        """The folder with go.mod."""
        return HERE / self.name

    def source_key(self) -> str:
        """Names what is built, but not the tool chain."""
        digest = hashlib.sha256()
        for path in sorted((*self.module.glob("*.go"), self.module / "go.mod", self.module / "go.sum")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        digest.update(repr((self.package, self.settings)).encode())
        return digest.hexdigest()[:16]


GO_SERVERS = {
    server.name: server
    for server in (
        GoServer(
            "controlplane",
            ".",
            (
                ("k8s.io/component-base/version.gitVersion", KUBERNETES_VERSION),
                ("k8s.io/component-base/version.gitMajor", "1"),
                ("k8s.io/component-base/version.gitMinor", KUBERNETES_MINOR),
            ),
            cold_minutes=8,
        ),
        GoServer(
            "kwok",
            "sigs.k8s.io/kwok/cmd/kwok",
            (),
            cold_minutes=3,
        ),
        GoServer("olareg", "github.com/olareg/olareg/cmd/olareg", (), cold_minutes=1),
        GoServer(
            "cosign",
            "github.com/sigstore/cosign/v3/cmd/cosign",
            (("sigs.k8s.io/release-utils/version.gitVersion", "v3.1.3"),),
            cold_minutes=5,
        ),
        GoServer("sigstore", ".", (), cold_minutes=6),
        GoServer("fluxpush", ".", (), cold_minutes=1),
        GoServer("yamloracle", ".", (), cold_minutes=1),
        GoServer("argocdpull", ".", (), cold_minutes=4),
        GoServer("oras", "oras.land/oras/cmd/oras", (), cold_minutes=1),
        GoServer("semver", ".", (), cold_minutes=1),
        GoServer("kustomize", "sigs.k8s.io/kustomize/kustomize/v5", (), cold_minutes=1),
        GoServer(
            "helm",
            "helm.sh/helm/v4/cmd/helm",
            (("helm.sh/helm/v4/internal/version.version", "v4.3.1"),),
            cold_minutes=3,
        ),
        GoServer(
            "imgpkg",
            "carvel.dev/imgpkg/cmd/imgpkg",
            (("carvel.dev/imgpkg/pkg/imgpkg/cmd.Version", "0.46.1"),),
            cold_minutes=1,
        ),
    )
}
DISTRIBUTION = "distribution"


@dataclass(frozen=True, slots=True)
class DebianProgram:
    """One program of a Debian package, unpacked into the cache unless the machine has it."""

    name: str
    package: str
    executable: str
    libraries: tuple[str, ...] = ()  # packages whose shared libraries it needs: `LD_LIBRARY_PATH`


DEBIAN_PROGRAMS = {
    program.name: program
    for program in (
        DebianProgram(DISTRIBUTION, "docker-registry", "docker-registry"),
        DebianProgram("skopeo", "skopeo", "skopeo", ("libdevmapper1.02.1", "libgpgme11", "libassuan0")),
    )
}
NAMES = (*GO_SERVERS, *DEBIAN_PROGRAMS)


def cache_directory() -> Path:
    """The folder with all built servers; may not exist yet."""
    if given := os.environ.get("OCISYNC_TEST_CACHE"):
        return Path(given).absolute()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).absolute() / "ocisync-tests"
    return Path.home() / ".cache" / "ocisync-tests"


def find(name: str) -> Path | None:
    """The executable of a server that is ready to use, or None. Builds nothing."""
    if name in DEBIAN_PROGRAMS:
        return _find_debian(DEBIAN_PROGRAMS[name])
    # The Go version is left open, so a machine without Go can use a cache that was built elsewhere.
    entries = cache_directory().glob(f"{name}-{GO_SERVERS[name].source_key()}-*/{name}")
    return max((path for path in entries if os.access(path, os.X_OK)), default=None)


def how_to_get(name: str) -> str:
    """One sentence for a skipped test: the command to type and what it needs."""
    if name in DEBIAN_PROGRAMS:
        return (
            f"run `python tests/servers/build.py {name}` (needs apt-get and dpkg),"
            f" or install Debian's package {DEBIAN_PROGRAMS[name].package}"
        )
    minutes = GO_SERVERS[name].cold_minutes
    return f"run `python tests/servers/build.py {name}` (needs Go ≥ {MINIMUM_GO}, about {minutes} min the first time)"


def build(name: str) -> Path:
    """Makes one server ready and returns its executable.

    Raises:
        UnavailableError: The tool that would make it is missing, or it failed.
    """
    if name in DEBIAN_PROGRAMS:
        return _unpack_debian(DEBIAN_PROGRAMS[name])
    return _build_go(GO_SERVERS[name])


def _build_go(server: GoServer) -> Path:
    go = shutil.which("go")
    if go is None:
        raise UnavailableError(
            f"{server.name}: the Go tool chain is missing; install Go ≥ {MINIMUM_GO} so that `go version` works"
        )
    # "go1.26.8"; asked inside the module, since go.mod can choose another tool chain.
    version = _output([go, "env", "GOVERSION"], server.module)
    entry = cache_directory() / f"{server.name}-{server.source_key()}-{version}"
    executable = entry / server.name
    with locked(server.name):
        if executable.exists():
            _say(f"{server.name}: ready, {executable}")
            return executable
        _say(f"{server.name}: building with {version}, about {server.cold_minutes} min when nothing is cached")
        started = time.monotonic()
        flags = " ".join(("-s", "-w", *(f"-X {key}={value}" for key, value in server.settings)))
        with new_entry(entry) as scratch:
            command = [go, "build", "-mod=readonly", "-trimpath", "-ldflags", flags]
            _run([*command, "-o", str(scratch / server.name), server.package], server.module, server.name, TRIES)
        size_mib = executable.stat().st_size >> 20
        _say(f"{server.name}: built in {time.monotonic() - started:.0f} s, {size_mib} MiB, {executable}")
    return executable


def _find_debian(program: DebianProgram) -> Path | None:
    for directory in ("", "/usr/bin", "/usr/local/bin"):
        installed = shutil.which(program.executable, path=directory or None)
        if installed is not None:
            return Path(installed)
    unpacked = cache_directory() / f"{program.name}-deb" / "usr" / "bin" / program.executable
    return unpacked if os.access(unpacked, os.X_OK) else None


def library_path(executable: Path) -> str:
    """`LD_LIBRARY_PATH` for a program of the cache: what was unpacked beside it; empty for installed ones."""
    root = executable.parent.parent.parent
    found = [str(path) for path in sorted((*root.glob("usr/lib/*-linux-*"), *root.glob("lib/*-linux-*")))]
    return ":".join(found) if root.parent == cache_directory() else ""


def _unpack_debian(program: DebianProgram) -> Path:
    name, package = program.name, program.package
    with locked(name):
        found = _find_debian(program)
        if found is not None:
            _say(f"{name}: ready, {found}")
            return found
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise UnavailableError(
                f"{name}: apt-get or dpkg is missing; put a {program.executable} executable on PATH instead"
            )
        _say(f"{name}: downloading Debian's package {package}")
        entry = cache_directory() / f"{name}-deb"
        with new_entry(entry) as scratch, tempfile.TemporaryDirectory() as downloads:
            # apt's download step runs as another user, who must be able to write here.
            Path(downloads).chmod(0o777)
            for needed in (package, *program.libraries):
                _download_package(needed, Path(downloads), name)
            for file in sorted(Path(downloads).glob("*.deb")):
                _run(["dpkg", "-x", str(file), str(scratch)], Path(downloads), name)
        _say(f"{name}: unpacked into {entry}")
    found = _find_debian(program)
    if found is None:
        raise UnavailableError(f"{name}: the package has no usr/bin/{program.executable}")
    return found


def _download_package(package: str, directory: Path, name: str) -> None:
    try:
        _run([*APT, "download", package], directory, name)
    except UnavailableError:
        if os.geteuid() != 0:
            raise
        # A fresh machine has no package lists; only root may fetch them.
        _run([*APT, "update"], directory, name, TRIES)
        _run([*APT, "download", package], directory, name, TRIES)


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{name}: another run is building it, waiting")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def new_entry(entry: Path) -> Iterator[Path]:
    """A scratch folder that becomes the entry by one rename, or is removed on failure."""
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=entry.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        if entry.exists():
            shutil.rmtree(entry)
        scratch.rename(entry)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run(command: Sequence[str], directory: Path, name: str, tries: int = 1) -> None:
    for left in reversed(range(tries)):
        result = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        if result.returncode == 0:
            return
        if left:
            _say(f"{name}: `{command[0]}` ended with exit code {result.returncode}, once more")
    raise UnavailableError(f"{name}: `{' '.join(command)}` ended with exit code {result.returncode}")


def _output(command: Sequence[str], directory: Path) -> str:
    result = subprocess.run(
        command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise UnavailableError(f"`{' '.join(command)}` ended with {result.returncode}: {result.stderr.strip()}")
    return result.stdout.strip()


def _say(line: str) -> None:
    # Standard output belongs to --print-path.
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds what is named; 0 when all of it is ready."""
    parser = argparse.ArgumentParser(description="Build the real servers that the tests talk to.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)} or all (default)")
    parser.add_argument(
        "--print-path", metavar="NAME", choices=NAMES, help="print where a ready server is, build nothing"
    )
    options = parser.parse_args(arguments)
    if options.print_path:
        found = find(options.print_path)
        if found is None:
            _say(f"{options.print_path} is not ready: {how_to_get(options.print_path)}")
            return 1
        print(found)
        return 0
    names: list[str] = options.names or ["all"]
    if unknown := [name for name in names if name not in (*NAMES, "all")]:
        parser.error(f"unknown server {', '.join(unknown)}; known: {', '.join(NAMES)}, all")
    failed = False
    for name in NAMES:
        if name not in names and "all" not in names:
            continue
        try:
            build(name)
        except UnavailableError as error:
            _say(f"NOT READY {error}")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
