"""Callers that pay in a thread of their own while a test does something to the cluster, and the books afterwards."""

import asyncio
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

from support.dev_process import DevCluster
from support.http_client import HttpClient
from support.traffic import RETRYABLE, Books, balances_cents, callers, finish, open_and_fund

from wallet_engine.routing.directory import Directory, open_directory

ACCOUNTS = 80
#: A caller's pause after each request: enough traffic for every race, and CPU left for what is tested.
PAUSE_S = 0.1
#: The same for payments that go on through all tests of a module: `verify` folds every one of them.
THROUGHOUT_S = 0.2
FUNDED_CENTS = 100_000


class Paying:
    """New accounts that pay each other; the seed is printed."""

    def __init__(self, cluster: DevCluster, callers_count: int = 16, pause_s: float = PAUSE_S) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        self.cluster = cluster
        self.callers_count = callers_count
        self.pause_s = pause_s
        self.accounts = [f"{seed:x}-{number:03d}" for number in range(ACCOUNTS)]
        self.books = Books(self.accounts, FUNDED_CENTS, random.Random(seed))
        self.balances: dict[str, int] = {}

    @contextmanager
    def running(self) -> Iterator[Books]:
        """Requests are made inside; at the end each payment has its answer."""
        stopping, started = threading.Event(), threading.Event()
        with ThreadPoolExecutor(1) as thread:
            paid = thread.submit(lambda: asyncio.run(self._run(stopping, started)))
            try:
                assert started.wait(60), "no account could be funded"
                yield self.books
            finally:
                stopping.set()
        paid.result()

    async def _run(self, stopping: threading.Event, started: threading.Event) -> None:
        async with HttpClient() as http:
            await open_and_fund(http, self.cluster.url, self.accounts, FUNDED_CENTS)
            started.set()
            stop = asyncio.Event()
            paying = asyncio.create_task(
                callers(
                    http,
                    self.cluster.urls,
                    self.books,
                    count=self.callers_count,
                    stop=stop,
                    pause_s=self.pause_s,
                )
            )
            await asyncio.to_thread(stopping.wait)
            stop.set()
            await paying
            await finish(http, self.cluster.url, self.books)
            self.balances = await balances_cents(http, self.cluster.url, self.accounts)

    def failed(self) -> int:
        """Requests that got no final answer."""
        return sum(self.books.answers[code] for code in RETRYABLE) + self.books.lost

    def check(self, failed_max: int | None = None) -> None:
        """Every balance is what was answered; no more requests failed than given."""
        answers = self.books.answers
        assert answers["success"] > 100, answers
        assert failed_max is None or self.failed() <= failed_max, answers
        assert self.balances == self.books.expected_cents()


@contextmanager
def cluster_directory(cluster: DevCluster) -> Iterator[Directory]:
    """The directory in the cluster's ZooKeeper."""
    with closing(open_directory(cluster.state()["zookeeper"], None)) as directory:
        yield directory
