"""What Redis would forget by itself: somebody has set a time to live on money.

A field of a hash can have one in Valkey 9 and Redis 7.4 and newer. Both count the keys with such fields, so nobody
looks for fields on a node where there are none.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import redis

#: How `INFO keyspace` of Valkey, and of Redis, calls the keys with fields that have a time to live.
_COUNTS: Final = ("keys_with_volatile_items", "subexpiry")
_PAGE: Final = 500
#: Fields that are named of one partition; behind them nobody looks on.
FIELDS_MAX: Final = 20


def expiring_keys(client: redis.Redis, names: Sequence[bytes]) -> dict[bytes, int]:
    """Those with a time to live, in milliseconds."""
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.pttl(name)
        return {name: ms for name, ms in zip(names, pipe.execute(), strict=True) if ms >= 0}


def has_expiring_fields(client: redis.Redis) -> bool:
    """Whether the node has any, in whatever key."""
    return any(
        int(database.get(name, 0)) for database in client.info("keyspace").values() for name in _COUNTS
    )


def expiring_fields(client: redis.Redis, names: Sequence[bytes]) -> dict[tuple[bytes, bytes], int]:
    """(key, field) -> milliseconds; of hashes among these keys, and at most `FIELDS_MAX`."""
    found: dict[tuple[bytes, bytes], int] = {}
    for name in names:
        if client.type(name) == "hash":
            for field, left_ms in _fields_of(client, name):
                found[name, field] = left_ms
                if len(found) == FIELDS_MAX:
                    return found
    return found


def _fields_of(client: redis.Redis, name: bytes) -> Iterator[tuple[bytes, int]]:
    cursor = 0
    while True:
        cursor, page = client.execute_command("HSCAN", name, cursor, "COUNT", _PAGE, NEVER_DECODE=True)  # type: ignore[no-untyped-call]
        if page:
            left = client.execute_command("HPTTL", name, "FIELDS", len(page), *page)  # type: ignore[no-untyped-call]
            yield from ((field, ms) for field, ms in zip(page, left, strict=True) if ms >= 0)
        if not cursor:
            return
