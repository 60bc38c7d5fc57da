"""`wallet-admin move`, `drain`, `rebalance`, `moves`, `resume`, `abort` on a running cluster under traffic (G11)."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from support.clusters import redis_binary
from support.dev_process import DevCluster
from support.paying import Paying, cluster_directory
from support.redis_peek import open_debits
from support.replicated import wait_until
from support.verification import verified
from support.wallet_api import WalletApi
from unit.admin.made import admin, answer, refusal

from wallet_engine.admin.moving.runs import new_driver
from wallet_engine.admin.moving.sides import Source, TakenOver, Target
from wallet_engine.admin.moving.wire import Setback
from wallet_engine.admin.verbs import moves
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.redis_node import RedisNode
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect, find_primary
from wallet_engine.routing.slots import partition_of, slot_range, tag_of

PARTITIONS = 8


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """Three shards with real ZooKeeper; every test leaves it whole."""
    cluster = DevCluster(tmp_path_factory.mktemp("move") / "dev", shards=3, partitions=PARTITIONS)
    try:
        yield cluster.start()
    finally:
        cluster.kill_all()


@pytest.fixture
def flags(cluster: DevCluster) -> list[str]:
    return cluster.coordination_flags()


def shard_of(cluster: DevCluster, partition: int) -> str:
    with cluster_directory(cluster) as directory:
        return directory.partition_map().shard_of(partition)


def other_shard(cluster: DevCluster, partition: int) -> str:
    return next(name for name in ("s1", "s2", "s3") if name != shard_of(cluster, partition))


def keys_on(cluster: DevCluster, shard: str, partition: int) -> list[str]:
    """Keys of the partition's slot that the shard's node holds, its own slot or not."""
    with cluster_directory(cluster) as directory:
        node = find_primary(directory.shards()[shard].nodes)
    assert node is not None
    slot = slot_range(partition, PARTITIONS)[0]
    with closing(connect(node.address)) as client:
        return list(client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100))


def test_move_drain_and_rebalance_under_traffic(cluster: DevCluster, flags: list[str]) -> None:
    """G11: partitions move while callers pay, and no request fails; then `verify` and every balance are checked."""
    traffic = Paying(cluster)
    partition = partition_of(traffic.accounts[0], PARTITIONS)
    source, target = shard_of(cluster, partition), other_shard(cluster, partition)
    with traffic.running():
        document = answer("move", str(partition), target, *flags, "--yes")
        [moved] = document["moved"]
        assert (moved["from"], moved["to"]) == (source, target)
        assert moved["digest"]
        assert shard_of(cluster, partition) == target
        assert keys_on(cluster, source, partition) == []
        assert keys_on(cluster, target, partition) != []
        assert answer("verify", *flags)["ok"]
        drained = answer("drain", "s2", *flags, "--yes")["moved"]
        print(moved, [one["freeze_ms"] for one in drained])
        with cluster_directory(cluster) as directory:
            assert directory.partition_map().partitions_of("s2") == ()
        balanced = answer("rebalance", "--throttle", "1000000", *flags, "--yes")["moved"]
        with cluster_directory(cluster) as directory:
            counts = [len(directory.partition_map().partitions_of(name)) for name in ("s1", "s2", "s3")]
        assert sorted(counts) == [2, 3, 3]
        assert len(balanced) == 2
        assert answer("rebalance", *flags, "--yes")["moved"] == []
    assert answer("moves", *flags) == {"moves": []}
    traffic.check(failed_max=0)
    verified(cluster)


def test_rebalance_by_accounts_and_by_load(
    cluster: DevCluster, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First one partition of a shard has many accounts; then only two partitions, of one shard, have payments."""
    monkeypatch.setattr(moves, "LOAD_S", 1.0)
    with cluster_directory(cluster) as directory:
        [crowded, other, *_] = directory.partition_map().partitions_of("s1")

    def accounts(shard: str) -> int:
        found = answer("partitions", "--shard", shard, *flags)["partitions"]
        return sum(one["balances"] for one in found)

    with WalletApi(cluster.url, PARTITIONS) as api:
        for _ in range(40):
            api.account(crowded)
            api.account(other)
        before = {shard: accounts(shard) for shard in ("s1", "s2", "s3")}
        assert max(before, key=lambda shard: before[shard]) == "s1"
        moved = answer("rebalance", "--by", "accounts", *flags, "--yes")["moved"]
        assert moved[0]["partition"] in (crowded, other)
        after = {shard: accounts(shard) for shard in before}
        print(before, after)
        assert sum(after.values()) == sum(before.values())
        assert max(after.values()) - min(after.values()) < (max(before.values()) - min(before.values())) / 2

        if shard_of(cluster, crowded) != shard_of(cluster, other):
            answer("move", str(crowded), shard_of(cluster, other), *flags, "--yes")
        ann, bob = api.account(crowded, "100.00"), api.account(other, "100.00")
        wait_until(
            lambda: not any(open_debits(cluster, partition, PARTITIONS) for partition in range(PARTITIONS)),
            "the fundings are settled: that counts as load too",
        )
        paying = threading.Event()
        paying.set()

        def pay() -> None:
            while paying.is_set():
                api.paid(ann, bob, "0.01")

        with ThreadPoolExecutor(1) as pool:
            payments = pool.submit(pay)
            try:
                [moved_one] = answer("rebalance", "--by", "load", *flags, "--yes")["moved"]
            finally:
                paying.clear()
            payments.result()
    assert moved_one["partition"] in (crowded, other)
    assert shard_of(cluster, crowded) != shard_of(cluster, other)
    verified(cluster)


