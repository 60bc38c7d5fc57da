"""What the wallet answers about the past. Amounts are `Decimal` in major units; times are aware `datetime`s."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from wallet_engine.client.types import AsOf, Hold

Kind = Literal["transfer", "capture", "refund", "group", "deposit", "withdrawal", "clawback"]
Status = Literal["success", "declined", "pending"]


class Transaction(Struct, frozen=True):
    """What one transfer did to one account."""

    transaction_id: str
    type: Kind
    direction: Literal["in", "out"]
    amount: Decimal
    currency: str
    counterparty: str | None
    status: Status
    balance_after: Decimal
    reference: str | None
    metadata: dict[str, str] | None
    at: datetime
    partition: int
    seq: int
    code: str | None = None
    #: Id of the key that caused it.
    key: str | None = None


class PastTransfer(Struct, frozen=True):
    """A transfer as it stands in the history; of a group each leg is one."""

    transaction_id: str
    type: Kind
    from_account: str
    to_account: str
    amount: Decimal
    currency: str
    status: Status
    reference: str | None
    metadata: dict[str, str] | None
    at: datetime
    partition: int
    seq: int
    code: str | None = None
    key: str | None = None


class StatementLine(Struct, frozen=True):
    """`amount` has a sign. `type` is as of a transaction, or `reversal`: what was refused comes back."""

    at: datetime
    type: str
    status: Status
    transaction_id: str | None
    amount: Decimal
    currency: str
    counterparty: str | None
    balance_after: Decimal
    reference: str | None
    partition: int
    seq: int


class Statement(Struct, frozen=True, rename={"from_": "from"}):
    """The opening balance and all lines add up to the closing balance."""

    account_id: str
    currency: str
    from_: datetime | None
    to: datetime | None
    as_of: AsOf
    opening_balance: Decimal
    lines: list[StatementLine]
    closing_balance: Decimal


class TransactionPage(Struct, frozen=True, rename={"items": "transactions"}):
    items: list[Transaction]
    next_cursor: str | None
    as_of: AsOf


class TransferPage(Struct, frozen=True, rename={"items": "transfers"}):
    items: list[PastTransfer]
    next_cursor: str | None
    as_of: AsOf


class HoldPage(Struct, frozen=True, rename={"items": "holds"}):
    items: list[Hold]
    next_cursor: str | None
    as_of: AsOf
