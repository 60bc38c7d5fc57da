"""Which partitions should move where. Decides; asks nothing and moves nothing."""

from collections.abc import Iterable, Mapping, Sequence

from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.model import PartitionMap

#: (partition, shard it moves to)
Step = tuple[int, str]


def drain_steps(partition_map: PartitionMap, leaving: str, shards: Iterable[str]) -> list[Step]:
    """Every partition of a shard, each to the shard that has fewest by then. Raises `ConfigError` without another."""
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
    """Even the shards out: without weights in the fewest moves after which they differ by one partition at most.

    With weights (partition -> accounts or operations) greedily: from the heaviest shard to the lightest the partition
    that brings the two closest together, as long as one does by at least a hundredth of a shard's share.
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
        # Moving w leaves a gap of |gap - 2w|.
        candidates = [p for p, home in homes.items() if home == heavy and p not in moved]
        best = min(candidates, key=lambda p: (abs(gap - 2 * weight[p]), p), default=None)
        if best is None or gap - abs(gap - 2 * weight[best]) < gain_min:
            break
        loads[heavy] -= weight[best]
        loads[light] += weight[best]
        homes[best] = moved[best] = light
    return list(moved.items())