@pytest.fixture
def new_nodes(tmp_path: Path) -> Iterator[list[RedisNode]]:
    """Two nodes that belong to no cluster yet."""
    nodes = []
    try:
        for name in ("s4-1", "s4-2"):
            node = RedisNode(redis_binary(), "s4", name, tmp_path / name, free_port(redis=True))
            nodes.append(node)
            node.start_and_wait()
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def test_a_shard_comes_and_goes_under_traffic(
    cluster: DevCluster, flags: list[str], new_nodes: list[RedisNode]
) -> None:
    """G11: add-shard, rebalance, drain, remove-shard; partitions move to a shard with a replica and back."""
    addresses = [node.address for node in new_nodes]
    new_nodes[1].command("CLUSTER", "ADDSLOTS", 0)
    assert f"{addresses[1]} owns slots of a cluster" in refusal(
        admin("add-shard", "s4", *addresses, *flags, "--yes")
    )
    new_nodes[1].command("CLUSTER", "DELSLOTS", 0)
    taken = cluster.processes("redis")[0]["address"]
    assert f"node {taken} stands in shard" in refusal(admin("add-shard", "s4", taken, *flags, "--yes"))
    assert "does not answer" in refusal(admin("add-shard", "s4", "127.0.0.1:1", *flags, "--yes"))

    traffic = Paying(cluster)
    with traffic.running():
        added = answer("add-shard", "s4", *addresses, *flags, "--yes")
        assert answer("add-shard", "s4", *addresses, *flags, "--yes") == added, "again, after an interruption"
        assert "there is a shard s4 already" in refusal(
            admin("add-shard", "s4", addresses[0], *flags, "--yes")
        )
        assert answer("rebalance", *flags, "--yes")["moved"]
        with cluster_directory(cluster) as directory:
            mine = directory.partition_map().partitions_of("s4")
        assert len(mine) == 2
        assert "still serves 2 partitions" in refusal(admin("remove-shard", "s4", *flags, "--yes"))
        assert keys_on(cluster, "s4", mine[0]) != []
        wait_until(
            lambda: new_nodes[1].command("DBSIZE") == new_nodes[0].command("DBSIZE"),
            "the replica has what it has",
        )
        answer("drain", "s4", *flags, "--yes")
        answer("remove-shard", "s4", *flags, "--yes")
    traffic.check(failed_max=0)
    assert answer("verify", *flags)["ok"]
    verified(cluster)
    for verb in ("status", "shards"):
        assert [shard["name"] for shard in answer(verb, *flags)["shards"]] == ["s1", "s2", "s3"]
    assert [len(node.cluster_nodes()) for node in new_nodes] == [1, 1]


