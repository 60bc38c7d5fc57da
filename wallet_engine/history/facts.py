"""What happened, as rows: what `fold.py` makes of journal entries, in minor units and packed ids."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from wallet_engine.domain import holds
from wallet_engine.domain.groups import Leg
from wallet_engine.domain.notes import REFERENCE, said_in

SUCCESS: Final = "success"
PENDING: Final = "pending"
DECLINED: Final = "declined"

TRANSFER: Final = "transfer"
CAPTURE: Final = "capture"
REFUND: Final = "refund"
GROUP: Final = "group"
DEPOSIT: Final = "deposit"
WITHDRAWAL: Final = "withdrawal"
CLAWBACK: Final = "clawback"
#: Types of transactions, as callers see them.
TYPES: Final = (TRANSFER, CAPTURE, REFUND, GROUP, DEPOSIT, WITHDRAWAL, CLAWBACK)

#: Postings that are no transactions: the account was opened, money was set aside or promised, or given back.
OPENED: Final = "opened"
HELD: Final = "held"
REVERSAL: Final = "reversal"


class Origin(NamedTuple):
    """The operation with which a transfer began; `leg` of a group, else 0."""

    partition: int
    seq: int
    idx: int
    leg: int = 0


class Posting(NamedTuple):
    """What one operation did to one account; amounts in minor units, after it.

    A credit knows only the origin of its transfer: `transaction`, `counterparty` and `note` are empty, `type` too.
    """

    partition: int
    seq: int
    idx: int
    sub: int
    at_ms: int
    account: str
    currency: str
    delta: int
    balance: int
    held: int
    pending: int
    type: str
    status: str
    transaction: str
    counterparty: str
    origin: Origin
    note: str
    by: str
    code: str = ""
    #: Of a transfer that was declined, and so moved nothing.
    amount_minor: int = 0

    @property
    def available(self) -> int:
        return self.balance - self.held


class Transfer(NamedTuple):
    """A transfer as its first operation was decided. One across partitions is `pending` until an `End` is met."""

    origin: Origin
    at_ms: int
    transaction: str
    type: str
    payer: str
    receiver: str
    amount_minor: int
    currency: str
    status: str
    code: str
    note: str
    by: str
    #: Packed id of the hold that a capture takes from.
    hold: str = ""
    #: Of a refund: the payer and the packed id of the original, and which leg of a group it is.
    refunds: tuple[str, str, int] | None = None


class End(NamedTuple):
    """How a pending transfer ended, by an operation of whichever partition. It may come before its `Transfer`."""

    origin: Origin
    status: str
    code: str
    at_ms: int
    partition: int
    seq: int
    idx: int


@dataclass(slots=True)
class HoldState:
    """One hold; amounts in minor units, ids packed."""

    account: str
    hold: str
    to: str
    currency: str
    amount: int
    expires_ms: int
    placed_ms: int
    note: str
    by: str
    captured: int = 0
    released: int = 0
    captures: int = 0
    status: str = holds.OPEN
    busy: str = holds.NOBODY

    @property
    def remaining(self) -> int:
        return self.amount - self.captured - self.released

    @property
    def reference(self) -> str:
        return str(said_in(self.note).get(REFERENCE, ""))


class HoldChange(NamedTuple):
    """`what`: placed, increased, captured, uncaptured, released (the rest, behind a capture), voided, expired."""

    partition: int
    seq: int
    idx: int
    at_ms: int
    what: str
    amount_minor: int
    #: As it is behind the operation.
    hold: HoldState
    by: str


class GroupDecision(NamedTuple):
    """A whole group as it was decided; `code` is that of the leg for which it was refused."""

    origin: Origin
    at_ms: int
    transaction: str
    payer: str
    legs: tuple[Leg, ...]
    status: str
    code: str
    note: str
    by: str


class AccountChange(NamedTuple):
    """`what`: opened, updated, frozen, unfrozen, closed. Limits in minor units; None where nothing was said."""

    partition: int
    seq: int
    idx: int
    at_ms: int
    what: str
    account: str
    #: Empty where it is about the account in every currency.
    currency: str
    overdraft_minor: int | None
    most_minor: int | None
    note: str
    by: str


@dataclass(slots=True)
class Facts:
    """What entries add up to, each list in the order in which it happened in its partition."""

    postings: list[Posting] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    holds: list[HoldChange] = field(default_factory=list)
    groups: list[GroupDecision] = field(default_factory=list)
    accounts: list[AccountChange] = field(default_factory=list)
    #: (partition, key) of a part of a group -> whether it is set aside now.
    parts: dict[tuple[int, str], bool] = field(default_factory=dict)
    #: Operation that pays legs of a group which another partition has decided -> who pays the first of its legs.
    homes: dict[Origin, str] = field(default_factory=dict)
