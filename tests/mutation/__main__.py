"""`python -m tests.mutation [NAME…] [--write]`: run mutants, all of them unless named; exit 1 if one survives.

`--write` writes what became of them into the table of docs/security.md.
"""

from __future__ import annotations

import sys

from tests.mutation import table
from tests.mutation.mutants import MUTANTS
from tests.mutation.run import copied


def main(arguments: list[str]) -> int:
    """Run and tell."""
    names = [argument for argument in arguments if not argument.startswith("-")]
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    fates = []
    with copied(chosen) as copy:
        for mutant in chosen:
            fate = copy.judge(mutant)
            fates.append(fate)
            print(f"T{mutant.threat:<3} {mutant.name:24} {fate.result} {fate.by}", flush=True)
            if fate.result not in {"killed", "survived"}:
                print(fate.output[-3_000:], flush=True)
    alive = [fate for fate in fates if fate.result != "killed"]
    print(f"{len(fates)} mutants, {len(fates) - len(alive)} killed, {len(alive)} not")
    if "--write" in arguments:
        table.write(fates)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
