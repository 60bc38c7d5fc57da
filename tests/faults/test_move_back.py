"""Partitions that return to a shard whose primary has changed since they left (G11).

A primary that loses a slot drops its keys without telling its replicas, so a promoted replica may still have some.
These leftovers are not valid: no move fails because of them, and none returns with a partition.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.dev_process import DevCluster
from support.move_run import signalled
from support.paying import THROUGHOUT_S, Paying, cluster_directory
from support.replicated import ReplicatedShard, command, wait_agreed, wait_until
from support.verification import verified
from unit.admin.made import admin, answer

from wallet_engine.journal import read
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect, slot_owners
from wallet_engine.routing.slots import slot_range, tag_of

PARTITIONS = 8


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """Two shards with a replica each; payments run through all tests and are checked at the end."""
    cluster = DevCluster(tmp_path_factory.mktemp("back") / "dev", shards=2, replicas=1, partitions=PARTITIONS)
    try:
        cluster.start()
        paying = Paying(cluster, callers_count=4, pause_s=THROUGHOUT_S)
        with paying.running():
            yield cluster
        paying.check()
        verified(cluster)
    finally:
        cluster.kill_all()


@pytest.fixture
def s1(cluster: DevCluster) -> ReplicatedShard:
    """Shard s1, when both shards are in sync and certified."""
    for name in ("s1", "s2"):
        ReplicatedShard(cluster, name, PARTITIONS).wait_in_sync()
    cluster.wait_ready()
    return ReplicatedShard(cluster, "s1", PARTITIONS)


def left_on(cluster: DevCluster, partition: int) -> dict[str, list[str]]:
    """Node -> its keys of the partition's slot, for each node that has some, replicas too."""
    slot, found = slot_range(partition, PARTITIONS)[0], {}
    for node in cluster.processes("redis"):
        with closing(connect(node["address"])) as client:
            names = client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100)
        if names:
            found[node["name"]] = sorted(names)
    return found


def move(cluster: DevCluster, partition: int, shard: str) -> None:
    """Return when the partition is on the shard, and only there."""
    if home_of(cluster, partition) != shard:
        answer("move", str(partition), shard, *cluster.coordination_flags(), "--yes")
    wait_until(
        lambda: {name[:2] for name in left_on(cluster, partition)} == {shard},
        f"nothing of partition {partition} is outside {shard}",
    )


def fail_over(shard: ReplicatedShard) -> None:
    """Its replica serves, certified. TAKEOVER needs no votes, and Redis does not give votes twice within seconds."""
    wait_agreed(shard.cluster)
    shard.promote(shard.replica(), "TAKEOVER")
    wait_agreed(shard.cluster)
    shard.cluster.wait_ready()


def plant(shard: ReplicatedShard, partition: int, **meta: str | int) -> None:
    """Write `meta` of a partition that is on another shard, as a promoted replica may have it."""
    with cluster_directory(shard.cluster) as directory:
        home = directory.partition_map().shard_of(partition)
    slot, home_id = (
        slot_range(partition, PARTITIONS)[0],
        node_id(ReplicatedShard(shard.cluster, home, PARTITIONS)),
    )
    with closing(connect(shard.primary()["address"])) as client:
        client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", home_id)
        with client.pipeline(transaction=False) as pipe:
            pipe.execute_command("ASKING")
            pipe.hset(PartitionKeys(tag_of(partition, PARTITIONS)).meta, mapping=dict(meta))
            pipe.execute_command("ASKING")
            pipe.hset(PartitionKeys(tag_of(partition, PARTITIONS)).balance("USD"), "somebody", 7)
            pipe.execute()
        client.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")


def node_id(shard: ReplicatedShard) -> str:
    with closing(connect(shard.primary()["address"])) as client:
        return str(client.execute_command("CLUSTER", "MYID"))


def take_by_hand(shard: ReplicatedShard, slot: int) -> None:
    """The epoch is raised first: under an old epoch the owner of the slot may refuse the claim, and undo it."""
    wait_agreed(shard.cluster)  # else it does not know the highest epoch
    command(shard.primary(), "CLUSTER", "BUMPEPOCH")
    command(shard.primary(), "CLUSTER", "SETSLOT", slot, "NODE", node_id(shard))
    wait_agreed(shard.cluster)


def epoch_of(cluster: DevCluster, partition: int) -> int:
    with cluster_directory(cluster) as directory:
        return directory.partition_map().epoch_of(partition)


