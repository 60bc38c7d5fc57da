"""Decides which partitions should move where. Asks no node and moves nothing."""

from collections.abc import Iterable, Mapping, Sequence

from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.model import PartitionMap

#: (partition, its new shard)
Step = tuple[int, str]


def drain_steps(partition_map: PartitionMap, leaving: str, shards: Iterable[str]) -> list[Step]:
    """Move each partition of a shard to the one with the fewest by then. Raises `ConfigError` if there is no other."""
    counts = {name: len(partition_map.partitions_of(name)) for name in shards if name != leaving}
    if not counts:
        raise ConfigError(f"{leaving} is the only shard: add another first, wallet-admin add-shard")
    steps = []
    for partition in partition_map.partitions_of(leaving):
        receiver = min(counts, key=lambda name: (counts[name], name))
        counts[receiver] += 1
        steps.append((partition, receiver))
    return steps


def balance_steps(
    partition_map: PartitionMap, shards: Sequence[str], weights: Mapping[int, int] | None = None
) -> list[Step]:
    """Steps that balance the shards. Without weights: the fewest moves until they differ by at most one partition.

    With weights (partition -> accounts or operations), greedily: move the partition that brings the heaviest and the
    lightest shard closest together, while that gains at least a hundredth of a shard's average load.
    """
    homes = {p: entry.shard for p, entry in enumerate(partition_map.partitions)}
    weight = {p: 1 if weights is None else weights.get(p, 0) for p in homes}
    loads = {name: sum(weight[p] for p, home in homes.items() if home == name) for name in shards}
    gain_min = 1 if weights is None else max(1, sum(loads.values()) // (100 * len(loads)))
    moved: dict[int, str] = {}
    while len(moved) < len(homes):
        heavy = max(loads, key=lambda name: (loads[name], name))
        light = min(loads, key=lambda name: (loads[name], name))
        gap = loads[heavy] - loads[light]
        # Moving weight w leaves a gap of |gap - 2w|.
        candidates = [p for p, home in homes.items() if home == heavy and p not in moved]
        best = min(candidates, key=lambda p: (abs(gap - 2 * weight[p]), p), default=None)
        if best is None or gap - abs(gap - 2 * weight[best]) < gain_min:
            break
        loads[heavy] -= weight[best]
        loads[light] += weight[best]
        homes[best] = moved[best] = light
    return list(moved.items())
