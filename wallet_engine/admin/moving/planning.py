"""Plans a move: measures what is moved and finds what prevents it. Asks nodes and changes nothing."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import redis
from redis.exceptions import RedisError

from wallet_engine.admin.diagnosis.strays import is_engines, keys_in_slot, shown
from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.key_names import BALANCE, SEEN
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.refusals import hindrance_of
from wallet_engine.redis_store.scripts import service_scripts
from wallet_engine.redis_store.topology import NodeView, check_settings, connect, find_primary
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import PartitionMap, Shard
from wallet_engine.routing.slots import slot_of, slot_range, tag_of

#: A target may not be filled past this share of its maxmemory.
MEMORY_SHARE_MAX: Final = 0.85
#: Fields of a hash that Redis samples to estimate its memory.
_SAMPLES: Final = 20


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """One partition, with the amount of its data."""

    partition: int
    source: str
    target: str
    accounts: int
    #: Number of remembered answers (of transaction ids).
    answers: int
    bytes: int
    open_entries: int

    @property
    def fields(self) -> int:
        return self.accounts + self.answers

    def document(self) -> dict[str, object]:
        return {
            "partition": self.partition,
            "from": self.source,
            "to": self.target,
            "accounts": self.accounts,
            "dedupe_answers": self.answers,
            "bytes": self.bytes,
            "open_entries": self.open_entries,
        }


@dataclass(frozen=True, slots=True)
class Cluster:
    """The shards, and the primaries that answer. Its methods raise `ConfigError` for a problem that stops a move."""

    map: PartitionMap
    shards: Mapping[str, Shard]
    primaries: Mapping[str, NodeView]

    @classmethod
    def look(cls, directory: Directory) -> "Cluster":
        shards = directory.shards()
        found = {name: find_primary(shard.nodes) for name, shard in shards.items()}
        primaries = {name: node for name, node in found.items() if node is not None}
        return cls(directory.partition_map(), shards, primaries)

    def shard(self, name: str) -> Shard:
        if name not in self.shards:
            raise ConfigError(f"there is no shard {name}: there are {', '.join(self.shards)}")
        return self.shards[name]

    def primary(self, name: str) -> NodeView:
        nodes = self.shard(name).nodes
        if name not in self.primaries:
            raise ConfigError(f"shard {name} does not answer ({', '.join(nodes)}): nothing was changed")
        return self.primaries[name]

    def check_partition(self, partition: int) -> None:
        count = len(self.map.partitions)
        if not 0 <= partition < count:
            raise ConfigError(f"there is no partition {partition}: there are 0 to {count - 1}")


def plan_move(cluster: Cluster, partition: int, target: str) -> PlannedMove:
    """Measure the partition and check both shards. Raises `ConfigError` for a problem that stops the move."""
    cluster.check_partition(partition)
    source = cluster.map.shard_of(partition)
    cluster.shard(target)
    if source == target:
        raise ConfigError(f"partition {partition} is on {target} already")
    source_node = cluster.primary(source)
    cluster.primary(target)
    slot = slot_range(partition, len(cluster.map.partitions))[0]
    if not source_node.owns(slot):
        raise ConfigError(
            f"{source_node.address} does not own slot {slot} of partition {partition}: see wallet-admin status"
        )
    return measure(cluster, partition, target)


def check_target(cluster: Cluster, target: str, moves: list[PlannedMove]) -> None:
    """Raises `ConfigError` when the shard cannot take these partitions."""
    node = cluster.primary(target)
    check_settings(node.address)
    coming = sum(move.bytes for move in moves)
    with closing(connect(node.address)) as client:
        try:
            if not all(client.script_exists(*(script.sha for script in service_scripts()))):
                raise ConfigError(
                    f"shard {target} is not ready to serve: the journal process looks at it every 2 s, see that it runs"
                )
            memory = client.info("memory")
        except (RedisError, OSError) as error:
            raise ConfigError(f"shard {target} {hindrance_of(error).text}") from None
    limit, used = int(memory["maxmemory"]), int(memory["used_memory"])
    if limit and used + coming > limit * MEMORY_SHARE_MAX:
        raise ConfigError(
            f"shard {target} has {(limit - used) >> 20} MiB left of {limit >> 20}, and {coming >> 20} MiB would come: "
            f"raise maxmemory, or move less"
        )


def measure(cluster: Cluster, partition: int, target: str = "") -> PlannedMove:
    """The amount of the partition's data. Raises `ConfigError` when its shard does not answer, or it is not live."""
    source = cluster.map.shard_of(partition)
    node = cluster.primary(source)
    keys = PartitionKeys(tag_of(partition, len(cluster.map.partitions)))
    with closing(connect(node.address)) as client:
        try:
            return _ask(client, partition, keys, source, target)
        except (RedisError, OSError) as error:
            raise ConfigError(f"shard {source} {hindrance_of(error).text}") from None


def _ask(client: redis.Redis, partition: int, keys: PartitionKeys, source: str, target: str) -> PlannedMove:
    state = str(client.hget(keys.meta, "state") or "absent")
    if state not in ("live", "moving"):
        raise ConfigError(f"partition {partition} is {state} on {source}: move it when it is live")
    found = keys_in_slot(client, slot_of(keys.tag))
    if foreign := [shown(name) for name in found if not is_engines(name, keys.tag)]:
        raise ConfigError(
            f"the slot of partition {partition} has keys that are not the engine's ({', '.join(foreign[:3])}): "
            f"wallet-admin doctor says how to remove them"
        )
    names = [name.decode() for name in found]
    hashes = [name for name in names if name.partition(":")[0] in (BALANCE, SEEN)]
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.memory_usage(name, samples=_SAMPLES)
        for name in hashes:
            pipe.hlen(name)
        pipe.zcard(keys.open)
        *replies, open_entries = pipe.execute()
    lengths = dict(zip(hashes, replies[len(names) :], strict=True))
    answers = sum(length for name, length in lengths.items() if name.startswith(SEEN))
    accounts = sum(lengths.values()) - answers
    memory = sum(size or 0 for size in replies[: len(names)])
    return PlannedMove(partition, source, target, accounts, answers, memory, open_entries)