def test_a_dead_node_of_a_removed_shard_is_forgotten(
    cluster: DevCluster, flags: list[str], new_nodes: list[RedisNode]
) -> None:
    """Only nodes that answered were: the others kept the dead one in their tables, and took it back when it started."""
    answer("add-shard", "s4", *(node.address for node in new_nodes), *flags, "--yes")
    ids = [node.command("CLUSTER", "MYID").decode() for node in new_nodes]
    new_nodes[1].kill()
    assert answer("remove-shard", "s4", *flags, "--yes")["nodes_not_told"] == []
    assert answer("remove-shard", "s4", *flags, "--yes")["removed"]["nodes"] == []  # a repeat is well
    for process in cluster.processes("redis"):
        with closing(connect(process["address"])) as client:
            known = str(client.execute_command("CLUSTER", "NODES"))
            assert [node_id for node_id in ids if node_id in known] == []


def test_a_stream_without_entries_moves(cluster: DevCluster, flags: list[str]) -> None:
    """As trimming leaves it after a replay, which writes no stream: the key exists, and the stream is empty."""
    partition = 6
    with WalletApi(cluster.url, PARTITIONS) as api:
        account = api.account(partition, "2.00")
        with cluster_directory(cluster) as directory:
            node = find_primary(directory.shards()[shard_of(cluster, partition)].nodes)
        assert node is not None
        with closing(connect(node.address)) as client:
            assert client.xtrim(
                PartitionKeys(tag_of(partition, PARTITIONS)).journal, maxlen=0, approximate=False
            )
        answer("move", str(partition), other_shard(cluster, partition), *flags, "--yes")
        assert api.get(f"/v1/accounts/{account}/balance?currency=USD").json()["balance"] == "2.00"
    assert answer("verify", *flags)["ok"]


def test_slots_that_another_claim_has_won_are_given_again(cluster: DevCluster, flags: list[str]) -> None:
    """The source learns by gossip that it has lost the slots. If it takes a new epoch before that, its claim wins.

    That happens when another move brings a partition to it at that moment. Slots and map used to differ afterwards.
    """
    partition = 7
    slot, source = slot_range(partition, PARTITIONS)[0], shard_of(cluster, partition)
    target = other_shard(cluster, partition)
    with cluster_directory(cluster) as directory, WalletApi(cluster.url, PARTITIONS) as api:
        account = api.account(partition, "2.00")
        shards = directory.shards()

        def claim(step: str) -> None:
            if step != "slots given":
                return
            node = find_primary(shards[source].nodes)
            assert node is not None
            with closing(connect(node.address)) as client:
                client.execute_command("CLUSTER", "BUMPEPOCH")
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", node.node_id)
            wait_until(lambda: not owns(target), "the source's claim has won")

        def owns(shard: str) -> bool:
            node = find_primary(shards[shard].nodes)
            return node is not None and node.owns(slot)

        new_driver(directory, partition, on_step=claim).begin(source, target)
        assert owns(target)
        assert not owns(source)
        cluster.wait_ready()
        assert api.get(f"/v1/accounts/{account}/balance?currency=USD").json()["balance"] == "2.00"
    assert answer("verify", *flags)["ok"]


@pytest.mark.parametrize("forgets", [pytest.param("source", marks=pytest.mark.soak), "target", "promoted"])
def test_a_node_that_forgets_while_it_is_copied_is_no_corruption(
    cluster: DevCluster, flags: list[str], forgets: str
) -> None:
    """No entry records that the source was rebuilt, or that the target lost its keys: the copy begins again."""
    partition = 5
    keys = PartitionKeys(tag_of(partition, PARTITIONS))
    source, target = shard_of(cluster, partition), other_shard(cluster, partition)
    struck: list[str] = []
    with cluster_directory(cluster) as directory, WalletApi(cluster.url, PARTITIONS) as api:
        account = api.account(partition, "2.00")
        node = find_primary(directory.shards()[source if forgets == "source" else target].nodes)
        assert node is not None

        def strike(step: str) -> None:
            if step == "copied" and not struck:
                struck.append(step)
                with closing(connect(node.address)) as client:
                    if forgets == "target":
                        client.flushall()
                        return
                    if forgets == "promoted":  # as by a failover that lost a write, and one back
                        client.execute_command("ASKING")
                        assert client.hdel(keys.balance("USD"), account) == 1
                        for shard in directory.shards().values():  # one of them has not the greatest epoch
                            primary = find_primary(shard.nodes)
                            assert primary is not None
                            with closing(connect(primary.address)) as other:
                                other.execute_command("CLUSTER", "BUMPEPOCH")
                        return
                    client.hset(keys.meta, mapping={"state": "recovering", "nonce": "f" * 16})
                    client.hset(keys.balance("USD"), "somebody", 7)

        assert new_driver(directory, partition, on_step=strike).begin(source, target).attempts > 1
        cluster.wait_ready()
        assert api.get(f"/v1/accounts/{account}/balance?currency=USD").json()["balance"] == "2.00"
    assert answer("verify", *flags)["ok"]


