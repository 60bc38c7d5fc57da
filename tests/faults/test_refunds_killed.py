"""G9 for refunds: processes die at any step; refunds never add up to more than was paid, and none gets lost."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.dev_process import DevCluster
from support.http_client import HttpClient, NoReply, Reply
from support.redis_peek import node_of, open_debits
from support.strand import strand
from support.verification import verified
from support.wallet_api import WalletApi, new_id

from wallet_engine.redis_store.topology import connect

PARTITIONS = 16
#: Partitions of the originals' receivers, which pay the refunds.
RECEIVERS_AT = (0, 6, 11)
SWEPT_S_MAX = 60.0
PAID_CENTS = 1_000
#: Partition of the node that is killed or emptied.
STRUCK = 3
FINAL = (200, 404, 409, 422)


def request(payer: str, original: str, amount: str | None = None) -> tuple[str, dict[str, Any]]:
    body = {"from_account": payer, "transaction_id": new_id()}
    return f"/v1/transfers/{original}/refunds", body | ({} if amount is None else {"amount": amount})


def paid(api: WalletApi, payer: str, receiver: str) -> str:
    original = new_id()
    api.paid(payer, receiver, "10.00", transaction_id=original)
    return original


def insist(api: WalletApi, path: str, body: dict[str, Any]) -> Reply:
    """Retry until the answer is final."""
    deadline = time.monotonic() + SWEPT_S_MAX
    while (reply := api.post(path, body)).status not in FINAL:
        assert time.monotonic() < deadline, reply
        time.sleep(0.1)
    return reply


def empty_redis(cluster: DevCluster) -> None:
    for process in cluster.processes("redis"):
        client = connect(process["address"])
        try:
            client.flushall()
        finally:
            client.close()


def test_g1_g6_g9_refunds_of_a_dead_service_end_and_their_totals_outlive_redis(cluster: DevCluster) -> None:
    """G1: if the payer's side refuses, the money returns to the receiver and can be refunded again."""
    assert cluster.process is not None
    with WalletApi(cluster.urls[1], PARTITIONS) as api:
        receivers = [api.account(p) for p in RECEIVERS_AT]
        payers, frozen = ([api.account(p, "20.00") for p in (2, 8, 12)] for _ in range(2))
        good = [paid(api, *sides) for sides in zip(payers, receivers, strict=True)]
        bad = [paid(api, *sides) for sides in zip(frozen, receivers, strict=True)]
        for account in frozen:
            assert api.flag(account, "freeze").status == 200
        ends = [request(payer, original, "4.00") for payer, original in zip(payers, good, strict=True)]
        undone = [request(payer, original) for payer, original in zip(frozen, bad, strict=True)]
        strand(cluster, PARTITIONS, RECEIVERS_AT, [*ends, *undone])
        died_at = time.monotonic()
        try:
            while sum(open_debits(cluster, partition, PARTITIONS) for partition in RECEIVERS_AT):
                assert time.monotonic() - died_at < SWEPT_S_MAX, "refunds stay open"
                time.sleep(0.2)
        finally:
            cluster.process.send_signal(signal.SIGCONT)
        print(f"all ended {time.monotonic() - died_at:.1f} s after the service died")
        empty_redis(cluster)

        for path, body in ends:
            reply = insist(api, path, body)
            assert (reply.status, reply.headers.get("idempotent-replayed")) == (200, "true"), reply
            assert (reply.json()["refunded_total"], reply.json()["refundable"]) == ("4.00", "6.00")
        for path, body in undone:
            assert insist(api, path, body).json()["code"] == "account_frozen"
        for payer, original in zip(payers, good, strict=True):
            assert insist(api, *request(payer, original, "6.01")).json()["code"] == "refund_exceeds"
            assert insist(api, *request(payer, original)).json()["refunded_total"] == "10.00"
        for payer, original in zip(frozen, bad, strict=True):
            assert api.flag(payer, "unfreeze").status == 200
            assert insist(api, *request(payer, original)).json()["refunded_total"] == "10.00"
        assert [api.balance(account) for account in (*payers, *frozen)] == ["20.00"] * 6
        assert [api.balance(account) for account in (*receivers, "@transit")] == ["0.00"] * 4
        verified(cluster)


