"""Stops a partition whose journal differs from what the rules decide, on the Redis node that serves it."""

from typing import Final

from redis.exceptions import RedisError

from wallet_engine.domain.errors import Outage, text_of
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.scripts import load_script
from wallet_engine.redis_store.topology import connect, find_primary
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.slots import tag_of

_CONDEMN: Final = load_script("condemn").text


def stop_partition(directory: Directory, partition: int, why: str) -> str:
    """Prevent all writes to it, also after a recovery. Returns its state before; `stopped`: it was already.

    Blocks. Raises `Outage` when its node cannot be asked, and the errors of the directory.
    """
    partition_map = directory.partition_map()
    name = partition_map.shard_of(partition)
    shard = directory.shard(name)
    if shard is None:
        raise Outage("partition_unavailable", f"the directory has no shard {name}")
    refused: list[str] = []
    primary = find_primary(shard.nodes, refused)
    if primary is None:
        raise Outage("partition_unavailable", f"no primary of shard {name} answers {'; '.join(refused)}")
    keys = PartitionKeys(tag_of(partition, len(partition_map.partitions)))
    client = connect(primary.address)
    try:
        return str(client.eval(_CONDEMN, 1, keys.meta, why))
    except (RedisError, OSError) as error:
        raise Outage("partition_unavailable", text_of(error)) from error
    finally:
        client.close()
