"""Runs one command and writes what it cost to a file, as JSON.

    python -I -S timed.py RESULT_FILE COMMAND [ARGUMENT…]

A process of its own, because the peak memory that Linux reports for a child is at least that of the process
that started it: a test runner with its libraries would hide what a small command needs.
"""

import json
import os
import sys
import time


def main() -> None:
    """Starts the command, waits for it, and ends with its exit code."""
    started = time.monotonic()
    child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
    _, status, usage = os.wait4(child, 0)
    seconds = time.monotonic() - started
    with open(sys.argv[1], "w", encoding="ascii") as result:  # noqa: PTH123 - pathlib costs more than this program
        json.dump(
            {"seconds": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_rss_mib": usage.ru_maxrss / 1024},
            result,
        )
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
