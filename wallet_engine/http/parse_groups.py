"""Turns bodies of groups into commands. Checks come in the order of `parse.py`; an error in a leg names its index."""

from typing import Any, Final, NamedTuple

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.groups import LEGS_MAX
from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.domain.money import check_currency, parse_amount
from wallet_engine.http.parse import check_shape, known_id, load_object, side, transaction_id_of
from wallet_engine.http.parse_notes import NOTE_FIELDS, parse_note, parse_reference
from wallet_engine.http.problems import Refused
from wallet_engine.service.api import GroupCommand, TransferCommand

_FIELDS: Final = frozenset(("transaction_id", "legs", *NOTE_FIELDS))
_LEG_REQUIRED: Final = ("from_account", "to_account", "amount", "currency")
_LEG_FIELDS: Final = frozenset((*_LEG_REQUIRED, "reference"))


class ParsedGroup(NamedTuple):
    """`transaction_id` is the canonical UUID; the command holds it packed."""

    command: GroupCommand
    transaction_id: str


def parse_group(body: bytes, key: str | None, by: str) -> ParsedGroup:
    """The body of `POST /v1/transfers/group`. Raises `Refused`."""
    document = load_object(body)
    known = known_id(document, key)
    try:
        check_shape(document, _FIELDS, ("legs",) if key is not None else ("transaction_id", "legs"))
        transaction_id = transaction_id_of(document, key)
        legs = _legs(document["legs"])
        packed = pack_transaction_id(transaction_id)
        transfers, references = [], {}
        for idx, leg in enumerate(legs):
            transfer, reference = _leg(leg, idx, packed, by)
            transfers.append(transfer)
            if reference is not None:
                references[str(idx)] = reference
        note = parse_note(document, leg_references=references)
    except InvalidInput as error:
        raise Refused(error.code, error.detail, transaction_id=known) from None
    except Refused as refused:
        refused.transaction_id = known
        raise
    return ParsedGroup(GroupCommand(packed, tuple(transfers), note, by), transaction_id)


def _legs(legs: object) -> list[Any]:
    if not isinstance(legs, list) or not legs:
        raise Refused("invalid_request", f"legs must be an array of 1 to {LEGS_MAX}")
    if len(legs) > LEGS_MAX:
        raise Refused("request_too_large", f"a group has at most {LEGS_MAX} legs, not {len(legs)}")
    return legs


def _leg(leg: object, idx: int, transaction: str, by: str) -> tuple[TransferCommand, str | None]:
    """The transfer and its reference. Raises `Refused`."""
    try:
        if not isinstance(leg, dict):
            raise InvalidInput("invalid_request", "a leg must be a JSON object")
        check_shape(leg, _LEG_FIELDS, _LEG_REQUIRED)
        payer = side(leg["from_account"], "from_account")
        receiver = side(leg["to_account"], "to_account")
        currency = check_currency(leg["currency"])
        amount = parse_amount(leg["amount"], currency)
        if payer == receiver:
            raise InvalidInput("same_account", "from_account and to_account must differ")
        reference = parse_reference(leg)
    except (InvalidInput, Refused) as error:
        raise Refused(error.code, f"legs[{idx}]: {error.detail}", leg=idx) from None
    return TransferCommand(payer, receiver, amount, currency, transaction, "", by), reference
