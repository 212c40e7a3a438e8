#!/usr/bin/env python3
"""Writes tests/unit/model/semver_cases.json: what Masterminds' library says of ranges × versions.

python tests/servers/build.py semver && python -m tests.assets.make_semver_cases
"""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

from tests.servers import build

FILE = Path(__file__).parents[1] / "unit" / "model" / "semver_cases.json"

VERSIONS = [
    *(f"{major}.{minor}.{patch}" for major in (0, 1, 2, 10) for minor in (0, 1, 2, 10) for patch in (0, 1, 3, 10)),
    "0.0.0-0", "0.0.1-alpha", "0.2.3-rc.1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
    "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.2.0-rc.1", "1.2.3-0", "1.2.3-x-y-z.4", "2.0.0-rc.1", "2.0.0-0",
    "1.2.3+build.7", "10.2.3-DEV-SNAPSHOT", "1.10.10-99999", "3.0.0", "3.0.0-pre",
]  # fmt: skip

HAND_WRITTEN = [
    "*", "x", "X", "", " ", "1", "1.x", "1.2", "1.2.x", "1.2.*", "1.X.3", "v1.2.3", "1.2.3", "=1.2.3", "==1.2.3",
    "= 1.2.3", "!=1.2.3", "!=1.2", "!=1", "!=1.x", "!=*", "!=1.2.3-0", ">1", ">1.2", ">1.2.3", ">x", ">=x", "<x",
    "<=x", "<=0", "<=0.x", ">=1", ">=1.2", ">=1.2.3", "=>1.2.3", "<1", "<1.2", "<1.2.3", "<=1", "<=1.2", "<=1.2.3",
    "=<1.2.3", "=<1", "~1", "~1.2", "~1.2.3", "~>1.2.3", "~> 1.2", "~0", "~0.0", "~0.0.0", "~0.0.1", "~x", "^1",
    "^1.2", "^1.2.3", "^0", "^0.0", "^0.0.0", "^0.0.1", "^0.0.3", "^0.1", "^0.2.3", "^x", "^*", "^2.x", "^0.x",
    "^0.0.x", "1 - 2", "1.2 - 1.10", "1.2.3 - 2.0.0", "1.0.0-alpha - 1.0.0-rc.1", "1 - 2 || 10.x", "0 - 0.2, !=0.1.1",
    "1.2.3-1.2.4", "1-2", "1 -2", "1- 2", ">=1.0.0-0", ">=1.0.0-0 <2.0.0-0", "~1.2.3-0", "^1.0.0-alpha", "*-0", "x-0",
    ">=0.0.0-0", "<1.0.0-beta.11", "1.x-0", "^1-0", "<=1-0", "!=1.2-0", ">1-0", ">1.2-rc.1", ">=1, <2",
    ">=1 <2", ">=1,<2", ">=1 , <2", ">=1<2", ">=1,,<2", ">=1 && <2", "<1 || >=2", "<1||>=2", "||", "1 ||", "|| 1",
    "1.2.3.4", "1.2.3-", "1.2.3+", "1.2.3+b", "=1.2.3+b", ">1.2.3+b", "latest", "^", ">", "1..2", "a.b.c", "-1",
    "1.2.3 2.0.0", "1.2.3 || 2.0.0", "^1 ^2", "~1.2 !=1.2.3", ">=1.2.3-0 !=1.2.3-x-y-z.4", "\t1.2\n", "1.x.x",
    "1.x.3-0", "~1.x-0", "^0.2-0", "^0.0-0", "^0-0", "~0-0", "~0.0-0", "!=0", "!=0.0", "!=x-0", "<x-0", ">x-0",
    "^x-0", "~x-0", "=x", "= x-0", "1 - x", "x - 1", "1 - 2 - 3", "1 - 2 3 - 10", ">=1 - 2", "v1 - v2", "^v1.2",
]  # fmt: skip


def ranges() -> list[str]:
    """The hand-written ones and seeded combinations."""
    chance = random.Random(20260301)
    operators = ["", "=", "!=", ">", ">=", "=>", "<", "<=", "=<", "~", "~>", "^"]
    bounds = [
        "0",
        "1",
        "2",
        "10",
        "0.0",
        "0.1",
        "0.2",
        "1.2",
        "1.10",
        "0.0.0",
        "0.0.1",
        "0.2.3",
        "1.2.3",
        "1.0.0",
        "2.0.0",
    ]
    tails = ["", "", "", "-0", "-rc.1", "-beta.2", "+b"]

    def one() -> str:
        return (
            chance.choice(operators) + chance.choice(["", "", " ", "v"]) + chance.choice(bounds) + chance.choice(tails)
        )

    joined = [
        "".join([one(), *(chance.choice([" ", ", ", " || ", "||", ","]) + one() for _ in range(chance.randint(0, 2)))])
        for _ in range(600)
    ]
    return list(dict.fromkeys([*HAND_WRITTEN, *joined]))


def answers() -> list[dict[str, Any]]:
    """Ask the library."""
    binary = build.find("semver")
    if binary is None:
        raise SystemExit(build.how_to_get("semver"))
    lines = "".join(json.dumps({"range": text, "versions": VERSIONS}) + "\n" for text in ranges())
    done = subprocess.run([str(binary)], input=lines, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def document() -> str:
    """The fixture's text."""
    cases = [
        [text, int(answer["matches"], 2) if answer["ok"] else None]
        for text, answer in zip(ranges(), answers(), strict=True)
    ]
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    return '{"versions": ' + json.dumps(VERSIONS) + ',\n "cases": [\n' + lines + "\n ]}\n"


if __name__ == "__main__":
    FILE.write_text(document())
