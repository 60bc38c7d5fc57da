"""Forms one Redis Cluster of nodes, with each slot on the given primary.

It uses CLUSTER commands, because redis-cli would choose the slots by itself. It leaves alone what already
exists, so the next run finishes an interrupted one. `formable` decides whether nodes may be formed. A node
counts as down for two seconds after its start (CLUSTER_WRITABLE_DELAY in cluster.c), so a cluster cannot be
ready sooner.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError

from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store.membership import follow, meet
from wallet_engine.redis_store.topology import connect, parse_myself, slot_owners

FORM_S_MAX: Final = 30.0
_POLL_S: Final = 0.05

Shards = Sequence[Sequence[str]]
Ownership = Sequence[Sequence[range]]


@dataclass(frozen=True, slots=True)
class Member:
    """What a node reports about itself and its cluster."""

    address: str
    node_id: str
    known_ids: frozenset[str]
    #: It has not yet met all of them.
    handshaking: bool
    is_primary: bool
    primary_id: str
    in_sync: bool
    config_epoch: int
    slots: frozenset[int]
    #: Slot -> id of the node that it considers the owner.
    owners: dict[int, str]
    cluster_ok: bool
    keys: int

    @property
    def alone(self) -> bool:
        return len(self.known_ids) == 1


def look(address: str) -> Member:
    """Ask the node. Raises what redis-py raises."""
    with closing(connect(address)) as client:
        nodes = _said(client, "CLUSTER", "NODES")
        state = _said(client, "CLUSTER", "INFO")
        role: Any = client.execute_command("ROLE")  # type: ignore[no-untyped-call]
        keys = int(client.dbsize())
    view = parse_myself(address, nodes)
    lines = [line.split(" ") for line in nodes.splitlines()]
    owners, _ = slot_owners(nodes)
    return Member(
        address,
        view.node_id,
        frozenset(words[0] for words in lines),
        any("handshake" in words[2] or "noaddr" in words[2] for words in lines),
        view.is_primary,
        view.primary_id,
        str(role[0]) == "slave" and str(role[3]) == "connected",
        view.config_epoch,
        frozenset(slot for slots in view.slots for slot in slots),
        owners,
        "cluster_state:ok" in state,
        keys,
    )


def form_cluster(shards: Shards, ownership: Ownership) -> None:
    """Make one cluster; the first node of each shard becomes its primary.

    Returns when every node knows every other, all agree on the owners of the slots, and every replica
    follows. Raises `ConfigError`.
    """
    nodes = [address for shard in shards for address in shard]
    try:
        found = {address: look(address) for address in nodes}
        for epoch, address in enumerate(nodes, 1):
            # Distinct epochs from the start, so that the nodes need not resolve collisions.
            if found[address].alone and found[address].config_epoch == 0:
                _tell(address, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for shard, wanted in zip(shards, ownership, strict=True):
            missing = [slot for slots in wanted for slot in slots if slot not in found[shard[0]].slots]
            if missing:
                _tell(shard[0], "CLUSTER", "ADDSLOTS", *missing)
        for first, second in _pairs(nodes):
            # Introduce every pair directly, because gossip would take seconds.
            if found[second].node_id not in found[first].known_ids:
                meet(second, [first])
        ids = {member.node_id for member in found.values()}
        _wait_all(nodes, lambda node: node.known_ids == ids and not node.handshaking, "know all others")
        for shard in shards:
            for replica in shard[1:]:
                if found[replica].is_primary:
                    follow(replica, found[shard[0]].node_id)
        owners = {
            slot: found[shard[0]].node_id
            for shard, wanted in zip(shards, ownership, strict=True)
            for slots in wanted
            for slot in slots
        }
        _wait_all(nodes, lambda node: node.cluster_ok and node.owners == owners, "agree whose the slots are")
        followers = [address for shard in shards for address in shard[1:]]
        _wait_all(followers, lambda node: node.in_sync, "follow their primary")
    except (RedisError, OSError) as error:
        raise ConfigError(f"the Redis Cluster could not be formed: {error}") from error


def _wait_all(nodes: Sequence[str], condition: Callable[[Member], bool], what: str) -> None:
    """Return when the condition was seen on every node. Raises `ConfigError` naming those that lack it."""
    waiting, deadline_s = list(nodes), time.monotonic() + FORM_S_MAX
    while waiting := [address for address in waiting if not condition(look(address))]:
        if time.monotonic() > deadline_s:
            raise ConfigError(
                f"Redis nodes that do not {what} after {FORM_S_MAX:.0f} s: {', '.join(waiting)}; a node reaches "
                f"the others at their port, and at their bus port (10,000 above it)"
            )
        time.sleep(_POLL_S)


def _pairs(nodes: Sequence[str]) -> Iterator[tuple[str, str]]:
    for index, first in enumerate(nodes):
        for second in nodes[index + 1 :]:
            yield first, second


def _tell(address: str, *words: str | int) -> None:
    with closing(connect(address)) as client:
        client.execute_command(*words)  # type: ignore[no-untyped-call]


def _said(client: Any, *words: str) -> str:
    return str(client.execute_command(*words))
