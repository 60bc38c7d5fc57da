"""Request bodies to commands, the fast path: it only ever says yes.

A request without fault becomes commands at about 2 µs a transfer; at the first doubt the exact path decides
(`parse.py`), which also words the refusal. Work is done column by column, so that the loops run in C.

A repeated field would be lost in decoding (the last one wins). It shows in the number of quotes: unknown
fields are refused, and no valid value holds a quote, so a body without repeats has exactly two per field name
and value.
"""

import binascii
import re
from operator import eq
from typing import Final

import msgspec

from wallet_engine.domain.currencies import MINOR_DIGITS
from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.ids import TRANSIT, pack_transaction_id
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX
from wallet_engine.domain.money import parse_amount
from wallet_engine.http import parse
from wallet_engine.http.parse import ParsedBatch, ParsedTransfer
from wallet_engine.http.wire import BatchRequest, TransferRequest
from wallet_engine.service.api import TransferCommand

_side_match: Final = re.compile(
    rf"(?!{TRANSIT}\Z)(?:[A-Za-z0-9._:-]{{1,64}}|@[A-Za-z0-9._:-]{{1,63}})\Z"
).match
_uuid_match: Final = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z"
).match
_decimal_match: Final = re.compile(r"[0-9]{1,16}(?:\.[0-9]{1,4})?\Z").match

#: currency -> number of fraction digits given -> what the digits without their point are multiplied by.
_SCALES: Final = {
    currency: tuple(10 ** (digits - given) for given in range(digits + 1))
    for currency, digits in MINOR_DIGITS.items()
}

_QUOTES_PER_TRANSFER: Final = 2 * 2 * 5
_QUOTES_AROUND_BATCH: Final = 2

_decode_transfer = msgspec.json.Decoder(TransferRequest).decode
_decode_batch = msgspec.json.Decoder(BatchRequest).decode
_command = TransferCommand._make


def parse_transfer(body: bytes, idempotency_key: str | None) -> ParsedTransfer:
    """As `parse.parse_transfer`."""
    if idempotency_key is None:
        try:
            t = _decode_transfer(body)
            transaction_id = t.transaction_id
            if (
                transaction_id is not None
                and _uuid_match(transaction_id)
                and _side_match(t.from_account)
                and _side_match(t.to_account)
                and t.from_account != t.to_account
                and t.currency in MINOR_DIGITS
                and body.count(b'"') == _QUOTES_PER_TRANSFER
            ):
                amount_minor = parse_amount(t.amount, t.currency)
                transaction_id = transaction_id.lower()
                packed = pack_transaction_id(transaction_id)
                return ParsedTransfer(
                    TransferCommand(t.from_account, t.to_account, amount_minor, t.currency, packed),
                    transaction_id,
                )
        except (ValueError, RecursionError, InvalidInput):
            pass
    return parse.parse_transfer(body, idempotency_key)


def parse_batch(body: bytes) -> ParsedBatch:
    """As `parse.parse_batch`."""
    return _batch_without_fault(body) or parse.parse_batch(body)


def _batch_without_fault(body: bytes) -> ParsedBatch | None:
    try:
        transfers = _decode_batch(body).transfers
    except (ValueError, RecursionError):
        return None
    parse.check_batch_size(len(transfers))
    senders = [t.from_account for t in transfers]
    receivers = [t.to_account for t in transfers]
    currencies = [t.currency for t in transfers]
    transaction_ids = [t.transaction_id for t in transfers]
    if not (
        body.count(b'"') == len(transfers) * _QUOTES_PER_TRANSFER + _QUOTES_AROUND_BATCH
        and all(map(_side_match, senders))
        and all(map(_side_match, receivers))
        and all(map(_uuid_match, transaction_ids))
        and not any(map(eq, senders, receivers))
    ):
        return None
    amounts_minor = _amounts_without_fault([t.amount for t in transfers], currencies)
    if amounts_minor is None:
        return None
    transaction_ids = [transaction_id.lower() for transaction_id in transaction_ids]
    packed = _pack_transaction_ids(transaction_ids)
    commands = list(map(_command, zip(senders, receivers, amounts_minor, currencies, packed, strict=True)))
    return ParsedBatch(commands, transaction_ids)


def _amounts_without_fault(amounts: list[str], currencies: list[str]) -> list[int] | None:
    if not all(map(_decimal_match, amounts)):
        return None
    amounts_minor = []
    scales = _SCALES
    try:
        for amount, currency in zip(amounts, currencies, strict=True):
            whole, _, fraction = amount.partition(".")
            amounts_minor.append(int(whole + fraction) * scales[currency][len(fraction)])
    except (KeyError, IndexError):
        return None
    if amounts_minor and (min(amounts_minor) < 1 or max(amounts_minor) > AMOUNT_MINOR_MAX):
        return None
    return amounts_minor


def _pack_transaction_ids(transaction_ids: list[str]) -> list[str]:
    """`pack_transaction_id` of each: with two zero bytes an id is 24 characters, of which 22 count."""
    digits = "0000".join((*transaction_ids, "")).replace("-", "")
    text = binascii.b2a_base64(bytes.fromhex(digits), newline=False).decode()
    return [text[start : start + 22] for start in range(0, len(text), 24)]