def home_of(cluster: DevCluster, partition: int) -> str:
    with cluster_directory(cluster) as directory:
        return directory.partition_map().shard_of(partition)


def test_a_move_leaves_nothing_on_replicas_and_the_partition_comes_back(s1: ReplicatedShard) -> None:
    cluster = s1.cluster
    move(cluster, 0, "s2")
    fail_over(s1)
    move(cluster, 0, "s1")
    move(cluster, 0, "s2")
    move(cluster, 0, "s1")


def test_a_replica_that_missed_the_move_is_promoted(s1: ReplicatedShard) -> None:
    """It has the whole partition, `live` under an old epoch. Nothing of that may come back with the partition."""
    cluster = s1.cluster
    s1.cut_replication(old := s1.primary())
    answer("move", "1", "s2", *cluster.coordination_flags(), "--yes")
    assert {name[:2] for name in left_on(cluster, 1)} == {"s1", "s2"}
    fail_over(s1)
    s1.allow_replication(old)
    s1.wait_in_sync()
    move(cluster, 1, "s1")
    fail_over(s1)
    assert answer("verify", *cluster.coordination_flags())["ok"]


def test_a_driver_that_died_behind_the_switch_is_gone_on_with_after_a_failover(s1: ReplicatedShard) -> None:
    """Keys that the source still had to delete are deleted on the node that serves by now."""
    cluster, flags = s1.cluster, s1.cluster.coordination_flags()
    assert signalled(cluster, "SIGKILL", 1, "open", "move", "2", "s2").returncode < 0
    wait_until(lambda: home_of(cluster, 2) == "s2", "the move has switched")
    fail_over(s1)
    answer("resume", "2", *flags, "--yes")
    wait_until(lambda: {name[:2] for name in left_on(cluster, 2)} == {"s2"}, "nothing is left on s1")
    move(cluster, 2, "s1")


@pytest.mark.parametrize("verb", ["resume", pytest.param("abort", marks=pytest.mark.soak)])
def test_a_source_that_fails_over_while_its_slot_is_imported(s1: ReplicatedShard, verb: str) -> None:
    """A target that imports a slot gives it to no other node by itself: when the old owner steps down, it has none."""
    cluster, flags = s1.cluster, s1.cluster.coordination_flags()
    move(cluster, 0, "s1")
    wait_agreed(cluster)
    assert signalled(cluster, "SIGINT", 1, "copied", "move", "0", "s2").returncode
    target, slot = ReplicatedShard(cluster, "s2", PARTITIONS).primary(), slot_range(0, PARTITIONS)[0]
    s1.promote(s1.replica(), "TAKEOVER")
    wait_until(
        lambda: slot not in slot_owners(str(command(target, "CLUSTER", "NODES")))[0],
        "nobody owns the slot there",
    )
    done = answer(verb, "0", *flags, "--yes")
    assert home_of(cluster, 0) == ("s2" if verb == "resume" else "s1")
    assert verb == "resume" or not done["left_on_target"], done
    wait_agreed(cluster)
    cluster.wait_ready()


def test_leftovers_of_before_are_passed_over(s1: ReplicatedShard) -> None:
    """`resume` and `abort` of a killed move pass over them, and so do `drain` and `rebalance`."""
    cluster, flags = s1.cluster, s1.cluster.coordination_flags()
    for state in ("moved", "live"):
        move(cluster, 3, "s2")
        plant(s1, 3, state=state, epoch=1, seq=5, nonce="0" * 16)
        assert signalled(cluster, "SIGKILL", 1, "planned", "move", "3", "s1").returncode < 0
        undone = answer("abort", "3", *flags, "--yes")
        assert (undone["left_on_target"], undone["why_left"]) == (False, None)
        wait_until(lambda: {name[:2] for name in left_on(cluster, 3)} == {"s2"}, "nothing is left on s1")

        plant(s1, 3, state=state, epoch=1, seq=5, nonce="0" * 16)
        assert signalled(cluster, "SIGKILL", 1, "planned", "move", "3", "s1").returncode < 0
        answer("resume", "3", *flags, "--yes")
    answer("drain", "s1", *flags, "--yes")
    for partition in range(PARTITIONS):
        plant(s1, partition, state=("moved", "live")[partition % 2], epoch=1)
    assert len(answer("rebalance", *flags, "--yes")["moved"]) == PARTITIONS // 2
    answer("drain", "s2", *flags, "--yes")
    wait_until(
        lambda: all({n[:2] for n in left_on(cluster, p)} == {"s1"} for p in range(PARTITIONS)), "all is on s1"
    )


