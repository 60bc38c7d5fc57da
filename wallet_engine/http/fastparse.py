"""Turns request bodies into commands, fast, if they are without fault.

A batch without fault becomes commands at about 1 µs per transfer. At the first doubt the exact parser decides
(`parse.py`), which also words the refusal. Work is done on whole columns, so that the loops run in C.

Decoding would hide a repeated field (the last one wins). The number of quotes shows it: unknown fields are refused,
and no valid value has a quote in it, so a body without repeats has exactly two quotes per field name and value.
"""

import binascii
import re
import string
from functools import partial
from operator import eq
from typing import Final

import msgspec

from wallet_engine.domain.currencies import MINOR_DIGITS
from wallet_engine.domain.ids import TRANSIT, pack_transaction_id
from wallet_engine.domain.limits import ACCOUNT_ID_LENGTH_MAX, AMOUNT_MINOR_MAX
from wallet_engine.http import parse
from wallet_engine.http.parse import STEP_TRANSFERS, ParsedBatch, ParsedTransfer
from wallet_engine.http.wire import BatchedTransfer, BatchRequest, TransferRequest
from wallet_engine.service.api import TransferCommand
from wallet_engine.service.steps import Steps, at_once

_SIDE: Final = rf"(?!{TRANSIT}(?:\Z| ))(?:[A-Za-z0-9._:-]{{1,64}}|@[A-Za-z0-9._:-]{{1,63}})"
_AMOUNT: Final = r"[0-9]{1,16}(?:\.[0-9]{1,4})?"
_UUID: Final = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_transfer_match: Final = re.compile(rf"{_SIDE} {_SIDE} {_AMOUNT} {_UUID}\Z").match
_side_match: Final = re.compile(rf"{_SIDE}\Z").match
_amount_match: Final = re.compile(rf"{_AMOUNT}\Z").match
#: The characters allowed in ids of ordinary accounts.
_SIDE_CHARACTERS: Final = string.ascii_letters.encode() + string.digits.encode() + b"._:-"
_UUID_LENGTH: Final = 36
_UUID_DASHES: Final = (8, 13, 18, 23)

#: currency -> factors by number of fraction digits given: digits without the point times the factor is minor units.
_SCALES: Final = {
    currency: tuple(10 ** (digits - given) for given in range(digits + 1))
    for currency, digits in MINOR_DIGITS.items()
}

_all_cents_match: Final = re.compile(r"(?:[0-9]{1,16}\.[0-9]{2}\n)*\Z").match

_QUOTES_PER_TRANSFER: Final = 2 * 2 * 5
_QUOTES_AROUND_BATCH: Final = 2

_decode_transfer = msgspec.json.Decoder(TransferRequest).decode
_decode_batch = msgspec.json.Decoder(BatchRequest).decode
#: `TransferCommand._make` without its Python function.
_command: Final = partial(tuple.__new__, TransferCommand)
_parsed_transfer: Final = partial(tuple.__new__, ParsedTransfer)


def parse_transfer(body: bytes, idempotency_key: str | None, by: str = "") -> ParsedTransfer:
    """The same as `parse.parse_transfer`."""
    if idempotency_key is None:
        parsed = _transfer_without_fault(body, by)
        if parsed is not None:
            return parsed
    return parse.parse_transfer(body, idempotency_key, by)


def _transfer_without_fault(body: bytes, by: str = "") -> ParsedTransfer | None:
    try:
        t = _decode_transfer(body)
    except (ValueError, RecursionError):
        return None
    sender, receiver, amount, currency = t.from_account, t.to_account, t.amount, t.currency
    transaction_id = t.transaction_id or ""
    scales = _SCALES.get(currency)
    # No valid value contains a blank, so four of them can be matched as one text.
    if (
        scales is None
        or not _transfer_match(f"{sender} {receiver} {amount} {transaction_id}")
        or sender == receiver
        or body.count(b'"') != _QUOTES_PER_TRANSFER
    ):
        return None
    whole, _, fraction = amount.partition(".")
    if len(fraction) >= len(scales):
        return None
    amount_minor = int(whole + fraction) * scales[len(fraction)]
    if not 1 <= amount_minor <= AMOUNT_MINOR_MAX:
        return None
    transaction_id = transaction_id.lower()
    packed = pack_transaction_id(transaction_id)
    return _parsed_transfer(
        (_command((sender, receiver, amount_minor, currency, packed, "", by)), transaction_id)
    )


def parse_batch(body: bytes, by: str = "") -> ParsedBatch:
    """The same as `parse.parse_batch`."""
    return at_once(batch_steps(body, by))


def batch_steps(body: bytes, by: str) -> Steps[ParsedBatch]:
    """`parse_batch` in steps between which other requests may run: a large batch takes many milliseconds."""
    return (yield from _steps_without_fault(body, by)) or (yield from parse.batch_steps(body, by))


