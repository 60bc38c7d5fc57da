"""The form of entries in `journal{tag}`, and the one place that takes a reply of XRANGE apart.

The text of an entry (`domain/entry.py`) is a header and columns. Redis gets the columns, and as it got them the script
puts them into the stream, beside the header.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from wallet_engine.domain.entry import columns_of
from wallet_engine.domain.errors import Corruption
from wallet_engine.redis_store.connection import Word

_columns_begin: Final = re.compile(rb'\["[a-z]+",("[A-Z]{3}"|"-"|\[)').match


class StreamEntry(NamedTuple):
    """`payload` as the journal has it; `fields` as the stream has them, to be written to another one."""

    seq: int
    payload: bytes
    fields: tuple[bytes, ...]


def to_stream(payload: bytes) -> tuple[Word, ...]:
    """Fields and values of an entry as the script would have put it into the stream."""
    return ("header", payload[: payload.index(b"\n")], "operations", columns_of(payload))


def from_stream(header: bytes, operations: bytes) -> bytes:
    """An entry of the stream as it is written to the journal. Raises `Corruption` for what no script has put there."""
    if not (_columns_begin(operations) and operations.endswith(b"]")) or b"\n" in header:
        raise Corruption(f"not an entry of a stream: {header[:80]!r} {operations[:80]!r}")
    return b"%b\n%b" % (header, operations)


def stream_entries(reply: Sequence[Any]) -> list[StreamEntry]:
    """What XRANGE answered, by the engine's connection or by redis-py. Raises `Corruption`."""
    return [_entry(entry_id, fields) for entry_id, fields in reply]


def first_seq(reply: Sequence[Any]) -> int:
    """The seq of a reply's first entry, which is there."""
    return _seq(reply[0][0])


def unbroken(entries: list[StreamEntry]) -> list[StreamEntry]:
    """Those up to the first hole: where open entries are left alone, others are gone (`lua/trim.lua`)."""
    for number, entry in enumerate(entries):
        if entry.seq != entries[0].seq + number:
            return entries[:number]
    return entries


def _entry(entry_id: bytes | str, fields: Sequence[bytes] | Mapping[str, str]) -> StreamEntry:
    if isinstance(fields, Mapping):
        fields = [word.encode() for pair in fields.items() for word in pair]
    if len(fields) != 4 or (fields[0], fields[2]) != (b"header", b"operations"):
        raise Corruption(f"not an entry of a stream: {entry_id!r} {list(fields)[::2]!r}")
    return StreamEntry(_seq(entry_id), from_stream(fields[1], fields[3]), tuple(fields))


def _seq(entry_id: bytes | str) -> int:
    return int(entry_id.partition(b"-")[0] if isinstance(entry_id, bytes) else entry_id.partition("-")[0])
