"""Entry point of the `ocisync` command and of `python -m ocisync`.

`--version` is answered before the command-line library is imported: scripts call it often, and it costs 15 ms so.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:] in (["--version"], ["version"]):
        from ocisync import __version__

        sys.stdout.write(f"ocisync {__version__}\n")
        return
    from ocisync.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
