"""What the wallet answers. Amounts are `Decimal` in major units; times are aware `datetime`s."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct


class Answer(Struct, frozen=True, kw_only=True):
    """What changes something. Both are None where nobody says."""

    #: The same call was answered before, and nothing was done again.
    replayed: bool | None = None
    #: Where it stands in the journal, for the `min_position` of calls about the past.
    position: str | None = None


class Transfer(Answer, frozen=True):
    """Paid: a transfer or group that succeeded."""

    transaction_id: str


class TransferResult(Struct, frozen=True):
    """One of a batch. `unknown`: it may still happen, ask again with the same id."""

    transaction_id: str
    status: Literal["success", "declined", "unknown"]
    code: str | None = None
    #: Why not, and whose side that is; not for programs.
    detail: str | None = None


class Refunds(Struct, frozen=True):
    """Which transfer a refund is of."""

    from_account: str
    transaction_id: str


class Leg(Struct, frozen=True, omit_defaults=True):
    """One transfer of a group."""

    from_account: str
    to_account: str
    amount: Decimal
    currency: str
    reference: str | None = None


class TransferStatus(Struct, frozen=True):
    """What became of a transfer; `legs` and `leg` are of groups."""

    transaction_id: str
    status: Literal["success", "declined", "pending"]
    code: str | None = None
    reference: str | None = None
    metadata: dict[str, str] | None = None
    refunds: Refunds | None = None
    legs: list[Leg] | None = None
    leg: int | None = None


class Refund(Answer, frozen=True):
    """Money went back; `refunded_total` and `refundable` are of the original."""

    transaction_id: str
    refunded_total: Decimal
    refundable: Decimal


class Hold(Answer, frozen=True):
    """`amount` is always captured + released + remaining."""

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
    """Paid from a hold; `hold` is None when it is so long ago that it is forgotten."""

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
    """`balance` is available + held; what is pending is not the account's yet."""

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
    """Until when an answer about the past is complete."""

    at: datetime
    lag_s: float


class Balance(Struct, frozen=True):
    """Durable. `partition` and `seq` (the entry it stands at) are None for system accounts.

    `at` and `as_of` are of one of the past: its time, and until when the history is complete.
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
    """Something that keeps transfers from being taken; `partitions` is None when it is all."""

    condition: str
    partitions: list[int] | None
    detail: str


class Readiness(Struct, frozen=True):
    ready: bool
    status: Literal["ready", "degraded", "unready"]
    reason: str
    conditions: list[Condition]


class Batch(Struct, frozen=True):
    """Results in the order of the transfers."""

    results: list[TransferResult]
