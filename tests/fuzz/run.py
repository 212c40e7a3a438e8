"""Run many cases of one target. Each is made from its number and the seed alone, so that it can be made again."""

from __future__ import annotations

import random
import re
import warnings
from dataclasses import dataclass, field

from tests.fuzz.kinds import Target

_VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|\d+|sha256:\S+|https?://\S+|\[[^\]]*\]")
_DEFECTS_COUNT = 20


@dataclass(slots=True)
class Campaign:
    """What became of the cases. `smallest` is the smallest case of each kind of answer."""

    target: Target
    cases: int = 0
    read: int = 0
    smallest: dict[str, bytes] = field(default_factory=dict)
    defects: list[tuple[int, bytes, BaseException]] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = len(self.smallest)
        return (
            f"{self.target.name:15} {self.cases:7} cases, {self.read:6} read, {self.cases - self.read:6} refused"
            f" in {kinds} ways, {len(self.defects)} defects"
        )


def kind_of(answer: str) -> str:
    """An answer without what differs from case to case."""
    return _VARIABLE.sub("…", answer)[:120]


def case(target: Target, seed: int, number: int) -> bytes:
    """The bytes of one case."""
    return target.make(random.Random(f"{target.name}:{seed}:{number}"))


def answer_to(target: Target, data: bytes) -> str:
    """How the reader takes it.

    Raises:
        Exception: a defect.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a library warns of some broken certificates instead of refusing them
        return target.read(data)


def run(target: Target, cases: int, seed: int) -> Campaign:
    """Run cases 0 to `cases` of a seed."""
    campaign = Campaign(target)
    for number in range(cases):
        data = case(target, seed, number)
        campaign.cases += 1
        try:
            answer = answer_to(target, data)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            campaign.defects.append((number, data, error))
            if len(campaign.defects) >= _DEFECTS_COUNT:
                break
            continue
        campaign.read += answer.startswith("read")
        kind = kind_of(answer)
        known = campaign.smallest.get(kind)
        if known is None or len(data) < len(known):
            campaign.smallest[kind] = data
    return campaign
