"""The fixture of version ranges is what the real library says."""

from __future__ import annotations

import pytest

from tests.assets import make_semver_cases
from tests.support import requirements


@pytest.mark.real
def test_the_library_s_answers_are_the_fixture() -> None:
    requirements.require("semver")
    assert make_semver_cases.document() == make_semver_cases.FILE.read_text()
