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
    o     -           account   limit, or "-"       0          CCY   open_account; overdraft limit
    t     txid        from      to                  minor      CCY   transfer, both sides in this partition
    d     txid        from      to                  minor      CCY   debit: from -> @transit
    c     p.seq       to        idx                 minor      CCY   credit: @transit -> to, for operation
                                                                     idx of entry seq of partition p
    r     txid        from      seq.idx.outcome     minor      CCY   refund: @transit -> from, declined
    s     seq         -         -                   0          -     settle: no money of seq is under way
    f     -           account   freeze|unfreeze|close  0       -     set_flags

`txid` is `pack_transaction_id` of the UUID; idx counts the operations of an entry from 0; an overdraft limit
is in minor units, or `-` when none is asked for; the outcome in a refund is the decline it makes the answer.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from wallet_engine.domain.errors import Corruption

ZERO_NONCE: Final = "0" * 16

_header_match = re.compile(
    rb"([0-9]{1,16}) ([0-9a-f]{16}) ([0-9a-f]{16}) ([0-9]{1,16}) ([0-9]{1,16}) ([0-9]{1,16}) ([!-~]+)\n"
).match
_operation_match = re.compile(r"([a-z]) ([!-~]+) ([!-~]+) ([!-~]+) ([0-9]{1,16}) ([!-~]+)\Z").match


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


class EntryHeader(NamedTuple):
    """The first line of an entry: enough to check the chain."""

    seq: int
    prev_nonce: str
    nonce: str
    epoch: int
    time_ms: int
    window: int
    outcomes: str


#: What the class's own constructor does, without its call in Python: every entry passes here.
_new_header = tuple.__new__


@dataclass(frozen=True, slots=True)
class Entry:
    """A whole entry: `header` and as many operations as it has outcomes."""

    header: EntryHeader
    operations: tuple[Operation, ...]


def parse_header(payload: bytes) -> EntryHeader:
    """The first line. Raises `Corruption` when it is not an entry."""
    match = _header_match(payload)
    if match is None:
        raise Corruption(f"not a journal entry: {payload[:120]!r}")
    seq, prev_nonce, nonce, epoch, time_ms, window, outcomes = match.groups()
    return _new_header(
        EntryHeader,
        (
            int(seq),
            prev_nonce.decode(),
            nonce.decode(),
            int(epoch),
            int(time_ms),
            int(window),
            outcomes.decode(),
        ),
    )


def operations_of(payload: bytes) -> bytes:
    """What stands behind the first line: the operations as received."""
    return payload[payload.index(b"\n") + 1 :]


def parse_operation(line: str) -> Operation:
    """One operation from its line without the newline. Raises `Corruption`."""
    match = _operation_match(line)
    if match is None:
        raise Corruption(f"not an operation: {line[:200]!r}")
    kind, id_, a, b, n, currency = match.groups()
    return Operation(kind, id_, a, b, int(n), currency)


def parse_entry(payload: bytes) -> Entry:
    """The whole entry. Raises `Corruption` when lines and outcomes do not match in number."""
    header = parse_header(payload)
    lines = operations_of(payload).decode("ascii", "replace").split("\n")
    if lines.pop() != "" or len(lines) != len(header.outcomes):
        raise Corruption(f"entry {header.seq}: {len(lines)} operations, {len(header.outcomes)} outcomes")
    return Entry(header, tuple(parse_operation(line) for line in lines))
