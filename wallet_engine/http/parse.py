"""Turns request bodies into commands, the exact way: it explains every refusal.

Checks come in this order, per transfer: shape (an object, no unknown, repeated or missing field), ids, currency,
amount, same account. A field of the wrong type fails the check of that field, so a number as `amount` is
`invalid_amount`. For requests without fault, `fastparse.py` gives the same result, faster.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, NoReturn

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.ids import (
    TRANSIT,
    check_account_id,
    check_transaction_id,
    is_system,
    pack_transaction_id,
)
from wallet_engine.domain.limits import BATCH_CALL_TRANSFERS_MAX
from wallet_engine.domain.money import check_currency, parse_amount
from wallet_engine.domain.notes import NO_METADATA
from wallet_engine.http.parse_notes import NOTE_FIELDS, parse_note
from wallet_engine.http.problems import Refused
from wallet_engine.http.repeated import object_of, repeated_in
from wallet_engine.service.api import NO_MOST, LimitsCommand, TransferCommand
from wallet_engine.service.steps import Steps, at_once

#: Transfers of a batch parsed in one step.
STEP_TRANSFERS: Final = 1_000
#: Largest body that is searched for its transaction id when the gate refuses the request.
NAMED_BYTES_MAX: Final = 4_096


class ParsedTransfer(NamedTuple):
    """`transaction_id` is the canonical UUID; the command holds it packed."""

    command: TransferCommand
    transaction_id: str


class ParsedBatch(NamedTuple):
    """Two lists of the same length and order."""

    commands: list[TransferCommand]
    transaction_ids: list[str]


class OpenAccount(NamedTuple):
    account_id: str
    currency: str
    overdraft_limit_minor: int | None
    max_balance_minor: int | None = None
    note: str = ""


_TRANSFER_REQUIRED: Final = ("from_account", "to_account", "amount", "currency", "transaction_id")
_TRANSFER_REQUIRED_WITH_KEY: Final = _TRANSFER_REQUIRED[:-1]
_TRANSFER_FIELDS: Final = frozenset((*_TRANSFER_REQUIRED, "min_balance_after", *NOTE_FIELDS))
_ACCOUNT_REQUIRED: Final = ("account_id", "currency")
_LIMITS: Final = ("overdraft_limit", "max_balance")
_ACCOUNT_FIELDS: Final = frozenset((*_ACCOUNT_REQUIRED, *_LIMITS, "metadata"))
_PATCH_FIELDS: Final = frozenset(("currency", *_LIMITS, "metadata"))


def parse_transfer(body: bytes, idempotency_key: str | None, by: str = "") -> ParsedTransfer:
    """A single transfer. `idempotency_key`: the raw header, if there is one; `by`: the caller. Raises `Refused`."""
    return _transfer(load_object(body), idempotency_key, by)


def parse_batch(body: bytes, by: str = "") -> ParsedBatch:
    """All transfers of a batch. Raises `Refused` that names the first malformed one by its index."""
    return at_once(batch_steps(body, by))


def batch_steps(body: bytes, by: str) -> Steps[ParsedBatch]:
    """`parse_batch` in steps between which other requests may run."""
    document = load_object(body)
    check_shape(document, frozenset(("transfers",)), ("transfers",))
    transfers = document["transfers"]
    if not isinstance(transfers, list):
        raise Refused("invalid_request", "transfers must be an array")
    check_batch_size(len(transfers))
    parsed = []
    for index, transfer in enumerate(transfers):
        if index and index % STEP_TRANSFERS == 0:
            yield
        try:
            parsed.append(_transfer(transfer, None, by))
        except Refused as refused:
            raise Refused(
                refused.code, f"transfers[{index}]: {refused.detail}", transaction_id=refused.transaction_id
            ) from None
    return ParsedBatch([p.command for p in parsed], [p.transaction_id for p in parsed])


def parse_open_account(body: bytes) -> OpenAccount:
    """The body of `POST /v1/accounts`. Raises `Refused`."""
    document = load_object(body)
    check_shape(document, _ACCOUNT_FIELDS, _ACCOUNT_REQUIRED)
    try:
        account_id = check_ordinary_account(document["account_id"])
        currency = check_currency(document["currency"])
        return OpenAccount(account_id, currency, *_limits(document, currency), parse_note(document))
    except InvalidInput as error:
        raise Refused(error.code, error.detail) from None


def parse_limits(document: dict[str, Any], account_id: str, currencies: Sequence[str]) -> LimitsCommand:
    """The body of `PATCH /v1/accounts/{account_id}`. Raises `Refused`.

    `currencies`: those of the account; if it has only one, the body need not name it. Null removes a value.
    """
    check_shape(document, _PATCH_FIELDS, ())
    named = document.get("currency")
    limited = any(field in document for field in _LIMITS)
    try:
        if named is None and limited and len(currencies) > 1:
            raise InvalidInput("invalid_request", "currency is missing: the account has several")
        currency = check_currency(currencies[0] if named is None else named)
        overdraft, most = _limits(document, currency)
        if overdraft is None and "overdraft_limit" in document:
            overdraft = 0
        if most is None and "max_balance" in document:
            most = NO_MOST
        note = parse_note(document) or (NO_METADATA if "metadata" in document else "")
        if not limited and not note:
            raise InvalidInput("invalid_request", "nothing to change: overdraft_limit, max_balance, metadata")
    except InvalidInput as error:
        raise Refused(error.code, error.detail) from None
    return LimitsCommand(account_id, currency, overdraft, most, note)


def _limits(document: dict[str, Any], currency: str) -> tuple[int | None, int | None]:
    overdraft, most = (
        None if (given := document.get(field)) is None else _renamed(given, currency, field)
        for field in _LIMITS
    )
    return overdraft, most


def check_batch_size(transfers: int) -> None:
    """Raises `Refused` for more than one call may have."""
    if transfers > BATCH_CALL_TRANSFERS_MAX:
        raise Refused(
            "request_too_large", f"a batch has at most {BATCH_CALL_TRANSFERS_MAX} transfers, not {transfers}"
        )


def check_ordinary_account(account_id: object) -> str:
    """The id of an account that can be opened, frozen and closed. Raises `InvalidInput`."""
    checked = check_account_id(account_id)
    if is_system(checked):
        raise InvalidInput("invalid_request", "a system account cannot be opened, frozen or closed")
    return checked


def _transfer(document: object, idempotency_key: str | None, by: str) -> ParsedTransfer:
    if not isinstance(document, dict):
        raise Refused("invalid_request", "a transfer must be a JSON object")
    transaction_id = known_id(document, idempotency_key)
    try:
        check_shape(
            document,
            _TRANSFER_FIELDS,
            _TRANSFER_REQUIRED if idempotency_key is None else _TRANSFER_REQUIRED_WITH_KEY,
        )
        sender = side(document["from_account"], "from_account")
        receiver = side(document["to_account"], "to_account")
        transaction_id = transaction_id_of(document, idempotency_key)
        currency = check_currency(document["currency"])
        amount_minor = parse_amount(document["amount"], currency)
        if sender == receiver:
            raise InvalidInput("same_account", "from_account and to_account must differ")
        note = parse_note(document, _available_min(document.get("min_balance_after"), sender, currency))
    except InvalidInput as error:
        raise Refused(error.code, error.detail, transaction_id=transaction_id) from None
    except Refused as refused:
        refused.transaction_id = transaction_id
        raise
    packed = pack_transaction_id(transaction_id)
    command = TransferCommand(sender, receiver, amount_minor, currency, packed, note, by)
    return ParsedTransfer(command, transaction_id)


def side(account_id: object, field: str) -> str:
    checked = check_account_id(account_id, field)
    if checked == TRANSIT:
        raise InvalidInput("invalid_request", f"{field} must not be {TRANSIT}: it is reserved to the engine")
    return checked


def transaction_id_of(document: dict[str, Any], idempotency_key: str | None) -> str:
    in_body = "transaction_id" in document
    if idempotency_key is None:
        return check_transaction_id(document.get("transaction_id"))
    try:
        # By the draft standard (a structured-field string), the header's value is in double quotes.
        key = check_transaction_id(idempotency_key.removeprefix('"').removesuffix('"'))
    except InvalidInput:
        raise InvalidInput("invalid_request", "Idempotency-Key must be a UUID") from None
    if in_body and check_transaction_id(document["transaction_id"]) != key:
        raise InvalidInput("invalid_request", "Idempotency-Key and transaction_id differ")
    return key


def known_id(document: dict[str, Any], idempotency_key: str | None) -> str | None:
    """The transaction id, for the text of a problem, if it is valid; the rest of the request may not be."""
    try:
        return transaction_id_of(document, idempotency_key)
    except InvalidInput:
        return None


def id_in(body: bytes, idempotency_key: str | None) -> str | None:
    """The transaction id of a request that is refused before it is parsed; None for a large body."""
    document: dict[str, Any] = {}
    if len(body) <= NAMED_BYTES_MAX:
        with suppress(Refused):
            document = load_object(body)
    return known_id(document, idempotency_key)


def _available_min(text: object, sender: str, currency: str) -> int | None:
    if text is None:
        return None
    if is_system(sender):
        raise InvalidInput("invalid_request", "min_balance_after: a system account has no limit")
    return _renamed(text, currency, "min_balance_after")


def _renamed(text: object, currency: str, field: str) -> int:
    try:
        return parse_amount(text, currency, zero_allowed=True)
    except InvalidInput as error:
        raise InvalidInput(error.code, error.detail.replace("amount", field)) from None


def whole_number(number: object, field: str, least: int, most: int) -> int:
    """A JSON number without a fraction; 4.0 counts as 4. Raises `InvalidInput`."""
    if isinstance(number, int | float) and not isinstance(number, bool) and least <= number <= most:
        whole = int(number)
        if whole == number:
            return whole
    raise InvalidInput("invalid_request", f"{field} must be a whole number of {least} to {most}")


def check_shape(document: dict[str, Any], known: frozenset[str], required: Iterable[str]) -> None:
    for field in document:
        if field not in known:
            # Escaped and cut: a name may contain anything, even a surrogate that no answer can encode.
            raise Refused("invalid_request", f"unknown field {field[:64]!a}")
    if repeated := repeated_in(document):
        raise Refused("invalid_request", repeated)
    for field in required:
        if field not in document:
            raise Refused("invalid_request", f"{field} is missing")


def load_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object in strict UTF-8. Raises `Refused`.

    Repeated fields are refused by `check_shape`, and by `parse_note` those of metadata.
    """
    try:
        document = json.loads(body.decode(), object_pairs_hook=object_of, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise Refused("invalid_request", "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise Refused(
            "invalid_request",
            f"the body is not JSON: {error.msg.removesuffix(' at')} at character {error.pos}",
        ) from None
    except (ValueError, RecursionError):
        # More digits or deeper nesting than the interpreter allows; no valid request is near these limits.
        raise Refused("invalid_request", "the body is not a JSON document of this interface") from None
    if not isinstance(document, dict):
        raise Refused("invalid_request", "the body must be a JSON object")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise Refused("invalid_request", f"the body is not JSON: {name}")
