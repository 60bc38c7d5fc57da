"""`wallet-admin switchover`: the replica takes over, nothing is lost, and the same way back."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.advice import run_advice
from support.dev_process import DevCluster
from support.verification import verified
from unit.admin.made import admin, answer, refusal

from wallet_engine.client import Wallet

PARTITIONS = 16


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    started = DevCluster(
        tmp_path_factory.mktemp("switch") / "dev", shards=3, replicas=1, partitions=PARTITIONS, embedded=True
    )
    try:
        yield started.start()
        verified(started)
    finally:
        started.kill_all()


def nodes_of(cluster: DevCluster, shard: str = "s1") -> dict[str, str]:
    """Role -> address."""
    shards = answer("status", *cluster.coordination_flags())["shards"]
    (found,) = (each for each in shards if each["name"] == shard)
    return {node["role"]: node["address"] for node in found["nodes"]}


def test_there_and_back_under_traffic(cluster: DevCluster) -> None:
    flags = cluster.coordination_flags()
    before = nodes_of(cluster)
    done = {"shard": "s1", "from": before["primary"], "to": before["primary"]}
    assert answer("switchover", "s1", "--to", before["primary"], "--yes", *flags) == done
    assert "there is no shard s9: s1, s2, s3" in refusal(admin("switchover", "s9", "--yes", *flags))
    over, paid = threading.Event(), []

    def pay() -> None:
        with Wallet(cluster.url, deadline_s=60) as wallet:
            while not over.is_set():
                paid.append(wallet.transfer("@bank", "@fees", 1, "USD"))

    paying = threading.Thread(target=pay)
    paying.start()
    try:
        plan = {"shard": "s1", "from": before["primary"], "to": before["replica"]}
        assert answer("switchover", "s1", "--dry-run", *flags)["plan"] == plan
        assert answer("switchover", "s1", "--yes", *flags) == plan
        wait_roles(cluster, {"primary": before["replica"], "replica": before["primary"]})
        assert (
            answer("switchover", "s1", "--to", before["primary"], "--yes", *flags)["to"] == before["primary"]
        )
    finally:
        over.set()
        paying.join()
    assert paid
    with Wallet(cluster.url) as wallet:
        assert wallet.balance("@fees", "USD").balance == len(paid)


def test_primaries_are_evened_out_over_hosts(
    cluster: DevCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On one machine there is nothing to even out; here ports stand for hosts."""
    flags = cluster.coordination_flags()
    assert answer("rebalance", "--primaries", "--yes", *flags) == {"switchovers": []}
    now = {shard: nodes_of(cluster, shard) for shard in ("s1", "s2", "s3")}
    hosts = {now["s3"][role]: "c" for role in ("primary", "replica")}
    hosts |= {now[shard]["primary"]: "a" for shard in ("s1", "s2")}
    for where in ("diagnosis.layout", "verbs.rebalance_primaries"):
        monkeypatch.setattr(f"wallet_engine.admin.{where}.host_of", lambda address: hosts.get(address, "b"))
    plan = answer("rebalance", "--primaries", "--dry-run", *flags)["plan"]
    (switch,) = plan["switchovers"]
    (found,) = (f for f in answer("doctor", *flags)["findings"] if "a has 2 of 3 primaries" in f["what"])
    status, said = run_advice(found, tmp_path, cluster)
    assert (status, switch["new"] in said) == (0, True), said
    assert nodes_of(cluster, switch["shard"])["primary"] == switch["new"] == now[switch["shard"]]["replica"]
    assert answer("rebalance", "--primaries", "--yes", *flags) == {"switchovers": []}


def wait_roles(cluster: DevCluster, roles: dict[str, str]) -> None:
    """Wait until the old primary follows the new one."""
    until_s = time.monotonic() + 60
    while nodes_of(cluster) != roles:
        assert time.monotonic() < until_s, nodes_of(cluster)
        time.sleep(0.1)
