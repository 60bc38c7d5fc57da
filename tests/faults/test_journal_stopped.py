"""G8, G10: the journal process hangs (SIGSTOP) while callers pay and read."""

import asyncio
import time
from typing import Any

from support.dev_process import DevCluster
from support.http_client import HttpClient, Reply
from support.redis_peek import balance_minor, node_of
from support.replicated import command
from support.stopped import stopped
from support.verification import verified
from support.wallet_api import WalletApi, check_problem, check_success, new_id, transfer_body

from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.slots import tag_of

PARTITIONS = 16
#: The longest that any caller may be left without an answer.
ANSWER_S_MAX = 20.0
CALLERS = 40


async def until(true: Any, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline, "did not come true in time"
        await asyncio.sleep(0.05)


def test_g8_g10_nothing_is_answered_that_is_not_on_disk(cluster: DevCluster) -> None:
    """G8: reads wait or are refused; they never show what may still be undone. G10: every caller is answered in bounded
    time, with 503 and Retry-After. When the journal goes on, everything else does, and nothing is half done.
    """
    with WalletApi(cluster.url, PARTITIONS) as api:
        sender, near, far = api.account(2, "100.00"), api.account(2), api.account(13)
        decided = [transfer_body(sender, to, "1.00", new_id()) for to in (near, far) * (CALLERS // 2)]
        late, fresh = api.account(5, "1.00"), api.name(5)
        quiet, other, shut = api.account(9, "10.00"), api.account(9), api.account(11)
        forgotten, quiets = (transfer_body(quiet, other, amount, new_id()) for amount in ("1.00", "2.00"))
        for body in (forgotten, quiets):
            assert api.post("/v1/wallet/balance_transfer", body).status == 200
        keep_the_newest(cluster, 9)

        stopped_at = time.monotonic()
        journal = cluster.living("journal")
        with stopped(journal):
            asyncio.run(_while_stopped(cluster, decided, sender, late, fresh, forgotten, quiets, shut))
        print(f"journal stopped for {time.monotonic() - stopped_at:.1f} s")

        continued_at = time.monotonic()
        while (reply := api.pay(late, "@bank", "0.50")).status == 503:
            assert time.monotonic() - continued_at < 30
            time.sleep(0.1)
        print(f"first success {time.monotonic() - continued_at:.1f} s after SIGCONT")
        assert reply.status == 200

        for body in decided:
            check_success(
                api.post("/v1/wallet/balance_transfer", body), body["transaction_id"], replayed=True
            )
        assert [api.balance(a) for a in (sender, near, far)] == ["60.00", "20.00", "20.00"]
        assert api.open(fresh).status == 200  # the opening that was answered 503 took effect
        assert api.balance(late) == "0.50"
        assert api.get(f"/v1/accounts/{shut}").json()["status"] == "closed"  # and so did the close
    verified(cluster)


def keep_the_newest(cluster: DevCluster, partition: int) -> None:
    """Trim the stream to its newest entry, as happens by itself once it has some hundred entries."""
    node, stream = (
        node_of(cluster, partition, PARTITIONS),
        PartitionKeys(tag_of(partition, PARTITIONS)).journal,
    )
    command(node, "XTRIM", stream, "MAXLEN", 1)


async def _while_stopped(
    cluster: DevCluster,
    decided: list[dict[str, str]],
    sender: str,
    late: str,
    fresh: str,
    forgotten: dict[str, str],
    quiets: dict[str, str],
    shut: str,
) -> None:
    url, quiet = cluster.url, quiets["from_account"]

    async def timed(work: Any) -> Reply:
        began = time.monotonic()
        reply: Reply = await work
        assert time.monotonic() - began < ANSWER_S_MAX
        return reply

    async with HttpClient(timeout_s=ANSWER_S_MAX + 5) as http:
        transfers = [
            asyncio.create_task(timed(http.post(f"{url}/v1/wallet/balance_transfer", body)))
            for body in decided
        ]
        opening = asyncio.create_task(
            timed(http.post(f"{url}/v1/accounts", {"account_id": fresh, "currency": "USD"}))
        )
        closing = asyncio.create_task(timed(http.post(f"{url}/v1/accounts/{shut}/close")))
        # Redis has decided at least the first transfer: it is in Redis and not on disk.
        await until(lambda: balance_minor(cluster, sender, PARTITIONS) < 10_000, 10)
        reads = [
            f"/v1/accounts/{sender}/balance?currency=USD",
            f"/v1/accounts/{sender}",
            f"/v1/accounts/{fresh}",
            f"/v1/transfers/{decided[0]['transaction_id']}?from_account={sender}",
            f"/v1/transfers/{forgotten['transaction_id']}?from_account={quiet}",  # only the journal has its answer
        ]
        for reply in await asyncio.gather(*(timed(http.get(url + path)) for path in reads)):
            assert reply.status == 503, reply
            assert reply.json()["code"] == "journal_unavailable", reply
            assert "retry-after" in reply.headers
        # What is on disk can be read all the time.
        still = await timed(http.get(f"{url}/v1/accounts/{quiet}/balance?currency=USD"))
        assert (still.status, still.json()["balance"]) == (200, "7.00")
        found = await timed(http.get(f"{url}/v1/transfers/{quiets['transaction_id']}?from_account={quiet}"))
        assert (found.status, found.json()["status"]) == (200, "success")
        # "Not found" takes the journal too. A look-up has no outcome, so its code is not `outcome_unknown`.
        nobodys = [
            f"/v1/transfers/{new_id()}?from_account={quiet}",
            f"/v1/holds/{new_id()}?account_id={quiet}",
        ]
        for reply in await asyncio.gather(*(timed(http.get(url + path)) for path in nobodys)):
            assert (reply.status, reply.json()["code"]) == (503, "journal_unavailable"), reply
        for body, reply in zip(decided, await asyncio.gather(*transfers), strict=True):
            check_problem(reply, 503, "outcome_unknown", transaction_id=body["transaction_id"])
        for change in (opening, closing):
            check_problem(await change, 503, "outcome_unknown")


def test_g8_a_read_that_waits_gets_the_durable_value(cluster: DevCluster) -> None:
    """G8: a read begun while the journal hangs is answered as soon as the entry is on disk."""
    with WalletApi(cluster.url, PARTITIONS) as api:
        sender, receiver = api.account(2, "9.00"), api.account(2)

    async def run() -> None:
        journal = cluster.living("journal")
        async with HttpClient() as http:
            with stopped(journal):
                body = transfer_body(sender, receiver, "1.00", new_id())
                paying = asyncio.create_task(http.post(f"{cluster.url}/v1/wallet/balance_transfer", body))
                await until(lambda: balance_minor(cluster, sender, PARTITIONS) == 800, 10)
                reading = asyncio.create_task(
                    http.get(f"{cluster.url}/v1/accounts/{sender}/balance?currency=USD")
                )
                await asyncio.sleep(1.0)
                assert not paying.done()
                assert not reading.done()
            assert (await paying).status == 200
            assert (await reading).json()["balance"] == "8.00"

    asyncio.run(run())


def test_an_account_is_not_closed_while_a_refund_is_on_its_way_to_it(cluster: DevCluster) -> None:
    """A close needs zero balances: a refund that arrives after it could never leave again."""
    with WalletApi(cluster.url, PARTITIONS) as api:
        sender, nobody = api.account(2, "1.00"), api.name(13)

    async def run() -> None:
        journal = cluster.living("journal")
        async with HttpClient() as http:
            with stopped(journal):
                body = transfer_body(sender, nobody, "1.00", new_id())
                paying = asyncio.create_task(http.post(f"{cluster.url}/v1/wallet/balance_transfer", body))
                await until(lambda: balance_minor(cluster, sender, PARTITIONS) == 0, 10)
                closing = asyncio.create_task(http.post(f"{cluster.url}/v1/accounts/{sender}/close"))
                await asyncio.sleep(0.3)
            assert (await paying).status == 404
            await closing

    asyncio.run(run())
    with WalletApi(cluster.url, PARTITIONS) as api:
        account = api.get(f"/v1/accounts/{sender}").json()
    assert (account["status"], account["balances"][0]["balance"]) != ("closed", "1.00")
