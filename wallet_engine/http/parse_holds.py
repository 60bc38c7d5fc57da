"""Turns bodies about holds into commands. Checks come in the order of `parse.py`; every refusal names its field."""

from typing import Any, Final

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.hold_commands import CaptureCommand, HoldCommand, IncreaseCommand
from wallet_engine.domain.holds import EXPIRES_IN_S_DEFAULT, EXPIRES_IN_S_MAX
from wallet_engine.domain.ids import check_account_id, is_system, pack_transaction_id
from wallet_engine.domain.money import check_currency, parse_amount
from wallet_engine.http.parse import check_shape, known_id, load_object, side, transaction_id_of, whole_number
from wallet_engine.http.parse_notes import NOTE_FIELDS, parse_note
from wallet_engine.http.problems import Refused

_HOLD_REQUIRED: Final = ("account_id", "amount", "currency")
_HOLD_FIELDS: Final = frozenset(
    (*_HOLD_REQUIRED, "transaction_id", "to_account", "expires_in_s", *NOTE_FIELDS)
)
_CAPTURE_FIELDS: Final = frozenset(
    ("account_id", "transaction_id", "to_account", "amount", "final", "reference")
)
_INCREASE_FIELDS: Final = frozenset(("account_id", "transaction_id", "amount"))
_VOID_FIELDS: Final = frozenset(("account_id",))


def parse_hold_request(body: bytes, key: str | None, by: str) -> tuple[HoldCommand, str]:
    """The body of `POST /v1/holds`: the command, and the canonical hold id. Raises `Refused`."""
    document = load_object(body)
    with _naming(document, key) as checked:
        check_shape(document, _HOLD_FIELDS, checked.required(*_HOLD_REQUIRED))
        account = holder(document["account_id"])
        to = document.get("to_account")
        receiver = None if to is None else side(to, "to_account")
        transaction_id = checked.id()
        currency = check_currency(document["currency"])
        amount = parse_amount(document["amount"], currency)
        if receiver == account:
            raise InvalidInput("same_account", "account_id and to_account must differ")
        given = document.get("expires_in_s", EXPIRES_IN_S_DEFAULT)
        expires = whole_number(given, "expires_in_s", 1, EXPIRES_IN_S_MAX)
        packed, note = pack_transaction_id(transaction_id), parse_note(document)
        return HoldCommand(account, amount, currency, packed, receiver, expires, note, by), transaction_id


def parse_capture(body: bytes, hold_id: str, key: str | None, by: str) -> tuple[CaptureCommand, str]:
    """The body of `POST /v1/holds/{hold_id}/capture`. The amount is checked once the hold's currency is known."""
    document = load_object(body)
    with _naming(document, key) as checked:
        check_shape(document, _CAPTURE_FIELDS, checked.required("account_id"))
        account = holder(document["account_id"])
        to = document.get("to_account")
        receiver = None if to is None else side(to, "to_account")
        transaction_id = checked.id()
        final = document.get("final", True)
        if type(final) is not bool:
            raise InvalidInput("invalid_request", "final must be true or false")
        amount = document.get("amount")
        if amount is not None and not isinstance(amount, str):
            raise InvalidInput("invalid_amount", "amount must be a string of a decimal number")
        if receiver == account:
            raise InvalidInput("same_account", "account_id and to_account must differ")
        words = (account, hold_id, pack_transaction_id(transaction_id), receiver, amount, final)
        return CaptureCommand(*words, parse_note(document), by), transaction_id


def parse_increase(body: bytes, hold_id: str, key: str | None, by: str) -> tuple[IncreaseCommand, str]:
    """The body of `POST /v1/holds/{hold_id}/increase`: the command, and the canonical transaction id."""
    document = load_object(body)
    with _naming(document, key) as checked:
        check_shape(document, _INCREASE_FIELDS, checked.required("account_id", "amount"))
        account = holder(document["account_id"])
        transaction_id = checked.id()
        amount = document["amount"]
        if not isinstance(amount, str):
            raise InvalidInput("invalid_amount", "amount must be a string of a decimal number")
        packed = pack_transaction_id(transaction_id)
        return IncreaseCommand(account, hold_id, packed, amount, by), transaction_id


def parse_void(body: bytes) -> str:
    """The body of `POST /v1/holds/{hold_id}/void`: the account."""
    document = load_object(body)
    try:
        check_shape(document, _VOID_FIELDS, ("account_id",))
        return holder(document["account_id"])
    except InvalidInput as error:
        raise Refused(error.code, error.detail) from None


def holder(account_id: object) -> str:
    """The id of an account that can have holds. Raises `InvalidInput`."""
    checked = check_account_id(account_id, "account_id")
    if is_system(checked):
        raise InvalidInput("invalid_request", "a system account cannot have holds")
    return checked


class _naming:
    """Adds the transaction id to refusals, as far as it is known."""

    def __init__(self, document: dict[str, Any], key: str | None) -> None:
        self._document = document
        self._key = key

    def __enter__(self) -> "_naming":
        return self

    def required(self, *fields: str) -> tuple[str, ...]:
        """The required fields, with the id unless a header stands in for it."""
        return fields if self._key is not None else (*fields, "transaction_id")

    def id(self) -> str:
        return transaction_id_of(self._document, self._key)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InvalidInput | Refused):
            known = known_id(self._document, self._key)
            raise Refused(error.code, error.detail, transaction_id=known) from None
