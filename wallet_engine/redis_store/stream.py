"""The form of entries in `journal{tag}`. Only this file parses replies of XRANGE.

The text of an entry (`domain/entry.py`) is a header and columns. Redis gets the columns, and the script puts
them into the stream unchanged, beside the header.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from wallet_engine.domain.entry import columns_of
from wallet_engine.domain.errors import Corruption
from wallet_engine.redis_store.connection import Word

_columns_begin: Final = re.compile(rb'\["[a-z]+",("[A-Z]{3}"|"-"|\[)').match


class StreamEntry(NamedTuple):
    """`payload` as in the journal; `fields` as in the stream, to be written to another stream."""

    seq: int
    payload: bytes
    fields: tuple[bytes, ...]


def to_stream(payload: bytes) -> tuple[Word, ...]:
    """Fields and values of an entry as the script would have put it into the stream."""
    return ("header", payload[: payload.index(b"\n")], "operations", columns_of(payload))


def from_stream(header: bytes, operations: bytes) -> bytes:
    """A stream entry in the form of the journal. Raises `Corruption` for one that no script has written."""
    if not (_columns_begin(operations) and operations.endswith(b"]")) or b"\n" in header:
        raise Corruption(f"not an entry of a stream: {header[:80]!r} {operations[:80]!r}")
    return b"%b\n%b" % (header, operations)


def stream_entries(reply: Sequence[Any]) -> list[StreamEntry]:
    """The entries in a reply of XRANGE, from the engine's connection or redis-py. Raises `Corruption`."""
    return [_entry(entry_id, fields) for entry_id, fields in reply]


def readable(reply: Sequence[Any]) -> tuple[list[StreamEntry], str]:
    """The entries of a reply of XRANGE before the first that cannot be read, and what is wrong with that one, or ""."""
    entries: list[StreamEntry] = []
    try:
        for entry_id, fields in reply:
            entries.append(_entry(entry_id, fields))
    except Corruption as error:
        return entries, str(error)
    return entries, ""


def is_of_another_type(reply: Any) -> bool:
    """Whether the key holds something else, in the reply of a command (not of a script) for a stream, hash or set."""
    return isinstance(reply, Exception) and str(reply).startswith("WRONGTYPE")


def first_seq(reply: Sequence[Any]) -> int:
    """The seq of the first entry of a reply that is not empty."""
    return _seq(reply[0][0])


def unbroken(entries: list[StreamEntry]) -> list[StreamEntry]:
    """The entries up to the first gap.

    Gaps come from trimming, which leaves open entries (`lua/trim.lua`).
    """
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
