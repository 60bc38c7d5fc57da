"""The requests about holds, validated: what HTTP hands down. Ids are packed (`domain.ids.pack_transaction_id`)."""

from typing import NamedTuple

from wallet_engine.domain.holds import capturing, field_of, receiver_of
from wallet_engine.domain.money import parse_amount
from wallet_engine.domain.operation import Operation


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


def is_asked_by(operation: Operation, command: IncreaseCommand | CaptureCommand) -> bool:
    """Whether a command, of whose hold nothing is known any more, asks for an operation of before.

    Raises `InvalidInput` for an amount that the currency has not.
    """
    if operation.kind not in "ikq":
        return False
    field = field_of(command.account_id, command.hold)
    minor = None if command.amount is None else parse_amount(command.amount, operation.currency)
    if isinstance(command, IncreaseCommand):
        return (operation.kind, operation.other, operation.amount_minor) == ("i", field, minor)
    to = command.to_account or receiver_of(operation.other)
    words = capturing(to, field, command.final, minor)
    return operation.kind != "i" and (operation.other, operation.note) == (words, command.note)
