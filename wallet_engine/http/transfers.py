"""The handlers that transfer money, and the one that looks up a transfer."""

from collections.abc import Sequence
from typing import Final

from msgspec import UNSET

from wallet_engine.domain.groups import Leg
from wallet_engine.domain.ids import (
    check_account_id,
    check_transaction_id,
    pack_transaction_id,
    unpack_transaction_id,
)
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.notes import LEG_REFERENCES, METADATA, REFERENCE, said_in
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import WIRE_CODES, Outcome
from wallet_engine.domain.returns import RETURN_RECORD, parse_evidence
from wallet_engine.http import wire
from wallet_engine.http.endpoint import Endpoint, Request
from wallet_engine.http.fastparse import batch_steps, parse_transfer
from wallet_engine.http.heads import TRANSFER_PATH
from wallet_engine.http.problems import (
    MALFORMED,
    OUTAGE_CODES,
    REPLAYED,
    TRANSFER_DETAILS,
    Answer,
    Refused,
    declined,
    json_answer,
)
from wallet_engine.service.api import OF_RECEIVER, TransferAnswer

_PAID: Final = Outcome.APPLIED.value
#: Kinds of refunds that a caller asked for.
_REFUNDS: Final = ("x", "z")
_PENDING: Final = "~"


def _tail(status: str, code: str, detail: str) -> str:
    return f'","status":"{status}","code":"{code}","detail":"{detail}"}}'


_RESULT_HEAD: Final = '{"transaction_id":"'
#: Outcome, or code of an outage -> the text after the transaction id in a result of a batch.
_RESULT_TAILS: Final[dict[str, str]] = {
    _PAID: '","status":"success"}',
    **{
        outcome.value: _tail("declined", WIRE_CODES[outcome], TRANSFER_DETAILS[outcome])
        for outcome in Outcome
        if outcome is Outcome.CONFLICT or (outcome.declined and outcome in TRANSFER_DETAILS)
    },
    **{
        code + side: _tail("unknown", code, TRANSFER_DETAILS[code + side])
        for code in OUTAGE_CODES
        for side in ("", OF_RECEIVER)
    },
}


async def transfer(request: Request) -> Answer:
    """One transfer. Those that arrive in one piece take the direct way (`direct.py`)."""
    body = await request.body()
    by = request.visit.principal
    command, transaction_id = parse_transfer(body, request.header(b"idempotency-key"), by.id)
    request.transaction_id = transaction_id
    return transfer_answer(await request.services.wallet.transfer(by, command), transaction_id)


async def batch(request: Request) -> Answer:
    """Many transfers, each decided on its own."""
    by, body = request.visit.principal, await request.body()
    steps = batch_steps(body, by.id)
    commands, transaction_ids = await request.services.turns.read(by.share, len(body), steps)
    if not commands:
        return json_answer(200, b'{"results":[]}')
    outcomes = await request.services.wallet.transfer_many(by, commands)
    tails = _RESULT_TAILS
    if outcomes.count(_PAID) == len(outcomes) == len(transaction_ids):  # nearly always
        results = f"{tails[_PAID]},{_RESULT_HEAD}".join(transaction_ids) + tails[_PAID]
    else:
        pairs = zip(transaction_ids, outcomes, strict=True)
        results = f",{_RESULT_HEAD}".join(
            [transaction_id + tails[outcome] for transaction_id, outcome in pairs]
        )
    return json_answer(200, f'{{"results":[{_RESULT_HEAD}{results}]}}'.encode())


async def find(request: Request) -> Answer:
    """The outcome of a transfer that is still remembered."""
    transaction_id = check_transaction_id(request.path("transaction_id"))
    from_account = check_account_id(request.query("from_account"), "from_account")
    request.transaction_id = transaction_id
    packed = pack_transaction_id(transaction_id)
    wallet, by = request.services.wallet, request.visit.principal
    outcome = await wallet.find_transfer(by, from_account, packed)
    if outcome is None:
        raise Refused(
            "transfer_not_found",
            "this account sent no transfer of this id that is still remembered",
            transaction_id=transaction_id,
        )
    status = wire.TransferStatus(transaction_id=transaction_id, status="success")
    group = await request.services.wallet.find_group(request.visit.principal, from_account, packed)
    if group is not None:
        outcome = group.outcome
        status.legs = [_leg(leg, place) for place, leg in enumerate(group.legs)]
        status.leg = UNSET if group.leg is None else group.leg
    if outcome == _PENDING:
        status.status = "pending"
    elif outcome not in (_PAID, RETURN_RECORD):
        status.status, status.code = "declined", WIRE_CODES[outcome]
    asked = await wallet.request_of(by, from_account, packed)
    if asked is not None:
        _show_request(status, asked, () if group is None else group.legs)
    return json_answer(200, wire.encode(status))


def _leg(leg: Leg, place: int) -> wire.LegStatus:
    return wire.LegStatus(
        *(leg.payer, leg.receiver, format_amount(leg.minor, leg.currency), leg.currency),
        leg=UNSET if leg.idx == place else leg.idx,
    )


def _show_request(status: wire.TransferStatus, asked: Operation, legs: Sequence[Leg]) -> None:
    """Add what only the journal has of a transfer: the caller's note, and the original of a refund."""
    said = said_in(asked.note)
    status.reference = said.get(REFERENCE, UNSET)
    status.metadata = said.get(METADATA, UNSET)
    if status.status == "success" and asked.kind in _REFUNDS:
        original = parse_evidence(asked.other)
        status.refunds = wire.RefundedTransfer(original.payer, unpack_transaction_id(original.transaction))
    if status.legs:
        references = said.get(LEG_REFERENCES, {})
        for leg, shown in zip(legs, status.legs, strict=True):
            shown.reference = references.get(str(leg.idx), UNSET)


def transfer_answer(decision: TransferAnswer, transaction_id: str) -> Answer:
    """The answer to a single transfer."""
    outcome, replayed, position = decision
    if outcome != _PAID:
        details = TRANSFER_DETAILS
        answer = declined(outcome, transaction_id=transaction_id, replayed=replayed, details=details)
        return answer._replace(position=position)
    body = b'{"status":"success","transaction_id":"%b"}' % transaction_id.encode()
    return json_answer(200, body, (REPLAYED,) if replayed else (), position)


_FAULTS_OF_TRANSFER: Final = (
    *MALFORMED,
    "invalid_amount",
    "invalid_currency",
    "same_account",
    "request_too_large",
)

TRANSFER: Final = Endpoint(
    "POST",
    TRANSFER_PATH,
    transfer,
    "Move money once. The transaction id may come as Idempotency-Key header instead.",
    {200: wire.TransferSucceeded},
    (
        *_FAULTS_OF_TRANSFER,
        "account_not_found",
        "idempotency_conflict",
        "insufficient_funds",
        "account_frozen",
        "account_closed",
        "balance_limit",
        *OUTAGE_CODES,
    ),
    wire.TransferRequest,
    replayable=True,
    pays=True,
)

ENDPOINTS: Final = (
    TRANSFER,
    Endpoint(
        "POST",
        "/v1/transfers/batch",
        batch,
        "Make many transfers; each is decided on its own.",
        {200: wire.BatchResponse},
        (*_FAULTS_OF_TRANSFER, *OUTAGE_CODES),
        wire.BatchRequest,
        small=False,
        pays=True,
    ),
    Endpoint(
        "GET",
        "/v1/transfers/{transaction_id}",
        find,
        "The outcome of a transfer.",
        {200: wire.TransferStatus},
        (*MALFORMED, "transfer_not_found", *OUTAGE_CODES),
        query=("from_account",),
    ),
)
