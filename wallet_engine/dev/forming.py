"""Making one Redis Cluster of nodes that just started, from a given ownership of slots.

With CLUSTER commands rather than redis-cli, so that it needs nothing but the server, and slots lie where the
partition map says. A node counts as down for two seconds after its start whatever one does
(CLUSTER_WRITABLE_DELAY in cluster.c), so a cluster cannot be ready sooner.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import redis

from wallet_engine.dev.process import StartFailed, wait_until
from wallet_engine.dev.redis_node import RedisEndpoint

FORM_S_MAX: Final = 30.0

N = TypeVar("N", bound=RedisEndpoint)


def form_cluster(shards: Sequence[Sequence[RedisEndpoint]], ownership: Sequence[Sequence[range]]) -> None:
    """Make one cluster of freshly started nodes; the first node of each shard becomes its primary.

    Returns when every node says `cluster_state:ok` and every replica follows. Raises `StartFailed`.
    """
    nodes = [node for shard in shards for node in shard]
    try:
        for epoch, node in enumerate(nodes, 1):
            # Distinct epochs from the start spare the nodes the resolution of collisions.
            node.command("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for shard, ranges in zip(shards, ownership, strict=True):
            slots = [slot for slot_range in ranges for slot in slot_range]
            if slots:
                shard[0].command("CLUSTER", "ADDSLOTS", *slots)
        for first, second in _pairs(nodes):
            # Every pair directly: gossip would spread the news too, but takes seconds for it.
            first.command("CLUSTER", "MEET", second.host, second.port)
        wait_all(nodes, lambda node: _knows_all(node, len(nodes)), "know all others")
        for shard in shards:
            for replica in shard[1:]:
                replica.command("CLUSTER", "REPLICATE", shard[0].node_id())
        wait_cluster_ok(nodes, FORM_S_MAX)
        # Without full coverage a node is content before it knows who serves the other slots.
        assigned = str(sum(len(slots) for ranges in ownership for slots in ranges))
        wait_all(
            nodes,
            lambda node: node.cluster_info().get("cluster_slots_assigned") == assigned,
            "know all slots",
        )
        followers = [node for shard in shards for node in shard[1:]]
        wait_all(followers, RedisEndpoint.replica_in_sync, "follow their primary")
    except redis.RedisError as error:
        raise StartFailed(f"the Redis Cluster could not be formed: {error}") from error


def wait_cluster_ok(nodes: Sequence[RedisEndpoint], timeout_s: float) -> None:
    """Return when every node says `cluster_state:ok`. Raises `StartFailed`."""
    wait_all(nodes, RedisEndpoint.cluster_ok, "say cluster_state:ok", timeout_s)


def wait_all(
    nodes: Sequence[N],
    condition: Callable[[N], bool],
    what: str,
    timeout_s: float = FORM_S_MAX,
) -> None:
    """Return when the condition was seen on every node. Raises `StartFailed` naming those that lack it."""
    waiting = list(nodes)

    def all_seen() -> bool:
        waiting[:] = [node for node in waiting if not condition(node)]
        return not waiting

    if not wait_until(all_seen, timeout_s, poll_s=0.05):
        names = ", ".join(f"{node.name}{node.last_words()}" for node in waiting)
        raise StartFailed(f"Redis nodes that do not {what} after {timeout_s:.0f} s: {names}")


def _knows_all(node: RedisEndpoint, count: int) -> bool:
    """Whether the handshake with every other node is over."""
    states = [words[2] for words in node.cluster_nodes()]
    return len(states) == count and not any("handshake" in flags or "noaddr" in flags for flags in states)


def _pairs(nodes: Sequence[RedisEndpoint]) -> Iterator[tuple[RedisEndpoint, RedisEndpoint]]:
    for index, first in enumerate(nodes):
        for second in nodes[index + 1 :]:
            yield first, second
