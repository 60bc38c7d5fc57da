"""G1, G2: an account is unfrozen, paid and pays while its close waits: it is not closed before its refund arrives."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPException
from typing import Any

import pytest
from support.dev_process import DevCluster, run_admin
from support.redis_peek import node_of, open_debits_of
from support.replicated import command, wait_until
from support.stopped import stopped
from support.verification import verified
from support.wallet_api import WalletApi, new_id
from unit.admin.made import admin

from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.slots import partition_of, tag_of

PARTITIONS = 8
HERE = 0

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """5 shards: when two are stopped, the other three are a majority, and the cluster stays up."""
    started = DevCluster(
        tmp_path_factory.mktemp("closing") / "dev", shards=5, partitions=PARTITIONS, embedded=True
    )
    try:
        yield started.start()
    finally:
        started.kill_all()


def in_background(what: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=what)
    thread.start()
    return thread


def flags_of(node: Any, account: str) -> str:
    return str(command(node, "HGET", PartitionKeys(tag_of(HERE, PARTITIONS)).flags, account) or "A")


def test_g1_money_does_not_end_on_a_closed_account(cluster: DevCluster) -> None:
    nodes = [node_of(cluster, partition, PARTITIONS) for partition in range(PARTITIONS)]
    first = next(p for p, node in enumerate(nodes) if node != nodes[HERE])
    second = next(p for p, node in enumerate(nodes) if node not in (nodes[HERE], nodes[first]))

    def open_here() -> int:
        return open_debits_of(nodes[HERE]["address"], HERE, PARTITIONS)

    id_here = next(i for i in (new_id() for _ in range(1000)) if _home(i) == HERE)
    closed: list[int] = []
    with ExitStack() as stack:
        api, *others = (stack.enter_context(WalletApi(cluster.url, PARTITIONS)) for _ in range(4))
        account, other = api.account(HERE), api.account(HERE, "1.00")
        receiver, refusing = api.account(first), api.account(second)
        assert api.flag(refusing, "freeze").status == 200
        wait_until(lambda: open_here() == 0, "what opened the accounts has ended")
        go_on_first = stack.enter_context(stopped(nodes[first]))
        threads = [in_background(lambda: others[0].pay(other, receiver, "1.00"))]
        wait_until(lambda: open_here() == 1, "a debit is open")
        threads.append(in_background(lambda: closed.append(others[1].flag(account, "close").status)))
        wait_until(lambda: flags_of(nodes[HERE], account).startswith("F"), "the close waits for it")

        assert api.flag(account, "unfreeze").status == 200
        api.paid("@bank", account, "5.00", transaction_id=id_here)
        go_on_second = stack.enter_context(stopped(nodes[second]))
        threads.append(in_background(lambda: others[2].pay(account, refusing, "5.00")))
        wait_until(lambda: open_here() == 2, "the account has paid")
        go_on_first()
        wait_until(lambda: open_here() == 1, "what the close waits for has ended")
        threads[1].join(3.0)
        go_on_second()
        for thread in threads:
            thread.join()
        wait_until(lambda: open_here() == 0, "the refund has arrived")
        shown = api.get(f"/v1/accounts/{account}").json()
        assert (shown["status"], shown["balances"][0]["balance"]) == ("active", "5.00")
        assert closed in ([422], [503])

        api.paid(account, "@bank", "5.00")
        assert api.flag(account, "close").json()["status"] == "closed"
    verified(cluster)


def test_g9_a_close_whose_process_is_killed_is_repeated_or_undone(cluster: DevCluster) -> None:
    """The account stays frozen, because a closing account takes no payments. `account` says what to do about it."""
    nodes = [node_of(cluster, partition, PARTITIONS) for partition in range(PARTITIONS)]
    first = next(p for p, node in enumerate(nodes) if node != nodes[HERE])
    with ExitStack() as stack:
        api, *others = (stack.enter_context(WalletApi(cluster.url, PARTITIONS)) for _ in range(5))
        closed, undone = api.account(HERE), api.account(HERE)
        payer, refusing = api.account(HERE, "1.00"), api.account(first)
        assert api.flag(refusing, "freeze").status == 200
        wait_until(lambda: open_debits_of(nodes[HERE]["address"], HERE, PARTITIONS) == 0, "all has ended")
        with stopped(nodes[first]) as go_on:
            threads = [in_background(lambda: ended(others[0].pay, payer, refusing, "1.00"))]
            wait_until(
                lambda: open_debits_of(nodes[HERE]["address"], HERE, PARTITIONS) == 1, "a debit is open"
            )
            accounts = (closed, undone, payer)
            for caller, account in zip(others[1:], accounts, strict=True):
                threads.append(in_background(lambda c=caller, a=account: ended(c.flag, a, "close")))
            wait_until(
                lambda: all(flags_of(nodes[HERE], account).startswith("F A=") for account in accounts),
                "the closes wait for it",
            )
            pid = cluster.kill("api")
            for thread in threads:
                thread.join()
            cluster.wait_replaced(pid)
            go_on()
        cluster.wait_ready()
    assert all(flags_of(nodes[HERE], account).startswith("F A=") for account in accounts), "nobody ends them"
    shown = admin("account", undone, "--entries", "0", *cluster.coordination_flags())
    assert "by a close that has not ended: repeat the close, or unfreeze it" in shown.stdout
    with WalletApi(cluster.url, PARTITIONS) as api:
        wait_until(lambda: api.balance(payer) == "1.00", "the refund has arrived")
        assert api.flag(closed, "close").json()["status"] == "closed"
        status, said = run_admin(cluster, "unfreeze", undone, "--yes")
        assert status == 0, said
        assert api.get(f"/v1/accounts/{undone}").json()["status"] == "active"
        refused = api.flag(payer, "close")
        assert (refused.status, refused.json()["code"]) == (422, "balance_not_zero")
        assert api.get(f"/v1/accounts/{payer}").json()["status"] == "active", (
            "a refused close leaves the account active"
        )
        api.paid(payer, undone, "1.00")
    verified(cluster)


def ended(what: Callable[..., object], *words: str) -> None:
    """Call it, and accept that the API process dies before it answers."""
    with suppress(OSError, HTTPException):
        what(*words)


def _home(transaction_id: str) -> int:
    """The partition in which a system account posts a transfer with this id."""
    return partition_of(pack_transaction_id(transaction_id), PARTITIONS)
