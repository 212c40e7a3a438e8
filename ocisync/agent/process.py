"""The process: signals, a watchdog, and one agent after the other.

An agent ends by a signal, by a defect or a lost lease (its orchestrator starts the process again), or because etcd was
restored from a backup under it: then the next one begins in the same process, as after a restart. Nobody has to do
anything for that, and a process that nobody would start again goes on, too.
"""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable
from types import FrameType

from ocisync.agent.heap import few_arenas
from ocisync.agent.run import DRAIN_S, Agent, Options, Survivors
from ocisync.cluster.client import Cluster
from ocisync.flows.localcopy import LocalCopies
from ocisync.kit.log import logger
from ocisync.kit.stop import StopToken

_LOG = logger("agent")


class Process:
    """One agent after the other.

    Args:
        connect: makes the connections of one `Agent`: of its own, and for its lease.
        options: the same for all.
        alone: whether the process may be killed when an agent does not drain in time: it does nothing else.
    """

    def __init__(
        self, connect: Callable[[], tuple[Cluster, Cluster | None]], options: Options, *, alone: bool = False
    ) -> None:
        self._alone = alone
        self._connect = connect
        self._options = options
        self._survivors = Survivors(LocalCopies(options.cache_dir))
        self._ended = StopToken()
        self._life = StopToken()

    def stop(self) -> None:
        """End the present agent, and begin no other one."""
        self._ended.stop()
        self._life.stop()

    def run(self) -> int:
        """Run until stopped; the exit code of the process."""
        while True:
            self._life, over = StopToken(), StopToken()
            if self._ended.stopped:
                return 0
            cluster, lease_cluster = self._connect()
            agent = Agent(cluster, self._options, self._life, lease_cluster, self._survivors)
            if self._alone:
                threading.Thread(target=_watchdog, args=(self._life, over), name="watchdog", daemon=True).start()
            code = agent.run()
            over.stop()
            for connection in filter(None, (cluster, lease_cluster)):
                connection.close()
            if code or not agent.restored:
                return code


def run(connect: Callable[[], tuple[Cluster, Cluster | None]], options: Options) -> int:
    """Run until SIGTERM or SIGINT; the exit code of the process. Arguments as for `Process`."""
    few_arenas()
    process = Process(connect, options, alone=True)
    on_end_asked(process.stop)
    return process.run()


def on_end_asked(stop: Callable[[], None]) -> None:
    """Let SIGTERM and SIGINT call `stop`, on a thread of its own.

    Python runs handlers on the main thread between any two of its steps, also while it holds the lock of what it waits
    for: `stop` would wait for that lock, and so for itself.
    """

    def handler(number: int, frame: FrameType | None) -> None:
        _thread.start_new_thread(stop, ())  # takes no lock of Python's own, as `threading.Thread.start` does

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _watchdog(stop: StopToken, ended: StopToken) -> None:
    """End the process when it did not drain in time: a stuck request must not outlast the orchestrator's patience."""
    while not stop.wait(3600.0):
        pass
    if ended.wait(DRAIN_S):
        return
    _LOG.error("did not drain in time", seconds=DRAIN_S)
    signal.raise_signal(signal.SIGKILL)
