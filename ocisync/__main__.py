"""Entry point of the `ocisync` command and of `python -m ocisync`.

`--version` is answered before the command-line library is imported: scripts call it often, and it costs 15 ms so.
"""

from __future__ import annotations

import gc
import sys

# A command makes many objects that live to its end, and hardly any cycles: looking for those after each 700 new
# objects is a twentieth of its processor time. The agent runs for days and keeps the defaults.
_GC_OBJECTS = 50_000


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:] in (["--version"], ["version"]):
        from ocisync import __version__

        sys.stdout.write(f"ocisync {__version__}\n")
        return
    if sys.argv[1:2] != ["agent"]:
        gc.set_threshold(_GC_OBJECTS, *gc.get_threshold()[1:])
    from ocisync.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
