"""Decides whether the slots of a Redis Cluster are where the partitions need them. Asks no node, prints nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from wallet_engine.admin.nodes import NodeState, primary_of, slots_text
from wallet_engine.domain.errors import ConfigError, WrongUsage, as_usage
from wallet_engine.domain.limits import SLOTS
from wallet_engine.routing.model import PartitionMap, Shard
from wallet_engine.routing.slots import slot_range


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """A shard of the future cluster, with its present primary."""

    shard: Shard
    primary: NodeState
    partitions: tuple[int, ...]
    slots: tuple[range, ...]


def parse_shard(text: str) -> Shard:
    """Parse `s1=host:7001,host:7002`. Raises `WrongUsage`."""
    name, equals, nodes = text.partition("=")
    if not equals:
        raise WrongUsage(f"--shard {text!r} must be NAME=HOST:PORT[,HOST:PORT…]")
    with as_usage():
        return Shard(name, tuple(nodes.split(",")))


def joined(ranges: Iterable[range]) -> tuple[range, ...]:
    """Ascending ranges, with neighbours merged."""
    result: list[range] = []
    for piece in ranges:
        if result and result[-1].stop == piece.start:
            result[-1] = range(result[-1].start, piece.stop)
        else:
            result.append(piece)
    return tuple(result)


def needed_slots(placement: PartitionMap, shard: str) -> tuple[range, ...]:
    """The slots that the shard must own for its partitions."""
    count = len(placement.partitions)
    return joined(slot_range(partition, count) for partition in placement.partitions_of(shard))


def plan_shards(
    shards: Sequence[Shard], placement: PartitionMap, nodes: Mapping[str, NodeState]
) -> list[PlannedShard]:
    """The planned shards, in the order given. Raises `ConfigError` for the first thing that must be mended."""
    planned = [
        PlannedShard(
            shard,
            _primary(shard, [nodes[address] for address in shard.nodes]),
            placement.partitions_of(shard.name),
            needed_slots(placement, shard.name),
        )
        for shard in shards
    ]
    _check_slots(planned)
    for shard in planned:
        if not shard.primary.cluster_ok:
            raise ConfigError(
                f"Redis at {shard.primary.address} says cluster_state:fail: see wallet-admin cluster form, "
                f"which makes one cluster of empty nodes"
            )
    return planned


def _primary(shard: Shard, nodes: Sequence[NodeState]) -> NodeState:
    """The only primary of the shard; its other nodes are replicas. Raises `ConfigError`."""
    for node in nodes:
        if not node.reachable:
            said = node.trouble if node.refuses else f"{node.complaint}: {node.trouble}"
            raise ConfigError(f"Redis at {node.address} (shard {shard.name}) {said}")
    primary = primary_of(nodes)
    if primary is None:
        raise ConfigError(
            f"shard {shard.name} has only replicas ({', '.join(shard.nodes)}): "
            f"name its primary in --shard {shard.name}=… too"
        )
    for node in nodes:
        if node is not primary and node.role == "primary":
            raise ConfigError(
                f"shard {shard.name} has two primaries, {primary.address} and {node.address}: "
                f"name them as two shards, or make one the other's replica (CLUSTER REPLICATE)"
            )
    return primary


def _check_slots(planned: Sequence[PlannedShard]) -> None:
    """Check that every slot is on the shard that needs it. Raises `ConfigError` that names the misplaced slots."""
    owners: list[str | None] = [None] * SLOTS
    for shard in planned:
        view = shard.primary.view
        for slot in (slot for slots in (view.slots if view else ()) for slot in slots):
            if owners[slot] is not None:
                raise ConfigError(
                    f"slot {slot} is owned by shard {owners[slot]} and by shard {shard.shard.name}: "
                    f"they are not one Redis Cluster, join their nodes with CLUSTER MEET"
                )
            owners[slot] = shard.shard.name
    complaints = []
    for shard in planned:
        misplaced: dict[str | None, list[range]] = {}
        for slot in (slot for slots in shard.slots for slot in slots):
            if owners[slot] != shard.shard.name:
                misplaced.setdefault(owners[slot], []).append(range(slot, slot + 1))
        for owner, slots in misplaced.items():
            where = f"on shard {owner}" if owner else "on none of the shards"
            complaints.append(
                f"slots {slots_text(joined(slots))} must be on shard {shard.shard.name} "
                f"({shard.primary.address}) and are {where}"
            )
    if complaints:
        raise ConfigError(
            f"{'; '.join(complaints)}: wallet-admin cluster form assigns them so on new nodes; "
            f"redis-cli --cluster reshard moves them"
        )
