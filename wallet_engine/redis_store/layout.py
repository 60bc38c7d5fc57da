"""A partition in Redis: one row for each kind of key. All code about keys in general reads these rows.

A key's name is `<name>{tag}`, or `<name>:<suffix>{tag}` if a partition has several. An image key is the name
without the tag: `seen:3`, `balance:USD`. Snapshots, moves, `verify`, digests and rebuilds treat each key as
its row says. A new key is a row here, a name in `domain/key_names.py`, and a view in
`domain/oracle_state.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.key_names import (
    BALANCE,
    DUE,
    FLAGS,
    GROUP,
    HELD,
    HOLD,
    JOURNAL,
    META,
    NOTED,
    OPEN,
    PENDING,
    SEEN,
)


class KeyType(StrEnum):
    """The type as `TYPE` names it."""

    HASH = "hash"
    SORTED_SET = "zset"
    STREAM = "stream"


class Reading(StrEnum):
    """How a key is read while it changes."""

    #: With every piece of the other keys, because it names the entry at which they are true.
    STAMP = "stamp"
    #: A move copies it as a whole while the partition is frozen; all other readers read it in pieces.
    FROZEN = "frozen"
    #: In pieces, because it has any size. Fields stay, unless the row says that fields are removed.
    PIECES = "pieces"
    #: Entry by entry, from a given seq on.
    ENTRIES = "entries"


@dataclass(frozen=True, slots=True)
class Key:
    """One kind of key. `folded`: the journal's entries determine it, so snapshots and digests hold it.

    `removed`: a field may be removed, and then never comes back.
    """

    name: str
    type: KeyType
    #: What follows the colon in the name; empty if a partition has only one such key.
    suffix: str
    #: What its fields, members or entries are, and their values.
    holds: str
    reading: Reading
    folded: bool = True
    removed: bool = False


LAYOUT: Final = (
    Key(META, KeyType.HASH, "", "seq, nonce, clock, window …; epoch, owner, state, form", Reading.STAMP),
    Key(JOURNAL, KeyType.STREAM, "", "<seq>-0 -> header, operations", Reading.ENTRIES, folded=False),
    Key(
        OPEN,
        KeyType.SORTED_SET,
        "",
        "seq, or seq.idx of a refund made, scored seq",
        Reading.FROZEN,
        removed=True,
    ),
    Key(
        FLAGS, KeyType.HASH, "", "account -> status, then ` CCY=<overdraft minor units>` each", Reading.PIECES
    ),
    Key(SEEN, KeyType.HASH, "window", "field -> record (`domain/memory.py`)", Reading.PIECES),
    Key(
        BALANCE,
        KeyType.HASH,
        "currency",
        "account -> minor units; `<system account>+` -> how many 2^53 of them it has beside",
        Reading.PIECES,
    ),
    Key(
        HELD, KeyType.HASH, "currency", "account -> minor units set aside by holds and groups", Reading.PIECES
    ),
    Key(PENDING, KeyType.HASH, "currency", "account -> minor units coming in by groups", Reading.PIECES),
    Key(HOLD, KeyType.HASH, "", "field of (account, id) -> open hold", Reading.PIECES, removed=True),
    Key(DUE, KeyType.SORTED_SET, "", "field of an open hold, scored expiry", Reading.PIECES, removed=True),
    Key(GROUP, KeyType.HASH, "", "field of (first payer, id) -> group", Reading.PIECES, removed=True),
    Key(NOTED, KeyType.HASH, "", "account -> seq.idx of the operation that has its metadata", Reading.PIECES),
)

_ROWS: Final = {key.name: key for key in LAYOUT}


def key_of(image_key: str) -> Key:
    """The row of `seen:3`, `open` …; raises `Corruption` for a key that no partition has."""
    name, colon, suffix = image_key.partition(":")
    row = _ROWS.get(name)
    if row is None or bool(row.suffix) != bool(colon and suffix):
        raise Corruption(
            f"a partition has no key {image_key!r}: its data are of a newer version, or not the engine's"
        )
    return row


def is_known(image_key: str) -> bool:
    """Whether a partition may have such a key."""
    try:
        key_of(image_key)
    except Corruption:
        return False
    return True


def read_in_pieces(image_key: str) -> bool:
    """Whether it is a hash of any size. Raises `Corruption` as `key_of`."""
    return key_of(image_key).reading is Reading.PIECES


def scan_command(image_key: str) -> str:
    """The command that reads a key in pieces."""
    return "ZSCAN" if key_of(image_key).type is KeyType.SORTED_SET else "HSCAN"


def size_command(image_key: str) -> str:
    """The command that counts the fields of a key."""
    return "ZCARD" if key_of(image_key).type is KeyType.SORTED_SET else "HLEN"


def fields_command(image_key: str) -> str:
    """The command that reads some fields; its reply has None for each that is absent."""
    return "ZMSCORE" if key_of(image_key).type is KeyType.SORTED_SET else "HMGET"


def remove_command(image_key: str) -> str:
    """The command that removes fields."""
    return "ZREM" if key_of(image_key).type is KeyType.SORTED_SET else "HDEL"


def write_words(image_key: str, pairs: Sequence[bytes]) -> tuple[str, Iterable[bytes]]:
    """The command that writes alternating fields and values, and its words after the key."""
    if key_of(image_key).type is KeyType.SORTED_SET:  # the score comes before its member
        return "ZADD", [word for pair in zip(pairs[1::2], pairs[::2], strict=True) for word in pair]
    return "HSET", pairs
