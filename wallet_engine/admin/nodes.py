"""One Redis node as it describes itself, asked by many verbs."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError

from wallet_engine.domain.addresses import join_address
from wallet_engine.domain.errors import ConfigError, text_of
from wallet_engine.redis_store.greeting import hindrance_at
from wallet_engine.redis_store.refusals import Obstacle
from wallet_engine.redis_store.topology import NodeView, connect, find_primary, parse_myself
from wallet_engine.routing.directory import Directory

#: Nodes asked at the same time.
ASKED_AT_ONCE_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node's answer; if it gave none, all fields but `address`, `trouble` and `obstacle` are empty."""

    address: str
    #: Why there is no answer, also when the node `refuses`; "" when it answered.
    trouble: str = ""
    view: NodeView | None = None
    cluster_ok: bool = False
    #: `host:port` of the primary that a replica follows, and whether the link to it is up.
    follows: str | None = None
    link_up: bool = True
    used_memory_bytes: int | None = None
    #: 0 when the node has no limit.
    maxmemory_bytes: int | None = None
    keys: int = 0
    #: The kind of `trouble`; None when the node answered.
    obstacle: Obstacle | None = None

    @property
    def reachable(self) -> bool:
        return not self.trouble

    @property
    def refuses(self) -> bool:
        """Whether the node is there but refuses our questions."""
        return self.obstacle not in (None, Obstacle.SILENT)

    @property
    def complaint(self) -> str:
        """The text about an unreachable node, to follow its name."""
        return self.trouble if self.refuses else str(Obstacle.SILENT)

    @property
    def role(self) -> str | None:
        """`primary`, `replica`, or None when the node does not answer."""
        if self.view is None:
            return None
        return "primary" if self.view.is_primary else "replica"


def look_at(address: str) -> NodeState:
    """Ask one node. Never raises for what the node does or does not answer."""
    client = connect(address)
    try:
        info = client.info("everything")
        view = parse_myself(address, str(client.execute_command("CLUSTER", "NODES")))  # type: ignore[no-untyped-call]
        state = str(client.execute_command("CLUSTER", "INFO"))  # type: ignore[no-untyped-call]
    except (RedisError, OSError, ConfigError, ValueError) as error:
        hindrance = hindrance_at(address, error)
        silent = hindrance.obstacle is Obstacle.SILENT
        return NodeState(address, text_of(error) if silent else hindrance.text, obstacle=hindrance.obstacle)
    finally:
        client.close()
    master = join_address(info["master_host"], info["master_port"]) if "master_host" in info else None
    return NodeState(
        address,
        view=view,
        cluster_ok="cluster_state:ok" in state,
        follows=master,
        link_up=info.get("master_link_status", "up") == "up",
        used_memory_bytes=int(info["used_memory"]),
        maxmemory_bytes=int(info["maxmemory"]),
        keys=int(info.get("db0", {}).get("keys", 0)),
    )


def look_at_all(addresses: Iterable[str]) -> dict[str, NodeState]:
    """Address -> state of the node. Asks them in parallel, so that dead nodes cost one timeout together."""
    wanted = list(addresses)
    if not wanted:
        return {}
    with ThreadPoolExecutor(min(ASKED_AT_ONCE_MAX, len(wanted))) as pool:
        return dict(zip(wanted, pool.map(look_at, wanted), strict=True))


def primary_of(nodes: Iterable[NodeState]) -> NodeState | None:
    """The primary among the nodes of one shard: `topology.find_primary`, for nodes already asked."""
    claims = [(node, node.view) for node in nodes if node.view is not None and node.view.is_primary]
    owners = [claim for claim in claims if claim[1].slots] or claims
    return max(owners, key=lambda claim: claim[1].config_epoch, default=(None, None))[0]


def primary_of_partition(directory: Directory, partition: int) -> tuple[str, str]:
    """The partition's shard, and the address of its primary. Raises `ConfigError` when none answers."""
    name = directory.partition_map().shard_of(partition)
    shard = directory.shards().get(name)
    primary = None if shard is None else find_primary(shard.nodes)
    if primary is None:
        raise ConfigError(f"shard {name} has no primary that answers: see wallet-admin doctor")
    return name, primary.address


def memory_text(used_bytes: int | None) -> str:
    """Such as `12.3 MiB`; `-` when not known."""
    if used_bytes is None:
        return "-"
    value, unit = float(used_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def slots_text(ranges: Iterable[range]) -> str:
    """Such as `0-5460, 7000`; `none` for no slots."""
    parts = (f"{r.start}-{r.stop - 1}" if len(r) > 1 else f"{r.start}" for r in ranges)
    return ", ".join(parts) or "none"
