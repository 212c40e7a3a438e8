from __future__ import annotations

import pytest

from ocisync.model.clock import parse_rfc3339


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "yesterday", ""])
def test_a_text_that_is_no_time_of_the_calendar_is_none(text: str) -> None:
    assert parse_rfc3339(text) is None
