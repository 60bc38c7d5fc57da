"""`wallet-admin init`: stores the description of a new cluster, after a check of every node."""

from contextlib import closing
from typing import Any, Final

import click
from kazoo.hosts import collect_hosts
from rich.console import Console

from wallet_engine.admin.nodes import look_at_all, memory_text, slots_text
from wallet_engine.admin.placement import PlannedShard, parse_shard, plan_shards
from wallet_engine.admin.session import Plan, Session, changing_command, plain_table, show_table
from wallet_engine.admin.settings import RETENTION_HOURS_MAX, RETENTION_HOURS_MIN
from wallet_engine.admin.verbs.protect import Users, restrict, roles_of, service_options
from wallet_engine.domain.errors import ConfigError, WrongUsage, as_usage
from wallet_engine.redis_store.topology import check_settings, connect
from wallet_engine.routing.model import ClusterConfig, PartitionMap, Shard, by_name, spread
from wallet_engine.telemetry.loopback import is_loopback

_HOUR_MS = 3600 * 1000
#: More copies than anybody runs.
QUORUM_MAX: Final = 99


@click.command()
@changing_command
@click.option(
    "--shard",
    metavar="NAME=HOST:PORT[,HOST:PORT…]",
    multiple=True,
    required=True,
    help="A Redis primary and its replicas, in any order; once per shard.",
)
@click.option(
    "--partitions",
    type=int,
    default=64,
    show_default=True,
    help="A power of two; can never be changed.",
)
@click.option(
    "--retention-hours",
    type=int,
    default=24,
    show_default=True,
    help="How long a transaction id is remembered at least; 24 to 8760.",
)
@click.option(
    "--journal-quorum",
    type=click.IntRange(max=QUORUM_MAX),
    default=1,
    show_default=True,
    help="Journal copies that must have an entry on disk before it is answered.",
)
@service_options
@click.option(
    "--insecure",
    is_flag=True,
    help="Accept that anyone who reaches ZooKeeper can change the tree, also from other machines.",
)
def init(
    session: Session,
    shard: tuple[str, ...],
    partitions: int,
    retention_hours: int,
    journal_quorum: int,
    users: Users,
    insecure: bool,
) -> None:
    """Initialise a new cluster: store its shards, its partitions, and the shard of each partition.

    The Redis Cluster must exist already, with all slots assigned (wallet-admin cluster form makes one). Partition p
    of P has the slots p*16384/P to (p+1)*16384/P-1. The partitions are spread over the shards in contiguous ranges,
    in the order of --shard. init changes nothing in Redis; if slots are on other shards, the error names them.

    Every node must be in cluster mode, have maxmemory-policy noeviction and hold no partition yet. The plan is shown
    before anything is written; --dry-run only shows it, and --yes asks no question.

    With --zookeeper-user, access to the tree is restricted from the start: see wallet-admin protect --help. If other
    machines can reach ZooKeeper, give that or --insecure.

    A cluster can be initialised once. A second init fails and changes nothing.

    \b
    EXAMPLES
      wallet-admin init --zookeeper zk1:2181 --shard s1=r1:6379,r4:6379 --shard s2=r2:6379,r5:6379
      wallet-admin init --map-file map.json --shard s1=127.0.0.1:7001 --partitions 16 --yes --json
    """
    if retention_hours < RETENTION_HOURS_MIN:
        raise WrongUsage(f"--retention-hours must be at least {RETENTION_HOURS_MIN}: {retention_hours}")
    if retention_hours > RETENTION_HOURS_MAX:
        raise WrongUsage(f"--retention-hours must be at most {RETENTION_HOURS_MAX}: {retention_hours}")
    roles = roles_of(session, users)
    with as_usage():
        config = ClusterConfig(partitions, retention_hours * _HOUR_MS, journal_quorum)
        shards = tuple(by_name(map(parse_shard, shard)).values())
    placement = spread(partitions, [shard.name for shard in shards])
    with session.directory() as directory:
        if directory.initialised:
            raise ConfigError(
                "there is an initialised cluster already, which was not changed: see wallet-admin status"
            )
        if roles is None and not insecure:
            _check_closed(session.zookeeper)
        planned = _planned(shards, placement)
        plan = Plan(
            f"initialise {partitions} partitions on {', '.join(shard.name for shard in shards)}",
            _document(config, placement, planned),
            lambda console: _show(console, config, planned, "The cluster to be"),
        )
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            directory.initialise(config, shards, placement)
            if roles is not None:
                restrict(directory, roles)
        stored = directory.config()
        document = {"initialised": True, **_document(stored, directory.partition_map(), planned)}
    session.answer(document, lambda console: _show(console, stored, planned, "The cluster is written down"))