async def kill_api(cluster: DevCluster) -> None:
    await asyncio.to_thread(cluster.restart, "api")


async def kill_journal(cluster: DevCluster) -> None:
    await asyncio.to_thread(cluster.restart, "journal")


async def kill_redis(cluster: DevCluster) -> None:
    """The node has no replica: its memory is lost, with entries that are not on disk yet."""
    await asyncio.to_thread(cluster.restart, node_of(cluster, STRUCK, PARTITIONS)["name"])


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "fault",
    [*(pytest.param(fault, marks=pytest.mark.soak) for fault in (kill_api, kill_journal)), kill_redis],
    ids=lambda fault: fault.__name__,
)
def test_g4_g9_refunds_from_two_services_while_one_process_dies(
    cluster: DevCluster, fault: Callable[[DevCluster], Awaitable[None]]
) -> None:
    """More refunds are asked for than each original can pay; whatever dies, the answers add up to the money moved."""
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    draw = random.Random(seed)
    with WalletApi(cluster.urls[1], PARTITIONS) as api:
        originals, owed = [], {}
        for p, q in ((0, 3), (3, 3), (3, 9), (7, 1), (12, 12), (14, 2)):
            payer, receiver = api.account(p, "10.00"), api.account(q)
            originals.append((paid(api, payer, receiver), payer, receiver))
        for original, payer, _ in originals:
            for _ in range(14):
                path, body = request(payer, original, draw.choice((None, "0.50", "1.00", "2.50")))
                owed[body["transaction_id"]] = (original, path, body)
    answers = asyncio.run(_refund_all(cluster, list(owed.values()), fault, draw))
    with WalletApi(cluster.urls[0], PARTITIONS) as api:
        for original, payer, receiver in originals:
            back = round(float(api.balance(payer)) * 100)
            assert back <= PAID_CENTS
            assert round(float(api.balance(receiver)) * 100) == PAID_CENTS - back
            mine = [owed_id for owed_id, (of, _, _) in owed.items() if of == original]
            given = [answers[owed_id].json() for owed_id in mine if answers[owed_id].status == 200]
            assert (
                max((round(float(each["refunded_total"]) * 100) for each in given), default=0) <= PAID_CENTS
            )
            assert given or back == 0
            amounts = [owed[owed_id][2].get("amount") for owed_id in mine if answers[owed_id].status == 200]
            named = sum(round(float(amount) * 100) for amount in amounts if amount)
            assert named == back if None not in amounts else named <= back == PAID_CENTS
            last = insist(api, *request(payer, original)).json()
            assert (
                last.get("code") == "refund_exceeds" if back == PAID_CENTS else last["refundable"] == "0.00"
            )
            assert (api.balance(payer), api.balance(receiver)) == ("10.00", "0.00")
    print(Counter(reply.json().get("code", "success") for reply in answers.values()))
    assert verified(cluster)["in_transit"]["USD"] == "0.00"


async def _refund_all(
    cluster: DevCluster,
    owed: list[tuple[str, str, dict[str, Any]]],
    fault: Callable[[DevCluster], Awaitable[None]],
    draw: random.Random,
) -> dict[str, Reply]:
    """Ask for all refunds through both services, with retries until each has its answer; then ask for all once more."""
    answers: dict[str, Reply] = {}
    begun = asyncio.Event()
    async with HttpClient() as http:

        async def drive(path: str, body: dict[str, Any]) -> None:
            while True:
                try:
                    reply = await http.post(f"{draw.choice(cluster.urls)}{path}", body)
                except (NoReply, OSError):
                    await asyncio.sleep(0.1)
                    continue
                if reply.status in FINAL and reply.json().get("code") != "transfer_pending":
                    begun.set()
                    before = answers.setdefault(body["transaction_id"], reply)
                    assert (before.status, before.json().get("code")) == (
                        reply.status,
                        reply.json().get("code"),
                    )
                    return
                await asyncio.sleep(0.1)

        async def some(part: list[tuple[str, str, dict[str, Any]]]) -> None:
            for _, path, body in part:
                await drive(path, body)

        draw.shuffle(owed)
        asking = asyncio.gather(*(some(owed[number::12]) for number in range(12)))
        await begun.wait()
        await fault(cluster)
        await asking
        await asyncio.gather(*(some(owed[number::12]) for number in range(12)))
    return answers
