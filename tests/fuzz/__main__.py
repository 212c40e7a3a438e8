"""`python -m tests.fuzz [--cases N] [--seed S] [--only TARGET] [--keep]`: fuzz all parsers; exit 1 at a defect.

`--keep` puts the smallest case of each kind of refusal into the corpus.
"""

from __future__ import annotations

import argparse
import sys

from tests.fuzz import corpus
from tests.fuzz.run import Campaign, run
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=[target.name for target in TARGETS])
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    chosen = [target for target in TARGETS if asked.only in (None, target.name)]
    whole = sum(target.share for target in chosen)
    campaigns: list[Campaign] = []
    for target in chosen:
        campaign = run(target, -(-asked.cases * target.share // whole), asked.seed)
        campaigns.append(campaign)
        print(campaign, flush=True)
        for number, data, error in campaign.defects[:5]:
            print(f"  case {asked.seed}:{number}: {type(error).__name__}: {str(error)[:200]}\n  {data[:2_000]!r}")
        if asked.keep and target.kept:
            corpus.write(campaign)
    defects = sum(len(campaign.defects) for campaign in campaigns)
    print(f"{sum(campaign.cases for campaign in campaigns)} cases, {defects} defects")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
