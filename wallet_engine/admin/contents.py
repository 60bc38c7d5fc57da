"""Counts balances and stream entries of each partition, and reads load and replication offset of each node."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from redis.exceptions import RedisError

from wallet_engine.admin.survey import ShardState, Survey
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.slots import tag_of


@dataclass(frozen=True, slots=True)
class PartitionContents:
    """`balances` counts pairs of account and currency, including the partition's part of system accounts."""

    balances: int
    stream_entries: int


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """`repl_offset`: the node's replication offset in bytes."""

    ops_per_s: int
    clients: int
    repl_offset: int


def contents_of(found: Survey) -> dict[int, PartitionContents]:
    """Partition -> its contents, without the partitions of shards that do not answer."""
    result: dict[int, PartitionContents] = {}
    for state in found.shards:
        mine = [p.partition for p in found.partitions if p.shard == state.shard.name]
        result.update(_of_shard(state, mine, found.config.partitions))
    return result


def _of_shard(state: ShardState, partitions: list[int], count: int) -> Mapping[int, PartitionContents]:
    if state.primary is None or not partitions:
        return {}
    keys = [PartitionKeys(tag_of(partition, count)) for partition in partitions]
    client = connect(state.primary.address)
    try:
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(key.meta, "currencies")
            currencies = [[name for name in (text or "").split(",") if name] for text in pipe.execute()]
            for key, names in zip(keys, currencies, strict=True):
                pipe.xlen(key.journal)
                for name in names:
                    pipe.hlen(key.balance(name))
            replies = iter(pipe.execute())
    except (RedisError, OSError):
        return {}
    finally:
        client.close()
    result = {}
    for partition, names in zip(partitions, currencies, strict=True):
        length = next(replies)
        result[partition] = PartitionContents(sum(next(replies) for _ in names), length)
    return result


def loads_of(addresses: Iterable[str]) -> dict[str, NodeLoad]:
    """Address -> the load that the node reports, without nodes that do not answer."""
    loads = {}
    for address in addresses:
        client = connect(address)
        try:
            info = client.info("everything")
        except (RedisError, OSError):
            continue
        finally:
            client.close()
        offset = info["slave_repl_offset"] if info["role"] == "slave" else info["master_repl_offset"]
        loads[address] = NodeLoad(
            int(info["instantaneous_ops_per_sec"]), int(info["connected_clients"]), int(offset)
        )
    return loads
