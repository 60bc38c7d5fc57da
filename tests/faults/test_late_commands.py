"""G1, G4, G9: late commands do no harm. An API process is stopped past every time limit, a receiver forgets its
credits, ZooKeeper is away for long.

Services here look a credit up when it is 1 s old instead of half the retention, and Redis refuses operations that a
service held for 4 s instead of 5 minutes.
"""

import asyncio
import http.client
import json
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import pytest
from support.dev_process import DevCluster
from support.forgetting import forgotten
from support.http_client import HttpClient
from support.pulse import PulsedBooks, longest_gap_s
from support.redis_peek import node_of, open_debits
from support.replicated import Process, command, kill, supervisor_sleeps, wait_until
from support.stopped import stopped
from support.traffic import balances_cents, callers, finish, open_and_fund
from support.verification import verified
from support.wallet_api import WalletApi, check_problem, check_success, new_id, transfer_body

from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.slots import tag_of
from wallet_engine.routing.zookeeper import SESSION_TIMEOUT_S

PARTITIONS = 16
#: A partition of each shard; each of the two shards has eight.
HERE, THERE = 2, 13
#: Longer than a session and than Redis accepts a late operation; shorter than a caller waits for an answer.
STOPPED_S = SESSION_TIMEOUT_S + 2.5
ZOOKEEPER_AWAY_S = 45.0

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    path = tmp_path_factory.mktemp("late") / "dev"
    environ = {"WALLET_ISSUED_AGE_S": "4", "WALLET_LOOK_UP_AGE_S": "1"}
    started = DevCluster(path, shards=2, partitions=PARTITIONS, apis=2, environ=environ)
    try:
        yield started.start()
    finally:
        started.kill_all()


def forget_credits(cluster: DevCluster, partition: int) -> int:
    """Delete every received credit from the partition's memory; returns how many entries they were of."""
    node = node_of(cluster, partition, PARTITIONS)
    keys = PartitionKeys(tag_of(partition, PARTITIONS))
    fields = [field for field in command(node, "HKEYS", keys.seen(1)) if "." in field]
    return int(command(node, "HDEL", keys.seen(1), *fields)) if fields else 0


def services(cluster: DevCluster) -> set[str]:
    directory = open_directory(cluster.state()["zookeeper"], None)
    try:
        return set(directory.services())
    finally:
        directory.close()


@pytest.mark.soak
def test_g4_g9_a_credit_is_not_made_again_by_who_comes_late(cluster: DevCluster) -> None:
    """The sweeper finds a forgotten credit in the receiver's journal. A service that was stopped before it could send
    its credit is refused, though the receiver would take it. Afterwards it is in ZooKeeper again and serves.
    """
    journal = cluster.living("journal")
    with WalletApi(cluster.urls[1], PARTITIONS) as api:
        sender, receiver = api.account(HERE, "10.00"), api.account(THERE)

        # Paid and answered, but the service dies before it settles the debit; the receiver forgets the credit.
        first = new_id()
        doomed = cluster.living("api-1")
        with supervisor_sleeps(cluster), WalletApi(cluster.urls[0], PARTITIONS) as other:
            assert other.pay(sender, receiver, "1.00", transaction_id=first).status == 200
            kill(doomed)
            assert open_debits(cluster, HERE, PARTITIONS) == 1
            assert forget_credits(cluster, THERE) > 0
        cluster.wait_replaced(doomed["pid"])
        cluster.wait_ready()
        wait_until(lambda: open_debits(cluster, HERE, PARTITIONS) == 0, "the sweeper ends the first payment")
        assert (api.balance(receiver), api.balance("@transit")) == ("1.00", "0.00")

        # A debit is made; the service is stopped before it can send the credit.
        second = asyncio.run(_stand_still(cluster, journal, sender, receiver))
        assert (api.balance(sender), api.balance(receiver), api.balance("@transit")) == (
            "8.00",
            "2.00",
            "0.00",
        )
        wait_until(lambda: services(cluster) == {"api-1", "api-2"}, "the service is in ZooKeeper again")

        # Both shards are emptied, which raises every epoch: the service follows.
        for partition in (HERE, THERE):
            command(node_of(cluster, partition, PARTITIONS), "FLUSHALL")
        with WalletApi(cluster.urls[0], PARTITIONS) as other:
            for transaction_id in (first, second):
                wait_until(
                    lambda t=transaction_id: (
                        other.pay(sender, receiver, "1.00", transaction_id=t).status == 200
                    ),
                    "it serves",
                )
                reply = other.pay(sender, receiver, "1.00", transaction_id=transaction_id)
                check_success(reply, transaction_id, replayed=True)
            assert other.balance(receiver) == "2.00"
    assert verified(cluster)["in_transit"]["USD"] == "0.00"


