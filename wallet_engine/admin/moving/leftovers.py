"""`wallet-admin clear-leftovers`: removes keys that nothing reaches any more, and keys that are not the engine's.

A primary that loses a slot drops its keys but does not tell its replicas; a replica that is promoted later has them.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import click
from redis.exceptions import RedisError
from rich.console import Console

from wallet_engine.admin.diagnosis.strays import find_strays, is_engines, keys_in_slot, shown
from wallet_engine.admin.moving.planning import Cluster
from wallet_engine.admin.moving.runs import new_driver
from wallet_engine.admin.moving.sides import TakenOver, forget_unreachable
from wallet_engine.admin.moving.wire import Setback
from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store.refusals import hindrance_of
from wallet_engine.redis_store.topology import NodeView, connect, slot_owners
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.slots import partition_of_slot, slot_of_name, tag_of


@click.command("clear-leftovers")
@changing_command
@click.argument("shard")
@click.option(
    "--foreign",
    is_flag=True,
    help="Remove keys in slots of SHARD that are not the engine's: another program wrote them.",
)
def clear_leftovers(session: Session, shard: str, foreign: bool) -> None:
    """Remove keys from the nodes of SHARD whose slots the shard does not own.

    Partitions that moved away left them on replicas. Nothing reaches them and moves ignore them, but they take memory.
    Keys of a partition that is being moved, or that may be newer than the map, are kept.

    Each key is only removed if the node does not own its slot, which the node itself checks.

    With --foreign it removes other keys instead: those in the shard's own slots whose names are not the engine's.
    They are listed before anything is removed. This command never removes a key of a live partition.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 clear-leftovers s1 --dry-run
      wallet-admin --zookeeper zk1:2181 clear-leftovers s1 --yes
      wallet-admin --zookeeper zk1:2181 clear-leftovers s1 --foreign
    """
    with session.directory() as directory:
        cluster = Cluster.look(directory)
        node = cluster.primary(shard)
        left = _foreign(cluster, shard, node) if foreign else _look(cluster, shard, node)
        document = {"shard": shard, "keys": sorted(shown(name) for names in left.values() for name in names)}
        what = f"clear {len(document['keys'])} keys left on {shard}"
        plan = Plan(what, document, _show(document, foreign), destroys=True)
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            if foreign:
                _remove(node.address, [name for names in left.values() for name in names])
                left = {}
            for slot, names in left.items():
                try:
                    _clear(directory, cluster, shard, node, slot, names)
                except (Setback, TakenOver) as error:
                    raise ConfigError(f"slot {slot}: {error}; give the command again") from None
    session.answer({"cleared": document}, _show(document, foreign))


def _look(cluster: Cluster, shard: str, primary: NodeView) -> dict[int, set[bytes]]:
    """Slot -> keys on any node of the shard whose slots belong to other shards. Raises `ConfigError`."""
    count = len(cluster.map.partitions)
    own = {slot_of_name(tag_of(p, count).encode()) for p in cluster.map.partitions_of(shard)}
    owned = {slot for slots in primary.slots for slot in slots}
    left: dict[int, set[bytes]] = {}
    for address in cluster.shard(shard).nodes:
        with closing(connect(address)) as client:
            try:
                for name in find_strays(client, own, owned, count).left:
                    left.setdefault(slot_of_name(name), set()).add(name)
            except (RedisError, OSError) as error:
                if address == primary.address:
                    raise ConfigError(f"shard {shard} {hindrance_of(error).text}") from None
    return left


def _foreign(cluster: Cluster, shard: str, primary: NodeView) -> dict[int, set[bytes]]:
    """Slot -> keys in the shard's own slots that are no partition's keys. Raises `ConfigError`."""
    count = len(cluster.map.partitions)
    tags = {slot_of_name(tag.encode()): tag for tag in (tag_of(p, count) for p in range(count))}
    owned = {slot for slots in primary.slots for slot in slots}
    found: dict[int, set[bytes]] = {}
    try:
        with closing(connect(primary.address)) as client:
            for slot in tags.keys() & owned:
                for name in keys_in_slot(client, slot):
                    if not is_engines(name, tags[slot]):
                        found.setdefault(slot, set()).add(name)
            for name in find_strays(client, tags.keys() & owned, owned, count).foreign:
                found.setdefault(slot_of_name(name), set()).add(name)
    except (RedisError, OSError) as error:
        raise ConfigError(f"shard {shard} {hindrance_of(error).text}") from None
    return found


def _remove(address: str, names: Sequence[bytes]) -> None:
    """Remove them from the primary that owns their slots, which tells its replicas. Raises `ConfigError`."""
    try:
        with closing(connect(address)) as client:
            for name in names:
                client.unlink(name)
    except (RedisError, OSError) as error:
        raise ConfigError(f"Redis at {address}: {error}; give the command again") from None


def _clear(
    directory: Directory, cluster: Cluster, shard: str, node: NodeView, slot: int, names: set[bytes]
) -> None:
    count = len(cluster.map.partitions)
    partition = partition_of_slot(slot, count)
    tag = tag_of(partition, count)
    if any(is_engines(name, tag) for name in names):
        new_driver(directory, partition).clear(shard)
    others = {name for name in names if not is_engines(name, tag)}
    if others:
        forget_unreachable(node.address, slot, others, _owner(node.address, slot))


def _owner(address: str, slot: int) -> str:
    """The id of the node that owns the slot. Raises `ConfigError`."""
    try:
        with closing(connect(address)) as client:
            owners, _ = slot_owners(str(client.execute_command("CLUSTER", "NODES")))  # type: ignore[no-untyped-call]
    except (RedisError, OSError) as error:
        raise ConfigError(f"Redis at {address} {hindrance_of(error).text}; give the command again") from None
    if slot not in owners:
        raise ConfigError(f"no node owns slot {slot}: see wallet-admin doctor")
    return owners[slot]


def _show(document: Mapping[str, Any], foreign: bool) -> Any:
    whose = "that are not the engine's" if foreign else "that nothing reaches"

    def show(console: Console) -> None:
        for name in document["keys"]:
            console.print(f"  {name}", soft_wrap=True)
        console.print(f"{len(document['keys'])} keys on {document['shard']} {whose}")

    return show
