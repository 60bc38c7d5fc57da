"""Asks the whole cluster once: shards and nodes, partitions, journal copies, API processes.

A part that does not answer is reported as such; only the directory must answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError

from wallet_engine.admin.journals import CopyState, copy_state
from wallet_engine.admin.nodes import ASKED_AT_ONCE_MAX, NodeState, look_at_all, primary_of
from wallet_engine.admin.sinks import SinkStatus, sinks_of
from wallet_engine.domain.errors import ConfigError, Corruption, text_of
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.stream import is_of_another_type
from wallet_engine.redis_store.topology import connect
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.following import FollowerInfo
from wallet_engine.routing.model import (
    ClusterConfig,
    JournalInfo,
    PartitionMap,
    ServiceInfo,
    Shard,
    Versions,
)
from wallet_engine.routing.slots import tag_of

#: How verbs describe a shard of `Survey.held_up`.
CLUSTER_DOWN: Final = "answers CLUSTERDOWN: its Redis Cluster is down; wallet-admin doctor says what to do"


@dataclass(frozen=True, slots=True)
class ShardState:
    """A shard with its nodes in the order of the directory; `primary` is None when none answers."""

    shard: Shard
    primary: NodeState | None
    nodes: tuple[NodeState, ...]


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """`state` is that of `meta`, `absent` without a `meta`, `unreachable` when Redis does not answer.

    It is `unreadable` when `meta` or `open` is of another type.
    """

    partition: int
    shard: str
    #: The epoch of the map; Redis serves under `redis_epoch`.
    epoch: int
    seq: int | None
    state: str
    redis_epoch: int | None
    open_entries: int | None


@dataclass(frozen=True, slots=True)
class JournalState:
    """A live copy. `lag_entries`: entries in Redis that it does not have; None if Redis or the copy does not answer."""

    info: JournalInfo
    #: partition -> last durable seq; None when the copy does not answer.
    durable: Mapping[int, int] | None
    lag_entries: int | None
    lag_partitions: tuple[int, ...]
    #: Partitions with entries on disk but without receipts: under recovery, or the new epoch is not known yet.
    silent_partitions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Survey:
    """The state of the cluster at one look."""

    config: ClusterConfig
    map_version: int
    shards: tuple[ShardState, ...]
    partitions: tuple[PartitionStatus, ...]
    journals: tuple[JournalState, ...]
    services: tuple[ServiceInfo, ...]
    #: Why no new payments are taken; empty while they are.
    paused: str = ""
    #: The processes that follow the journal, and the sink of each.
    followers: tuple[FollowerInfo, ...] = ()
    sinks: tuple[SinkStatus, ...] = ()
    #: A sentence about each node of the directory that cannot be read; it is left out of the rest.
    damaged: tuple[str, ...] = ()

    def held_up(self) -> list[str]:
        """Shards whose primary answers but serves no keys, because the Redis Cluster is down (CLUSTERDOWN)."""
        return [state.shard.name for state in self.shards if state.primary and not state.primary.cluster_ok]

    def by_versions(self) -> dict[Versions | None, list[str]]:
        """Versions -> names of the processes; None stands for processes too old to report their versions."""
        found: dict[Versions | None, list[str]] = {}
        for state in self.journals:
            found.setdefault(state.info.versions, []).append(state.info.journal_id)
        for follower in self.followers:
            found.setdefault(follower.versions, []).append(f"{follower.follower_id} for {follower.sink}")
        for service in self.services:
            found.setdefault(service.versions, []).append(service.service_id)
        return found


def survey(directory: Directory) -> Survey:
    """Ask everything once. Raises only the errors of the directory, and `Corruption` of its configuration and map."""
    config, partition_map = directory.config(), directory.partition_map()
    damaged: list[str] = []
    shards = directory.readable_shards(damaged)
    seen = look_at_all(address for shard in shards.values() for address in shard.nodes)
    states = []
    for shard in shards.values():
        nodes = tuple(seen[address] for address in shard.nodes)
        states.append(ShardState(shard, primary_of(nodes), nodes))
    partitions = _partitions(partition_map, states)
    # Redis was asked before the journals, so entries that arrive in between do not count as lag.
    journals = _journals(list(directory.readable_journals(damaged).values()), partitions)
    services = tuple(directory.readable_services(damaged).values())
    paused = _paused(directory, damaged)
    sinks = sinks_of(directory, {status.partition: status.seq for status in partitions}, damaged)
    followers = tuple(info for sink in sinks for info in sink.members)
    found = (tuple(states), partitions, journals, services)
    return Survey(config, partition_map.version, *found, paused, followers, sinks, tuple(damaged))


def _paused(directory: Directory, damaged: list[str]) -> str:
    """A pause that cannot be read is one all the same (`Pausing.watch`)."""
    try:
        pause = directory.pausing.get()
    except (ConfigError, Corruption) as error:
        damaged.append(text_of(error))
        return "the reason cannot be read"
    return "" if pause is None else pause.reason


def shards_by_id(states: Iterable[ShardState]) -> dict[str, str]:
    """Node id -> its shard, for every node that answers and for the primaries that replicas follow.

    Redis identifies its nodes by id. The addresses it reports are numeric where the directory has a host name.
    """
    views = [(state.shard.name, node.view) for state in states for node in state.nodes if node.view]
    followed = {view.primary_id: name for name, view in views if view.primary_id}
    return followed | {view.node_id: name for name, view in views}


def lag_of(
    durable: Mapping[int, int] | None, partitions: Sequence[PartitionStatus]
) -> tuple[int | None, tuple[int, ...]]:
    """Entries in Redis that a copy does not have (None when not known), and the partitions concerned."""
    if durable is None:
        return None, ()
    behind = {}
    for status in partitions:
        lag = 0 if status.seq is None else status.seq - durable.get(status.partition, 0)
        if lag > 0:
            behind[status.partition] = lag
    if any(status.seq is None for status in partitions):
        return None, tuple(behind)
    return sum(behind.values()), tuple(behind)


def _partitions(partition_map: PartitionMap, states: Sequence[ShardState]) -> tuple[PartitionStatus, ...]:
    found: dict[int, PartitionStatus] = {}
    for state in states:
        partitions = partition_map.partitions_of(state.shard.name)
        metas = _metas(state.primary, partitions, len(partition_map.partitions))
        for partition, meta in zip(partitions, metas, strict=True):
            epoch = partition_map.epoch_of(partition)
            if meta is None:
                found[partition] = PartitionStatus(
                    partition, state.shard.name, epoch, None, "unreachable", None, None
                )
                continue
            seq, redis_epoch, word, open_entries = meta
            found[partition] = PartitionStatus(
                partition,
                state.shard.name,
                epoch,
                _number(seq),
                word or "absent",
                _number(redis_epoch),
                open_entries,
            )
    for partition, entry in enumerate(partition_map.partitions):
        # The map names a shard without a description in the directory.
        missing = PartitionStatus(partition, entry.shard, entry.epoch, None, "unreachable", None, None)
        found.setdefault(partition, missing)
    return tuple(found[partition] for partition in sorted(found))


def _metas(
    primary: NodeState | None, partitions: Sequence[int], count: int
) -> list[tuple[str | None, str | None, str | None, int] | None]:
    """seq, epoch, state and number of open entries of each partition; None where Redis does not answer."""
    nothing: list[tuple[str | None, str | None, str | None, int] | None] = [None] * len(partitions)
    if primary is None or not partitions:
        return nothing
    client = connect(primary.address)
    try:
        with client.pipeline(transaction=False) as pipe:
            for partition in partitions:
                keys = PartitionKeys(tag_of(partition, count))
                pipe.hmget(keys.meta, ["seq", "epoch", "state"])
                pipe.zcard(keys.open)
            replies = pipe.execute(raise_on_error=False)
    except (RedisError, OSError, ValueError):
        return nothing
    finally:
        client.close()
    for number in range(len(partitions)):
        meta, open_entries = replies[2 * number : 2 * number + 2]
        if is_of_another_type(meta) or is_of_another_type(open_entries):
            nothing[number] = (None, None, "unreadable", 0)
        elif not isinstance(meta, Exception) and not isinstance(open_entries, Exception):
            nothing[number] = (*meta, open_entries)
    return nothing


def _journals(
    infos: Sequence[JournalInfo], partitions: Sequence[PartitionStatus]
) -> tuple[JournalState, ...]:
    if not infos:
        return ()
    with ThreadPoolExecutor(min(ASKED_AT_ONCE_MAX, len(infos))) as pool:
        answers = list(pool.map(copy_state, infos))
    return tuple(_journal(info, state, partitions) for info, state in zip(infos, answers, strict=True))


def _journal(
    info: JournalInfo, state: CopyState | None, partitions: Sequence[PartitionStatus]
) -> JournalState:
    if state is None:
        return JournalState(info, None, *lag_of(None, partitions))
    silent = tuple(sorted(state.on_disk.keys() - state.receipted.keys()))
    return JournalState(info, state.on_disk, *lag_of(state.on_disk, partitions), silent)


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else 0
