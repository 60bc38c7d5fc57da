"""Asks everything that `doctor` checks, once. A part that does not answer is reported; only the directory must."""

import shutil
import socket
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import redis
from kazoo.hosts import collect_hosts
from redis.exceptions import RedisError, ResponseError

from wallet_engine.admin.diagnosis.certificates import Certificate, certificates_of
from wallet_engine.admin.diagnosis.expiring import expiring_fields, expiring_keys, has_expiring_fields
from wallet_engine.admin.diagnosis.holds import OverdueHold, overdue_holds
from wallet_engine.admin.diagnosis.probing import Probes, probe_partitions
from wallet_engine.admin.diagnosis.strays import NO_STRAYS, Strays, find_strays, is_engines, keys_in_slot
from wallet_engine.admin.nodes import ASKED_AT_ONCE_MAX, look_at_all, primary_of
from wallet_engine.admin.service_calls import ask_one
from wallet_engine.admin.survey import ShardState, Survey, shards_by_id, survey
from wallet_engine.admin.tracing.open_entries import OpenEntry, find_open_entries
from wallet_engine.admin.tracing.open_groups import OpenGroup, find_open_groups, seen_twice
from wallet_engine.domain.addresses import join_address
from wallet_engine.domain.errors import ConfigError, Corruption, text_of
from wallet_engine.redis_store.greeting import hindrance_at
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.refusals import Obstacle
from wallet_engine.redis_store.scripts import service_scripts
from wallet_engine.redis_store.topology import ask_settings, connect, slot_owners
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.following import FollowerInfo
from wallet_engine.routing.model import PartitionMap, ServiceInfo
from wallet_engine.routing.moves import MOVES
from wallet_engine.routing.slots import slot_of, tag_of
from wallet_engine.routing.zookeeper_tls import zookeeper_tls

#: Settings of Redis that are checked.
SETTINGS: Final = ("maxmemory-policy", "cluster-require-full-coverage", "cluster-allow-replica-migration")
_SRVR_S_MAX: Final = 2.0


