"""Real Redis Clusters for tests: shared ones that are emptied, private ones that may be killed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from wallet_engine.dev.binaries import RedisBinary, bundled_redis, system_redis
from wallet_engine.dev.redis_cluster import Ownership, RedisCluster
from wallet_engine.domain.limits import SLOTS


def even_ownership(shards: int) -> dict[str, list[range]]:
    """Shards `s1`, `s2` ... that own all slots in equal contiguous ranges.

    The same as `spread` gives when the number of shards divides the number of partitions; otherwise use
    `ownership_of(partition_map, names)` of `wallet_engine.dev.layout`.
    """
    bounds = [i * SLOTS // shards for i in range(shards + 1)]
    return {f"s{i + 1}": [range(bounds[i], bounds[i + 1])] for i in range(shards)}


def redis_binary(*, bundled: bool = False) -> RedisBinary:
    """System redis-server, or the bundled one. `ConfigError` when it is missing: no test is skipped."""
    return bundled_redis() if bundled else system_redis()


@dataclass
class ClusterPool:
    """Started clusters, one for each shape asked for."""

    directory: Path
    shared: dict[tuple[object, ...], RedisCluster] = field(default_factory=dict)

    def take(self, ownership: Ownership, replicas: int, binary: RedisBinary) -> RedisCluster:
        """A running and empty cluster of this shape; started anew when a test left one damaged."""
        key = (str(ownership), replicas, binary.path)
        cluster = self.shared.get(key)
        if cluster is not None and not clean(cluster):
            cluster.kill()
            cluster = None
        if cluster is None:
            cluster = RedisCluster(
                binary, self.directory / f"{len(self.shared)}", ownership, replicas=replicas
            )
            self.shared[key] = cluster
            cluster.start()
        return cluster

    def close(self) -> None:
        for cluster in self.shared.values():
            cluster.kill()


def clean(cluster: RedisCluster) -> bool:
    """Empty every primary, scripts included. False when the cluster is not as it was when it started."""
    for shard, ranges in cluster.ownership.items():
        node, *others = cluster.shard_nodes(shard)
        if not (node.alive and node.is_primary() and all(other.alive for other in others)):
            return False
        node.command("FLUSHALL", "SYNC")
        node.command("SCRIPT", "FLUSH", "SYNC")
        if node.cluster_info().get("cluster_state") != "ok" or _owned(cluster, shard) != _slots(ranges):
            return False
    return True


def _owned(cluster: RedisCluster, shard: str) -> set[int]:
    """The slots that the first node of the shard says are its own; migrating ones count as damage."""
    lines = cluster.shard_nodes(shard)[0].cluster_nodes()
    myself = next(words for words in lines if "myself" in words[2])
    owned: set[int] = set()
    for word in myself[8:]:
        if word.startswith("["):
            return {-1}
        first, _, last = word.partition("-")
        owned.update(range(int(first), int(last or first) + 1))
    return owned


def _slots(ranges: list[range]) -> set[int]:
    return {slot for slots in ranges for slot in slots}


RedisClusterFactory = Callable[..., RedisCluster]
