"""`wallet-admin cluster form`: makes one Redis Cluster of nodes that are running."""

import time
from typing import Any, Final

import click
from redis.exceptions import RedisError
from rich.console import Console

from wallet_engine.admin.forming import Standing, standing_of
from wallet_engine.admin.placement import needed_slots, parse_shard
from wallet_engine.admin.session import Plan, Session, changing_command, plain_table
from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.errors import ConfigError, as_usage
from wallet_engine.redis_store.forming import Member, form_cluster, look
from wallet_engine.redis_store.greeting import hindrance_at
from wallet_engine.redis_store.membership import check_can_follow
from wallet_engine.redis_store.refusals import Obstacle
from wallet_engine.redis_store.topology import check_settings
from wallet_engine.routing.host_names import unknown_names
from wallet_engine.routing.model import ClusterConfig, Shard, by_name, spread
from wallet_engine.telemetry.flags import VerbGroup

#: How long all nodes together may take to answer.
ANSWER_S_MAX: Final = 10.0
#: Within this time, nodes that were introduced know each other, or have given up.
HANDSHAKE_S_MAX: Final = 20.0
_POLL_S: Final = 0.2


@click.group(cls=VerbGroup)
def cluster() -> None:
    """The Redis Cluster below: form."""


@cluster.command()
@changing_command
@click.option(
    "--shard",
    "texts",
    metavar="[NAME=]HOST:PORT[,HOST:PORT…]",
    multiple=True,
    required=True,
    help="A primary and its replicas, the primary first; once per shard, in the same order as for init.",
)
@click.option(
    "--partitions",
    type=int,
    default=64,
    show_default=True,
    help="As for init; can never be changed.",
)
def form(session: Session, texts: tuple[str, ...], partitions: int) -> None:
    """Make one Redis Cluster of empty nodes, with the slots where init wants them.

    The nodes must run in cluster mode with maxmemory-policy noeviction (see cluster_config/redis.conf), and reach
    each other at their port and their bus port. The command assigns slots, introduces the nodes to each other and
    attaches replicas. It returns when all nodes agree. A node that holds keys, or belongs to another cluster, is
    refused: nothing is deleted.

    After an interruption, run the same command again. Nodes that are a cluster already are not changed.

    \b
    EXAMPLES
      wallet-admin cluster form --shard s1=10.0.0.1:6379,10.0.0.2:6380 --shard s2=10.0.0.2:6379,10.0.0.1:6380
      wallet-admin cluster form --shard 127.0.0.1:7001 --partitions 16 --yes --json
    """
    with as_usage():
        ClusterConfig(partitions)
        shards = list(by_name(_named(text, number) for number, text in enumerate(texts, 1)).values())
    placement = spread(partitions, [shard.name for shard in shards])
    wanted = [needed_slots(placement, shard.name) for shard in shards]
    _wait_answers([address for shard in shards for address in shard.nodes])
    standing = standing_of([[_settled(address) for address in shard.nodes] for shard in shards], wanted)
    document = {"shards": [_document(*pair) for pair in zip(shards, wanted, strict=True)]}
    if standing is not Standing.FORMABLE:
        said = (
            "slots may have moved" if standing is Standing.SERVING else "the slots are where init wants them"
        )
        session.answer(
            {"formed": False, "standing": standing, **document},
            lambda console: console.print(
                f"these nodes are a cluster already, which was not changed: {said}"
            ),
        )
        return
    for shard in shards:
        for replica in shard.nodes[1:]:
            check_can_follow(replica, shard.nodes[0])
    count = sum(len(shard.nodes) for shard in shards)
    plan = Plan(
        f"form a Redis Cluster of {count} nodes",
        document,
        lambda console: _show(console, document, "The Redis Cluster to be"),
    )
    if not session.agreed(plan):
        return
    form_cluster([shard.nodes for shard in shards], wanted)
    session.answer(
        {"formed": True, "standing": Standing.FORMED, **document},
        lambda console: _show(console, document, "The Redis Cluster is formed: wallet-admin init comes next"),
    )


def _named(text: str, number: int) -> Shard:
    """A shard without a name is `s1`, `s2`, …"""
    return parse_shard(text if "=" in text else f"s{number}={text}")


def _wait_answers(addresses: list[str]) -> None:
    """Return when every node answers and is fit; waits for nodes that were just started. Raises `ConfigError`."""
    hosts = {address: split_address(address)[0] for address in addresses}
    unknown = unknown_names(list(dict.fromkeys(hosts.values())))
    for address, host in hosts.items():
        if host in unknown:
            raise ConfigError(f"Redis at {address}: no host has the name {host}")
    deadline_s = time.monotonic() + ANSWER_S_MAX
    for address in addresses:
        while (hindrance := check_settings(address, must_answer=False)) is not None:
            if hindrance.obstacle is not Obstacle.SILENT or time.monotonic() > deadline_s:
                raise ConfigError(f"Redis at {address} {hindrance.text}")
            time.sleep(_POLL_S)


def _settled(address: str) -> Member:
    """The node's own view, once it has no handshake under way. Raises `ConfigError`."""
    deadline_s = time.monotonic() + HANDSHAKE_S_MAX
    try:
        while (found := look(address)).handshaking and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
    except (RedisError, OSError) as error:
        raise ConfigError(f"Redis at {address} {hindrance_at(address, error).text}") from None
    return found


def _document(shard: Shard, slots: tuple[range, ...]) -> dict[str, Any]:
    return {
        "name": shard.name,
        "primary": shard.nodes[0],
        "replicas": list(shard.nodes[1:]),
        "slots": [f"{each.start}-{each.stop - 1}" for each in slots],
    }


def _show(console: Console, document: dict[str, Any], title: str) -> None:
    table = plain_table("shard", "primary", "replicas", "slots", title=title)
    for shard in document["shards"]:
        table.add_row(
            shard["name"], shard["primary"], "\n".join(shard["replicas"]) or "-", ", ".join(shard["slots"])
        )
    console.print(table)
