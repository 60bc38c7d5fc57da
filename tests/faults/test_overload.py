"""G10: a journal or a Redis that hangs, ten times the callers, memory that runs out. Every queue has its limit; past
it callers get 503 with Retry-After, nothing is half done, and afterwards everything is as fast as before.
"""

import asyncio
import contextlib
import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dev_process import DevCluster
from support.http_client import HttpClient, Reply
from support.pulse import PulsedBooks
from support.redis_peek import open_debits_of
from support.replicated import Process, ReplicatedShard, command, wait_until
from support.stopped import stopped
from support.traffic import ask_batch, balances_cents, callers, finish, open_and_fund
from support.verification import verified
from support.wallet_api import WalletApi, check_problem, check_success, new_id, transfer_body

from wallet_engine.engine.headroom import MEMORY_SHARE_MAX, memory_share
from wallet_engine.routing.model import spread
from wallet_engine.routing.slots import tag_of

PARTITIONS = 16
FUNDED_CENTS = 1_000_000
FEW, MANY = 24, 240
#: How long the speed is measured before and after.
MEASURE_S = 1.5
#: The speed afterwards, as a share of that before; on 2 shared cores.
SPEED_SHARE_MIN = 0.35
#: What an API process may grow by while callers press: 100,000 transfers in flight are its limit.
GROWTH_BYTES_MAX = 500 * 1024 * 1024
SHARDS = ["s1", "s2", "s3"]
#: What transfers must add until new work is refused.
FILL_BYTES = 300_000
#: Makes the node so large that its headroom lasts for the second until a service looks at its memory.
BALLAST_BYTES = 40_000_000
BACKLOG_BYTES = 1_000_000


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def watched_memory(cluster: DevCluster) -> Iterator[None]:
    """Fails when an API process grows by more than `GROWTH_BYTES_MAX` meanwhile."""
    pids = cluster.pids("api")
    before = {pid: rss_bytes(pid) for pid in pids}
    most = dict(before)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            for pid in pids:
                most[pid] = max(most[pid], rss_bytes(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    grown = {pid: most[pid] - before[pid] for pid in pids}
    print(
        f"  API processes in MiB: {[n >> 20 for n in before.values()]}, most {[n >> 20 for n in most.values()]}"
    )
    assert max(grown.values()) < GROWTH_BYTES_MAX


class Pressed:
    """Callers before, during and after something that makes the cluster slow."""

    def __init__(self, cluster: DevCluster) -> None:
        self.cluster = cluster
        seed, run = random.randrange(1 << 32), secrets.token_hex(3)
        print(f"seed={seed}")
        self.books = PulsedBooks([f"{run}-{n:03d}" for n in range(60)], FUNDED_CENTS, random.Random(seed))

    def run(self, press: Callable[[HttpClient], Awaitable[None]]) -> None:
        with watched_memory(self.cluster):
            asyncio.run(self._run(press))
        assert float(verified(self.cluster)["in_transit"]["USD"]) == 0

    async def _run(self, press: Callable[[HttpClient], Awaitable[None]]) -> None:
        books, url = self.books, self.cluster.url
        async with HttpClient(timeout_s=60.0) as http:
            await open_and_fund(http, url, books.accounts, FUNDED_CENTS)
            before = await self._speed(http)
            answered = books.answered
            await press(http)
            await finish(http, url, books)
            after = await self._speed(http)
            print(f"  {before:.0f} transfers/s before, {after:.0f} after; {dict(books.answers)}")
            assert after > SPEED_SHARE_MIN * before
            await ask_batch(http, url, books, answered[:2000])
            await finish(http, url, books)
            assert await balances_cents(http, url, books.accounts) == books.expected_cents()

    async def _speed(self, http: HttpClient) -> float:
        successes = len(self.books.successes_s)
        await self.traffic(http, FEW, MEASURE_S)
        return (len(self.books.successes_s) - successes) / MEASURE_S

    async def traffic(self, http: HttpClient, count: int, seconds: float) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        await callers(http, self.cluster.urls, self.books, count=count, stop=stop)


def pulses(process: Process, seconds: float, stopped_s: float, every_s: float) -> None:
    """SIGSTOP again and again."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        os.kill(process["pid"], signal.SIGSTOP)
        time.sleep(stopped_s)
        os.kill(process["pid"], signal.SIGCONT)
        time.sleep(every_s - stopped_s)


@pytest.mark.soak
def test_g10_ten_times_the_callers_on_a_slow_redis_and_a_slow_journal(replicated: DevCluster) -> None:
    pressed = Pressed(replicated)
    primary = ReplicatedShard(replicated, "s2", PARTITIONS).primary()
    journal = replicated.living("journal")

    async def press(http: HttpClient) -> None:
        slow = [
            asyncio.to_thread(pulses, primary, 3.0, 0.4, 0.6),
            asyncio.to_thread(pulses, journal, 3.0, 0.3, 0.7),
        ]
        await asyncio.gather(pressed.traffic(http, MANY, 3.0), *slow)

    pressed.run(press)


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_g10_more_transfers_than_a_service_takes_while_the_journal_hangs(replicated: DevCluster) -> None:
    """30 s without a journal, longer than any caller waits; calls past the limit are refused at once."""
    pressed = Pressed(replicated)
    journal = replicated.living("journal")
    refused: list[Reply] = []

    async def flood(http: HttpClient) -> None:
        payments = [pressed.books.next_payment() for _ in range(5000)]
        body = {"transfers": [payment.body() for payment in payments]}
        reply = await http.post(f"{replicated.url}/v1/transfers/batch", body)
        if reply.status == 503:
            refused.append(reply)
        else:
            for payment, result in zip(payments, reply.json()["results"], strict=True):
                pressed.books.note(payment, "success" if result["status"] == "success" else result["code"])

    async def press(http: HttpClient) -> None:
        with stopped(journal):
            floods = [asyncio.create_task(flood(http)) for _ in range(30)]
            await asyncio.sleep(30)
        await asyncio.gather(*floods)

    pressed.run(press)
    assert refused
    for reply in refused:
        check_problem(reply, 503, "overloaded")


# Memory -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def memory_limit(shard: ReplicatedShard) -> Iterator[Callable[..., None]]:
    """`limit(share, more)` sets the primary's `maxmemory` so that it uses this share of it once it uses `more` bytes
    more. The end lifts the limit, and returns when every API process has noticed.
    """
    primary = shard.primary()
    partition = spread(PARTITIONS, SHARDS).partitions_of(shard.name)[0]
    ballast = f"ballast{{{tag_of(partition, PARTITIONS)}}}"
    command(primary, "SETRANGE", ballast, BALLAST_BYTES, "x")
    # The backlog counts as used memory and fills faster than the data do.
    backlog = command(primary, "CONFIG", "GET", "repl-backlog-size")[1]
    command(primary, "CONFIG", "SET", "repl-backlog-size", BACKLOG_BYTES)

    def limit(share: float, more: int = 0) -> None:
        info = command(primary, "INFO", "memory")
        used = int(info["used_memory"]) - int(info["mem_not_counted_for_evict"])
        command(primary, "CONFIG", "SET", "maxmemory", int((used + more) / share))

    try:
        yield limit
    finally:
        command(primary, "CONFIG", "SET", "maxmemory", 0)
        command(primary, "CONFIG", "SET", "repl-backlog-size", backlog)
        command(primary, "DEL", ballast)
        for url in shard.cluster.urls:
            with WalletApi(url, PARTITIONS) as api:
                wait_until(lambda api=api: api.open(api.name(partition)).status == 201, f"{url} takes work")


def share_of(primary: Process) -> float:
    info: dict[str, Any] = command(primary, "INFO", "memory")
    return memory_share("\n".join(f"{name}:{value}" for name, value in info.items()).encode())


def out_of_memory_replies(primary: Process) -> int:
    stats = command(primary, "INFO", "errorstats")
    return int(stats.get("errorstat_OOM", {"count": 0})["count"])


def test_g10_new_work_is_refused_before_redis_is_out_of_memory(replicated: DevCluster) -> None:
    """Opening and paying on the shard are 503 `overloaded`, other shards go on, begun transfers end, reads answer."""
    shard = ReplicatedShard(replicated, "s2", PARTITIONS)
    primary, mine = shard.primary(), spread(PARTITIONS, SHARDS).partitions_of("s2")
    other = spread(PARTITIONS, SHARDS).partitions_of("s1")
    with WalletApi(replicated.url, PARTITIONS) as api, memory_limit(shard) as limit:
        sender, receiver = api.account(other[0], "1000000.00"), api.account(mine[0], "1.00")
        far, near = api.account(other[1]), api.account(mine[1])
        errors = out_of_memory_replies(primary)

        limit(MEMORY_SHARE_MAX, more=FILL_BYTES)
        began_at = time.monotonic()
        while (reply := api.batch(_many(sender, receiver))).status == 200 and reply.json()["results"][-1].get(
            "code"
        ) != "overloaded":
            assert time.monotonic() - began_at < 30, "memory does not fill"
        # Transfers before the refusal are whole; the memory that is left was not touched.
        assert share_of(primary) < 1.0
        assert out_of_memory_replies(primary) == errors

        for body in (
            transfer_body(sender, receiver, "0.01", new_id()),
            transfer_body(near, far, "0.01", new_id()),
        ):
            reply = api.post("/v1/wallet/balance_transfer", body)
            check_problem(reply, 503, "overloaded", transaction_id=body["transaction_id"])
        check_problem(api.open(api.name(mine[2])), 503, "overloaded")
        assert api.get(f"/v1/accounts/{receiver}").status == 200
        api.paid(sender, far, "0.01")

        limit(0.5)
        wait_until(lambda: api.pay(sender, receiver, "0.01").status == 200, "the shard takes work again", 10)
    assert float(verified(replicated)["in_transit"]["USD"]) == 0


def _many(sender: str, receiver: str) -> list[dict[str, str]]:
    return [transfer_body(sender, receiver, "0.01", new_id()) for _ in range(200)]


@pytest.mark.soak
def test_g1_g10_begun_transfers_end_though_memory_is_short_or_out(replicated: DevCluster) -> None:
    """Past the headroom, credits of debits already made still pass. Out of memory, a credit fails as a whole, the money
    stays on `@transit`, and it arrives by itself when there is memory again.
    """
    shard = ReplicatedShard(replicated, "s2", PARTITIONS)
    primary, mine = shard.primary(), spread(PARTITIONS, SHARDS).partitions_of("s2")
    other = spread(PARTITIONS, SHARDS).partitions_of("s1")
    sending = ReplicatedShard(replicated, "s1", PARTITIONS).primary()
    journal = replicated.living("journal")

    with WalletApi(replicated.url, PARTITIONS) as api:
        sender, receiver = api.account(other[0], "100.00"), api.account(mine[0])

    def debited() -> bool:
        return open_debits_of(sending["address"], other[0], PARTITIONS) > 0

    async def pay_into(share: float, seconds: float) -> tuple[str, Reply]:
        """Debit; then limit the receiver's memory while the journal keeps the credit from leaving."""
        body = transfer_body(sender, receiver, "1.00", new_id())
        async with HttpClient() as http:
            with stopped(journal):
                paying = asyncio.create_task(http.post(f"{replicated.url}/v1/wallet/balance_transfer", body))
                await asyncio.to_thread(wait_until, debited, "a debit is made")
                limit(share)
                await asyncio.sleep(seconds)
            return body["transaction_id"], await paying

    with memory_limit(shard) as limit, WalletApi(replicated.url, PARTITIONS) as api:
        # Past the headroom, and long enough for the services to have noticed.
        transaction_id, reply = asyncio.run(pay_into(MEMORY_SHARE_MAX + 0.05, 2.2))
        another = new_id()
        refused = api.pay(sender, receiver, "1.00", transaction_id=another)
        check_problem(refused, 503, "overloaded", transaction_id=another)
        check_success(reply, transaction_id)
        limit(0.3)
        wait_until(lambda: api.pay(sender, receiver, "1.00").status == 200, "the shard takes work again")
        wait_until(lambda: not debited(), "the entry is settled")

        errors = out_of_memory_replies(primary)
        transaction_id, reply = asyncio.run(pay_into(1.5, 0.0))
        check_problem(reply, 503, "outcome_unknown", transaction_id=transaction_id)
        assert out_of_memory_replies(primary) > errors
        assert api.balance("@transit") == "1.00"
        assert api.balance(receiver) == "2.00"
        limit(0.3)
        wait_until(
            lambda: api.find(sender, transaction_id).json()["status"] == "success", "it is paid by itself"
        )
        assert (api.balance(receiver), api.balance("@transit")) == ("3.00", "0.00")
        check_success(
            api.pay(sender, receiver, "1.00", transaction_id=transaction_id), transaction_id, replayed=True
        )
    assert float(verified(replicated)["in_transit"]["USD"]) == 0
