"""The text of a journal entry and of the operations inside it: the one format of stream, disk and replay.

An entry is what one call of the apply script did to one partition::

    <seq> <prev_nonce> <nonce> <epoch> <time_ms> <window> <outcomes>\\n
    <operation>\\n ... one line for each character of outcomes, in order

    seq         1, 2, 3 ... in this partition, without gaps
    prev_nonce  nonce of entry seq-1 (16 hex digits; ZERO_NONCE before the first): the partition's chain
    nonce       random, chosen by the service for this batch
    epoch       the epoch of the partition under which the entry was written
    time_ms     Redis TIME, made monotonic within the partition; Unix milliseconds
    window      number of the dedupe window in force (1, 2, 3 ...)
    outcomes    one `Outcome` character per operation

An operation is six fields separated by one space, whatever its kind::

    kind id a b n ccy

    kind  id          a         b                   n          ccy
    o     -           account   limit, or "-"       0          CCY   open_account (limit: overdraft, minor units)
    t     txid        from      to                  minor      CCY   transfer, both sides in this partition
    d     txid        from      to                  minor      CCY   debit: from -> @transit
    c     p.seq       to        idx                 minor      CCY   credit: @transit -> to, for operation idx of
                                                                     entry seq of partition p
    r     txid        from      seq.idx.outcome     minor      CCY   refund: @transit -> from; outcome is the decline
    s     seq         -         -                   0          -     settle: entry seq has no outgoing money left
    f     -           account   freeze|unfreeze|close  0       -     set_flags

`txid` is `pack_transaction_id` of the UUID; idx counts the operations of an entry from 0.
"""

from dataclasses import dataclass
from typing import Final

from wallet_engine.domain.errors import Corruption

ZERO_NONCE: Final = "0" * 16


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of an entry; `fields` are named as in the table above."""

    kind: str
    id: str
    a: str
    b: str
    amount_minor: int
    currency: str

    def line(self) -> str:
        return f"{self.kind} {self.id} {self.a} {self.b} {self.amount_minor} {self.currency}\n"


@dataclass(frozen=True, slots=True)
class EntryHeader:
    """The first line of an entry: enough to check the chain."""

    seq: int
    prev_nonce: str
    nonce: str
    epoch: int
    time_ms: int
    window: int
    outcomes: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A whole entry: `header` and as many operations as it has outcomes."""

    header: EntryHeader
    operations: tuple[Operation, ...]


def parse_header(payload: bytes) -> tuple[EntryHeader, bytes]:
    """The header and the operations as received. Raises `Corruption` when it is not an entry."""
    first, sep, operations = payload.partition(b"\n")
    fields = first.decode("ascii", "replace").split(" ")
    if not sep or len(fields) != 7:
        raise Corruption(f"not a journal entry: {first[:120]!r}")
    seq, prev_nonce, nonce, epoch, time_ms, window, outcomes = fields
    try:
        header = EntryHeader(int(seq), prev_nonce, nonce, int(epoch), int(time_ms), int(window), outcomes)
    except ValueError:
        raise Corruption(f"not a journal entry: {first[:120]!r}") from None
    return header, operations


def parse_operation(line: str) -> Operation:
    """One operation from its line without the newline. Raises `Corruption`."""
    fields = line.split(" ")
    if len(fields) != 6:
        raise Corruption(f"not an operation: {line[:200]!r}")
    kind, id_, a, b, n, currency = fields
    try:
        return Operation(kind, id_, a, b, int(n), currency)
    except ValueError:
        raise Corruption(f"not an operation: {line[:200]!r}") from None


def parse_entry(payload: bytes) -> Entry:
    """The whole entry. Raises `Corruption` when lines and outcomes do not match in number."""
    header, blob = parse_header(payload)
    lines = blob.decode("ascii", "replace").split("\n")
    if lines.pop() != "" or len(lines) != len(header.outcomes):
        raise Corruption(f"entry {header.seq}: {len(lines)} operations, {len(header.outcomes)} outcomes")
    return Entry(header, tuple(parse_operation(line) for line in lines))
