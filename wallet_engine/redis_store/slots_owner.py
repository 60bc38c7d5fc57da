"""Tells the nodes of a cluster the new owner of slots, when the partition map has moved a partition.

It tells the new owner first. That node takes a higher configuration epoch, so its claim wins over the old
owner's. The others would learn it by gossip; telling them saves the wait.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from redis.exceptions import RedisError

from wallet_engine.redis_store.topology import NodeView, connect


def give_slots(slots: range, owner: NodeView, others: Iterable[str]) -> list[str]:
    """Make `owner` the owner of the slots and tell the primaries at the addresses of `others`.

    Returns the addresses that were not told, or still hold keys of a slot: they learn it by gossip and drop
    the keys. Raises what redis-py raises when the owner does not take the slots. Skips replicas.
    """
    _tell(owner.address, slots, owner.node_id, claim=True)
    untold = []
    for address in others:
        if address == owner.address:
            continue
        try:
            _tell(address, slots, owner.node_id, claim=False)
        except (RedisError, OSError):
            untold.append(address)
    return untold


def _tell(address: str, slots: Sequence[int], node_id: str, *, claim: bool) -> None:
    client = connect(address)
    try:
        role: Any = client.execute_command("ROLE")  # type: ignore[no-untyped-call]
        if role[0] not in ("master", b"master"):
            return
        if claim:
            client.execute_command("CLUSTER", "BUMPEPOCH")  # type: ignore[no-untyped-call]
        with client.pipeline(transaction=False) as pipe:
            for slot in slots:
                pipe.execute_command("CLUSTER", "SETSLOT", slot, "NODE", node_id)  # type: ignore[no-untyped-call]
            pipe.execute()
    finally:
        client.close()
