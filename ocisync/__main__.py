"""Entry point of the `ocisync` command and of `python -m ocisync`.

`--version` is answered before the command-line library is imported: scripts call it often, and it costs 15 ms so.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

# A command makes many objects that live to its end, and hardly any cycles: looking for those after each 700 new
# objects is a twentieth of its processor time. The agent runs for days and keeps the defaults.
_GC_OBJECTS = 50_000

_AGAIN_S = 0.01  # until the interruption that a destructor swallowed is repeated; swallowed again, repeated again
_INTERRUPTED = 130  # `ExitCode.INTERRUPTED`, without an import that takes longer than a hasty Ctrl-C


def _end_at_once_with(code: int, words: bytes = b"") -> None:
    """Let SIGINT and SIGTERM end the process with `code`. What a parent told it to ignore (`nohup`, `&`) stays so."""
    import contextlib
    import os
    import signal

    def end(signum: int, frame: object) -> None:
        if words:
            with contextlib.suppress(OSError):
                os.write(2, words)
        os._exit(code)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def _interrupt_again(lost: UnraisableHookArgs) -> None:
    """Interrupt once more when an interruption fell into a destructor, where Python drops it.

    Letting a connection pool go runs Python code, so a Ctrl-C at that moment would end nothing. The second one comes
    from another thread, a moment later: raised here, it would be dropped as well.
    """
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    import signal
    import threading

    # A real signal, to the main thread: it ends a wait for a lock, too.
    threading.Timer(_AGAIN_S, signal.pthread_kill, (threading.main_thread().ident, signal.SIGTERM)).start()


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:] in (["--version"], ["version"]):
        from ocisync import __version__

        sys.stdout.write(f"ocisync {__version__}\n")
        return
    # Until `run` takes signals, nothing was done that would need an ordered end: one line and the code, no traceback.
    _end_at_once_with(_INTERRUPTED, b"interrupted\n")
    if sys.argv[1:2] != ["agent"]:
        gc.set_threshold(_GC_OBJECTS, *gc.get_threshold()[1:])
    import signal

    from ocisync.cli.app import run

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.unraisablehook = _interrupt_again
    code = run(sys.argv[1:])
    # All is said: a late signal spares the rest of Python's end, and changes neither the answer nor the code.
    _end_at_once_with(code)
    if code == _INTERRUPTED:
        # Python's end would wait for threads that wait for a registry, before it ends programs and removes files.
        import atexit

        atexit._run_exitfuncs()
        signal.raise_signal(signal.SIGTERM)
    sys.exit(code)


if __name__ == "__main__":
    main()