def _planned(shards: tuple[Shard, ...], placement: PartitionMap) -> list[PlannedShard]:
    """Raises `ConfigError` for a node that the engine cannot use, or that holds a partition."""
    addresses = [address for shard in shards for address in shard.nodes]
    for address in addresses:
        check_settings(address)
    planned = plan_shards(shards, placement, look_at_all(addresses))
    _check_new(planned)
    return planned


def _check_closed(zookeeper: str | None) -> None:
    """Raises `ConfigError` when other machines could change the tree."""
    for host, _ in () if zookeeper is None else collect_hosts(zookeeper)[0]:
        if not is_loopback(host):
            raise ConfigError(
                f"anyone who reaches ZooKeeper at {host} could change the tree: give --zookeeper-user and "
                f"--zookeeper-password-file, or add --insecure"
            )


def _check_new(planned: list[PlannedShard]) -> None:
    """Raises `ConfigError` for nodes that hold partitions, maybe of a cluster whose tree was lost."""
    for shard in planned:
        if not shard.primary.keys:
            continue
        with closing(connect(shard.primary.address)) as client:
            for name in client.scan_iter(match="meta{*}", count=1000):
                raise ConfigError(
                    f"Redis at {shard.primary.address} holds partitions of a cluster ({name}): if its tree in "
                    f"ZooKeeper was lost, restore it with wallet-admin restore; a new cluster starts on empty nodes"
                )


def _document(config: ClusterConfig, stored: PartitionMap, planned: list[PlannedShard]) -> dict[str, Any]:
    return {
        "partitions": config.partitions,
        "retention_hours": config.retention_ms // _HOUR_MS,
        "journal_quorum": config.journal_quorum,
        "map_version": stored.version,
        "shards": [
            {
                "name": shard.shard.name,
                "primary": shard.primary.address,
                "nodes": list(shard.shard.nodes),
                "partitions": list(stored.partitions_of(shard.shard.name)),
                "slots": [f"{slots.start}-{slots.stop - 1}" for slots in shard.slots],
            }
            for shard in planned
        ],
    }


def _show(console: Console, config: ClusterConfig, planned: list[PlannedShard], title: str) -> None:
    table = plain_table(
        "shard", "primary", "other nodes", "partitions", "slots", "keys", "memory", title=title
    )
    for shard in planned:
        span = f"{shard.partitions[0]}-{shard.partitions[-1]}" if shard.partitions else "none"
        others = [address for address in shard.shard.nodes if address != shard.primary.address]
        table.add_row(
            shard.shard.name,
            shard.primary.address,
            "\n".join(others) or "-",
            span,
            slots_text(shard.slots),
            str(shard.primary.keys),
            memory_text(shard.primary.used_memory_bytes),
        )
    show_table(console, table, "keys", "memory", "slots")
    console.print(
        f"{config.partitions} partitions, transaction ids remembered for {config.retention_ms // _HOUR_MS} h, "
        f"answers after {config.journal_quorum} journal {'copy' if config.journal_quorum == 1 else 'copies'}"
    )
