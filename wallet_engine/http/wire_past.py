"""Answers from the history store; see `wire.py`."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from wallet_engine.http.wire import AccountId, Balance, CurrencyCode, DurableBalance, Hold, TransactionId


class AsOf(Struct):
    """The time until which an answer about the past is complete."""

    #: RFC 3339, UTC.
    at: str
    lag_s: float


class Transaction(Struct, omit_defaults=True):
    """The effect of one transfer on one account.

    `balance_after` of a system account is the balance of its part in `partition`.
    """

    transaction_id: TransactionId
    type: Literal["transfer", "capture", "refund", "group", "deposit", "withdrawal", "clawback"]
    direction: Literal["in", "out"]
    amount: Balance
    currency: CurrencyCode
    counterparty: AccountId | None
    status: Literal["success", "declined", "pending"]
    balance_after: Balance
    reference: str | None
    metadata: dict[str, str] | None
    #: RFC 3339, UTC.
    at: str
    partition: int
    seq: int
    code: str | UnsetType = UNSET
    #: Id of the API key that caused it.
    key: str | UnsetType = UNSET


class Transactions(Struct):
    transactions: list[Transaction]
    next_cursor: str | None
    as_of: AsOf


class Transfer(Struct, omit_defaults=True):
    """A transfer in the history; each leg of a group is one."""

    transaction_id: TransactionId
    type: Literal["transfer", "capture", "refund", "group", "deposit", "withdrawal", "clawback"]
    from_account: AccountId
    to_account: AccountId
    amount: Balance
    currency: CurrencyCode
    status: Literal["success", "declined", "pending"]
    reference: str | None
    metadata: dict[str, str] | None
    at: str
    partition: int
    seq: int
    code: str | UnsetType = UNSET
    key: str | UnsetType = UNSET


class Transfers(Struct):
    transfers: list[Transfer]
    next_cursor: str | None
    as_of: AsOf


class Holds(Struct):
    holds: list[Hold]
    next_cursor: str | None
    as_of: AsOf


class PastBalance(DurableBalance):
    """A balance at a past time."""

    at: str
    as_of: AsOf


class StatementLine(Struct):
    """`amount` has a sign: the opening balance and all lines add up to the closing balance."""

    at: str
    #: The type of the transaction, or `reversal`: refused money comes back.
    type: str
    status: Literal["success", "declined", "pending"]
    transaction_id: TransactionId | None
    amount: Balance
    currency: CurrencyCode
    counterparty: AccountId | None
    balance_after: Balance
    reference: str | None
    partition: int
    seq: int


class StatementDocument(Struct, rename={"from_": "from"}):
    account_id: AccountId
    currency: CurrencyCode
    from_: str | None
    to: str | None
    as_of: AsOf
    opening_balance: Balance
    lines: list[StatementLine]
    closing_balance: Balance
