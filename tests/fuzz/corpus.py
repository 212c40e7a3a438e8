"""The corpus: for each kind of answer of a target a small case that leads to it, one JSON line each."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.run import Campaign

DIRECTORY = Path(__file__).parent / "corpus"
_CASE_BYTES = 5_000  # a trusted root has four and a half thousand
_CASES_COUNT = 60


def read(name: str) -> Iterator[tuple[str, bytes]]:
    """The kept cases of a target: the kind of answer, and the bytes."""
    for line in (DIRECTORY / f"{name}.jsonl").read_text().splitlines():
        kept = json.loads(line)
        yield kept["answer"], kept["text"].encode() if "text" in kept else base64.b64decode(kept["base64"])


def write(campaign: Campaign) -> None:
    """Keep small cases of a campaign, from all over its kinds of answers."""
    small = [(kind, data) for kind, data in sorted(campaign.smallest.items()) if len(data) <= _CASE_BYTES]
    step = max(1, -(-len(small) // _CASES_COUNT))
    lines = [json.dumps({"answer": kind, **_text(data)}, ensure_ascii=True) for kind, data in small[::step]]
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / f"{campaign.target.name}.jsonl").write_text("\n".join(lines) + "\n")


def _text(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
