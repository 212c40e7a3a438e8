"""What to do when a real server is missing: skip with the way to get it, or fail where CI demands it.

``OCISYNC_REQUIRE_REAL=1`` turns every such skip into a failure.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from tests.servers import build


def require(name: str) -> Path:
    """The executable of a real server: controlplane, kwok, olareg, cosign or distribution."""
    found = build.find(name)
    if found is None:
        missing(name, build.how_to_get(name))
    return found


def missing(what: str, how: str) -> NoReturn:
    """Ends the test: skipped with a sentence how to enable it, failed when real parts are required."""
    if os.environ.get("OCISYNC_REQUIRE_REAL") == "1":
        pytest.fail(f"{what} is missing and OCISYNC_REQUIRE_REAL=1: {how}", pytrace=False)
    pytest.skip(f"{what} is missing: {how}")


def existing_kubeconfig() -> Path | None:
    """A cluster the person gives to the tests (``OCISYNC_TEST_KUBECONFIG``), or None."""
    given = os.environ.get("OCISYNC_TEST_KUBECONFIG")
    return Path(given).absolute() if given else None


def envtest_assets() -> Path | None:
    """A folder with etcd, kube-apiserver and kubectl (``KUBEBUILDER_ASSETS``), or None."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    return Path(given).absolute() if given else None


def require_tool(name: str, package: str) -> Path:
    """A program of the machine, such as buildah; ``package`` is the Debian package that has it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        missing(name, f"install Debian's package {package}")
    return Path(found)
