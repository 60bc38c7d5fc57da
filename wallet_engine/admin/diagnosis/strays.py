"""Finds keys of a Redis node in slots that its shard does not serve, and keys that are not the engine's.

Any program that reaches a node may write to it. Names are bytes here, so that a name that is not text hides no other.
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
    """`foreign`: keys in the shard's slots that are not the engine's; `left`: unreachable keys in other slots."""

    foreign: tuple[bytes, ...] = ()
    left: tuple[bytes, ...] = ()


NO_STRAYS: Final = Strays()


def find_strays(client: redis.Redis, own: Collection[int], owned: Collection[int], count: int) -> Strays:
    """Scan all keys, but only if there are more than in `own`, the slots of the shard's partitions by the map.

    `owned`: all slots that the shard owns in Redis. A partition's key in a slot that the map places elsewhere is no
    stray: another finding reports that Redis and the map disagree.
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
    """Whether the engine has such a key in a partition with this tag."""
    kind = name.removesuffix(b"{%s}" % tag.encode())
    return kind != name and is_known(kind.decode(errors="replace"))


def keys_in_slot(client: redis.Redis, slot: int) -> list[bytes]:
    """Names of the keys of a slot; at most `_PER_CALL`."""
    names: list[bytes] = client.execute_command(
        "CLUSTER", "GETKEYSINSLOT", slot, _PER_CALL, NEVER_DECODE=True
    )  # type: ignore[no-untyped-call]
    return names


def shown(name: bytes) -> str:
    """A key in printable text: control characters are escaped."""
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
