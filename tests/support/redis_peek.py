"""What Redis holds at this moment, journaled or not: the engine never shows that, so tests read it directly."""

import time

import redis
from support.dev_process import DevCluster

from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.slots import partition_of, tag_of

SERVES_S_MAX = 30.0


def node_of(cluster: DevCluster, partition: int, partitions: int) -> dict[str, str]:
    """The process (as in `dev.json`) of the node that owns the partition's slot; for clusters without replicas.

    Waits for a node that was just restarted and does not serve yet.
    """
    keys = PartitionKeys(tag_of(partition, partitions))
    deadline = time.monotonic() + SERVES_S_MAX
    told: object = "none runs"
    while True:
        for process in cluster.processes("redis"):
            client = connect(process["address"])
            try:
                client.hget(keys.meta, "seq")
            except redis.RedisError as error:  # MOVED, or not there yet
                told = error
            else:
                return process
            finally:
                client.close()
        assert time.monotonic() < deadline, f"no node owns partition {partition}: {told}"
        time.sleep(0.02)


def balance_minor(cluster: DevCluster, account: str, partitions: int, currency: str = "USD") -> int:
    """Minor units of an account."""
    partition = partition_of(account, partitions)
    client = connect(node_of(cluster, partition, partitions)["address"])
    try:
        value = client.hget(PartitionKeys(tag_of(partition, partitions)).balance(currency), account)
        return int(value or 0)
    finally:
        client.close()


def open_debits(cluster: DevCluster, partition: int, partitions: int) -> int:
    """Entries of the partition with outgoing money that is not settled."""
    return open_debits_of(node_of(cluster, partition, partitions)["address"], partition, partitions)


def open_debits_of(address: str, partition: int, partitions: int) -> int:
    """The same, of the node at this address."""
    client = connect(address)
    try:
        return int(client.zcard(PartitionKeys(tag_of(partition, partitions)).open))
    finally:
        client.close()


def newest_open(cluster: DevCluster, partition: int, partitions: int) -> int:
    """The seq of the newest entry with outgoing money that is not settled; 0 if there is none."""
    client = connect(node_of(cluster, partition, partitions)["address"])
    try:
        newest = client.zrange(PartitionKeys(tag_of(partition, partitions)).open, -1, -1, withscores=True)
        return int(newest[0][1]) if newest else 0
    finally:
        client.close()