@pytest.mark.parametrize("ending", ["the map follows, and it is moved back", "the slot is given back"])
def test_what_only_a_replica_has_does_not_come_back(s1: ReplicatedShard, tmp_path: Path, ending: str) -> None:
    """When a slot is taken away by hand, only the primary drops its keys; its replica keeps them."""
    cluster, flags = s1.cluster, s1.cluster.coordination_flags()
    move(cluster, 5, "s1")
    slot, stale = slot_range(5, PARTITIONS)[0], PartitionKeys(tag_of(5, PARTITIONS)).balance("ZWL")
    s2 = ReplicatedShard(cluster, "s2", PARTITIONS)
    primary, replica = s1.primary()["name"], s1.replica()["name"]
    command(s1.primary(), "HSET", stale, "somebody", 7)
    wait_until(lambda: stale in left_on(cluster, 5).get(replica, ()), "the replica has it")
    take_by_hand(s2, slot)
    wait_until(lambda: primary not in left_on(cluster, 5), "the primary has dropped its keys")
    assert stale in left_on(cluster, 5)[replica]
    answer("backup", tmp_path / "now.json", *flags)
    if ending == "the slot is given back":
        take_by_hand(s1, slot)
        wait_until(lambda: primary in left_on(cluster, 5), "it is made anew")
        cluster.wait_ready()
    else:
        words = ("restore", tmp_path / "now.json", "--replace", *flags, "--yes")
        wait_until(lambda: admin(*words).exit_code == 0, "recoveries change the map meanwhile")
        cluster.wait_ready()
        move(cluster, 5, "s1")
    wait_until(
        lambda: (found := left_on(cluster, 5))[primary] == found[replica], "the two have the same keys"
    )
    assert stale not in left_on(cluster, 5)[replica]


def test_a_slot_comes_back_with_some_of_its_keys_while_the_journal_starts_again(s1: ReplicatedShard) -> None:
    """Its `meta` is as the journal knows it, and its balances are gone. The process that saw the slot away is too."""
    cluster = s1.cluster
    move(cluster, 6, "s1")
    slot, meta = slot_range(6, PARTITIONS)[0], PartitionKeys(tag_of(6, PARTITIONS)).meta
    s2 = ReplicatedShard(cluster, "s2", PARTITIONS)
    before, (journal,) = epoch_of(cluster, 6), cluster.processes("journal")
    kept = command(s1.primary(), "HGETALL", meta)
    take_by_hand(s2, slot)
    wait_until(lambda: epoch_of(cluster, 6) > before, "the journal process has seen that it is away")
    os.kill(journal["pid"], signal.SIGSTOP)
    last = [each for each in read(cluster.data_dir / "journal") if each.partition == 6][-1]
    seq, _, nonce, _, clock = last.payload.decode().split()[:5]
    plant(s1, 6, **{**kept, "seq": seq, "nonce": nonce, "clock": clock})
    take_by_hand(s1, slot)
    wait_until(lambda: s1.primary()["name"] in left_on(cluster, 6), "it has come back")
    os.kill(journal["pid"], signal.SIGKILL)
    wait_until(lambda: cluster.pids("journal") not in ([], [journal["pid"]]), "the journal starts again")
    cluster.wait_ready()
    assert answer("verify", *cluster.coordination_flags())["ok"]


def test_what_may_be_newer_than_the_map_is_left_alone(s1: ReplicatedShard) -> None:
    """`abort` says why it leaves the keys, and does not claim that a healthy shard does not answer."""
    cluster, flags = s1.cluster, s1.cluster.coordination_flags()
    move(cluster, 4, "s2")
    plant(s1, 4, state="live", epoch=2**50)
    refused = admin("move", "4", "s1", *flags, "--yes")
    assert refused.exit_code == 1
    assert f"in state live under epoch {2**50}, and the map says" in refused.stderr
    undone = answer("abort", "4", *flags, "--yes")
    assert undone["left_on_target"]
    assert f"in state live under epoch {2**50}" in undone["why_left"]
    plant(s1, 4, state="moved")
    move(cluster, 4, "s1")