def _batch_without_fault(body: bytes, by: str = "") -> ParsedBatch | None:
    return at_once(_steps_without_fault(body, by))


def _steps_without_fault(body: bytes, by: str) -> Steps[ParsedBatch | None]:
    try:
        transfers = _decode_batch(body).transfers
    except (ValueError, RecursionError):
        return None
    size = len(transfers)
    parse.check_batch_size(size)
    if not size or body.count(b'"') != size * _QUOTES_PER_TRANSFER + _QUOTES_AROUND_BATCH:
        return None
    if size <= STEP_TRANSFERS:
        return _transfers_without_fault(transfers, by)
    commands, transaction_ids = [], []
    for start in range(0, size, STEP_TRANSFERS):
        yield
        part = _transfers_without_fault(transfers[start : start + STEP_TRANSFERS], by)
        if part is None:
            return None
        commands += part.commands
        transaction_ids += part.transaction_ids
    return ParsedBatch(commands, transaction_ids)


def _transfers_without_fault(transfers: list[BatchedTransfer], by: str) -> ParsedBatch | None:
    senders = [t.from_account for t in transfers]
    receivers = [t.to_account for t in transfers]
    currencies = [t.currency for t in transfers]
    if not (
        _sides_have_no_fault(senders)
        and _sides_have_no_fault(receivers)
        and not any(map(eq, senders, receivers))
    ):
        return None
    amounts_minor = _amounts_without_fault([t.amount for t in transfers], currencies)
    ids = _transaction_ids_without_fault([t.transaction_id for t in transfers])
    if amounts_minor is None or ids is None:
        return None
    transaction_ids, packed = ids
    notes, keys = [""] * len(packed), [by] * len(packed)
    words = zip(senders, receivers, amounts_minor, currencies, packed, notes, keys, strict=True)
    commands = list(map(_command, words))
    return ParsedBatch(commands, transaction_ids)


def _sides_have_no_fault(sides: list[str]) -> bool:
    lengths = list(map(len, sides))
    if min(lengths) < 1 or max(lengths) > ACCOUNT_ID_LENGTH_MAX:
        return False
    if not "".join(sides).encode().translate(None, _SIDE_CHARACTERS):
        return True
    return all(map(_side_match, sides))


def _amounts_without_fault(amounts: list[str], currencies: list[str]) -> list[int] | None:
    if currencies.count(currencies[0]) == len(currencies):
        amounts_minor = _cents_without_fault(amounts, _SCALES.get(currencies[0], ()))
    else:
        amounts_minor = None
    if amounts_minor is None:
        amounts_minor = _any_amounts_without_fault(amounts, currencies)
    if amounts_minor is None or min(amounts_minor) < 1 or max(amounts_minor) > AMOUNT_MINOR_MAX:
        return None
    return amounts_minor


def _cents_without_fault(amounts: list[str], scales: tuple[int, ...]) -> list[int] | None:
    """The usual case: one currency, and two digits after the point in every amount."""
    text = "\n".join((*amounts, ""))
    if len(scales) <= 2 or text.count("\n") != len(amounts) or not _all_cents_match(text):
        return None
    cents = list(map(int, text.replace(".", "").split()))
    return cents if scales[2] == 1 else [minor * scales[2] for minor in cents]


def _any_amounts_without_fault(amounts: list[str], currencies: list[str]) -> list[int] | None:
    if not all(map(_amount_match, amounts)):
        return None
    amounts_minor = []
    scales = _SCALES
    try:
        for amount, currency in zip(amounts, currencies, strict=True):
            whole, _, fraction = amount.partition(".")
            amounts_minor.append(int(whole + fraction) * scales[currency][len(fraction)])
    except (KeyError, IndexError):
        return None
    return amounts_minor


def _transaction_ids_without_fault(transaction_ids: list[str]) -> tuple[list[str], list[str]] | None:
    """The ids in canonical form, and `pack_transaction_id` of each."""
    count, text = len(transaction_ids), "".join(transaction_ids)
    if set(map(len, transaction_ids)) != {_UUID_LENGTH} or any(
        text[position::_UUID_LENGTH].count("-") != count for position in _UUID_DASHES
    ):
        return None
    # With two zero bytes after it, an id takes 24 characters of base64, of which 22 count.
    try:
        raw = bytes.fromhex("0000".join((*transaction_ids, "")).replace("-", ""))
    except ValueError:
        return None
    if len(raw) != count * 18:  # there were more dashes, or white space, which `fromhex` skips
        return None
    if text != (lowered := text.lower()):
        transaction_ids = [
            lowered[start : start + _UUID_LENGTH] for start in range(0, len(lowered), _UUID_LENGTH)
        ]
    packed = binascii.b2a_base64(raw, newline=False).decode()
    return transaction_ids, [packed[start : start + 22] for start in range(0, len(packed), 24)]
