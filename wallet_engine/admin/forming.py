"""Decides whether Redis nodes may be made one cluster, or are one already. Asks no node and prints nothing."""

from collections.abc import Sequence
from enum import StrEnum

from wallet_engine.admin.nodes import slots_text
from wallet_engine.admin.placement import joined
from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store.forming import Member


class Standing(StrEnum):
    """How far the forming of the cluster is."""

    #: The nodes are empty, or the forming was interrupted and can continue.
    FORMABLE = "formable"
    #: The nodes are one cluster, with the slots where `init` wants them.
    FORMED = "formed"
    #: The nodes are one cluster that holds data; its slots may have moved since it was formed.
    SERVING = "serving"


def standing_of(shards: Sequence[Sequence[Member]], wanted: Sequence[Sequence[range]]) -> Standing:
    """How far the nodes of `shards` are; raises `ConfigError` for a node that must not be used.

    `shards`: the nodes of each shard, its primary first; `wanted`: the slots of each shard.
    """
    everyone = [node for nodes in shards for node in nodes]
    _check_distinct(everyone)
    ids = {node.node_id for node in everyone}
    if all(ids <= node.known_ids and not node.handshaking for node in everyone) and _are_shards(shards):
        laid = [_owned(nodes) for nodes in shards]
        if laid == [{slot for slots in each for slot in slots} for each in wanted]:
            return Standing.FORMED
        if any(node.keys for node in everyone):
            return Standing.SERVING
    for nodes, slots in zip(shards, wanted, strict=True):
        for node in nodes:
            _check_formable(node, ids, nodes[0], slots)
    return Standing.FORMABLE


def _check_distinct(everyone: Sequence[Member]) -> None:
    by_id: dict[str, Member] = {}
    for node in everyone:
        other = by_id.setdefault(node.node_id, node)
        if other is not node:
            raise ConfigError(f"{other.address} and {node.address} are one Redis node: give each node once")


def _are_shards(shards: Sequence[Sequence[Member]]) -> bool:
    """Whether each shard has one primary that all its other nodes follow. A failover may have changed which one."""
    for nodes in shards:
        primaries = [node for node in nodes if node.is_primary]
        if len(primaries) != 1 or any(
            node.primary_id != primaries[0].node_id for node in nodes if node is not primaries[0]
        ):
            return False
    return True


def _owned(nodes: Sequence[Member]) -> set[int]:
    return {slot for node in nodes if node.is_primary for slot in node.slots}


def _check_formable(node: Member, ids: set[str], primary: Member, wanted: Sequence[range]) -> None:
    """Raises `ConfigError` for a node that is in use already: its data may be live."""
    if node.keys:
        raise ConfigError(
            f"Redis at {node.address} holds {node.keys} keys: a cluster is formed of empty nodes, give one with "
            f"an empty --dir"
        )
    if not node.handshaking and node.known_ids - ids:
        raise ConfigError(
            f"Redis at {node.address} knows {len(node.known_ids - ids)} nodes that are not named: it belongs to "
            f"another cluster: give a node with an empty --dir"
        )
    allowed = {slot for slots in wanted for slot in slots} if node is primary else set()
    misplaced = sorted(node.slots - allowed)
    if misplaced:
        where = slots_text(joined(range(slot, slot + 1) for slot in misplaced))
        raise ConfigError(
            f"Redis at {node.address} owns slots {where}, which must be on other nodes: the slots were assigned "
            f"differently, as redis-cli --cluster create does: start the nodes again, each with an empty --dir"
        )
    if not node.is_primary and (node is primary or node.primary_id != primary.node_id):
        raise ConfigError(
            f"Redis at {node.address} is a replica of another node than planned: give a node with an empty --dir"
        )
