"""A Redis Cluster of local processes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from wallet_engine.dev import ports
from wallet_engine.dev.binaries import RedisBinary
from wallet_engine.dev.forming import form_cluster, wait_cluster_ok
from wallet_engine.dev.process import StartFailed, stop_all
from wallet_engine.dev.redis_node import RedisNode
from wallet_engine.redis_store.forming import FORM_S_MAX

#: Starts of a node, each on another port: another program may take a port between choice and start.
START_TRIES_MAX: Final = 5
#: More than the detection of a failure (cluster-node-timeout, 3 s) and the election take together.
FAILOVER_S_MAX: Final = 10.0

Ownership = Mapping[str, Sequence[range]]


def node_name(shard: str, index: int) -> str:
    """The name of a shard's node; `index` begins at 1. `s1-1` starts as primary, `s1-2` as its first replica."""
    return f"{shard}-{index}"


class RedisCluster:
    """Primaries and replicas, in memory only: every `start` makes a new, empty cluster.

    `ownership`: the slot ranges of each shard, which may be empty. `replicas`: for each primary, or by shard.
    `wanted_ports`: ports by node name, used if they are free.
    """

    def __init__(
        self,
        binary: RedisBinary,
        directory: Path,
        ownership: Ownership,
        *,
        replicas: int | Mapping[str, int] = 0,
        wanted_ports: Mapping[str, int] | None = None,
        logs: Path | None = None,
        node_flags: Sequence[str] = (),
        tls: bool = False,
    ) -> None:
        """`node_flags`: more flags for every node; with `tls` they must name its certificate."""
        self.binary = binary
        self.directory = directory
        self.logs = logs
        self.ownership = {shard: list(ranges) for shard, ranges in ownership.items()}
        self._node_flags = tuple(node_flags)
        self._tls = tls
        self._replicas = replicas
        self._wanted_ports = dict(wanted_ports or {})
        self.nodes: dict[str, RedisNode] = {}

    def __repr__(self) -> str:
        living = sum(node.alive for node in self.nodes.values())
        return f"<RedisCluster shards={len(self.ownership)} nodes={self.size} alive={living}>"

    def __enter__(self) -> "RedisCluster":
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self, on_start: Callable[[RedisNode], None] = lambda node: None) -> None:
        """Start every node, form the cluster and return when every node says `cluster_state:ok`.

        `on_start` is called with each node when it answers. Raises `StartFailed`; then no node is left running.
        """
        try:
            for shard in self.ownership:
                for index in range(self.replicas_of(shard) + 1):
                    node = self._start_node(shard, node_name(shard, index + 1))
                    on_start(node)
            shards = [self.shard_nodes(shard) for shard in self.ownership]
            form_cluster(shards, list(self.ownership.values()))
        except BaseException:
            self.kill()
            raise

    @property
    def size(self) -> int:
        """The number of nodes of all shards."""
        return sum(1 + self.replicas_of(shard) for shard in self.ownership)

    def replicas_of(self, shard: str) -> int:
        return self._replicas if isinstance(self._replicas, int) else self._replicas.get(shard, 0)

    def _start_node(self, shard: str, name: str) -> RedisNode:
        directory = self.directory / name
        log = self.logs / f"redis-{name}.log" if self.logs else None
        port = self._wanted_ports.get(name, 0)
        for attempt in range(1, START_TRIES_MAX + 1):
            if not (ports.redis_port_is_free(port) and ports.reserve(port)):
                port = ports.free_port(redis=True)
            node = RedisNode(
                self.binary, shard, name, directory, port, log=log, flags=self._node_flags, tls=self._tls
            )
            node.wipe()
            try:
                node.start_and_wait()
            except StartFailed:
                node.kill()
                if attempt == START_TRIES_MAX or ports.redis_port_is_free(port):
                    raise
            else:
                self.nodes[name] = node
                return node
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """Stop all nodes at the same time, and wait for them."""
        stop_all(list(self.nodes.values()))

    def kill(self) -> None:
        """Send SIGKILL to every node, and wait for it."""
        for node in self.nodes.values():
            node.kill()

    def shard_nodes(self, shard: str) -> list[RedisNode]:
        """The nodes of a shard in the order of their start. Any of them may be the primary now."""
        return [node for node in self.nodes.values() if node.shard == shard]

    def addresses(self) -> dict[str, list[str]]:
        """Shard -> `host:port` of each of its nodes."""
        return {shard: [node.address for node in self.shard_nodes(shard)] for shard in self.ownership}

    def primary(self, shard: str) -> RedisNode:
        """The present primary of the shard. Raises `StartFailed` when there is none."""
        for node in self.shard_nodes(shard):
            if node.alive and node.is_primary():
                return node
        raise StartFailed(f"shard {shard} has no primary now")

    def wait_ok(self, timeout_s: float = FORM_S_MAX) -> None:
        """Return when every running node says `cluster_state:ok`. Raises `StartFailed`."""
        wait_cluster_ok([node for node in self.nodes.values() if node.alive], timeout_s)

    def failover_possible(self, dead: RedisNode) -> bool:
        """Whether the other primaries can promote a replica of the dead node's shard.

        That needs the votes of a majority of all primaries, where the dead one counts as a primary too.
        """
        replicas = [node for node in self.shard_nodes(dead.shard) if node is not dead and node.alive]
        others = [n for s in self.ownership if s != dead.shard for n in self.shard_nodes(s) if n.alive]
        voters = {node.shard for node in others if node.is_primary()}
        return any(node.answers() for node in replicas) and 2 * len(voters) > len(self.ownership)
