"""The process: signals, a watchdog, and one agent after the other.

An agent ends by a signal, by a defect or a lost lease (its orchestrator starts the process again), or because etcd was
restored from a backup under it: then the next one begins in the same process, as after a restart. Nobody has to do
anything for that, and a process that nobody would start again goes on, too.
"""

from __future__ import annotations

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


def run(connect: Callable[[], tuple[Cluster, Cluster | None]], options: Options) -> int:
    """Run an agent until SIGTERM or SIGINT, and another one whenever the cluster went back in time.

    Args:
        connect: makes the connections of one `Agent`: of its own, and for its lease.
        options: the same for all.

    Returns:
        The exit code of the process.
    """
    few_arenas()
    signalled, life = StopToken(), StopToken()

    def on_signal(number: int, frame: FrameType | None) -> None:
        signalled.stop()
        life.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    survivors = Survivors(LocalCopies(options.cache_dir))
    while True:
        life, ended = StopToken(), StopToken()
        if signalled.stopped:
            return 0
        cluster, lease_cluster = connect()
        agent = Agent(cluster, options, life, lease_cluster, survivors)
        threading.Thread(target=_watchdog, args=(life, ended), name="watchdog", daemon=True).start()
        code = agent.run()
        ended.stop()
        if code or not agent.restored:
            return code
        for connection in filter(None, (cluster, lease_cluster)):
            connection.close()


def _watchdog(stop: StopToken, ended: StopToken) -> None:
    """End the process when it did not drain in time: a stuck request must not outlast the orchestrator's patience."""
    while not stop.wait(3600.0):
        pass
    if ended.wait(DRAIN_S):
        return
    _LOG.error("did not drain in time", seconds=DRAIN_S)
    signal.raise_signal(signal.SIGKILL)
