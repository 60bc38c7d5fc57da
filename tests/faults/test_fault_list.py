"""G1 to G9 under faults drawn from a seed: after each round every answer is accounted for, interrupted transfers have
ended by themselves, and `verify` is ok.

    SOAK_SECONDS=1800 SOAK_SEED=7 pytest -m soak tests/faults/test_fault_list.py -s
"""

import asyncio
import os
import random
import secrets
import threading
import time
from collections import Counter
from typing import Final

import pytest
from support.clocks import Clocks
from support.dev_process import DevCluster, admin_login, run_admin
from support.fault_list import FaultList
from support.http_client import HttpClient, NoReply
from support.other_traffic import OtherCallers
from support.pulse import PulsedBooks, longest_gap_s
from support.replicated import WAIT_S_MAX
from support.stopped import stopped
from support.traffic import ask_batch, balances_cents, callers, finish, open_and_fund
from support.verification import verified

from wallet_engine.redis_store import login
from wallet_engine.routing import zookeeper_tls

PARTITIONS: Final = 16
SHARDS: Final = 3
FUNDED_CENTS: Final = 1_000_000
CALLERS: Final = 12
#: Callers that make groups, holds and refunds at the same time.
OTHER_CALLERS: Final = 6
#: Answers asked for again after each round.
AGAIN_MAX: Final = 2_000
#: Many, because the reckoning after a round takes longer as the journal grows.
FAULTS_PER_ROUND: Final = 16
#: To retry, 200 per call, the transfers that were refused while shards were away: some 100,000 in a long round.
FINISH_S_MAX: Final = 300.0
#: Journal bytes between snapshots, so that most rebuilds of a long run begin with a snapshot.
SNAPSHOT_BYTES: Final = 16 << 20
#: Small enough that streams are full when a journal process or a shard has been stopped for a while.
STREAM_ENTRIES_MAX: Final = 256
#: From the last fault of a round until everything serves again, including the replay of a long journal.
CALM_S_MAX: Final = 120.0
#: Longer than `wallet-admin` waits for ZooKeeper.
ZOOKEEPER_AWAY_S: Final = 20.0


class Soak:
    """Rounds of faults under traffic, each followed by a reckoning."""

    def __init__(self, cluster: DevCluster, seed: int, *, long: bool, clocks: Clocks | None = None) -> None:
        self.cluster = cluster
        self.rng = random.Random(seed)
        run = secrets.token_hex(3)
        accounts = [f"{run}-{number:03d}" for number in range(90)]
        self.books = PulsedBooks(accounts, FUNDED_CENTS, random.Random(seed + 1))
        others = [f"{run}-other-{number:02d}" for number in range(40)]
        self.others = OtherCallers(cluster.urls, others, FUNDED_CENTS, random.Random(seed + 2))
        self.faults = FaultList(cluster, SHARDS, PARTITIONS, self.rng, long=long, clocks=clocks)
        self.checked = 0
        self.calm_at_s: list[float] = []

    async def start(self) -> None:
        async with HttpClient() as http:
            await open_and_fund(http, self.cluster.url, self.books.accounts, FUNDED_CENTS)
        await self.others.open()

    async def round(self, faults: int, gap_s: tuple[float, float], pause_s: float) -> None:
        """`faults` faults under traffic, with pauses drawn from `gap_s`, and then the reckoning."""
        async with HttpClient() as http:
            stop = asyncio.Event()
            traffic = asyncio.create_task(
                callers(http, self.cluster.urls, self.books, count=CALLERS, stop=stop, pause_s=pause_s)
            )
            other = asyncio.create_task(self.others.run(stop, OTHER_CALLERS, pause_s))
            try:
                await asyncio.sleep(0.5)
                for _ in range(faults):
                    print(f"  {await asyncio.to_thread(self.faults.strike)}", flush=True)
                    await asyncio.sleep(self.rng.uniform(*gap_s))
                    assert not traffic.done() or traffic.result()
                    assert not other.done() or other.result()
                await asyncio.to_thread(self.faults.calm)
                await self._serving(http)
            finally:
                self.calm_at_s.append(time.monotonic())
                stop.set()
                await asyncio.gather(traffic, other)
        await self._reckon()

    async def _serving(self, http: HttpClient) -> None:
        """Return when both API processes take transfers of every partition."""
        deadline = time.monotonic() + CALM_S_MAX
        for url in self.cluster.urls:
            while True:
                said = "no answer"
                try:
                    reply = await http.get(f"{url}/readyz")
                    if reply.json()["status"] == "ready":
                        break
                    said = str(reply.body)
                except NoReply:
                    pass
                assert time.monotonic() < deadline, f"{url} does not serve: {said}"
                await asyncio.sleep(0.1)

    async def _reckon(self) -> None:
        async with HttpClient(timeout_s=60.0) as http:
            await self._ends_by_itself(http)
            answered = self.books.answered
            again = self.rng.sample(answered, min(AGAIN_MAX, len(answered)))
            for start in range(0, len(again), 200):
                await ask_batch(http, self.cluster.url, self.books, again[start : start + 200])
            await finish(http, self.cluster.url, self.books, timeout_s=FINISH_S_MAX)
            found = await balances_cents(http, self.cluster.url, self.books.accounts)
            assert found == self.books.expected_cents()
        await self.others.finish(FINISH_S_MAX)
        await self.others.check()
        document = await asyncio.to_thread(verified, self.cluster, 600.0)
        self.checked = len(self.books.payments)
        others = len(self.others.wanted)
        print(
            f"  sound: {self.checked} transfers, {others} others, {document['entries']} entries", flush=True
        )

    async def _ends_by_itself(self, http: HttpClient) -> None:
        """G9: no money stays in transit, although no caller retries."""
        deadline = time.monotonic() + WAIT_S_MAX
        while True:
            reply = await http.get(f"{self.cluster.url}/v1/accounts/@transit")
            if reply.status == 200:
                balances = {one["currency"]: float(one["balance"]) for one in reply.json()["balances"]}
                if not any(balances.values()):
                    return
            assert time.monotonic() < deadline, f"money is on its way: {reply}"
            await asyncio.sleep(0.3)

    def report(self) -> str:
        """What was done and found, with the worst pause that followed each kind of fault."""
        faults = self.faults.injected
        kinds = Counter(fault.kind for fault in faults)
        marks = sorted([*(fault.at_s for fault in faults), *self.calm_at_s, time.monotonic()])
        ends = [next(at for at in marks if at > fault.at_s) for fault in faults]
        worst: dict[str, float] = {}
        for fault, until_s in zip(faults, ends, strict=True):
            times = [at for at in self.books.successes_s if fault.at_s <= at <= until_s]
            gap_s = longest_gap_s(times, fault.at_s) if times else until_s - fault.at_s
            worst[fault.kind] = max(worst.get(fault.kind, 0.0), gap_s)
        lines = [f"{n:4}  {worst[kind]:5.1f} s  {kind}" for kind, n in sorted(kinds.items())]
        return "\n".join(
            [
                f"{len(faults)} faults injected, {sum(self.faults.missed.values())} found nobody to strike; "
                f"{self.checked} transfers checked; answers {dict(self.books.answers)}",
                f"others: { ({' '.join(said): times for said, times in sorted(self.others.answers.items())}) }",
                "times, longest gap between successes until the next fault or the reckoning, kind",
                *lines,
            ]
        )


