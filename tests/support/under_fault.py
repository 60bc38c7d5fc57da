"""Traffic, a fault in the middle of it, and the check of all balances afterwards."""

import asyncio
import random
import secrets
import time
from collections.abc import Callable

from support.dev_process import DevCluster
from support.http_client import HttpClient
from support.pulse import PulsedBooks, longest_gap_s
from support.traffic import Payment, ask_batch, balances_cents, callers, finish, open_and_fund, until_answered
from support.verification import verified

from wallet_engine.routing.slots import partition_of

FUNDED_CENTS = 100_000
#: The longest time without any success that a test accepts; on 2 shared cores.
GAP_S_MAX = 30.0
#: A caller's pause after each request; far below any gap that tests measure.
PAUSE_S = 0.05


class UnderFault:
    """Two groups of callers: `mixed` pay each other across all shards, `spared` only within the shards not struck.

    Every answer is kept; `check` compares them with the balances.
    """

    def __init__(self, cluster: DevCluster, partitions: int, struck: frozenset[int]) -> None:
        """`struck` are the partitions that the fault concerns."""
        self.cluster = cluster
        seed, run = random.randrange(1 << 32), secrets.token_hex(3)
        print(f"seed={seed}")

        def concerned(payment: Payment) -> bool:
            return any(
                partition_of(side, partitions) in struck
                for side in (payment.from_account, payment.to_account)
            )

        names = [f"{run}-{number:03d}" for number in range(120)]
        away = [name for name in names if partition_of(name, partitions) not in struck]
        self.mixed = PulsedBooks(names[:60], FUNDED_CENTS, random.Random(seed), concerned=concerned)
        self.spared = PulsedBooks(
            [name for name in away if name not in names[:60]], FUNDED_CENTS, random.Random(seed + 1)
        )
        self.struck_at = 0.0

    def run(
        self,
        fault: Callable[[], None],
        *,
        mixed: int = 20,
        spared: int = 6,
        warm_s: float = 0.5,
        after_s: float = 0.7,
    ) -> None:
        """Run `fault` in a thread while callers pay; they go on until the struck shard pays again, and a bit longer."""
        asyncio.run(self._run(fault, mixed, spared, warm_s, after_s))

    async def _run(
        self, fault: Callable[[], None], mixed: int, spared: int, warm_s: float, after_s: float
    ) -> None:
        urls = self.cluster.urls
        async with HttpClient() as http:
            for books in (self.mixed, self.spared):
                await open_and_fund(http, urls[0], books.accounts, FUNDED_CENTS)
            stop = asyncio.Event()
            traffic = asyncio.gather(
                callers(http, urls, self.mixed, count=mixed, stop=stop, pause_s=PAUSE_S),
                callers(http, urls, self.spared, count=spared, stop=stop, pause_s=PAUSE_S),
            )
            try:
                before = await until_answered(self.mixed, count=50, after_s=warm_s)
                self.struck_at = time.monotonic()
                await asyncio.to_thread(fault)
                await self._paid_since(time.monotonic())
                await asyncio.sleep(after_s)
            finally:
                stop.set()
                await traffic
            # A repeat gets the same answer as before: a different one raises `Contradiction`.
            await ask_batch(http, urls[0], self.mixed, before[:2000])

    async def _paid_since(self, moment_s: float) -> None:
        """Return when the struck shard has paid after that moment."""
        deadline = time.monotonic() + GAP_S_MAX
        while not self.mixed.concerned_successes_s or self.mixed.concerned_successes_s[-1] < moment_s:
            assert time.monotonic() < deadline, "no success since the fault"
            await asyncio.sleep(0.05)

    def check(self, name: str) -> None:
        """Every payment gets its answer, the books agree, nothing is in transit, `verify` is ok. Prints a line."""
        asyncio.run(self._finish())
        assert float(verified(self.cluster)["in_transit"].get("USD", "0")) == 0
        print(self.mixed.report(name, self.struck_at))
        print(f"  the other shards: longest gap {self.spared_gap_s:.1f} s, {dict(self.spared.answers)}")

    async def _finish(self) -> None:
        async with HttpClient() as http:
            for books in (self.mixed, self.spared):
                await finish(http, self.cluster.urls[0], books)
                found = await balances_cents(http, self.cluster.urls[0], books.accounts)
                assert found == books.expected_cents()

    @property
    def spared_gap_s(self) -> float:
        """The longest time without a success among payments that need no struck partition."""
        return longest_gap_s(self.spared.successes_s, self.struck_at)

    @property
    def pause_s(self) -> float:
        """The same among payments that need one."""
        return longest_gap_s(self.mixed.concerned_successes_s, self.struck_at)
