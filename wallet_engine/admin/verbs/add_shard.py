"""`add-shard` and `remove-shard`. A shard is added empty and removed empty; partitions move in between."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, Final

import click
from redis.exceptions import RedisError
from rich.console import Console

from wallet_engine.admin.audit_log import audit_records
from wallet_engine.admin.moving.planning import Cluster
from wallet_engine.admin.newcomers import asked, check_newcomer
from wallet_engine.admin.nodes import look_at_all
from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.admin.waiting import wait_until
from wallet_engine.domain.errors import ConfigError, as_usage
from wallet_engine.redis_store.membership import (
    Membership,
    check_can_follow,
    follow,
    forget,
    ids_at,
    leave,
    meet,
)
from wallet_engine.redis_store.scripts import service_scripts
from wallet_engine.redis_store.topology import check_settings, connect
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import Shard, by_name
from wallet_engine.routing.tree import VersionConflict

MEET_S_MAX: Final = 30.0
#: How long the journal process may take to find the shard and make it ready to serve.
READY_S_MAX: Final = 30.0
_ATTEMPTS_MAX: Final = 50


@click.command("add-shard")
@changing_command
@click.argument("name")
@click.argument("nodes", metavar="HOST:PORT…", nargs=-1, required=True)
def add_shard(session: Session, name: str, nodes: tuple[str, ...]) -> None:
    """Add the shard NAME: the first node as its primary, the others as replicas.

    The nodes must be empty and run in cluster mode with maxmemory-policy noeviction (see
    cluster_config/redis.conf). The command adds them to the Redis Cluster and attaches the replicas; the journal
    process makes the shard ready. It serves nothing until partitions move to it: `rebalance` or `move`.

    After an interruption, run the same command again.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 add-shard s4 10.0.0.8:6379 10.0.0.9:6379 --dry-run
      wallet-admin --zookeeper zk1:2181 add-shard s4 10.0.0.8:6379 10.0.0.9:6379 --yes
    """
    with as_usage():
        shard = Shard(name, nodes)
    with session.directory() as directory:
        cluster = Cluster.look(directory)
        if cluster.shards.get(name) == shard:  # added before an interruption
            _wait_ready(shard)
            _tell_ready(session, shard)
            return
        if name in cluster.shards:
            raise ConfigError(f"there is a shard {name} already: {', '.join(cluster.shards[name].nodes)}")
        by_name([*cluster.shards.values(), shard])
        members = [cluster.primary(other).address for other in cluster.shards]
        known = _ids(cluster)
        for address in nodes:
            check_settings(address)
            newcomer = asked(address)
            check_newcomer(address, newcomer, known, {asked(node).node_id for node in nodes})
            _check_lazy_drop(address, newcomer)
            check_can_follow(address, nodes[0])
        document = _told(shard)
        plan = Plan(f"add shard {name} at {', '.join(nodes)}", document, _show_plan(document))
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            _join(nodes, members)
            with directory.lock("shards"):
                if name in directory.shards():
                    raise ConfigError(f"shard {name} was added by somebody else meanwhile")
                directory.put_shard(shard)
            _wait_ready(shard)
    _tell_ready(session, shard)


@click.command("remove-shard")
@changing_command
@click.argument("name")
def remove_shard(session: Session, name: str) -> None:
    """Remove the shard NAME, which must serve no partition any more (`drain` it first).

    The other nodes forget its nodes. Those are emptied, and each becomes a cluster of its own. Nodes that do not
    answer are forgotten too.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 drain s2 --yes
      wallet-admin --zookeeper zk1:2181 remove-shard s2 --yes
    """
    with session.directory() as directory:
        cluster = Cluster.look(directory)
        if name not in cluster.shards and _was_removed(directory, name):
            session.answer(
                {"removed": {"shard": name, "nodes": []}, "nodes_not_told": []},
                lambda console: console.print(f"shard {name} was removed already"),
            )
            return
        shard = cluster.shard(name)
        owned = cluster.map.partitions_of(name)
        if owned:
            raise ConfigError(f"shard {name} still serves {len(owned)} partitions: wallet-admin drain {name}")
        _check_no_move(directory, name)
        _check_owns_nothing(cluster, name)
        document = {"shard": name, "nodes": list(shard.nodes)}
        plan = Plan(_removal(name), document, _show_plan(document), destroys=True)
        if not session.agreed(plan):
            return
        others = [node for other in cluster.shards.values() if other.name != name for node in other.nodes]
        with session.change(directory, plan):
            found = {address: _try_ask(address) for address in shard.nodes}
            ids = _ids_of_all(
                found, [other.address for name_, other in cluster.primaries.items() if name_ != name]
            )
            with directory.lock("shards"):
                _remove(directory, shard)
            untold = forget(ids, others)
            for address, known in found.items():
                if known is not None:
                    with suppress(RedisError, OSError):
                        leave(address)
    session.answer(
        {"removed": document, "nodes_not_told": untold},
        lambda console: console.print(f"shard {name} is removed; its nodes may be stopped"),
    )


def _was_removed(directory: Directory, name: str) -> bool:
    """Whether an earlier `remove-shard` of it came to its end. A name that never was a shard's may be a slip."""
    last = [record for record in audit_records(directory) if record.what == _removal(name)][-1:]
    return any(record.state == "done" for record in last)


def _removal(name: str) -> str:
    return f"remove shard {name}"


def _told(shard: Shard) -> dict[str, Any]:
    return {"shard": shard.name, "primary": shard.nodes[0], "replicas": list(shard.nodes[1:])}


