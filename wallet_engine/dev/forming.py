"""Forms a Redis Cluster of nodes that this process has started, and waits for it."""

from collections.abc import Sequence

from wallet_engine.dev.process import StartFailed, wait_until
from wallet_engine.dev.redis_node import RedisEndpoint
from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store import forming


def form_cluster(shards: Sequence[Sequence[RedisEndpoint]], ownership: Sequence[Sequence[range]]) -> None:
    """Form a cluster as `redis_store.forming.form_cluster` does; each shard's first node becomes primary.

    `ownership`: the slot ranges of each shard. Raises `StartFailed`.
    """
    try:
        forming.form_cluster([[node.address for node in shard] for shard in shards], ownership)
    except ConfigError as error:
        words = "".join(node.last_words() for shard in shards for node in shard[:1])
        raise StartFailed(f"{error}{words}") from error


def wait_cluster_ok(nodes: Sequence[RedisEndpoint], timeout_s: float) -> None:
    """Return when every node says `cluster_state:ok`. Raises `StartFailed` with the nodes that do not."""
    waiting = list(nodes)

    def all_seen() -> bool:
        waiting[:] = [node for node in waiting if not node.cluster_ok()]
        return not waiting

    if not wait_until(all_seen, timeout_s, poll_s=0.05):
        names = ", ".join(f"{node.name}{node.last_words()}" for node in waiting)
        raise StartFailed(f"Redis nodes that do not say cluster_state:ok after {timeout_s:.0f} s: {names}")
