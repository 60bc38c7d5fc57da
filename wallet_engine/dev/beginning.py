"""The start of `dev`: its command line, the first partition map, and the ports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wallet_engine.dev import ports
from wallet_engine.dev.layout import Layout, Wishes
from wallet_engine.dev.redis_cluster import node_name
from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.model import PartitionMap, Shard, spread


@dataclass(frozen=True, slots=True)
class DevOptions:
    """The command line of `dev`."""

    data_dir: Path
    port: int
    wishes: Wishes
    apis: int = 1
    #: More flags for each journal process.
    journal_flags: tuple[str, ...] = ()
    #: Callers need a key; Redis and ZooKeeper have users.
    auth: bool = False
    #: Start PostgreSQL, and a follower with the sinks history and webhooks.
    history: bool = False
    webhooks_allow_private: bool = False
    #: Start a process that decides every entry again and compares.
    oracle: bool = False
    #: Journal, services and followers use mutual TLS.
    certificates: bool = False
    #: More variables for `wallet-admin`: `WALLET_<NAME>` by NAME.
    admin: Mapping[str, str] = field(default_factory=dict)


def first_names(layout: Layout) -> list[str]:
    return [f"s{number}" for number in range(1, layout.shards + 1)]


def first_map(layout: Layout) -> PartitionMap:
    """The partition map of a new cluster: the partitions spread over the shards."""
    return spread(layout.partitions, first_names(layout))


def claim_ports(options: DevOptions, journals: int, environ: Mapping[str, str]) -> None:
    """Claim the ports given by flags, before any other is chosen. Raises `ConfigError` for one that cannot be used."""
    wanted = dict.fromkeys(range(options.port, options.port + options.apis), "--port")
    if first := _first_metrics_port(environ):
        wanted |= dict.fromkeys(range(first, first + journals), "WALLET_METRICS_PORT")
    for port, name in wanted.items():
        if port > ports.PORT_LAST:
            raise ConfigError(f"port {port} is above {ports.PORT_LAST}: give another {name}")
        if not ports.port_is_free(port):
            raise ConfigError(f"port {port} is in use by another program: give another {name}")
        ports.reserve(port)


def port_again(address: str | None) -> int:
    """The port of this address of the last run if it is free, else another free one; claimed."""
    port = split_address(address)[1] if address else 0
    return port if port and ports.port_is_free(port) and ports.reserve(port) else ports.free_port()


def metrics_port(number: int, environ: Mapping[str, str], last: str | None) -> int:
    """The metrics port of journal copy `number`, from 1: WALLET_METRICS_PORT + number - 1.

    Without that variable, the port of the last run (`last`: `host:port`) or another free one.
    """
    first = _first_metrics_port(environ)
    return first + number - 1 if first else port_again(last)


def _first_metrics_port(environ: Mapping[str, str]) -> int:
    """WALLET_METRICS_PORT; 0 when it is not set or no number."""
    first = environ.get("WALLET_METRICS_PORT", "")
    return int(first) if first.isdecimal() else 0


def ports_of(shards: Mapping[str, Shard]) -> dict[str, int]:
    """Name of each Redis node -> its port in the last run."""
    return {
        node_name(shard.name, index): split_address(address)[1]
        for shard in shards.values()
        for index, address in enumerate(shard.nodes, 1)
    }
