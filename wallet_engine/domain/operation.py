"""One operation on a partition. A call of the apply script decides many.

An operation as a line is six fields separated by one space, the same for all kinds, then its key and its
note::

    kind id account other amount currency[ #by][ note]

    kind  id          account   other               amount     currency
    o     -           account   limit, or "-"       0          CCY   open_account; overdraft limit
    t     txid        from      to                  minor      CCY   transfer, both sides in this partition
    d     txid        from      to                  minor      CCY   debit: from -> @transit
    c     p.seq       to        idx                 minor      CCY   credit: @transit -> to, for operation
                                                                     idx of entry seq of partition p
    r     txid        from      seq.idx.outcome     minor      CCY   refund: @transit -> from, declined
    s     seq         -         -                   0          -     settle: entry seq has no money under way
    f     -           account   freeze|unfreeze|close  0       -     set_flags
    n     prober      -         -                   0          -     probe: an entry that changes nothing

`by` is the id of the API key that caused it. `note` is a JSON object of what the caller added to the six
words (`domain/notes.py`). It is part of the body of its transfer: the same id with another note is another
body.

`txid` is `pack_transaction_id` of the UUID; idx counts the operations of an entry from 0; an overdraft limit
is in minor units, or `-` when none is asked for; the outcome in a refund is the decline it makes the answer.
"""

import re
from typing import NamedTuple

from wallet_engine.domain.errors import Corruption

_operation_match = re.compile(
    r"([a-z]) ([!-~]+) ([!-~]+) ([!-~]+) ([0-9]{1,16}) ([!-~]+)(?: #([!-~]+))?(?: (\{.*\}))?\Z"
).match


class Operation(NamedTuple):
    """Fields named as in the table above."""

    kind: str
    id: str
    account: str
    other: str
    amount_minor: int
    currency: str
    note: str = ""
    by: str = ""

    def line(self) -> str:
        """The operation as text, for messages and listings."""
        words = " ".join(map(str, self[:6]))
        return f"{words}{self.by and f' #{self.by}'}{self.note and f' {self.note}'}"


#: An operation as a plain tuple, for code that does not need the class: it is made in a fraction of the time.
Words = tuple[str, str, str, str, int, str, str, str]


def parse_operation(line: str) -> Operation:
    """The inverse of `Operation.line`. Raises `Corruption`."""
    match = _operation_match(line)
    if match is None:
        raise Corruption(f"not an operation: {line[:200]!r}")
    kind, id_, account, other, amount, currency, by, note = match.groups()
    return Operation(kind, id_, account, other, int(amount), currency, note or "", by or "")