@pytest.mark.timeout(240)
def test_g9_a_few_faults_of_the_list(replicated: DevCluster) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    soak = Soak(replicated, seed, long=False)

    async def run() -> None:
        await soak.start()
        await soak.round(3, (0.2, 0.8), pause_s=0.02)

    asyncio.run(run())
    print(soak.report())


@pytest.mark.soak
def test_calm_is_not_before_zookeeper_answers(replicated: DevCluster) -> None:
    """ZooKeeper may take longer to start than a verb of `wallet-admin` waits for it."""
    faults = FaultList(replicated, SHARDS, PARTITIONS, random.Random(0), long=True)
    with stopped(replicated.living("zookeeper")) as go_on:
        later = threading.Timer(ZOOKEEPER_AWAY_S, go_on)
        later.start()
        faults.calm()
        later.join()
    assert run_admin(replicated, "moves")[0] == 0


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_soak(tmp_path_factory: pytest.TempPathFactory, closed: bool) -> None:
    """Runs for SOAK_SECONDS from SOAK_SEED, in rounds of about a minute. `closed` means `dev --auth`."""
    seconds = float(os.environ.get("SOAK_SECONDS", "1800"))
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"\nSOAK_SEED={seed} SOAK_SECONDS={seconds:.0f}", flush=True)
    path = tmp_path_factory.mktemp("soak") / "dev"
    flags = ("--snapshot-bytes", str(SNAPSHOT_BYTES), "--stream-entries-max", str(STREAM_ENTRIES_MAX))
    flags = (*flags, "--auth") if closed else flags
    nodes = [f"s{shard + 1}-{node}" for shard in range(SHARDS) for node in (1, 2)]
    clocks = Clocks(tmp_path_factory.mktemp("stepped"), (*nodes, "api-1", "api-2", "j1"))
    cluster = DevCluster(
        path, shards=SHARDS, replicas=1, partitions=PARTITIONS, apis=2, extra=flags, environ=clocks.environ
    )
    try:
        cluster.start()
        if closed:
            login.use(admin_login(cluster))
        soak = Soak(cluster, seed, long=True, clocks=clocks)
        asyncio.run(_soak(soak, seconds))
    finally:
        login.use(login.Login())
        zookeeper_tls.use(zookeeper_tls.ZooKeeperTls())
        cluster.kill_all()
    print(soak.report())


async def _soak(soak: Soak, seconds: float) -> None:
    began = time.monotonic()
    await soak.start()
    while (passed := time.monotonic() - began) < seconds:
        print(f"{passed:.0f} s, {soak.faults!r}", flush=True)
        try:
            await soak.round(FAULTS_PER_ROUND, (0.1, 7.0), pause_s=0.02)
        except BaseException:
            print(soak.report(), flush=True)
            raise
