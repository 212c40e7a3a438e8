"""Other people's tools, each in a home of its own: for registries and OCI layouts (plain HTTP), for rendering."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.servers import build
from tests.support.process import clean_environment


class ToolError(AssertionError):
    """A tool ended with an error; the message has what it wrote."""


class Tool:
    """One program. A dead proxy stands between it and everything that is not loopback."""

    def __init__(self, binary: Path, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._binary = binary
        self._environment = clean_environment(
            directory,
            HTTP_PROXY="http://127.0.0.1:9",
            HTTPS_PROXY="http://127.0.0.1:9",
            NO_PROXY="127.0.0.1,localhost",
            LD_LIBRARY_PATH=build.library_path(binary),
        )

    def run(self, *arguments: str | Path, timeout_s: float = 240.0) -> str:
        """Any command; returns its standard output.

        Raises:
            ToolError: it ended with an error.
        """
        result = subprocess.run(
            [str(self._binary), *map(str, arguments)],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if result.returncode != 0:
            shown = " ".join(map(str, arguments))
            raise ToolError(f"{self._binary.name} {shown} → {result.returncode}: {result.stderr}{result.stdout}")
        return result.stdout

    def json(self, *arguments: str | Path) -> Any:
        """The same for commands that print JSON."""
        return json.loads(self.run(*arguments))


class Oras(Tool):
    """The oras command line."""


class Skopeo(Tool):
    """skopeo, without a signature policy and with plain HTTP."""

    def copy(self, source: str, target: str, *flags: str) -> None:
        """Copy one image; names as skopeo has them: `oci:DIRECTORY:TAG`, `docker://HOST/NAME:TAG`."""
        plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
        self.run("--insecure-policy", "copy", *plain, *flags, source, target)

    def inspect(self, name: str, *flags: str) -> Any:
        """What skopeo says of an image."""
        return self.json("inspect", "--tls-verify=false", *flags, name)


class Imgpkg(Tool):
    """imgpkg: bundles with their images. It speaks plain HTTP to loopback addresses by itself."""

    def pull_bundle(self, reference: str, output: Path) -> None:
        """Unpack a bundle; fails if imgpkg does not take it for one."""
        self.run("pull", "-b", reference, "-o", output)

    def copy_to_tar(self, reference: str, tar: Path) -> None:
        """A bundle and all images of its lock, in one file."""
        self.run("copy", "-b", reference, "--to-tar", tar)


class Kustomize(Tool):
    """kustomize."""

    @property
    def binary(self) -> Path:
        """To be put on a PATH."""
        return self._binary


class Helm(Kustomize):
    """helm 4."""
