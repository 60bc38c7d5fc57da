"""A refund: money of a paid transfer goes back from its receiver to its payer, in all never more than was paid.

It is decided in the partition of the original's receiver, which remembers the original: as a transfer inside it, or as
the credit that came in. The same window of `seen{tag}` has the refunded sum, so both are forgotten together: whatever
any clock says, an original that is not remembered here is not refunded. A history store may know a forgotten original
and its refunded sum. It is read after everything that this partition had decided in the window of the refund, so
nothing can have been forgotten in between.

What the original was is evidence that the operation brings with it, read from the original's entry. The script believes
it; `verify` holds it against the journal (`admin/proof/refunds.py`). It stands in `Operation.other`::

    <payer>|<field of the original>|<p>.<seq>.<idx>|<how>|<minor>|<asked>

    field     as `domain/memory.py` makes it of (payer, id); of a leg that of its group, `#` and its index
    p.seq.idx where the original is: operation idx of entry seq of partition p
    how       the partition remembers it: `l`, as a transfer of its own; `c`, as a credit for that operation. Of a leg:
              `m`, as a group that was decided here; `y<mark>`, as a part of one (`domain/groups.py`). It does not:
              `s<window>.<total>`, a history store says what had gone back of it when that window was in force
    minor     what was paid
    asked     minor units that the caller wants back; `-`: all that can be
"""

from typing import Final, NamedTuple

from wallet_engine.domain.memory import PAYER_LENGTH

#: What stands for the outcome in the memory of a refund that was made: it cannot be refunded.
RETURN_RECORD: Final = "R"
#: Before an original's field, in `seen`: the minor units of it that have gone back. No transfer's field has a dot.
TOTAL: Final = "r."
LOCAL: Final = "l"
CREDITED: Final = "c"
GROUPED: Final = "m"
GROUP_PART: Final = "y"
STORED: Final = "s"
#: Before the index of a leg, behind the field of its group.
LEG: Final = "#"


class Evidence(NamedTuple):
    """What an operation says of the original; `asked_minor` is None where all is wanted that can be."""

    payer: str
    field: str
    partition: int
    seq: int
    idx: int
    how: str
    amount_minor: int
    asked_minor: int | None

    @property
    def transaction(self) -> str:
        """The packed id of the original."""
        return self.base[:-PAYER_LENGTH]

    @property
    def base(self) -> str:
        """The field under which the original, or its group, is remembered where it was decided."""
        return self.field.partition(LEG)[0]

    @property
    def leg(self) -> int | None:
        """Of a group."""
        leg = self.field.partition(LEG)[2]
        return int(leg) if leg else None

    def text(self) -> str:
        """As it stands in `Operation.other`."""
        asked = "-" if self.asked_minor is None else self.asked_minor
        place = f"{self.partition}.{self.seq}.{self.idx}"
        return f"{self.payer}|{self.field}|{place}|{self.how}|{self.amount_minor}|{asked}"


def parse_evidence(other: str) -> Evidence:
    """The inverse of `Evidence.text`. Raises ValueError."""
    payer, field, place, how, amount, asked = other.split("|")
    partition, seq, idx = map(int, place.split("."))
    if how[:1] == STORED:
        parse_stored(how)
    elif how not in (LOCAL, CREDITED, GROUPED) and (how[:1] != GROUP_PART or len(how) < 2):
        raise ValueError(f"an original remembered as {how!r}")
    return Evidence(payer, field, partition, seq, idx, how, int(amount), None if asked == "-" else int(asked))


def stored(window: int, total_minor: int) -> str:
    """How a partition refunds what it has forgotten: so much had gone back of it in that window, or before."""
    return f"{STORED}{window}.{total_minor}"


def parse_stored(how: str) -> tuple[int, int]:
    """The inverse of `stored`. Raises ValueError."""
    window, total = how[1:].split(".")
    return int(window), int(total)


def undoing(seq: int, idx: int, decline: str, field: str) -> str:
    """`Operation.other` of a refund that is undone: operation `idx` of entry `seq`, which the payer's side refused."""
    return f"{seq}.{idx}.{decline}|{field}"


def total_field(field: str) -> str:
    """Where the total of an original is in `seen`."""
    return TOTAL + field


def original_field_of(other: str) -> str:
    """The field of the original in the words of any operation about a refund."""
    return other.split("|")[1]
