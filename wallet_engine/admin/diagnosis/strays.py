"""Keys of a Redis node that are in no slot of its shard's partitions, or that no partition has.

Any program that reaches a node may write to it, so names are bytes here: none may hide the others by being no text.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

import redis

from wallet_engine.redis_store.layout import is_known
from wallet_engine.routing.slots import slot_of_name, tag_of

_PER_CALL: Final = 1000


@dataclass(frozen=True, slots=True)
class Strays:
    """`foreign` keys are in slots of the shard and not the engine's; `left` ones in other slots: unreachable."""

    foreign: tuple[bytes, ...] = ()
    left: tuple[bytes, ...] = ()


NO_STRAYS: Final = Strays()


def find_strays(client: redis.Redis, own: Collection[int], owned: Collection[int], count: int) -> Strays:
    """Look at every key, if there are more than those in `own`, the slots of the shard's partitions by the map.

    `owned` are all slots that the shard has in Redis. A partition's key there that the map puts elsewhere is no stray:
    that the two disagree is another finding.
    """
    here: Any = client.dbsize()
    if here <= sum(_count(client, slot) for slot in own):
        return NO_STRAYS
    tags = {
        slot_of_name(tag.encode()): tag for tag in (tag_of(partition, count) for partition in range(count))
    }
    foreign, left = [], []
    for name in _all_keys(client):
        slot = slot_of_name(name)
        if slot in own:
            continue
        if slot not in owned:
            left.append(name)
        elif not (slot in tags and is_engines(name, tags[slot])):
            foreign.append(name)
    return Strays(tuple(foreign), tuple(left))


def is_engines(name: bytes, tag: str) -> bool:
    """Whether a partition with this tag may have such a key."""
    kind = name.removesuffix(b"{%s}" % tag.encode())
    return kind != name and is_known(kind.decode(errors="replace"))


def keys_in_slot(client: redis.Redis, slot: int) -> list[bytes]:
    """Names of the keys of a slot, at most `_PER_CALL`."""
    names: list[bytes] = client.execute_command(
        "CLUSTER", "GETKEYSINSLOT", slot, _PER_CALL, NEVER_DECODE=True
    )  # type: ignore[no-untyped-call]
    return names


def shown(name: bytes) -> str:
    """A key for a person to read: what a terminal would obey is written out."""
    text = name.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _all_keys(client: redis.Redis) -> Iterator[bytes]:
    cursor = 0
    while True:
        cursor, names = client.execute_command("SCAN", cursor, "COUNT", _PER_CALL, NEVER_DECODE=True)  # type: ignore[no-untyped-call]
        yield from names
        if cursor == 0:
            return


def _count(client: redis.Redis, slot: int) -> int:
    return int(client.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot))  # type: ignore[no-untyped-call]
