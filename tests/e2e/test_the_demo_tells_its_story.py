"""`ocisync demo`, as the quickstart runs it: every step checks itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def test_the_demo_shows_every_step_and_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ocisync", "demo"], capture_output=True, text=True, check=False, timeout=800, cwd=TOP
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "modified outside GitOps" in done.stdout
    assert "spec.replicas 4 → 10 by kubectl (scale)" in done.stdout
    assert "4, from Git: " in done.stdout and "signed by" in done.stdout  # what `ocisync why` says of it
    for reason in ("Unsigned", "UnknownSigner"):
        assert f"Verified=False {reason}" in done.stdout
    assert done.stdout.count("✓") == 11  # set-up, nine steps, the end


def test_the_quickstart_is_a_valid_script() -> None:
    script = TOP / "examples" / "quickstart.sh"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=30)
