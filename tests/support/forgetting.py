"""Lets a partition of a running cluster forget: its journal process is made to say that a retention has passed."""

from collections.abc import Sequence

from support.dev_process import DevCluster
from support.redis_peek import node_of
from support.replicated import wait_until
from support.wallet_api import WalletApi

from wallet_engine.domain.oracle_state import WITNESSED
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.slots import tag_of

LONG_S = 10**7


def rotated(cluster: DevCluster, api: WalletApi, partition: int) -> None:
    """The partition's next window is in force. It remembers that one and the one before."""
    keys = PartitionKeys(tag_of(partition, api.partitions))
    client = connect(node_of(cluster, partition, api.partitions)["address"])
    try:
        before = int(client.hget(keys.meta, "window"))
        client.hset(keys.meta, WITNESSED, LONG_S)
        api.account(partition)  # the entry that opens the window
        assert int(client.hget(keys.meta, "window")) == before + 1
    finally:
        client.close()


def forgotten(cluster: DevCluster, api: WalletApi, partitions: Sequence[int]) -> None:
    """These partitions remember nothing of what they have decided so far."""
    for partition in (*partitions, *partitions):
        rotated(cluster, api, partition)


def no_group_is_open(cluster: DevCluster, api: WalletApi, partition: int) -> None:
    """Wait until the partition has no group under way."""
    keys = PartitionKeys(tag_of(partition, api.partitions))
    client = connect(node_of(cluster, partition, api.partitions)["address"])
    try:
        wait_until(lambda: not client.hlen(keys.group), "every group of the partition has ended")
    finally:
        client.close()
