"""The text of a journal entry and of the operations inside it: the one format of stream, disk and replay.

An entry is what one call of the apply script did to one partition::

    <seq> <prev_nonce> <nonce> <epoch> <time_ms> <window>.<witnessed_s> <outcomes> <rules>\\n
    <columns>, one operation for each character of outcomes (`domain/columns.py`; older entries have lines)

    seq         1, 2, 3 ... in this partition, without gaps
    prev_nonce  nonce of entry seq-1 (16 hex digits; ZERO_NONCE before the first): the partition's chain
    nonce       random, chosen by the service for this batch
    epoch       the epoch of the partition under which the entry was written
    time_ms     Redis TIME, made monotonic within the partition; Unix milliseconds
    window      number of the dedupe window in force (1, 2, 3 ...)
    witnessed_s seconds of this window that monotonic clocks had measured by then; absent in older entries
    outcomes    one `Outcome` character per operation
    rules       version of the rules that decided it; absent for version 1

Rules 2 differ from 1: system accounts have no bound; the dedupe memory tells payers apart whose names have
the same CRC-32; an account closes only when no refund can come back to it. With rules 3 a refusal says
whether the receiver caused it. Rules 4 record where the metadata of an account are. With rules 5, undoing a
debit changes only what is remembered of that very debit: its answer, its hold, its part of a refunded
total; earlier rules also changed those of a later transfer, hold or original under the same id. With rules
5 a capture or increase after the expiry is late also while a final capture is under way. With rules 6, home
says of a group that its parts must still pay that it is decided, also after its id was forgotten and used
for something else; earlier rules called that a conflict. A refunded total is then that of one original; it
was that of all uses of an id. Replay decides an entry by its own version of the rules. Raise the rules when
you add a kind of operation or change how one is decided.
"""

import re
from typing import Final, NamedTuple

from wallet_engine.domain.columns import pack, unpack
from wallet_engine.domain.errors import Corruption, NewerFormat
from wallet_engine.domain.kinds import kind_of
from wallet_engine.domain.operation import Operation, parse_operation
from wallet_engine.domain.outcomes import Outcome

ZERO_NONCE: Final = "0" * 16
#: Version of the rules by which the apply script decides (`RULES` in `lua/apply.lua`).
RULES: Final = 6

_header_match = re.compile(
    rb"([0-9]{1,16}) ([0-9a-f]{16}) ([0-9a-f]{16}) ([0-9]{1,16}) ([0-9]{1,16}) ([0-9]{1,16})(?:\.([0-9]{1,16}))? "
    rb"([!-~]+)(?: ([2-9]|[1-9][0-9]{1,3}))?\n"
).match


class EntryHeader(NamedTuple):
    """The first line of an entry: enough to check the chain."""

    seq: int
    prev_nonce: str
    nonce: str
    epoch: int
    time_ms: int
    window: int
    outcomes: str
    rules: int = 1
    witnessed_s: int | None = None

    def text(self) -> str:
        """The line, without its end."""
        witnessed = "" if self.witnessed_s is None else f".{self.witnessed_s}"
        words = f"{' '.join(map(str, self[:6]))}{witnessed} {self.outcomes}"
        return words if self.rules == 1 else f"{words} {self.rules}"


#: Does what the class's own constructor does, without a Python call: every entry needs it.
_new_header = tuple.__new__


class Entry(NamedTuple):
    """A whole entry: `header` and as many operations as it has outcomes."""

    header: EntryHeader
    operations: tuple[Operation, ...]


def parse_header(payload: bytes) -> EntryHeader:
    """The first line. Raises `Corruption` when it is not an entry."""
    match = _header_match(payload)
    if match is None:
        raise Corruption(f"not a journal entry: {payload[:120]!r}")
    seq, prev_nonce, nonce, epoch, time_ms, window, witnessed_s, outcomes, rules = match.groups()
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
            1 if rules is None else int(rules),
            None if witnessed_s is None else int(witnessed_s),
        ),
    )


def check_rules(header: EntryHeader) -> None:
    """Raises `NewerFormat` when this program does not know the rules that decided the entry."""
    if header.rules > RULES:
        raise NewerFormat(f"entry {header.seq} is of rules", header.rules, RULES)


def body_of(payload: bytes) -> bytes:
    """Everything after the first line."""
    return payload[payload.index(b"\n") + 1 :]


def operations_of(payload: bytes) -> tuple[Operation, ...]:
    """The operations, in columns or, in older entries, as lines. Raises `Corruption`."""
    text = body_of(payload)
    if text.startswith(b"["):
        return unpack(text)
    *lines, end = text.decode("ascii", "replace").split("\n")
    if end:
        raise Corruption(f"operations without an end: {end[:200]!r}")
    return tuple(map(parse_operation, lines))


def columns_of(payload: bytes) -> bytes:
    """The operations in columns, also those of an older entry. Raises `Corruption`."""
    text = body_of(payload)
    return text if text.startswith(b"[") else pack(operations_of(payload)).columns


def parse_entry(payload: bytes) -> Entry:
    """The whole entry. Raises `Corruption` when lines and outcomes do not match in number, and `NewerFormat`."""
    return entry_of(parse_header(payload), payload)


def entry_of(header: EntryHeader, payload: bytes) -> Entry:
    """As `parse_entry`, for an entry whose header is known."""
    check_rules(header)
    try:
        operations = operations_of(payload)
    except Corruption as error:
        raise Corruption(f"entry {header.seq}: {error}") from None
    if len(operations) != len(header.outcomes):
        raise Corruption(f"entry {header.seq}: {len(operations)} operations, {len(header.outcomes)} outcomes")
    return Entry(header, operations)


def outgoing(entry: Entry) -> list[tuple[int, Operation]]:
    """The applied operations that stay open until their credit or refund, each with its position."""
    return [
        (idx, operation)
        for idx, (operation, outcome) in enumerate(zip(entry.operations, entry.header.outcomes, strict=True))
        if outcome == Outcome.APPLIED and kind_of(operation.kind).opens
    ]
