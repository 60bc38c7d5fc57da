"""A refund: money of a paid transfer goes back from receiver to payer, at most the paid amount in total.

The partition of the original's receiver decides it. That partition remembers the original as a transfer
inside it, or as an incoming credit. The same window of `seen{tag}` has the refunded sum, so both are
forgotten together. So no clock can cause the refund of an original that is not remembered here. A history
store may know a forgotten original and its refunded sum. It is read after it has everything that this
partition decided in the window of the refund, so nothing can have been forgotten in between.

The operation carries evidence about the original, read from the original's entry. The script trusts it;
`verify` compares it with the journal (`admin/proof/refunds.py`). It is in `Operation.other`::

    <payer>|<field of the original>|<p>.<seq>.<idx>|<how>|<minor>|<asked>

    field     as `domain/memory.py` makes it from (payer, id); for a leg: its group's field, `#` and its index
    p.seq.idx where the original is: operation idx of entry seq of partition p
    how       how the partition remembers it. `l`: as its own transfer; `c`: as a credit for that operation.
              For a leg: `m`: as a group decided here; `y<mark>`: as a part of one (`domain/groups.py`).
              If forgotten: `s<window>.<total>`: the refunded total in a history store during that window
    minor     minor units that were paid
    asked     minor units that the caller wants back; `-`: all that remains refundable
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from wallet_engine.domain.memory import PAYER_LENGTH

#: Stands for the outcome in the dedupe memory of a refund that was made: a refund cannot itself be refunded.
RETURN_RECORD: Final = "R"
#: Prefix of the fields in `seen` of totals, which are minor units that have gone back: `r.<field>@<place>` for the
#: original at a place, and `r.<field>` for all uses of an id together, as rules before 6 had it. The latter is still
#: kept for programs of those rules, with a `0` in front; without the `0` such a program has kept it, and it counts. No
#: transfer's field has a dot.
TOTAL: Final = "r."
#: Begins a total of an id that counts for nothing.
KEPT: Final = "0"
LOCAL: Final = "l"
CREDITED: Final = "c"
GROUPED: Final = "m"
GROUP_PART: Final = "y"
STORED: Final = "s"
#: Stands between the field of a group and the index of a leg.
LEG: Final = "#"


class Evidence(NamedTuple):
    """What an operation says about the original; `asked_minor` is None for all that remains refundable."""

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
    def place(self) -> str:
        return f"{self.partition}.{self.seq}.{self.idx}"

    @property
    def base(self) -> str:
        """The field under which the original, or its group, is remembered where it was decided."""
        return self.field.partition(LEG)[0]

    @property
    def leg(self) -> int | None:
        """The index of the leg, if the original is a leg of a group."""
        leg = self.field.partition(LEG)[2]
        return int(leg) if leg else None

    def text(self) -> str:
        """The text in `Operation.other`."""
        asked = "-" if self.asked_minor is None else self.asked_minor
        return f"{self.payer}|{self.field}|{self.place}|{self.how}|{self.amount_minor}|{asked}"


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
    """`how` for a forgotten original: `total_minor` had been refunded in that window or before."""
    return f"{STORED}{window}.{total_minor}"


def parse_stored(how: str) -> tuple[int, int]:
    """The inverse of `stored`. Raises ValueError."""
    window, total = how[1:].split(".")
    return int(window), int(total)


def undoing(seq: int, idx: int, decline: str, other: str) -> str:
    """`Operation.other` to undo a refund: operation `idx` of entry `seq`, which the payer's side refused.

    `other`: the refund's own. Programs of rules before 6 did not say the place.
    """
    _, field, place, *_ = other.split("|")
    return f"{seq}.{idx}.{decline}|{field}|{place}"


def total_field(field: str, place: str = "") -> str:
    """The field in `seen` of an original's total: of the one at the place `<p>.<seq>.<idx>`, or of all of its id."""
    return f"{TOTAL}{field}@{place}" if place else f"{TOTAL}{field}"


def refunded_in(of_place: Iterable[str], of_id: Iterable[str]) -> int:
    """The refunded minor units, by what the windows have under an original's two total fields."""
    return max((0, *map(int, of_place), *(int(text) for text in of_id if text[0] != KEPT)))


def total_fields(other: str) -> list[str]:
    """The total fields that a refund with these words, or its undoing, may change."""
    _, field, place, *_ = (*other.split("|"), "")
    return [total_field(field), *([total_field(field, place)] if place else [])]


def original_field_of(other: str) -> str:
    """The field of the original in the words of any operation about a refund."""
    return other.split("|")[1]
