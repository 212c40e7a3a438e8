#!/usr/bin/env python3
"""What a build of the image needs and must not fetch while tests run: a Debian base and a folder of wheels.

    python tests/servers/imageparts.py        # makes both ready in the cache of build.py, prints where they are

The base is made by debootstrap from the mirror that this machine's apt uses, the wheels are what
``locks/build.txt`` and ``locks/runtime.txt`` pin, for the base's Python. Needs root, debootstrap, and a
Python with pip.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # runs as a plain file, too
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.servers.build import UnavailableError, cache_directory, locked, new_entry

CHECKOUT = Path(__file__).resolve().parents[2]
LOCKS = ("build.txt", "runtime.txt")
# Everything that the Dockerfile would install with apt: the build needs no network then.
PACKAGES = ("python3", "python3-venv", "ca-certificates")
UNNEEDED = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
OLDEST_GLIBC_MINOR = 5  # PEP 600: manylinux_2_5 is the first


@dataclass(frozen=True, slots=True)
class Base:
    """A root file system as a tar, and what decides which wheels fit it."""

    tar: Path
    python: str  # "3.11"
    glibc: str  # "2.36"

    @property
    def key(self) -> str:
        """Names this base."""
        return self.tar.parent.name


@dataclass(frozen=True, slots=True)
class Archive:
    """The Debian archive that apt uses here."""

    mirror: str
    suite: str
    components: tuple[str, ...]


def find_base() -> Base | None:
    """The newest base that is ready, whatever suite apt uses now, or None."""
    recipe = _digest(repr((PACKAGES, UNNEEDED)).encode())
    entries = cache_directory().glob(f"image-base-*-{platform.machine()}-{recipe}/facts.json")
    newest = max(entries, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        return None
    facts = json.loads(newest.read_text())
    return Base(newest.with_name("base.tar"), facts["python"], facts["glibc"])


def find_wheels(base: Base) -> Path | None:
    """The folder of wheels for a base, or None."""
    entry = _wheels_entry(base)
    return entry if entry.is_dir() else None


def make_base() -> Base:
    """Makes the base ready.

    Raises:
        UnavailableError: A tool is missing, or it failed.
    """
    with locked("image-base"):
        found = find_base()
        if found is not None:
            return found
        debootstrap = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if debootstrap is None or os.geteuid() != 0:
            raise UnavailableError("image base: needs root and Debian's package debootstrap")
        archive = _archive()
        recipe = _digest(repr((PACKAGES, UNNEEDED)).encode())
        entry = cache_directory() / f"image-base-{archive.suite}-{platform.machine()}-{recipe}"
        _say(f"image base: debootstrap of {archive.suite}, 1 to 4 min")
        started = time.monotonic()
        with new_entry(entry) as scratch:
            _bootstrap(debootstrap, archive, scratch)
        _say(f"image base: made in {time.monotonic() - started:.0f} s, {entry}")
    made = find_base()
    assert made is not None
    return made


def make_wheels(base: Base) -> Path:
    """Makes the wheels for a base ready.

    Raises:
        UnavailableError: pip failed.
    """
    entry = _wheels_entry(base)
    with locked("image-wheels"):
        if entry.is_dir():
            return entry
        started = time.monotonic()
        _say("image wheels: downloading")
        with new_entry(entry) as scratch:
            for lock in LOCKS:
                _run([
                    sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                    "--require-hashes", "--no-deps", "--only-binary=:all:", "--python-version", base.python,
                    *_platforms(base.glibc), "--dest", str(scratch), "-r", str(CHECKOUT / "locks" / lock),
                ])  # fmt: skip
        _say(f"image wheels: downloaded in {time.monotonic() - started:.0f} s, {entry}")
    return entry


def _wheels_entry(base: Base) -> Path:
    locks = b"\0".join((CHECKOUT / "locks" / lock).read_bytes() for lock in LOCKS)
    name = f"image-wheels-py{base.python}-glibc{base.glibc}-{platform.machine()}-{_digest(locks)}"
    return cache_directory() / name


def _platforms(glibc: str) -> list[str]:
    """The pip options that name every platform tag which this glibc can load."""
    machine = platform.machine()
    newest = int(glibc.partition(".")[2])
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, OLDEST_GLIBC_MINOR - 1, -1)]
    return [part for tag in (*tags, f"manylinux2014_{machine}") for part in ("--platform", tag)]


def _archive() -> Archive:
    apt_get = shutil.which("apt-get")
    if apt_get is None:
        raise UnavailableError("image base: apt-get is missing; a base can be made on Debian and Ubuntu only")
    shown = _output([apt_get, "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"])
    rows = [(*parts,) for parts in (line.split() for line in shown.splitlines()) if len(parts) == 3]
    for mirror, suite, component in rows:
        if component == "main" and mirror.startswith("http") and not set("-/") & set(suite):
            return Archive(mirror, suite, tuple(sorted({row[2] for row in rows if row[:2] == (mirror, suite)})))
    raise UnavailableError("image base: apt has no http source with a component main of a whole suite")


def _bootstrap(debootstrap: str, archive: Archive, scratch: Path) -> None:
    root = scratch / "root"
    # In namespaces of its own: what it mounts is gone with it, also when it is killed.
    _run(
        [
            "unshare", "--mount", "--pid", "--fork", "--kill-child", debootstrap, "--variant=minbase",
            f"--include={','.join(PACKAGES)}", f"--components={','.join(archive.components)}",
            archive.suite, str(root), archive.mirror,
        ],
        log=scratch / "debootstrap.log",
        environment={**os.environ, **_apt_proxy(), "DPKG_FORCE": "unsafe-io"},
    )  # fmt: skip
    for name in UNNEEDED:
        for path in (root / name).iterdir() if (root / name).is_dir() else ():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    # What debootstrap copies from this machine is no part of the base.
    for name in ("etc/resolv.conf", "etc/hostname", "etc/apt/sources.list"):
        (root / name).unlink(missing_ok=True)
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    facts = {
        "python": _output(["chroot", str(root), "/usr/bin/python3", "-c", version]),
        "glibc": _output(["chroot", str(root), "/usr/bin/getconf", "GNU_LIBC_VERSION"]).split()[1],
    }
    _run(["tar", "--numeric-owner", "-C", str(root), "-cf", str(scratch / "base.tar"), "."])
    shutil.rmtree(root)
    (scratch / "facts.json").write_text(json.dumps(facts))


def _apt_proxy() -> dict[str, str]:
    """debootstrap downloads with wget, which does not read apt's configuration."""
    lines = _output(["apt-config", "dump", "--format", "%v%n", "Acquire::http::Proxy"]).splitlines()
    return {"http_proxy": lines[0]} if lines and lines[0] not in ("", "DIRECT") else {}


def _run(command: Sequence[str], *, log: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
        env=environment,
    )  # fmt: skip
    if log is not None:
        log.write_text(result.stdout + result.stderr)
    if result.returncode != 0:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-15:])
        raise UnavailableError(f"`{' '.join(command[:6])} …` ended with exit code {result.returncode}:\n{tail}")


def _output(command: Sequence[str]) -> str:
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise UnavailableError(f"`{' '.join(command)}` ended with {result.returncode}: {result.stderr.strip()}")
    return result.stdout.strip()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Makes both ready; 0 when they are."""
    try:
        base = make_base()
        print(base.tar)
        print(make_wheels(base))
    except UnavailableError as error:
        _say(f"NOT READY {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