async def _stand_still(cluster: DevCluster, journal: Process, sender: str, receiver: str) -> str:
    """One payment by a service that is stopped between its debit and its credit; the payment's id."""
    service = cluster.living("api-1")
    body = transfer_body(sender, receiver, "1.00", new_id())
    async with HttpClient() as http:
        with stopped(journal):
            paying = asyncio.create_task(http.post(f"{cluster.urls[0]}/v1/wallet/balance_transfer", body))
            await asyncio.to_thread(
                wait_until, lambda: open_debits(cluster, HERE, PARTITIONS) == 1, "the debit is made"
            )
            os.kill(service["pid"], signal.SIGSTOP)
            stopped_at = time.monotonic()
        try:
            await asyncio.to_thread(
                wait_until, lambda: open_debits(cluster, HERE, PARTITIONS) == 0, "the other one ends it"
            )
            assert forget_credits(cluster, THERE) > 0
            await asyncio.sleep(max(0.0, stopped_at + STOPPED_S - time.monotonic()))
            await asyncio.to_thread(
                wait_until, lambda: services(cluster) == {"api-2"}, "its session has ended"
            )
        finally:
            os.kill(service["pid"], signal.SIGCONT)
        check_problem(await paying, 503, "outcome_unknown", transaction_id=body["transaction_id"])
    return body["transaction_id"]


def test_g4_what_was_not_read_until_it_was_paid_and_forgotten_is_not_paid_again(cluster: DevCluster) -> None:
    """A process is stopped as soon as it listens. What callers then send to it, they repeat elsewhere. Two windows
    later it goes on.
    """
    cluster.restart("api-1")
    with WalletApi(cluster.urls[1], PARTITIONS) as api:
        sender, receiver = api.account(HERE, "10.00"), api.account(THERE)
        bodies = [transfer_body(sender, receiver, "1.00", new_id()) for _ in range(3)]
        wait_until(lambda: _listens(cluster.urls[0]), "the process listens again")
        with stopped(cluster.living("api-1")), ExitStack() as open_until_then:
            unread = [open_until_then.enter_context(socket_to(cluster.urls[0])) for _ in bodies]
            for link, body in zip(unread, bodies, strict=True):
                link.sendall(posted("/v1/wallet/balance_transfer", body))
                check_success(api.post("/v1/wallet/balance_transfer", body), body["transaction_id"])
            forgotten(cluster, api, (HERE,))
            os.kill(cluster.living("api-1")["pid"], signal.SIGCONT)
            answers = [link.recv(4096)[:12] for link in unread]
            readiness = http.client.HTTPConnection(urlsplit(cluster.urls[0]).netloc, timeout=20.0)
            readiness.request("GET", "/readyz")
            says = json.load(readiness.getresponse())
            readiness.close()
        assert answers == [b"HTTP/1.1 503"] * len(bodies)
        assert [c["condition"] for c in says["conditions"]] == ["stood_still"], says
        assert (api.balance(sender), api.balance(receiver)) == ("7.00", "3.00")


def _listens(url: str) -> bool:
    with suppress(OSError), socket_to(url):
        return True
    return False


def socket_to(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20.0)


def posted(path: str, body: dict[str, str]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: wallet\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


@pytest.mark.soak
def test_g9_zookeeper_away_costs_no_transfer(cluster: DevCluster) -> None:
    """It is stopped for much longer than a session; afterwards every service is registered again."""
    seed, run = random.randrange(1 << 32), secrets.token_hex(3)
    print(f"seed={seed}")
    books = PulsedBooks([f"{run}-{n:03d}" for n in range(60)], 100_000, random.Random(seed))
    zookeeper = cluster.living("zookeeper")

    async def pay() -> float:
        async with HttpClient() as http:
            await open_and_fund(http, cluster.url, books.accounts, 100_000)
            stop = asyncio.Event()
            traffic = asyncio.create_task(
                callers(http, cluster.urls, books, count=16, stop=stop, pause_s=0.01)
            )
            began_at = time.monotonic()
            with stopped(zookeeper):
                await asyncio.sleep(ZOOKEEPER_AWAY_S)
            await asyncio.sleep(1.0)
            stop.set()
            await traffic
            await finish(http, cluster.url, books)
            assert await balances_cents(http, cluster.url, books.accounts) == books.expected_cents()
            return began_at

    began_at = asyncio.run(pay())
    assert not books.outages_s
    print(f"longest gap {longest_gap_s(books.successes_s, began_at):.2f} s; {dict(books.answers)}")
    wait_until(lambda: services(cluster) == {"api-1", "api-2"}, "the services are in ZooKeeper again")
    assert verified(cluster)["in_transit"]["USD"] == "0.00"
