"""`python -m tests.oracle` asks the oracle all cases again and writes the committed answers."""

from __future__ import annotations

import sys

from tests.oracle import answers, cases
from tests.servers import build


def main() -> int:
    """Write the fixture; 1 if the oracle is not built."""
    oracle = build.find("yamloracle")
    if oracle is None:
        print(build.how_to_get("yamloracle"), file=sys.stderr)
        return 1
    everything = cases.all_cases()
    answers.write_fixture(everything, answers.ask(oracle, [data for _, data in everything]))
    print(f"{len(everything)} cases in {answers.FIXTURE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
