"""The request for one refund, validated, and the transfer that it is about. Ids are packed."""

from typing import NamedTuple

from wallet_engine.domain.returns import Evidence


class RefundCommand(NamedTuple):
    """Give money of (`from_account`, `original`) back; without an amount, all that can be.

    The amount is as the caller wrote it: the original says the currency.
    """

    from_account: str
    original: str
    transaction: str
    amount: object | None
    #: Which leg of a group.
    leg: int | None = None
    note: str = ""
    by: str = ""


class Original(NamedTuple):
    """A paid transfer as its entry has it, the partition that was paid, and how much of it has gone back so far."""

    payer: str
    field: str
    receiver: str
    amount_minor: int
    currency: str
    #: Where its entry is: operation `idx` of entry `seq` of partition `p`.
    p: int
    seq: int
    idx: int
    #: The receiver's partition, and how that remembers it (`domain/returns.py`).
    q: int
    how: str
    returned_minor: int

    def evidence(self, asked_minor: int | None) -> Evidence:
        """What an operation says of it."""
        place = (self.p, self.seq, self.idx)
        return Evidence(self.payer, self.field, *place, self.how, self.amount_minor, asked_minor)
