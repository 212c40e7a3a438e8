"""The Go libraries, if they are built."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import requirements


@pytest.fixture(scope="session")
def yamloracle() -> Path:
    """The executable that answers as kubectl."""
    return requirements.require("yamloracle")
