"""The facts that `fold.py` makes of journal entries, as rows, in minor units and with packed ids."""

from dataclasses import dataclass, field
from functools import partial
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

#: Types of postings that are no transactions: account opened; money set aside or promised; money given back.
OPENED: Final = "opened"
HELD: Final = "held"
REVERSAL: Final = "reversal"
#: The copy of an account's last posting in a detached month, at the beginning of the next month (`detaching.py`).
CARRIED: Final = "carried"


class Origin(NamedTuple):
    """The operation that began a transfer; `leg` is the leg of a group, else 0."""

    partition: int
    seq: int
    idx: int
    leg: int = 0


class Posting(NamedTuple):
    """The effect of one operation on one account. Amounts in minor units; balances after the operation.

    A credit knows only the origin of its transfer: `transaction`, `counterparty`, `note` and `type` are
    empty.
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
    #: The amount of a declined transfer, which moved nothing.
    amount_minor: int = 0

    @property
    def available(self) -> int:
        return self.balance - self.held


class Transfer(NamedTuple):
    """A transfer as its first operation decided it. One across partitions is `pending` until its `End`."""

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
    #: For a capture: packed id of the hold.
    hold: str = ""
    #: For a refund: payer and packed id of the original, its leg in a group, and `<partition>.<seq>.<idx>` of it.
    refunds: tuple[str, str, int, str] | None = None


class End(NamedTuple):
    """How a pending transfer ended, by an operation of any partition. It may come before its `Transfer`."""

    origin: Origin
    status: str
    code: str
    at_ms: int
    partition: int
    seq: int
    idx: int


#: Like the constructors, from a tuple of all fields, and without their call in Python: every transfer needs some.
new_origin: Final = partial(tuple.__new__, Origin)
new_posting: Final = partial(tuple.__new__, Posting)
new_transfer: Final = partial(tuple.__new__, Transfer)
new_end: Final = partial(tuple.__new__, End)


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
    #: The entry that placed it; 0 if it was folded by a version that did not note it.
    placed_seq: int = 0

    @property
    def remaining(self) -> int:
        return self.amount - self.captured - self.released

    @property
    def reference(self) -> str:
        return str(said_in(self.note).get(REFERENCE, ""))


class HoldChange(NamedTuple):
    """`what`: placed, increased, captured, uncaptured, released (rest after a capture), voided, expired."""

    partition: int
    seq: int
    idx: int
    at_ms: int
    what: str
    amount_minor: int
    #: The hold after the operation.
    hold: HoldState
    by: str


class LateRefusal(NamedTuple):
    """A capture was refused by its receiver after its hold had ended and the hold's id was used again."""

    account: str
    hold: str
    #: The entry of the capture: the hold is the last one that was placed before.
    captured_seq: int
    amount_minor: int
    at_ms: int


class GroupDecision(NamedTuple):
    """The decision about a whole group; `code` is that of the leg that caused a refusal."""

    origin: Origin
    at_ms: int
    transaction: str
    payer: str
    legs: tuple[Leg, ...]
    status: str
    code: str
    note: str
    by: str
    #: Hash of the body (`domain/groups.py`).
    mark: str


class AccountChange(NamedTuple):
    """`what`: opened, updated, frozen, unfrozen, closed. Limits in minor units; None if not given."""

    partition: int
    seq: int
    idx: int
    at_ms: int
    what: str
    account: str
    #: Empty when the change is for all currencies of the account.
    currency: str
    overdraft_minor: int | None
    most_minor: int | None
    note: str
    by: str


@dataclass(slots=True)
class Facts:
    """The facts of some entries; each list is in the order of its partition."""

    postings: list[Posting] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    holds: list[HoldChange] = field(default_factory=list)
    late_refusals: list[LateRefusal] = field(default_factory=list)
    groups: list[GroupDecision] = field(default_factory=list)
    accounts: list[AccountChange] = field(default_factory=list)
    #: (partition, key) of a group's part -> whether it is set aside now.
    parts: dict[tuple[int, str], bool] = field(default_factory=dict)
    #: Operation that pays legs of a group decided in another partition -> payer of the group's first leg, and its mark.
    homes: dict[Origin, tuple[str, str]] = field(default_factory=dict)
