"""The validated requests about holds, as HTTP passes them on.

Ids are packed (`domain.ids.pack_transaction_id`).
"""

from typing import NamedTuple

from wallet_engine.domain.holds import capturing, field_of, receiver_of
from wallet_engine.domain.money import parse_amount
from wallet_engine.domain.operation import Operation


class HoldCommand(NamedTuple):
    """Set money aside. If `to_account` is given, captures go only to it."""

    account_id: str
    amount_minor: int
    currency: str
    transaction: str
    to_account: str | None
    expires_in_s: int
    note: str = ""
    by: str = ""


class IncreaseCommand(NamedTuple):
    """Set more aside. The amount is the caller's text, because its currency is that of the hold."""

    account_id: str
    hold: str
    transaction: str
    amount: object
    by: str = ""


class CaptureCommand(NamedTuple):
    """Pay money that a hold set aside; without an amount, all that remains."""

    account_id: str
    hold: str
    transaction: str
    to_account: str | None
    amount: object | None
    final: bool
    note: str = ""
    by: str = ""


def is_asked_by(operation: Operation, command: IncreaseCommand | CaptureCommand) -> bool:
    """Whether a command repeats an earlier operation, when its hold is no longer known.

    Raises `InvalidInput` for an amount that is not valid in the operation's currency.
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
