"""G5, G6, G9: one process is killed, or one node emptied, under traffic. Nothing answered is lost or contradicted.

Faults strike the shared cluster without replicas, each with accounts of its own: a shard that loses its memory is
filled from the journal. Each test prints how long the fault was felt.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable

import pytest
from support.dev_process import DevCluster
from support.http_client import HttpClient
from support.pulse import PulsedBooks
from support.redis_peek import node_of
from support.replicated import kill, supervisor_sleeps
from support.stopped import stopped
from support.traffic import Payment, ask_batch, balances_cents, callers, finish, open_and_fund, until_answered
from support.under_fault import PAUSE_S
from support.verification import verified

from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.slots import partition_of

PARTITIONS = 16
FUNDED_CENTS = 100_000
CALLERS = 24
WARM_S, AFTER_S = 0.7, 0.7
#: Partition of the node that is killed or emptied.
STRUCK = 3
#: The longest time without any success that a test accepts; on 2 shared cores.
GAP_S_MAX = 20.0

Fault = Callable[[DevCluster], Awaitable[None]]


async def kill_redis(cluster: DevCluster) -> None:
    """A primary without replicas: its memory is gone."""
    await asyncio.to_thread(cluster.restart, node_of(cluster, STRUCK, PARTITIONS)["name"])


async def flush_redis(cluster: DevCluster) -> None:
    """The node goes on with its scripts and without its data: nothing tells the services."""
    client = connect(node_of(cluster, STRUCK, PARTITIONS)["address"])
    try:
        client.flushall()
    finally:
        client.close()


async def flush_unjournaled(cluster: DevCluster) -> None:
    """The journal hangs for a moment, so that Redis certainly loses entries that are not on disk."""
    journal = cluster.living("journal")
    with stopped(journal):
        await asyncio.sleep(0.3)
        await flush_redis(cluster)


async def kill_journal(cluster: DevCluster) -> None:
    await asyncio.to_thread(cluster.restart, "journal")


async def kill_api(cluster: DevCluster) -> None:
    await asyncio.to_thread(cluster.restart, "api")


async def kill_zookeeper(cluster: DevCluster) -> None:
    """It is dead for 3 s; the supervisor, which would restart it, is stopped meanwhile."""
    zookeeper = cluster.living("zookeeper")
    with supervisor_sleeps(cluster):
        kill(zookeeper)
        await asyncio.sleep(3.0)
    await asyncio.to_thread(cluster.wait_replaced, zookeeper["pid"])


def everybody(payment: Payment) -> bool:
    return True


def struck(payment: Payment) -> bool:
    """Whether the payment needs the shard of `STRUCK`, which has the first partitions."""
    sides = (payment.from_account, payment.to_account)
    return any(partition_of(side, PARTITIONS) <= STRUCK for side in sides)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("fault", "concerned"),
    [
        (kill_redis, struck),
        pytest.param(flush_redis, struck, marks=pytest.mark.soak),
        (flush_unjournaled, struck),
        (kill_journal, everybody),
        (kill_api, everybody),
        (kill_zookeeper, everybody),
    ],
    ids=["kill-redis", "flushall", "flushall-unjournaled", "kill-journal", "kill-api", "kill-zookeeper"],
)
def test_g9_one_fault_under_traffic(
    cluster: DevCluster, fault: Fault, concerned: Callable[[Payment], bool]
) -> None:
    """G9, and G5, G6 where Redis lost its memory: answers and flags stay, balances equal the books, verify is ok."""
    seed, run = random.randrange(1 << 32), secrets.token_hex(3)
    print(f"seed={seed}")
    accounts = [f"{run}-{number:03d}" for number in range(60)]
    books = PulsedBooks(accounts, FUNDED_CENTS, random.Random(seed), concerned=concerned)
    struck_at = asyncio.run(_run(cluster, books, fault))
    print(books.report(fault.__name__, struck_at))
    assert verified(cluster)["in_transit"]["USD"] == "0.00"
    if fault is kill_zookeeper:
        assert not books.outages_s, "payments go on without ZooKeeper"


async def flagged_accounts(http: HttpClient, url: str) -> dict[str, bytes]:
    """New accounts in the struck partitions, frozen, closed and with an overdraft limit; as the API shows them."""
    shown = {}
    run = secrets.token_hex(3)
    names = [
        name for name in (f"f-{run}-{n}" for n in range(200)) if partition_of(name, PARTITIONS) <= STRUCK
    ]
    for name, action in zip(names, ("freeze", "close", None), strict=False):
        body = {"account_id": name, "currency": "EUR", "overdraft_limit": "7.00"}
        assert (await http.post(f"{url}/v1/accounts", body)).status == 201
        if action is not None:
            assert (await http.post(f"{url}/v1/accounts/{name}/{action}")).status == 200
        shown[name] = (await http.get(f"{url}/v1/accounts/{name}")).body
    return shown


async def _run(cluster: DevCluster, books: PulsedBooks, fault: Fault) -> float:
    async with HttpClient() as http:
        await open_and_fund(http, cluster.url, books.accounts, FUNDED_CENTS)
        flagged = await flagged_accounts(http, cluster.url)
        stop = asyncio.Event()
        traffic = asyncio.create_task(
            callers(http, cluster.urls, books, count=CALLERS, stop=stop, pause_s=PAUSE_S)
        )
        try:
            answered_before = await until_answered(books, count=100, after_s=WARM_S)
            struck_at = time.monotonic()
            await fault(cluster)
            deadline = struck_at + GAP_S_MAX
            while not books.concerned_successes_s or books.concerned_successes_s[-1] < time.monotonic() - 0.2:
                assert time.monotonic() < deadline, "no success since the fault"
                await asyncio.sleep(0.05)
            await asyncio.sleep(AFTER_S)
        finally:
            stop.set()
            await traffic
    async with HttpClient() as http:
        # A repeat gets the same answer as before: a different one raises `Contradiction`.
        for start in range(0, len(answered_before), 200):
            await ask_batch(http, cluster.url, books, answered_before[start : start + 200])
        await finish(http, cluster.url, books)
        assert await balances_cents(http, cluster.url, books.accounts) == books.expected_cents()
        for name, shown in flagged.items():
            assert (await http.get(f"{cluster.url}/v1/accounts/{name}")).body == shown
    return struck_at
