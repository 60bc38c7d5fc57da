"""`python -m wallet_engine.dev.form`: make a cluster of Redis nodes that others started (docker-compose.yml)."""

import socket
from typing import Any

import click

from wallet_engine.dev.forming import form_cluster, wait_all, wait_cluster_ok
from wallet_engine.dev.layout import PARTITIONS_DEFAULT, ownership_of
from wallet_engine.dev.redis_node import RedisEndpoint
from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store import login
from wallet_engine.routing.model import ClusterConfig, check_address, spread
from wallet_engine.telemetry.flags import one_line_failures, redis_options, write_anything

ANSWER_S_MAX = 60.0


@click.command()
@click.option(
    "--shard",
    "shards",
    metavar="NAME=HOST:PORT,…",
    multiple=True,
    required=True,
    help="A shard and its nodes, the primary first; once for each shard.",
)
@click.option("--partitions", type=click.IntRange(1), default=PARTITIONS_DEFAULT, show_default=True)
@redis_options
def main(shards: tuple[str, ...], partitions: int, **entering: Any) -> None:
    """Make one cluster of running Redis nodes, with the slots where the first partition map has them.

    Does nothing when the nodes are a cluster already.
    """
    write_anything()
    with one_line_failures():
        login.use_flags(entering)
        form(shards, partitions)


def form(shards: tuple[str, ...], partitions: int) -> None:
    """Raises `ConfigError` and `StartFailed`."""
    ClusterConfig(partitions=partitions)
    nodes = {}
    for shard in shards:
        name, _, addresses = shard.partition("=")
        nodes[name] = [endpoint(name, address) for address in addresses.split(",")]
    everyone = [node for shard_nodes in nodes.values() for node in shard_nodes]
    wait_all(everyone, RedisEndpoint.answers, "answer", ANSWER_S_MAX)
    if any(len(node.cluster_nodes()) > 1 for node in everyone):
        wait_cluster_ok(everyone, ANSWER_S_MAX)
        click.echo("these nodes are a cluster already: left as they are")
        return
    ownership = ownership_of(spread(partitions, list(nodes)), nodes)
    form_cluster(list(nodes.values()), list(ownership.values()))
    click.echo(f"formed a cluster of {len(nodes)} shards, {len(everyone)} nodes")


def endpoint(shard: str, address: str) -> RedisEndpoint:
    """The node behind `host:port`; by IP address, as CLUSTER MEET takes no names."""
    host, port = split_address(check_address(address, f"node of shard {shard}"))
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"node {address} of shard {shard}: {error.strerror}") from None
    return RedisEndpoint(address, str(found[0][4][0]), port)


if __name__ == "__main__":
    main(prog_name="python -m wallet_engine.dev.form")
