"""Finds keys and fields that Redis would delete by itself, because a time to live was set on them.

A field of a hash can have a time to live in Valkey 9 and Redis 7.4 and newer. Both count the keys with such fields,
so the fields of a node that counts none are not scanned.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import redis

#: Names in `INFO keyspace` of Valkey, and of Redis, of the number of keys whose fields have a time to live.
_COUNTS: Final = ("keys_with_volatile_items", "subexpiry")
_PAGE: Final = 500
#: Maximum fields to report for one partition; the scan stops there.
FIELDS_MAX: Final = 20


def expiring_keys(client: redis.Redis, names: Sequence[bytes]) -> dict[bytes, int]:
    """The keys with a time to live -> its milliseconds."""
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.pttl(name)
        return {name: ms for name, ms in zip(names, pipe.execute(), strict=True) if ms >= 0}


def has_expiring_fields(client: redis.Redis) -> bool:
    """Whether any key of the node has fields with a time to live."""
    return any(
        int(database.get(name, 0)) for database in client.info("keyspace").values() for name in _COUNTS
    )


def expiring_fields(client: redis.Redis, names: Sequence[bytes]) -> dict[tuple[bytes, bytes], int]:
    """(key, field) -> time to live in milliseconds, in the hashes among `names`; at most `FIELDS_MAX`."""
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
