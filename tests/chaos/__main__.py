"""`python -m tests.chaos [--seeds N] [--first N] [--seed N…]`: play schedules; exit 1 if one of them ends badly.

Needs the real servers (`python tests/servers/build.py`). A seed that ends badly leaves its files in `--keep DIRECTORY`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.chaos.schedule import draw
from tests.chaos.stage import Scene
from tests.support import requirements
from tests.support.agent import Installation
from tests.support.controlplane import ControlPlane, Programs
from tests.support.registries import Distribution


def main() -> int:
    """Play, and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, nargs="+", help="only these; a single one is told step by step")
    parser.add_argument("--keep", type=Path, help="where the files of a bad end stay")
    asked = parser.parse_args()
    seeds = asked.seed or range(asked.first, asked.first + asked.seeds)
    directory = Path(tempfile.mkdtemp(prefix="ocisync-chaos-"))
    programs = replace(Programs.find(), scheduler=None)  # no pod of these schedules ever runs
    plane = ControlPlane(programs, directory / "control-plane")
    registry = Distribution(requirements.require("distribution"), directory / "registry")
    bad: list[int] = []
    try:
        plane.start()
        registry.start()
        played = directory / "played"
        scene = Scene(plane, Installation(plane, directory / "installation"), registry.host, played)
        if len(seeds) == 1:
            scene.tell = lambda line: print(line, flush=True)
        for seed in seeds:
            schedule, started = draw(seed), time.monotonic()
            try:
                scene.play(schedule)
                print(f"seed {seed}: well, {time.monotonic() - started:.1f} s: {schedule}", flush=True)
            except AssertionError as error:
                bad.append(seed)
                print(f"seed {seed}: BADLY, {time.monotonic() - started:.1f} s\n{error}", flush=True)
    finally:
        registry.stop()
        plane.stop()
        if bad and asked.keep:
            shutil.copytree(directory / "played", asked.keep, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{len(seeds)} schedules, {len(bad)} ended badly{': ' if bad else ''}{' '.join(map(str, bad))}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
