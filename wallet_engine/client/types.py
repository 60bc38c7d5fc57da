"""The answers of the service. Amounts are `Decimal` in major units; times are `datetime`s with time zone."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct


class Answer(Struct, frozen=True, kw_only=True):
    """Base of the answers to calls that change something."""

    #: Whether an earlier call had the same id, so that nothing was done now. None in answers of a batch.
    replayed: bool | None = None
    #: The place in the journal, for `min_position` of calls about the past. None when the service gives none.
    position: str | None = None


class Transfer(Answer, frozen=True):
    """A transfer or group that was paid."""

    transaction_id: str


class TransferResult(Struct, frozen=True):
    """The result of one transfer of a batch. `unknown`: it may have been paid; send it again with the same id."""

    transaction_id: str
    status: Literal["success", "declined", "unknown"]
    code: str | None = None
    #: The reason, and whether it is the payer or the receiver. For people: its text may change.
    detail: str | None = None


class Refunds(Struct, frozen=True):
    """The transfer that a refund belongs to."""

    from_account: str
    transaction_id: str


class Leg(Struct, frozen=True, omit_defaults=True):
    """One transfer of a group.

    `leg`: only in answers, its index in the group, if the key may not see all legs before it. Refund it by this index.
    """

    from_account: str
    to_account: str
    amount: Decimal
    currency: str
    reference: str | None = None
    leg: int | None = None


class TransferStatus(Struct, frozen=True):
    """The status of a transfer or group.

    `refunds`: only of a refund. `legs`: only of a group. `leg`: the index of the first leg that could not be made, of a
    declined group.
    """

    transaction_id: str
    status: Literal["success", "declined", "pending"]
    code: str | None = None
    reference: str | None = None
    metadata: dict[str, str] | None = None
    refunds: Refunds | None = None
    legs: list[Leg] | None = None
    leg: int | None = None


class Refund(Answer, frozen=True):
    """A refund that was paid. `refunded_total` and `refundable`: what went back of the original, and what still can."""

    transaction_id: str
    refunded_total: Decimal
    refundable: Decimal


class Hold(Answer, frozen=True):
    """Reserved money. `amount` is always captured + released + remaining."""

    hold_id: str
    account_id: str
    currency: str
    amount: Decimal
    captured: Decimal
    released: Decimal
    remaining: Decimal
    status: Literal["open", "captured", "voided", "expired"]
    expires_at: datetime
    to_account: str | None = None
    reference: str | None = None


class Capture(Answer, frozen=True):
    """A capture that was paid. `hold`: its hold now; None for an old capture whose hold is no longer remembered."""

    transaction_id: str
    hold: Hold | None


class OpenedAccount(Struct, frozen=True):
    account_id: str
    currency: str
    balance: Decimal
    available: Decimal
    held: Decimal
    pending: Decimal
    status: Literal["active", "frozen", "closed"]
    max_balance: Decimal | None = None
    metadata: dict[str, str] | None = None


class AccountBalance(Struct, frozen=True):
    """`balance` is available + held. `pending` is money on its way to the account, not in `balance`."""

    currency: str
    balance: Decimal
    available: Decimal
    held: Decimal
    pending: Decimal
    overdraft_limit: Decimal
    max_balance: Decimal | None = None


class Account(Struct, frozen=True):
    account_id: str
    status: Literal["active", "frozen", "closed"]
    balances: list[AccountBalance]
    metadata: dict[str, str] | None = None


class AsOf(Struct, frozen=True):
    """How complete an answer about the past is: up to the time `at`, which is `lag_s` seconds ago."""

    at: datetime
    lag_s: float


class Balance(Struct, frozen=True):
    """A durable balance.

    `partition` and `seq`: the newest journal entry that it includes; None for system accounts. `at` and `as_of`: the
    time of a past balance, and until when the history is complete; None for a present balance.
    """

    account_id: str
    currency: str
    balance: Decimal
    available: Decimal
    held: Decimal
    pending: Decimal
    partition: int | None
    seq: int | None
    at: datetime | None = None
    as_of: AsOf | None = None


class Health(Struct, frozen=True):
    status: str


class Condition(Struct, frozen=True):
    """A reason why transfers are not taken. `partitions`: those that it stops; None for all."""

    condition: str
    partitions: list[int] | None
    detail: str


class Readiness(Struct, frozen=True):
    ready: bool
    status: Literal["ready", "degraded", "unready"]
    reason: str
    conditions: list[Condition]


class Batch(Struct, frozen=True):
    """The results of a batch, in the order of its transfers."""

    results: list[TransferResult]
