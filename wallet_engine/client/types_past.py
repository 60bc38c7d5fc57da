"""The answers about the past. Amounts are `Decimal` in major units; times are `datetime`s with time zone."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from wallet_engine.client.types import AsOf, Hold

Kind = Literal["transfer", "capture", "refund", "group", "deposit", "withdrawal", "clawback"]
Status = Literal["success", "declined", "pending"]


class Transaction(Struct, frozen=True):
    """A transfer as one account sees it. `partition`, `seq`: its journal entry."""

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
    #: Id of the API key that asked for it.
    key: str | None = None


class PastTransfer(Struct, frozen=True):
    """A transfer in the history. Each leg of a group is one."""

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
    """One change of a balance. `amount` is negative for money paid.

    `type`: as in `Transaction`, or `reversal` for money that came back because the receiver's side refused it.
    """

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
    """A statement: the opening balance plus the amounts of all lines is the closing balance."""

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
