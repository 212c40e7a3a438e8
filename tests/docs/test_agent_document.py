"""The agent's document names everything that the agent can say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocisync.agent import metrics, reports
from ocisync.flows.outcome import Reason
from ocisync.model.status import ConditionType

TEXT = (Path(__file__).parents[2] / "docs" / "agent.md").read_text()
WORDS = [
    *(kind.value for kind in ConditionType),
    *(reason.value for reason in Reason),
    *metrics.NAMES,
    *reports.REASONS,
]


@pytest.mark.parametrize("word", sorted(set(WORDS)))
def test_every_word_of_the_agent_is_documented(word: str) -> None:
    assert f"`{word}`" in TEXT
