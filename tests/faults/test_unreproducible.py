"""G6, G9, G14: when replay decides an entry otherwise than recorded, its partition stops for good, and no other."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from support.added import add_entries
from support.advice import run_advice
from support.dev_process import DevCluster, run_admin
from support.redis_peek import node_of
from support.replicated import command, wait_until
from support.wallet_api import WalletApi, check_problem, new_id

from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.slots import tag_of

PARTITIONS, HURT = 4, 1

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    started = DevCluster(
        tmp_path_factory.mktemp("unreproducible") / "dev", shards=1, partitions=PARTITIONS, embedded=True
    )
    try:
        yield started.start()
    finally:
        started.kill_all()


def meta(cluster: DevCluster) -> dict[str, Any]:
    keys = PartitionKeys(tag_of(HURT, PARTITIONS))
    found = command(node_of(cluster, HURT, PARTITIONS), "HGETALL", keys.meta)
    return dict(found)


def test_g6_an_entry_that_comes_out_otherwise_stops_its_partition_alone(cluster: DevCluster) -> None:
    with WalletApi(cluster.url, PARTITIONS) as api:
        accounts = [api.account(partition, "1.00") for partition in range(PARTITIONS)]
        other = api.account(HURT)
    poor = accounts[HURT]
    cluster.stop()
    journal = cluster.data_dir / "journal"
    shutil.copytree(journal, journal.with_name("right"))
    seq = add_entries(
        journal,
        HURT,
        f"+ t {'A' * 22} {poor} {other} 1000000 USD",
        f"+ t {'B' * 22} @bank {other} 5 USD",
    )
    why = f"entry {seq}: operation 0 must come out as 'i', recorded is '+'"
    cluster.start()

    def check() -> None:
        wait_until(lambda: why in meta(cluster).get("fault", ""), "the partition is stopped")
        with WalletApi(cluster.url, PARTITIONS) as api:
            for partition, account in enumerate(accounts):
                if partition != HURT:
                    wait_until(
                        lambda a=account: api.pay(a, "@bank", "0.01").status == 200, "the others serve"
                    )
            transaction_id = new_id()
            reply = api.pay(poor, "@bank", "0.01", transaction_id=transaction_id)
            check_problem(reply, 503, "partition_unavailable", transaction_id=transaction_id)
        found = meta(cluster)
        assert (found["state"], found["seq"]) == ("stopped", str(seq - 1))

    check()
    status, said = run_admin(cluster, "--json", "doctor")
    findings = json.loads(said)["findings"]
    (stopped,) = [f for f in findings if f["check"] == "partitions"]
    assert (status, stopped["severity"]) == (1, "error")
    assert why in stopped["what"]
    for number in range(2):  # neither command makes it serve while the journal is wrong
        status, said = run_advice(stopped, journal.parent, cluster, number)
        assert (status, f"entry {seq}: operation 0" in said) == (1, True), said  # the table breaks lines

    status, said = run_admin(cluster, "journal", "verify")
    assert status == 0, said  # every copy has the same wrong entry
    cluster.restart("journal")  # a recovery does not help either
    check()
    command(node_of(cluster, HURT, PARTITIONS), "SCRIPT", "FLUSH")
    check()
    cluster.stop()
    shutil.rmtree(journal)
    shutil.move(journal.with_name("right"), journal)
    cluster.start()
    with WalletApi(cluster.url, PARTITIONS) as api:
        wait_until(lambda: api.pay(poor, "@bank", "0.01").status == 200, "the right journal serves")
    assert "fault" not in meta(cluster)
