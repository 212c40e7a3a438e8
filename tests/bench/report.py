"""Figures as people and programs read them: one table for each row, one JSON document for the run."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.bench.measure import Sample


@dataclass(slots=True)
class Line:
    """One thing that was measured several times.

    Attributes:
        anchor: the name of the line it is compared with; empty: nothing, or it is an anchor itself.
        goal: in words, for the table.
    """

    name: str
    anchor: str = ""
    goal: str = ""
    samples: list[Sample] = field(default_factory=list)

    def median_s(self) -> float:
        """The median of the wall times."""
        return statistics.median(sample.seconds for sample in self.samples)


@dataclass(slots=True)
class Row:
    """One benchmark: its lines in the order of the table, and what must be known to read them."""

    name: str
    title: str
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def line(self, name: str, *, anchor: str = "", goal: str = "") -> Line:
        """Add a line."""
        added = Line(name, anchor, goal)
        self.lines.append(added)
        return added

    def ratios(self, line: Line) -> tuple[float, float | None] | None:
        """Wall and processor time over the anchor's, by medians; None without an anchor."""
        anchor = next((item for item in self.lines if item.name == line.anchor and item.samples), None)
        if anchor is None or not line.samples:
            return None
        ours, theirs = _median_cpu(line), _median_cpu(anchor)
        cpu = ours / theirs if ours is not None and theirs else None
        return line.median_s() / anchor.median_s(), cpu


def as_json(row: Row) -> dict[str, Any]:
    """A row with all samples."""
    return {
        "row": row.name,
        "title": row.title,
        "notes": row.notes,
        "lines": [_line_json(row, line) for line in row.lines if line.samples],
    }


def _line_json(row: Row, line: Line) -> dict[str, Any]:
    seconds = [sample.seconds for sample in line.samples]
    ratios = row.ratios(line)
    return {
        "name": line.name,
        "goal": line.goal,
        "anchor": line.anchor,
        "seconds": {"min": min(seconds), "median": statistics.median(seconds), "max": max(seconds)},
        "cpu_s": _median_cpu(line),
        "peak_rss_mib": _peak(line),
        "requests": dict(_requests(line)),
        "ratio": ratios[0] if ratios else None,
        "cpu_ratio": ratios[1] if ratios else None,
        "samples": seconds,
    }


_HEADERS = ("", "rounds", "min", "median", "max", "ratio", "CPU", "CPU ratio", "peak RSS", "goal")


def as_table(row: Row) -> str:
    """A Markdown table, with the notes below."""
    cells = [_HEADERS, *(_cells(row, line) for line in row.lines if line.samples)]
    widths = [max(len(item[column]) for item in cells) for column in range(len(_HEADERS))]
    shown = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(item, widths, strict=True)) + " |" for item in cells
    ]
    shown.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    requests = [f"- {line.name}: {_spelled(_requests(line))}" for line in row.lines if _requests(line)]
    if requests:
        shown += ["", "Requests of the last round, from the server's audit log:", *requests]
    return "\n".join([f"### {row.name}: {row.title}", "", *shown, *(f"\n{note}" for note in row.notes), ""])


def _cells(row: Row, line: Line) -> tuple[str, ...]:
    seconds = [sample.seconds for sample in line.samples]
    ratios = row.ratios(line)
    cpu, peak = _median_cpu(line), _peak(line)
    return (
        line.name,
        str(len(seconds)),
        *(duration(value) for value in (min(seconds), statistics.median(seconds), max(seconds))),
        f"{ratios[0]:.2f}" if ratios else "anchor" if not line.anchor else "",
        duration(cpu) if cpu is not None else "",
        f"{ratios[1]:.2f}" if ratios and ratios[1] is not None else "",
        f"{peak:.0f} MiB" if peak is not None else "",
        line.goal,
    )


def duration(seconds: float) -> str:
    """Seconds with three significant places, in the unit that people would say."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s"


def _median_cpu(line: Line) -> float | None:
    known = [sample.cpu_s for sample in line.samples if sample.cpu_s is not None]
    return statistics.median(known) if known else None


def _peak(line: Line) -> float | None:
    return max((sample.peak_rss_mib for sample in line.samples if sample.peak_rss_mib is not None), default=None)


def _requests(line: Line) -> Counter[str]:
    return Counter(line.samples[-1].requests) if line.samples else Counter()


def _spelled(counts: Counter[str]) -> str:
    return f"{counts.total()} ({', '.join(f'{count} {name}' for name, count in counts.most_common())})"
