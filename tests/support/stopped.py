"""Processes of a test's cluster that are stopped for a while, alive and without answers, or that refuse a command."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

from support.dev_process import DevCluster
from support.replicated import Process, command


@contextlib.contextmanager
def stopped(*processes: Process) -> Iterator[Callable[[], None]]:
    """SIGSTOP, and SIGCONT at the end, or when the yielded function is called. A process may be dead by then."""

    def go_on() -> None:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process["pid"]), signal.SIGCONT)

    try:
        for process in processes:
            os.kill(int(process["pid"]), signal.SIGSTOP)
        yield go_on
    finally:
        go_on()


@contextlib.contextmanager
def stopped_shard(cluster: DevCluster, name: str) -> Iterator[None]:
    """Every node of the shard."""
    with stopped(*(process for process in cluster.processes("redis") if process["shard"] == name)):
        yield


@contextlib.contextmanager
def trimming_refused(node: Process) -> Iterator[None]:
    """Redis does not run XTRIM meanwhile, so the stream of each of its partitions grows with what is paid."""
    command(node, "ACL", "SETUSER", "default", "-xtrim", "-xdel")
    try:
        yield
    finally:
        command(node, "ACL", "SETUSER", "default", "+xtrim", "+xdel")
