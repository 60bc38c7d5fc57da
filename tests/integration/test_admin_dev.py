"""`wallet-admin` on a whole running cluster, while payments go on and while processes are killed."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from support.dev_process import DevCluster
from support.http_client import HttpClient
from support.paying import FUNDED_CENTS, Paying
from unit.admin.made import admin, answer

from wallet_engine.domain.entry import RULES
from wallet_engine.redis_store.topology import connect

LOOKS_MIN = 4


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """A cluster that tests may damage. Each test has accounts of its own, and leaves the cluster sound."""
    started = DevCluster(tmp_path_factory.mktemp("hurt") / "dev", shards=2)
    try:
        yield started.start()
    finally:
        started.kill_all()


def wait_settled(flags: list[str]) -> dict[str, Any]:
    """The document of `verify` once no money is in transit."""
    deadline = time.monotonic() + 30
    while (document := answer("verify", *flags))["in_transit"] != {"USD": "0.00"}:
        assert time.monotonic() < deadline, document
        time.sleep(0.2)
    return document


@pytest.mark.parametrize(
    "embedded",
    [pytest.param(False, id="zookeeper"), pytest.param(True, id="embedded", marks=pytest.mark.soak)],
)
def test_under_traffic(dev_cluster: Any, embedded: bool) -> None:
    """G2, G6: every `verify` during traffic is ok, and afterwards every balance is what the answers say."""
    cluster = dev_cluster(shards=3, partitions=16, apis=1, embedded=embedded)
    flags = cluster.coordination_flags()
    traffic = Paying(cluster)
    with traffic.running() as books:
        entries = []
        for _ in range(3):
            document = answer("verify", *flags)
            assert document["ok"]
            entries.append(document["entries"])
            time.sleep(0.3)
        assert entries[0] < entries[1] < entries[2], "there was traffic"
        status = answer("status", *flags)
        assert status["warnings"] == []
        assert status["journals"][0]["lag_entries"] is not None
    document = wait_settled(flags)
    assert (document["partitions"], document["accounts"]) == (16, len(traffic.accounts))

    status = answer("status", *flags)
    assert sum(partition["seq"] for partition in status["partitions"]) >= document["entries"]
    assert status["journals"][0]["lag_entries"] == 0
    assert {shard["name"] for shard in status["shards"]} == {p["shard"] for p in status["partitions"]}
    assert [service["address"] for service in status["services"]] == [cluster.url.partition("//")[2]]
    processes = [*status["services"], *status["journals"], *status["followers"]]
    assert {process["versions"]["entries"] for process in processes} == {RULES}
    assert {(node["role"], node["reachable"]) for shard in status["shards"] for node in shard["nodes"]} == {
        ("primary", True)
    }

    expected = books.expected_cents()
    for account in traffic.accounts[:5]:
        cents = expected[account]
        assert answer("balance", account, "USD", *flags)["balance"] == f"{cents // 100}.{cents % 100:02d}"
    bank = answer("balance", "@bank", "USD", *flags)["balance"]
    assert bank == f"-{len(traffic.accounts) * FUNDED_CENTS // 100}.00"


def test_a_balance_of_the_past_is_what_was_read_then(hurt: DevCluster) -> None:
    """G6, G8: the seq that HTTP answers leads back to the same balance."""
    flags = hurt.coordination_flags()
    traffic = Paying(hurt)
    read = []

    async def look() -> None:
        async with HttpClient() as http:
            for account in traffic.accounts[:20]:
                reply = await http.get(f"{hurt.url}/v1/accounts/{account}/balance?currency=USD")
                read.append(reply.json())

    with traffic.running():
        asyncio.run(look())
    for then in read:
        now = answer("balance", then["account_id"], "USD", *flags, "--at", str(then["seq"]))
        assert {name: now[name] for name in then} == then
        later = answer("balance", then["account_id"], "USD", *flags, "--at", now["time"])
        assert later["seq"] >= then["seq"]


@pytest.mark.parametrize("role", ["redis", pytest.param("journal", marks=pytest.mark.soak)])
def test_a_killed_process_is_no_mismatch(hurt: DevCluster, role: str) -> None:
    """G5, G9: while a shard is restored, verify waits or says what does not answer; it reports no false mismatch."""
    flags = hurt.coordination_flags()
    with Paying(hurt).running():
        pid = hurt.living(role)["pid"]
        killer = threading.Timer(0.05, os.kill, (pid, signal.SIGKILL))
        killer.start()
        looks = 0
        while looks < LOOKS_MIN or not hurt.ready(hurt.url):
            looks += 1
            result = admin("verify", *flags, "--journal", hurt.data_dir / "journal")
            assert result.exit_code == 0 or result.stdout == "", result.stdout
            time.sleep(0.2)
        killer.join()
        hurt.wait_replaced(pid)
    assert wait_settled(flags)["ok"]


def test_a_changed_balance_is_found(hurt: DevCluster) -> None:
    flags = hurt.coordination_flags()
    traffic = Paying(hurt)
    with traffic.running():
        pass
    wait_settled(flags)
    account = traffic.accounts[0]
    partition = answer("balance", account, "USD", *flags)["partition"]
    with spoiled(hurt, account):
        document = answer("verify", *flags, status=1)
    (mismatch,) = document["mismatches"]
    assert (mismatch["partition"], mismatch["what"], mismatch["key"]) == (
        partition,
        "balance",
        f"{account} USD",
    )


@contextmanager
def spoiled(cluster: DevCluster, account: str) -> Iterator[None]:
    """The account's balance in Redis is a cent too high meanwhile."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(connect(node["address"])) for node in cluster.processes("redis")]
        ((node, key),) = [
            (node, key) for node in nodes for key in node.keys("balance:USD*") if node.hexists(key, account)
        ]
        node.hincrby(key, account, 1)
        try:
            yield
        finally:
            node.hincrby(key, account, -1)
