"""Runs a command that the kernel kills when the process that started it is gone.

    python -I -S leash.py PARENT_PID COMMAND [ARGUMENT…]

Done in a process of its own, before the command replaces it: running Python code between fork and
exec of a test runner with threads can deadlock.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ties this process to its parent and becomes the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent was gone before the command started")
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
