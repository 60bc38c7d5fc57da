"""Measures what a follower and PostgreSQL cost payments on the same cores and the same disk."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import psutil

from bench.cluster import Cluster, ClusterFailed
from bench.past import PARTITIONS, Past
from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.history.sink import SINK

ALONE: Final = "alone"
#: What runs beside the payments, in the order of its cost.
NEIGHBOURS: Final[Mapping[str, str]] = {
    ALONE: "the follower and PostgreSQL are stopped",
    "feed": "a reader reads the journal's feed over and over, 10 MiB/s, and ignores it",
    "keeps up": "the follower writes the new payments",
    "catches up": "the follower writes the whole history again, from the first entry on",
}
#: Maximum time until a follower that was stopped writes again.
BEGUN_S_MAX: Final = 60.0
_POLL_S: Final = 0.1

_EMPTY: Final = (
    "TRUNCATE postings, transfers, groups, holds, accounts, group_parts, early_credits, early_legs",
    f"UPDATE positions SET seq = 0, nonce = '{ZERO_NONCE}', at = 'epoch' WHERE sink = '{SINK}'",
)
_ENTRIES: Final = f"SELECT sum(seq)::bigint FROM positions WHERE sink = '{SINK}'"


class Beside:
    """The follower and PostgreSQL of a cluster, and a reader of its feed. Each runs only when it is measured."""

    def __init__(self, cluster: Cluster, past: Past, *, apart: bool = False) -> None:
        """`apart`: they run on one half of the cores; payments and the load generator run on the other half."""
        self._cluster = cluster
        self._past = past
        cores = sorted(os.sched_getaffinity(0))
        self._cores = set(cores)
        if apart:
            self._cores = set(cores[len(cores) // 2 :])
            _confine(psutil.Process(), self._cores.symmetric_difference(cores))
            for process in self._processes():
                _confine(process, self._cores)

    @asynccontextmanager
    async def working(self, neighbour: str) -> AsyncIterator[Callable[[], Any]]:
        """In the block only this neighbour runs. Gives a coroutine function that returns the entries it has taken."""
        if neighbour == "feed":
            with self._reader():
                yield self._none
        elif neighbour == ALONE:
            yield self._none
        else:
            self._signal(signal.SIGCONT)
            try:
                await (self._past.caught_up() if neighbour == "keeps up" else self._set_back())
                yield self._entries
            finally:
                self.rest()

    def rest(self) -> None:
        """Stop the follower and PostgreSQL with SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let them continue, so that they can be ended in order."""
        self._signal(signal.SIGCONT)

    async def _none(self) -> int:
        return 0

    async def _entries(self) -> int:
        return int(await self._past.ask(lambda c: c.fetchval(_ENTRIES)))

    async def left(self) -> int:
        """The number of entries that the follower has not written yet."""
        ends = await asyncio.to_thread(self._past.ends)
        return sum(ends.values()) - await self._entries()

    async def _set_back(self) -> None:
        """Empty the history, so that the follower writes everything again. Returns when it has begun to."""

        async def empty(connection: Any) -> None:
            async with connection.transaction():
                for statement in _EMPTY[::-1]:
                    await connection.execute(statement)

        await self._past.ask(empty)
        async with asyncio.timeout(BEGUN_S_MAX):
            while not await self._entries():
                await asyncio.sleep(_POLL_S)

    def _signal(self, number: int) -> None:
        """Send a signal to the follower and to all processes of PostgreSQL."""
        for process in self._processes():
            for each in (process, *process.children(recursive=True)):
                with suppress(ProcessLookupError, psutil.NoSuchProcess):
                    os.kill(each.pid, number)

    def _processes(self) -> Iterator[psutil.Process]:
        for process in self._cluster.state.processes:
            if process.role in ("follower", "database"):
                yield psutil.Process(process.pid)

    def _reader(self) -> "_Reader":
        return _Reader([*self._cluster.directory_flags, "--partitions", str(PARTITIONS)], self._cores)


def _confine(process: psutil.Process, cores: set[int]) -> None:
    """Restrict a process and its children to these cores: all their threads, and processes that they start later."""
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            for thread in each.threads():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread.id, cores)


class _Reader:
    """A process that reads the feed, as a context manager."""

    def __init__(self, words: list[str], cores: set[int]) -> None:
        self._words = words
        self._cores = cores

    def __enter__(self) -> None:
        argv = [sys.executable, "-m", "bench.reading", *self._words]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
        _confine(psutil.Process(self._process.pid), self._cores)
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise ClusterFailed("the reader of the feed has ended")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
