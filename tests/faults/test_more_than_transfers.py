"""G9, G11 for holds, groups and refunds: one of their partitions moves, or a primary changes, while calls run.

Every run is a hold, its capture, a refund of a part of it, and a group, over three accounts in three shards. Each call
goes to both API processes at once with the same id, until each gives a final answer. So every balance is known to the
cent.
"""

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.dev_process import DevCluster
from support.http_client import HttpClient, NoReply, Reply
from support.replicated import ReplicatedShard
from support.verification import verified
from support.wallet_api import WalletApi, new_id
from unit.admin.made import answer

PARTITIONS = 16
#: One partition in each shard; they take turns to begin a group, pay and receive.
HOMES = (1, 6, 11)
RUNS_AT_ONCE = 4
RUNS_MIN = 24
FINAL_S_MAX = 60.0
FIGURES = (("8.50",) * 2, ("10.00",) * 2, ("11.50",) * 2)


class Runs:
    """Runs follow one another in a thread until they are told to end; a failure is raised at the end."""

    def __init__(self, cluster: DevCluster) -> None:
        self.urls = cluster.urls
        self.done: list[tuple[str, ...]] = []
        #: Answer -> how often it came. An answer is its status; a refusal also has the path's last word and the code.
        self.answers: Counter[tuple[str, ...]] = Counter()
        self.ending = False
        self._numbers = itertools.count()
        self._rooms = asyncio.Semaphore(RUNS_AT_ONCE)

    def wait_done(self, more: int) -> None:
        goal, deadline = len(self.done) + more, time.monotonic() + FINAL_S_MAX
        while len(self.done) < goal:
            assert time.monotonic() < deadline, f"only {len(self.done)} of {goal} runs: {self.answers}"
            time.sleep(0.05)

    async def all(self, api: WalletApi) -> None:
        async with HttpClient() as http, asyncio.TaskGroup() as tasks:
            while not self.ending:
                await self._rooms.acquire()
                tasks.create_task(self._room(http, api))

    async def _room(self, http: HttpClient, api: WalletApi) -> None:
        try:
            await self._run(http, api)
        finally:
            self._rooms.release()

    async def _run(self, http: HttpClient, api: WalletApi) -> None:
        turn = next(self._numbers) % len(HOMES)
        homes = HOMES[turn:] + HOMES[:turn]
        a, b, c = names = [api.name(home) for home in homes]
        for name in names:
            await self._call(http, "/v1/accounts", {"account_id": name, "currency": "USD"}, (200, 201))
            funding = {"from_account": "@bank", "to_account": name, "amount": "10.00", "currency": "USD"}
            await self._call(http, "/v1/wallet/balance_transfer", funding | {"transaction_id": new_id()})
        hold, capture = new_id(), new_id()
        placed = {"account_id": a, "amount": "3.00", "currency": "USD", "transaction_id": hold}
        await self._call(http, "/v1/holds", placed, (200, 201))
        captured = {"account_id": a, "transaction_id": capture, "amount": "2.00", "to_account": b}
        await self._call(http, f"/v1/holds/{hold}/capture", captured)
        refund = {"from_account": a, "transaction_id": new_id(), "amount": "1.00"}
        await self._call(http, f"/v1/transfers/{capture}/refunds", refund)
        legs = [
            {"from_account": payer, "to_account": receiver, "amount": amount, "currency": "USD"}
            for payer, receiver, amount in ((a, b, "1.00"), (b, c, "2.00"), (c, a, "0.50"))
        ]
        await self._call(http, "/v1/transfers/group", {"transaction_id": new_id(), "legs": legs})
        self.done.append(tuple(names))

    async def _call(
        self, http: HttpClient, path: str, body: dict[str, Any], good: tuple[int, ...] = (200,)
    ) -> None:
        """Call both processes until each gives a final answer, which must be `good`."""
        deadline = time.monotonic() + FINAL_S_MAX

        async def insist(url: str) -> None:
            while True:
                try:
                    reply = await http.post(url + path, body)
                except NoReply:
                    reply = Reply(0, {}, b"")
                self.answers[_kind(path, reply)] += 1
                if reply.status not in (0, 503) and not _refund_is_early(reply):
                    assert reply.status in good, (path, body, reply)
                    return
                assert time.monotonic() < deadline, (path, reply)
                await asyncio.sleep(0.1)

        await asyncio.gather(*map(insist, self.urls))


def _kind(path: str, reply: Reply) -> tuple[str, ...]:
    if reply.status < 400:
        return (str(reply.status),)
    return str(reply.status), path.rpartition("/")[2], reply.json()["code"]


def _refund_is_early(reply: Reply) -> bool:
    return reply.status == 409 and reply.json()["retryable"]


@contextmanager
def running(cluster: DevCluster) -> Iterator[Runs]:
    runs, failures = Runs(cluster), []

    def run() -> None:
        try:
            with WalletApi(cluster.urls[0], PARTITIONS) as api:
                asyncio.run(runs.all(api))
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        runs.wait_done(3)
        yield runs
    finally:
        runs.ending = True
        thread.join()
    if failures:
        raise failures[0]
    check(cluster, runs)


def check(cluster: DevCluster, runs: Runs) -> None:
    assert len(runs.done) >= RUNS_MIN
    print(f"{len(runs.done)} runs, answers: {dict(runs.answers)}")
    with WalletApi(cluster.urls[1], PARTITIONS) as api:
        for names in runs.done:
            found = [api.get(f"/v1/accounts/{name}/balance?currency=USD").json() for name in names]
            assert tuple((each["balance"], each["available"]) for each in found) == FIGURES, found
            assert {(each["held"], each["pending"]) for each in found} == {("0.00", "0.00")}
    verified(cluster)


@pytest.mark.timeout(240)
def test_g11_no_call_fails_while_a_partition_moves(cluster: DevCluster) -> None:
    """There and back, twice. The moved partition is by turns the payer's, the receiver's and the one that decides."""
    flags = cluster.coordination_flags()
    shards = answer("partitions", *flags)["partitions"]
    home = next(each["shard"] for each in shards if each["partition"] == HOMES[0])
    away = next(each["shard"] for each in shards if each["shard"] != home)
    with running(cluster) as runs:
        for target in (away, home, away, home):
            answer("move", str(HOMES[0]), target, *flags, "--yes")
            runs.wait_done(RUNS_MIN // 4)
    assert {kind[0] for kind in runs.answers} <= {"200", "201", "409"}, runs.answers


@pytest.mark.timeout(240)
def test_g9_a_primary_changes_under_holds_groups_and_refunds(replicated: DevCluster) -> None:
    """Earlier answers stand, and nothing is paid twice or left set aside."""
    replicated.wait_ready()
    shard = ReplicatedShard(replicated, "s2", PARTITIONS)
    shard.wait_in_sync()
    with running(replicated) as runs:
        shard.promote(shard.replica())
        runs.wait_done(RUNS_MIN)
    shard.wait_in_sync()
