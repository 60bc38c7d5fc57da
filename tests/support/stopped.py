"""Processes of a test's cluster that stand still for a while: alive, and answering nothing."""

import contextlib
import os
import signal
from collections.abc import Iterator

from support.dev_process import DevCluster
from support.replicated import Process


@contextlib.contextmanager
def stopped(process: Process) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end."""
    os.kill(process["pid"], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process["pid"], signal.SIGCONT)


@contextlib.contextmanager
def stopped_shard(cluster: DevCluster, name: str) -> Iterator[None]:
    """Every node of the shard."""
    with contextlib.ExitStack() as stack:
        for process in cluster.processes("redis"):
            if process["shard"] == name:
                stack.enter_context(stopped(process))
        yield