def _tell_ready(session: Session, shard: Shard) -> None:
    session.answer(
        {"added": _told(shard)},
        lambda console: console.print(
            f"shard {shard.name} is ready: wallet-admin rebalance gives it partitions"
        ),
    )


def _wait_ready(shard: Shard) -> None:
    """Raises `ConfigError` after `READY_S_MAX`."""
    text = f"shard {shard.name} is there, but not ready to serve"
    wait_until(lambda: _ready(shard.nodes[0]), text, READY_S_MAX)


def _ids(cluster: Cluster) -> dict[str, str]:
    """Node id -> address of every node of the directory that answers."""
    seen = look_at_all(address for shard in cluster.shards.values() for address in shard.nodes)
    return {node.view.node_id: address for address, node in seen.items() if node.view is not None}


def _check_lazy_drop(address: str, known: Membership) -> None:
    if not known.lazy_drop:
        raise ConfigError(
            f"Redis at {address} would stop while it drops a partition that has moved away: "
            f"run CONFIG SET lazyfree-lazy-server-del yes"
        )


def _check_owns_nothing(cluster: Cluster, name: str) -> None:
    """Raises `ConfigError` for a shard that is empty in the map but owns slots in Redis: its nodes will be flushed."""
    node = cluster.primaries.get(name)
    if node is not None and node.slots:
        raise ConfigError(
            f"{node.address} of shard {name} owns slots in Redis, although the map puts no partition there: "
            f"see wallet-admin doctor"
        )


def _join(nodes: tuple[str, ...], members: list[str]) -> None:
    """Meet the cluster and attach replicas; returns when all nodes know each other. Raises `ConfigError`."""
    try:
        for number, address in enumerate(nodes):
            meet(address, [*members, *nodes[:number]])
        ids = {asked(address).node_id for address in (*members, *nodes)}
        wait_until(
            lambda: all(
                ids <= (known := asked(address)).known_ids and not known.handshaking
                for address in (*members, *nodes)
            ),
            "the nodes do not find each other",
            MEET_S_MAX,
        )
        primary_id = asked(nodes[0]).node_id
        for replica in nodes[1:]:
            follow(replica, primary_id)
        wait_until(
            lambda: all(asked(replica).in_sync for replica in nodes[1:]),
            f"the replicas do not follow {nodes[0]}",
            MEET_S_MAX,
        )
        wait_until(
            lambda: _knows_owners(nodes[0], members),
            f"{nodes[0]} does not hear who owns the slots",
            MEET_S_MAX,
        )
    except (RedisError, OSError) as error:
        raise ConfigError(f"the shard could not join the Redis Cluster: {error}") from None


def _knows_owners(address: str, members: Iterable[str]) -> bool:
    """Whether the node says that the cluster is up, and knows the owners of as many slots as the other members.

    Without full coverage it says "up" earlier, and would answer `Hash slot not served` to a move.
    """
    info = _cluster_info(address)
    return info["cluster_state"] == "ok" and int(info["cluster_slots_assigned"]) >= max(
        int(_cluster_info(member)["cluster_slots_assigned"]) for member in members
    )


def _cluster_info(address: str) -> dict[str, str]:
    with closing(connect(address)) as client:
        said = str(client.execute_command("CLUSTER", "INFO"))  # type: ignore[no-untyped-call]
    return dict(line.split(":", 1) for line in said.splitlines() if ":" in line)


def _ready(address: str) -> bool:
    """Whether a journal process has made the node ready, by loading the scripts."""
    with suppress(RedisError, OSError), closing(connect(address)) as client:
        return all(client.script_exists(*(script.sha for script in service_scripts())))
    return False


def _check_no_move(directory: Directory, name: str) -> None:
    for stored in directory.moves.all():
        if name in (stored.move.source, stored.move.target):
            raise ConfigError(
                f"partition {stored.move.partition} is being moved from {stored.move.source} to "
                f"{stored.move.target}: finish or abort that first, see wallet-admin moves"
            )


def _remove(directory: Directory, shard: Shard) -> None:
    """Remove the shard from the directory. The map gets a new version, so a move that switches to it now fails."""
    directory.remove_shard(shard.name)
    for _ in range(_ATTEMPTS_MAX):
        partition_map = directory.partition_map()
        if partition_map.partitions_of(shard.name):
            directory.put_shard(shard)
            raise ConfigError(f"a partition has moved to shard {shard.name} meanwhile: it stays")
        with suppress(VersionConflict):
            directory.replace_map(partition_map, partition_map)
            return
    directory.put_shard(shard)
    raise ConfigError(f"the map kept being changed by others: shard {shard.name} stays, try again")


def _ids_of_all(found: Mapping[str, Membership | None], members: Sequence[str]) -> list[str]:
    """The ids of these nodes; a member that answers says which those have that do not answer themselves."""
    ids = [known.node_id for known in found.values() if known is not None]
    for address in (address for address, known in found.items() if known is None):
        for member in members:
            with suppress(ConfigError):
                ids += ids_at(address, member)
                break
    return ids


def _try_ask(address: str) -> Membership | None:
    with suppress(ConfigError):
        return asked(address)
    return None


def _show_plan(document: dict[str, Any]) -> Any:
    def show(console: Console) -> None:
        for name, value in document.items():
            console.print(f"{name}: {', '.join(value) if isinstance(value, list) else value}", soft_wrap=True)

    return show
