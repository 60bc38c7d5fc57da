"""The requests about holds, validated: what HTTP hands down. Ids are packed (`domain.ids.pack_transaction_id`)."""

from typing import NamedTuple


class HoldCommand(NamedTuple):
    """Set money aside. Captures go to `to_account`, if it is given, and nowhere else."""

    account_id: str
    amount_minor: int
    currency: str
    transaction: str
    to_account: str | None
    expires_in_s: int
    note: str = ""
    by: str = ""


class IncreaseCommand(NamedTuple):
    """Set more aside. The amount is as the caller wrote it: the hold says the currency."""

    account_id: str
    hold: str
    transaction: str
    amount: object
    by: str = ""


class CaptureCommand(NamedTuple):
    """Pay what a hold set aside; without an amount, what remains."""

    account_id: str
    hold: str
    transaction: str
    to_account: str | None
    amount: object | None
    final: bool
    note: str = ""
    by: str = ""
