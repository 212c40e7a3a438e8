"""The table of mutants in docs/security.md, between two marks."""

from __future__ import annotations

from collections.abc import Sequence

from tests.mutation.mutants import MUTANTS
from tests.mutation.run import TOP, Fate

DOCUMENT = TOP / "docs" / "security.md"
_BEGIN, _END = "<!-- mutants: begin -->\n", "<!-- mutants: end -->\n"
_HEAD = "| threat | check that was taken out | where | result | first test that failed |\n|---|---|---|---|---|\n"


def rows() -> list[list[str]]:
    """The cells of the written table."""
    inside = DOCUMENT.read_text().partition(_BEGIN)[2].partition(_END)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in inside.splitlines()[2:]]


def row(fate: Fate) -> list[str]:
    """The cells of one mutant."""
    mutant = fate.mutant
    files = ", ".join(dict.fromkeys(f"`{edit.file}`" for edit in mutant.edits))
    return [f"T{mutant.threat}", mutant.without, files, fate.result, f"`{fate.by}`" if fate.by else ""]


def write(fates: Sequence[Fate]) -> None:
    """Write what became of some mutants; rows of the others stay, if they are about the same check."""
    known = {tuple(cells[:3]): cells for cells in rows()}
    known |= {tuple(cells[:3]): cells for cells in map(row, fates)}
    wanted = [tuple(row(Fate(mutant, ""))[:3]) for mutant in MUTANTS]
    text = DOCUMENT.read_text()
    head, begin, rest = text.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    lines = "".join(f"| {' | '.join(known[key])} |\n" for key in wanted if key in known)
    DOCUMENT.write_text(head + begin + _HEAD + lines + end + tail)
