"""G5, G7, G9: a shard's primary changes under traffic, and the new one has old data, other data, or none.

A partition is compared with the journal before it serves: missing entries are replayed, entries that the journal does
not have are dropped, and the epoch is raised in ZooKeeper and in the partition. Each variant first proves that the data
it brings back are old. README.md in this folder has the figures of each.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.dev_process import DevCluster
from support.replicated import (
    Process,
    ReplicatedShard,
    command,
    kill,
    restarted_by_hand,
    supervisor_sleeps,
    wait_until,
)
from support.stopped import stopped
from support.under_fault import UnderFault

from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.model import spread
from wallet_engine.routing.slots import tag_of

PARTITIONS = 16
#: How long traffic goes on after the old data are kept and before the fault.
OLD_S = 0.5
#: Callers of other shards never wait longer than this for a success.
SPARED_GAP_S_MAX = 6.0
DOWN_S = 3.0

pytestmark = pytest.mark.timeout(150)


class Scene:
    """One shard of the shared cluster, struck under traffic and checked afterwards."""

    def __init__(self, cluster: DevCluster, shard: str) -> None:
        self.cluster = cluster
        self.shard = ReplicatedShard(cluster, shard, PARTITIONS)
        self.partitions = frozenset(spread(PARTITIONS, ["s1", "s2", "s3"]).partitions_of(shard))
        self.later = ExitStack()

    def strike(self, name: str, fault: Callable[[], None], *, recovers: bool = True) -> UnderFault:
        self.shard.wait_in_sync()
        before = self._epochs()
        traffic = UnderFault(self.cluster, PARTITIONS, self.partitions)
        with self.later:
            traffic.run(fault)
            traffic.check(name)
        self.shard.wait_in_sync()
        if recovers:
            after = self._epochs()
            assert all(after[p] > before[p] for p in self.partitions), (before, after)
            assert self._epochs_in_redis() == {p: after[p] for p in self.partitions}
        return traffic

    def _epochs(self) -> dict[int, int]:
        directory = open_directory(self.cluster.state()["zookeeper"], None)
        try:
            partition_map = directory.partition_map()
            return {partition: partition_map.epoch_of(partition) for partition in range(PARTITIONS)}
        finally:
            directory.close()

    def _epochs_in_redis(self) -> dict[int, int]:
        primary = self.shard.primary()
        return {
            p: int(command(primary, "HGET", PartitionKeys(tag_of(p, PARTITIONS)).meta, "epoch"))
            for p in self.partitions
        }

    def wait_behind(self, old: Callable[[], dict[str, int]], node: Process) -> None:
        """Traffic goes on for a while, and until the node is ahead of what the fault brings back."""
        time.sleep(OLD_S)
        wait_until(lambda: _behind(old(), self.shard.seqs(node)), "the data to bring back are old")


@pytest.fixture
def scene(replicated: DevCluster) -> Scene:
    return Scene(replicated, "s2")


def folder_of(node: Process) -> Path:
    argv = Path(f"/proc/{node['pid']}/cmdline").read_bytes().decode().split("\0")
    return Path(argv[argv.index("--dir") + 1])


@pytest.mark.soak
def test_g9_killed_primary_with_a_replica_in_sync(scene: Scene) -> None:
    def fault() -> None:
        replica = scene.shard.replica()
        kill(scene.shard.primary())
        scene.shard.wait_promoted(replica)

    traffic = scene.strike("killed primary, replica in sync", fault)
    assert traffic.spared_gap_s < SPARED_GAP_S_MAX


@pytest.mark.soak
def test_g5_g9_killed_primary_with_a_replica_that_lags(scene: Scene) -> None:
    """The promoted node lacks entries that are on disk and were answered."""

    def fault() -> None:
        primary, replica = scene.shard.primary(), scene.shard.replica()
        scene.shard.cut_replication(primary)
        scene.wait_behind(lambda: scene.shard.seqs(replica), primary)
        kill(primary)
        scene.shard.wait_promoted(replica)

    traffic = scene.strike("killed primary, replica lags", fault)
    assert traffic.spared_gap_s < SPARED_GAP_S_MAX


@pytest.mark.soak
def test_g5_g9_primary_restarts_empty_before_anybody_is_promoted(scene: Scene) -> None:
    """Its replica copies the empty data set."""

    def fault() -> None:
        primary = scene.shard.primary()
        scene.later.enter_context(restarted_by_hand(scene.shard, primary))

    scene.strike("primary restarts empty", fault)


@pytest.mark.soak
def test_g5_g9_primary_restarts_from_an_old_rdb(scene: Scene) -> None:
    """The file has state `live`, the certified owner and the current epoch: only missing scripts and the journal
    show that it is old.
    """

    def fault() -> None:
        primary = scene.shard.primary()
        command(primary, "SAVE")
        then = scene.shard.seqs(primary)
        scene.wait_behind(lambda: then, primary)
        assert (folder_of(primary) / "dump.rdb").stat().st_size > 0
        scene.later.enter_context(restarted_by_hand(scene.shard, primary))

    scene.strike("primary restarts from an old RDB", fault)


@pytest.mark.soak
def test_g5_g9_primary_restarts_from_an_old_aof(scene: Scene) -> None:
    """The same with an append-only file that was switched off a while ago."""

    def fault() -> None:
        primary = scene.shard.primary()
        command(primary, "CONFIG", "SET", "appendonly", "yes")
        wait_until(lambda: _aof_ready(command(primary, "INFO", "persistence")), "the AOF is begun")
        time.sleep(OLD_S)
        command(primary, "CONFIG", "SET", "appendonly", "no")
        then = scene.shard.seqs(primary)
        scene.wait_behind(lambda: then, primary)
        assert list((folder_of(primary) / "appendonlydir").iterdir())
        scene.later.enter_context(restarted_by_hand(scene.shard, primary, "--appendonly", "yes"))

    scene.strike("primary restarts from an old AOF", fault)


def _aof_ready(info: dict[str, Any]) -> bool:
    return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]


def test_g7_g9_demoted_primary_is_promoted_again_with_old_data(scene: Scene) -> None:
    """Its data name it as owner and say `live`, and its process still has the scripts: only the epoch is old."""

    def fault() -> None:
        first, second = scene.shard.primary(), scene.shard.replica()
        scene.shard.cut_replication(second)  # so that the demoted node gets no newer entries
        scene.shard.promote(second, "TAKEOVER")
        wait_until(lambda: _served(scene, second), "the promoted node serves")
        scene.wait_behind(lambda: scene.shard.seqs(first), second)
        scene.shard.promote(first, "TAKEOVER")
        scene.shard.allow_replication(second)

    scene.strike("demoted primary promoted again", fault)


def _behind(old: dict[str, int], now: dict[str, int]) -> bool:
    assert old
    return any(seq < now[tag] for tag, seq in old.items())


def _served(scene: Scene, node: Process) -> bool:
    node_id = command(node, "CLUSTER", "MYID")
    metas = [PartitionKeys(tag_of(p, PARTITIONS)).meta for p in scene.partitions]
    return all(command(node, "HMGET", meta, "owner", "state") == [node_id, "live"] for meta in metas)


@pytest.mark.soak
def test_g9_planned_failover(scene: Scene) -> None:
    def fault() -> None:
        scene.shard.promote(scene.shard.replica())

    traffic = scene.strike("planned failover", fault)
    assert traffic.spared_gap_s < SPARED_GAP_S_MAX


@pytest.mark.soak
def test_g9_a_replica_without_scripts_is_left(scene: Scene) -> None:
    """A primary loses its scripts, as by a restart, and its replica takes over while services stay connected to it. To
    a call that declares no key, such a node answers NOSCRIPT and not MOVED.
    """

    def fault() -> None:
        primary, replica = scene.shard.primary(), scene.shard.replica()
        with stopped(*scene.cluster.processes("journal")):  # it would load the scripts again too early
            command(primary, "SCRIPT", "FLUSH")
            scene.shard.promote(replica)
            scene.shard.wait_promoted(replica)

    scene.strike("replica without scripts", fault)


@pytest.mark.soak
def test_g9_one_shard_down_does_not_stop_the_others(scene: Scene) -> None:
    """Both nodes are gone for some seconds and come back empty; transfers inside the other shards go on."""

    def fault() -> None:
        with supervisor_sleeps(scene.cluster):
            for node in scene.shard.nodes:
                kill(node)
            time.sleep(DOWN_S)

    traffic = scene.strike("whole shard down for 3 s", fault)
    paid = [at for at in traffic.spared.successes_s if 0 < at - traffic.struck_at < DOWN_S]
    assert len(paid) > 20
    assert traffic.spared_gap_s < SPARED_GAP_S_MAX
