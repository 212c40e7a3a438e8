"""`python -m tests.mutation [NAME…] [--threat N]… [--list] [--write]`: run mutants; exit 1 if one survives.

All of them run unless some are named, by name or by threat. `--write` writes what became of them into the table of
docs/security.md.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tests.mutation import table
from tests.mutation.mutants import MUTANTS, Mutant
from tests.mutation.run import copied


@dataclass(frozen=True, slots=True)
class Asked:
    """What the arguments say."""

    chosen: tuple[Mutant, ...]
    only_list: bool
    write: bool


def parse(arguments: Sequence[str]) -> Asked:
    """Read the arguments; ends the process for `--help`, and with exit code 2 for what does not exist."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation",
        description="Take out one security check after the other; the tests named for its threat must fail.",
        epilog="Exit codes: 0 all killed, 1 one survived, 2 usage.",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="run these mutants (default: all)")
    parser.add_argument("--threat", metavar="N", type=int, action="append", default=[], help="those of threat TN, too")
    parser.add_argument("--list", action="store_true", help="tell which there are and run none")
    parser.add_argument("--write", action="store_true", help="write the results into the table of docs/security.md")
    asked = parser.parse_args(arguments)
    known = {mutant.name: mutant.threat for mutant in MUTANTS}
    for name in asked.names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            parser.error(f"there is no mutant {name}" + (f"; did you mean {close[0]}?" if close else "; see --list"))
    for threat in asked.threat:
        if threat not in known.values():
            parser.error(f"there is no mutant of threat T{threat}; see --list")
    wanted = set(asked.names) | {name for name, threat in known.items() if threat in asked.threat}
    chosen = tuple(mutant for mutant in MUTANTS if mutant.name in wanted or not wanted)
    return Asked(chosen, asked.list, asked.write)


def main(arguments: Sequence[str]) -> int:
    """Run and tell."""
    asked = parse(arguments)
    if asked.only_list:
        for mutant in asked.chosen:
            print(f"T{mutant.threat:<3} {mutant.name:24} {mutant.without}")
        return 0
    fates = []
    with copied(asked.chosen) as copy:
        for mutant in asked.chosen:
            fate = copy.judge(mutant)
            fates.append(fate)
            print(f"T{mutant.threat:<3} {mutant.name:24} {fate.result} {fate.by}", flush=True)
            if fate.result not in {"killed", "survived"}:
                print(fate.output[-3_000:], flush=True)
    alive = [fate for fate in fates if fate.result != "killed"]
    print(f"{len(fates)} mutants, {len(fates) - len(alive)} killed, {len(alive)} not")
    if asked.write:
        table.write(fates)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
