"""The validated request for one refund, and the transfer that it refunds. Ids are packed."""

from typing import NamedTuple

from wallet_engine.domain.returns import Evidence


class RefundCommand(NamedTuple):
    """Refund money of the transfer (`from_account`, `original`); without an amount, all that is refundable.

    The amount is the caller's text, because its currency is that of the original.
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
    """A paid transfer as its entry has it, the receiver's partition, and how much was refunded so far."""

    payer: str
    field: str
    receiver: str
    amount_minor: int
    currency: str
    #: Where its entry is: operation `idx` of entry `seq` of partition `p`.
    p: int
    seq: int
    idx: int
    #: The receiver's partition, and how that partition remembers the original (`domain/returns.py`).
    q: int
    how: str
    returned_minor: int
    #: When the service was asked for it, by its own clock.
    asked_s: float = 0.0

    @property
    def place(self) -> str:
        return f"{self.p}.{self.seq}.{self.idx}"

    def evidence(self, asked_minor: int | None) -> Evidence:
        """The evidence about the original that an operation carries."""
        place = (self.p, self.seq, self.idx)
        return Evidence(self.payer, self.field, *place, self.how, self.amount_minor, asked_minor)
