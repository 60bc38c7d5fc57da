"""What `dev` begins with: its command line, and what it knows before anything runs."""

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
    #: Further flags of the journal process.
    journal_flags: tuple[str, ...] = ()
    #: Callers need a key.
    auth: bool = False
    #: PostgreSQL, and a follower with the sinks history and webhooks.
    history: bool = False
    webhooks_allow_private: bool = False
    #: Every entry is decided again.
    oracle: bool = False
    #: Our processes know each other by certificates.
    certificates: bool = False
    #: What `wallet-admin` needs besides, as in `WALLET_<NAME>`.
    admin: Mapping[str, str] = field(default_factory=dict)


def first_names(layout: Layout) -> list[str]:
    return [f"s{number}" for number in range(1, layout.shards + 1)]


def first_map(layout: Layout) -> PartitionMap:
    """Where the partitions are until somebody moves one."""
    return spread(layout.partitions, first_names(layout))


def claim_ports(options: DevOptions, journals: int, environ: Mapping[str, str]) -> None:
    """Claim the ports that were asked for, before any other is chosen. Raises `ConfigError` where one is in use."""
    wanted = dict.fromkeys(range(options.port, options.port + options.apis), "--port")
    if first := _first_metrics_port(environ):
        wanted |= dict.fromkeys(range(first, first + journals), "WALLET_METRICS_PORT")
    for port, name in wanted.items():
        if not ports.port_is_free(port):
            raise ConfigError(f"port {port} is in use by another program: give another {name}")
        ports.reserve(port)


def port_again(address: str | None) -> int:
    """The port of an address of the last run if it is free, else another."""
    port = split_address(address)[1] if address else 0
    return port if port and ports.port_is_free(port) and ports.reserve(port) else ports.free_port()


def metrics_port(number: int, environ: Mapping[str, str], last: str | None) -> int:
    """Where journal copy `number` is measured: the first at WALLET_METRICS_PORT, if given, the others at the next."""
    first = _first_metrics_port(environ)
    return first + number - 1 if first else port_again(last)


def _first_metrics_port(environ: Mapping[str, str]) -> int:
    """WALLET_METRICS_PORT, or 0 where it is not given."""
    first = environ.get("WALLET_METRICS_PORT", "")
    return int(first) if first.isdecimal() else 0


def ports_of(shards: Mapping[str, Shard]) -> dict[str, int]:
    """Node name -> the port it had."""
    return {
        node_name(shard.name, index): split_address(address)[1]
        for shard in shards.values()
        for index, address in enumerate(shard.nodes, 1)
    }