@dataclass(frozen=True, slots=True)
class ZooKeeperServer:
    """`mode` is leader, follower, observer or standalone; "" when it does not serve."""

    address: str
    mode: str


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """What the primary of a partition reports about it, beyond the survey."""

    partition: int
    owner: str
    #: Entries in the stream, without the open ones, which wait for their receivers (`lua/apply.lua`).
    stream_entries: int
    #: Keys in its slot that are not the engine's.
    unknown_keys: tuple[bytes, ...]
    #: Why recovery stopped the partition: the part of its journal that does not replay as recorded.
    fault: str = ""
    #: The date of its newest entry minus the clock of its node, in milliseconds.
    recorded_ahead_ms: int = 0
    #: Keys of the engine with a time to live -> its milliseconds; and likewise (key, field).
    expiring: Mapping[bytes, int] = field(default_factory=dict)
    expiring_fields: Mapping[tuple[bytes, bytes], int] = field(default_factory=dict)
    overdue_holds: tuple[OverdueHold, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a Redis node that answers reports, beyond the survey."""

    address: str
    shard: str
    settings: Mapping[str, str]
    #: Its clock minus the clock of this machine, in milliseconds.
    clock_ahead_ms: int
    #: `CLUSTER NODES` as this node answers it.
    cluster_nodes: str
    #: True for a replica: only primaries are asked.
    scripts_loaded: bool
    #: Keys in slots of no partition that the map places here.
    strays: Strays = NO_STRAYS
    #: For a primary: partition -> (state, epoch), of partitions whose slot it owns but the map places elsewhere.
    holds: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    #: Why `settings` is incomplete; "" when it is complete.
    unchecked: str = ""


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """`why` an API process does not serve every partition, "" if it does; `dead` if it serves none."""

    why: str
    dead: bool
    #: Its clock minus the clock of this machine, in milliseconds.
    clock_ahead_ms: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """All that `doctor` decides from. `zookeeper` is empty for a map file."""

    survey: Survey
    map: PartitionMap
    zookeeper: tuple[ZooKeeperServer, ...]
    nodes: Mapping[str, NodeFacts]
    partitions: Mapping[int, PartitionFacts]
    open_entries: tuple[OpenEntry, ...]
    #: partition -> the data of its move's node
    moves: Mapping[str, bytes]
    copies: frozenset[str]
    services: Mapping[str, ServiceFacts]
    #: journal id -> free part of the disk, for directories on this host
    disk_free: Mapping[str, float]
    probes: Probes
    #: Redis node -> why it did not answer all questions of `NodeFacts`.
    refused: Mapping[str, str] = field(default_factory=dict)
    #: Sink -> processes that follow the journal for it; includes sinks that once had followers.
    followers: Mapping[str, Sequence[FollowerInfo]] = field(default_factory=dict)
    certificates: Sequence[Certificate] = ()
    #: Groups that were under way at the beginning, and still at the end.
    open_groups: Sequence[OpenGroup] = ()
    #: A sentence about each node of the directory that cannot be read.
    damaged: Sequence[str] = ()


def examine(directory: Directory, zookeeper_hosts: str | None) -> Facts:
    """Ask everything, and write an entry without effect to each partition. Raises the errors of the directory."""
    found, partition_map = survey(directory), directory.partition_map()
    damaged = list(found.damaged)
    directory.accepted.seqs(damaged)
    groups = find_open_groups(found)
    moves = {}
    for name in directory.tree.children(MOVES):
        move = directory.tree.get(f"{MOVES}/{name}")
        if move is not None:
            moves[name] = move.data
    nodes: dict[str, NodeFacts] = {}
    refused: dict[str, str] = {}
    partitions: dict[int, PartitionFacts] = {}
    for state in found.shards:
        mine = partition_map.partitions_of(state.shard.name)
        for node in state.nodes:
            if node.reachable:
                facts, of_partitions = _node(state, node.address, mine, len(partition_map.partitions))
                if isinstance(facts, str):
                    refused[node.address] = facts
                elif facts is not None:
                    nodes[node.address] = facts
                partitions.update(of_partitions)
    with ThreadPoolExecutor(ASKED_AT_ONCE_MAX) as pool:
        readiness = list(pool.map(_readiness, found.services))
        servers = tuple(pool.map(_server, _hosts(zookeeper_hosts)))
    return Facts(
        found,
        partition_map,
        servers,
        nodes,
        partitions,
        tuple(find_open_entries(found)),
        moves,
        _counted(directory, damaged),
        {info.service_id: facts for info, facts in zip(found.services, readiness, strict=True)},
        _disk_free(found),
        probe_partitions(directory, partial(_primaries, found), [state.info for state in found.journals]),
        refused,
        _followers(directory),
        certificates_of(found, (server.address for server in servers)),
        seen_twice(groups, find_open_groups(found)),
        tuple(damaged),
    )


def _counted(directory: Directory, damaged: list[str]) -> frozenset[str]:
    """The journal copies that count; none if their list cannot be read."""
    try:
        return frozenset(directory.members().copies)
    except (ConfigError, Corruption) as error:
        damaged.append(text_of(error))
        return frozenset()


def _followers(directory: Directory) -> dict[str, list[FollowerInfo]]:
    known: dict[str, list[FollowerInfo]] = {sink: [] for sink in directory.followers.seqs([])}
    return known | {
        sink: list(state.members.values())
        for sink, state in directory.following.sinks([]).items()  # the survey has named what cannot be read
        if state.members or sink in known
    }


def _primaries(found: Survey) -> dict[str, str]:
    """Shard -> its present primary, for shards where one answers."""
    nodes = {state.shard.name: state.shard.nodes for state in found.shards}
    seen = look_at_all(address for addresses in nodes.values() for address in addresses)
    primaries = {name: primary_of(map(seen.__getitem__, addresses)) for name, addresses in nodes.items()}
    return {name: node.address for name, node in primaries.items() if node is not None}


def _node(
    state: ShardState, address: str, partitions: Iterable[int], count: int
) -> tuple[NodeFacts | str | None, dict[int, PartitionFacts]]:
    """A text instead of facts: why a node that is there did not answer all; None: the node does not answer."""
    primary = state.primary is not None and state.primary.address == address
    client = connect(address)
    try:
        settings, unchecked = ask_settings(client, SETTINGS)
        before_ns = time.time_ns()
        there_ms = _ms(client.time())
        here_ms = (before_ns + time.time_ns()) // 2_000_000
        text = str(client.execute_command("CLUSTER", "NODES"))  # type: ignore[no-untyped-call]
        loaded = True
        of_partitions: dict[int, PartitionFacts] = {}
        holds: dict[int, tuple[str, int]] = {}
        owned = _owned(state, text)
        if primary:
            loaded = all(client.script_exists(*(script.sha for script in service_scripts())))
            fields_expire = has_expiring_fields(client)
            for partition in partitions:
                with suppress(ResponseError):  # its slot is on another node, or half moved
                    of_partitions[partition] = _partition(client, partition, count, fields_expire)
            holds = _holds(client, owned, partitions, count)
        own = {slot_of(tag_of(partition, count)) for partition in partitions}
        strays = find_strays(client, own, owned, count)
    except (RedisError, OSError, UnicodeDecodeError, ValueError) as error:
        hindrance = hindrance_at(address, error)
        return (None if hindrance.obstacle is Obstacle.SILENT else hindrance.text), {}
    finally:
        client.close()
    ahead_ms = there_ms - here_ms
    facts = NodeFacts(address, state.shard.name, settings, ahead_ms, text, loaded, strays, holds, unchecked)
    return facts, of_partitions


def _owned(state: ShardState, cluster_nodes: str) -> set[int]:
    """The slots of the shard, as one of its nodes reports them."""
    shard = shards_by_id([state])
    return {slot for slot, node_id in slot_owners(cluster_nodes)[0].items() if node_id in shard}


def _holds(
    client: redis.Redis, owned: Collection[int], partitions: Iterable[int], count: int
) -> dict[int, tuple[str, int]]:
    found = {}
    for partition in set(range(count)).difference(partitions):
        tag = tag_of(partition, count)
        if slot_of(tag) in owned:
            with suppress(ResponseError):
                state, epoch = client.hmget(PartitionKeys(tag).meta, ["state", "epoch"])
                known = str(epoch or "")
                found[partition] = (str(state or "absent"), int(known if known.isdecimal() else 0))
    return found


def _partition(client: redis.Redis, partition: int, count: int, fields_expire: bool) -> PartitionFacts:
    keys = PartitionKeys(tag_of(partition, count))
    owner, fault, clock = (str(value or "") for value in client.hmget(keys.meta, ["owner", "fault", "clock"]))
    now_ms = _ms(client.time())
    ahead_ms = int(clock if clock.isdecimal() else 0) - now_ms
    waiting = int(client.xlen(keys.journal)) - int(client.zcard(keys.open))
    names = keys_in_slot(client, slot_of(keys.tag))
    known = [name for name in names if is_engines(name, keys.tag)]
    unknown = tuple(name for name in names if not is_engines(name, keys.tag))
    expiring = expiring_keys(client, known)
    fields = expiring_fields(client, known) if fields_expire else {}
    late = overdue_holds(client, keys, now_ms)
    return PartitionFacts(partition, owner, max(0, waiting), unknown, fault, ahead_ms, expiring, fields, late)


def _ms(time: tuple[int, int]) -> int:
    """The reply to TIME, in milliseconds."""
    return time[0] * 1000 + time[1] // 1000


def _readiness(info: ServiceInfo) -> ServiceFacts:
    before_ns = time.time_ns()
    try:
        status, document = ask_one(info, "GET", "/readyz")
    except (OSError, ValueError) as error:
        return ServiceFacts(" ".join(str(error).split()) or type(error).__name__, True)
    here_ms = (before_ns + time.time_ns()) // 2_000_000
    ahead_ms = int(document.get("clock_ms", here_ms)) - here_ms
    if document.get("status") == "ready":
        return ServiceFacts("", False, ahead_ms)
    return ServiceFacts(str(document.get("reason", status)), status != 200, ahead_ms)


def _hosts(connect_string: str | None) -> list[tuple[str, int]]:
    """Each server of `zk1:2181,zk2:2181/root`."""
    servers: list[tuple[str, int]] = collect_hosts(connect_string)[0] if connect_string else []
    return servers


def _server(target: tuple[str, int]) -> ZooKeeperServer:
    """Asks the server with `srvr` (ZooKeeper administrator's guide, four letter words)."""
    address = join_address(*target)
    try:
        with socket.create_connection(target, timeout=_SRVR_S_MAX) as plain:
            context = zookeeper_tls().context()
            with plain if context is None else context.wrap_socket(plain, server_hostname=target[0]) as link:
                link.sendall(b"srvr")
                answer = b""
                while chunk := link.recv(4096):
                    answer += chunk
    except (OSError, ValueError):
        return ZooKeeperServer(address, "")
    modes = [line[6:] for line in answer.decode(errors="replace").splitlines() if line.startswith("Mode: ")]
    return ZooKeeperServer(address, modes[0] if modes else "")


def _disk_free(found: Survey) -> dict[str, float]:
    """For directories on this host that this user may reach; each copy also watches its disk itself."""
    free = {}
    for state in found.journals:
        directory = state.info.path
        with suppress(PermissionError):
            if state.info.host == socket.gethostname() and directory.is_dir():
                usage = shutil.disk_usage(directory)
                free[state.info.journal_id] = usage.free / usage.total
    return free
