"""The HTTP calls of one request of a workload, in their order, and how their answers are read."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.http_client import request_bytes
from bench.workload import CURRENCY, Pair, account_name
from wallet_engine.domain.money import format_amount

#: The first eight digits of every transaction id, replaced by the number of a sending.
PLACEHOLDER: Final = b"########"

#: Maximum legs of a group: each may need two partitions.
GROUP_LEGS_MAX: Final = 16

_SUCCESS: Final = b'"status":"success"'
_DECLINED: Final = b'"status":"declined","code":"insufficient_funds"'

#: Transfers in an answer: (succeeded, declined as `insufficient_funds`); None for any other answer.
Counted = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Form:
    """`calls(pairs, host)` makes the HTTP calls of one request. `counts`: for each call, the reader of its answer."""

    calls: Callable[[Sequence[Pair], str], tuple[bytes, ...]]
    counts: tuple[Callable[[int, bytes], Counted], ...]


def form_of(workload: str, batch: int) -> Form:
    """The form of a workload's requests with `batch` transfers. Raises `ValueError` for an impossible batch size."""
    if workload == "holds":
        if batch != 1:
            raise ValueError("a hold is one request: give --batch 1, and more callers")
        return _HOLD
    if workload == "groups":
        if batch > GROUP_LEGS_MAX:
            raise ValueError(
                f"legs of a group lie in at most 32 partitions: give --batch {GROUP_LEGS_MAX} or less"
            )
        return _group(batch)
    return _SINGLE if batch == 1 else _BATCH


def transaction() -> str:
    """A random transaction id that begins with the placeholder."""
    digits = os.urandom(12).hex()
    return f"{PLACEHOLDER.decode()}-{digits[:4]}-4{digits[5:8]}-a{digits[9:12]}-{digits[12:24]}"


def _sides(pair: Pair) -> str:
    return (
        f'"from_account":"{account_name(pair.sender)}","to_account":"{account_name(pair.receiver)}",'
        f'"amount":"{format_amount(pair.amount_minor, CURRENCY)}","currency":"{CURRENCY}"'
    )


def _transfer(pair: Pair) -> str:
    return f'{{{_sides(pair)},"transaction_id":"{transaction()}"}}'


def _single_calls(pairs: Sequence[Pair], host: str) -> tuple[bytes, ...]:
    return (request_bytes("/v1/wallet/balance_transfer", _transfer(pairs[0]).encode(), host=host),)


def _single_counts(status: int, body: bytes) -> Counted:
    if status == 200 and _SUCCESS in body:
        return 1, 0
    return (0, 1) if status == 422 and b'"insufficient_funds"' in body else None


def _batch_calls(pairs: Sequence[Pair], host: str) -> tuple[bytes, ...]:
    body = f'{{"transfers":[{",".join(map(_transfer, pairs))}]}}'
    return (request_bytes("/v1/transfers/batch", body.encode(), host=host),)


def _batch_counts(status: int, body: bytes) -> Counted:
    return (body.count(_SUCCESS), body.count(_DECLINED)) if status == 200 else None


def _hold_calls(pairs: Sequence[Pair], host: str) -> tuple[bytes, ...]:
    """The calls that place a hold and capture all of it."""
    pair, hold = pairs[0], transaction()
    payer, receiver = account_name(pair.sender), account_name(pair.receiver)
    amount = format_amount(pair.amount_minor, CURRENCY)
    placed = (
        f'{{"account_id":"{payer}","amount":"{amount}","currency":"{CURRENCY}","transaction_id":"{hold}"}}'
    )
    captured = f'{{"account_id":"{payer}","transaction_id":"{transaction()}","to_account":"{receiver}"}}'
    return (
        request_bytes("/v1/holds", placed.encode(), host=host),
        request_bytes(f"/v1/holds/{hold}/capture", captured.encode(), host=host),
    )


def _hold_counts(status: int, body: bytes) -> Counted:
    return (0, 0) if status == 201 and b'"status":"open"' in body else None


def _group(legs: int) -> Form:
    def calls(pairs: Sequence[Pair], host: str) -> tuple[bytes, ...]:
        listed = ",".join(f"{{{_sides(pair)}}}" for pair in pairs)
        body = f'{{"transaction_id":"{transaction()}","legs":[{listed}]}}'
        return (request_bytes("/v1/transfers/group", body.encode(), host=host),)

    def counts(status: int, body: bytes) -> Counted:
        return (legs, 0) if status == 200 and _SUCCESS in body else None

    return Form(calls, (counts,))


_SINGLE: Final = Form(_single_calls, (_single_counts,))
_BATCH: Final = Form(_batch_calls, (_batch_counts,))
_HOLD: Final = Form(_hold_calls, (_hold_counts, _single_counts))