def test_what_is_refused_changes_nothing(cluster: DevCluster, flags: list[str]) -> None:
    home, other = shard_of(cluster, 0), other_shard(cluster, 0)
    with cluster_directory(cluster) as directory:
        before = directory.partition_map()
    for words, said in (
        (("move", "8", other), "there is no partition 8: there are 0 to 7"),
        (("move", "0", "s9"), "there is no shard s9: there are s1, s2, s3"),
        (("drain", "s9"), "there is no shard s9"),
        (("remove-shard", "s9"), "there is no shard s9"),
        (("remove-shard", home), "still serves"),
        (("resume", "0"), "partition 0 is not being moved: wallet-admin moves lists the moves in progress"),
        (("abort", "0"), "partition 0 is not being moved"),
    ):
        assert said in refusal(admin(*words, *flags, "--yes"))
    assert answer("move", "0", home, *flags, "--yes")["moved"] == []
    assert admin("move", "0", other, *flags, input="n\n").exit_code == 1
    plan = answer("move", "0", other, *flags, "--dry-run")
    assert plan["dry_run"]
    assert [(one["partition"], one["from"], one["to"]) for one in plan["plan"]["moves"]] == [(0, home, other)]
    with cluster_directory(cluster) as directory:
        assert directory.partition_map() == before
        assert directory.moves.all() == []


def test_the_nodes_themselves_refuse_a_run_that_was_overtaken(cluster: DevCluster) -> None:
    """Two runs hold connections to both nodes. Only the run that claimed last may write or thaw."""
    partition = 0
    keys = PartitionKeys(tag_of(partition, PARTITIONS))
    with cluster_directory(cluster) as directory:
        partition_map, shards = directory.partition_map(), directory.shards()
    home, other = shard_of(cluster, partition), other_shard(cluster, partition)
    source_node, target_node = find_primary(shards[home].nodes), find_primary(shards[other].nodes)
    assert source_node is not None
    assert target_node is not None
    epoch = partition_map.epoch_of(partition)
    with (
        closing(Source(source_node, keys, epoch)) as source,
        closing(Source(source_node, keys, epoch - 1)) as outdated,
        closing(Target(target_node, keys, "first")) as first,
        closing(Target(target_node, keys, "second")) as second,
    ):
        command = ("HSET", keys.balance("USD"), "somebody", "1")
        first.claim(source_node.node_id, epoch)
        first.write([command])
        second.claim(source_node.node_id, epoch)
        assert second.kinds() == {b"meta"}, "what the first had copied is gone"
        with pytest.raises(TakenOver):
            first.write([command])
        with pytest.raises(TakenOver):
            first.certify({"seq": "1", "nonce": "0" * 16}, epoch + 1, (1, "0" * 16))
        assert second.kinds() == {b"meta"}
        second.write([command])

        assert not outdated.release()
        with pytest.raises(Setback):
            outdated.freeze("first")
        source.freeze("first")
        assert source.seize("second")
        assert not source.frozen_by("first")
        assert not source.thaw("first")
        assert source.thaw("second")
        assert source.meta()["state"] == "live"
        second.drop()
    assert keys_on(cluster, other, partition) == []
    with closing(Target(source_node, keys, "third")) as live, pytest.raises(Setback):
        live.claim(target_node.node_id, epoch)
