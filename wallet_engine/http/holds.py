"""The handlers of holds: money is set aside now, and paid or released later."""

from typing import Final

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.holds import STATUS_WORDS, Hold
from wallet_engine.domain.ids import check_transaction_id, pack_transaction_id
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.times import time_text
from wallet_engine.http import wire
from wallet_engine.http.endpoint import Endpoint, Request
from wallet_engine.http.parse_holds import (
    holder,
    parse_capture,
    parse_hold_request,
    parse_increase,
    parse_void,
)
from wallet_engine.http.problems import (
    MALFORMED,
    OUTAGE_CODES,
    REPLAYED,
    SIDED_DETAILS,
    Answer,
    Refused,
    declined,
    json_answer,
)
from wallet_engine.service.api import HoldAnswer

_KEY: Final = b"idempotency-key"
_REFUSALS: Final = ("account_not_found", "account_closed", "account_frozen", "idempotency_conflict")
_OPEN: Final = ("hold_not_found", "hold_not_open", "hold_expired", "hold_busy", "hold_limit")


async def place(request: Request) -> Answer:
    """201, or 200 when it was placed before."""
    by = request.visit.principal
    command, hold_id = parse_hold_request(await request.body(), request.header(_KEY), by.id)
    request.transaction_id = hold_id
    services = request.services
    answer = await services.calls.run(services.wallet.place_hold(by, command))
    return _hold_answer(answer, hold_id, hold_id, 201)


async def increase(request: Request) -> Answer:
    """Increase the amount of a hold."""
    by, hold_id = request.visit.principal, _hold_of_path(request)
    packed = pack_transaction_id(hold_id)
    command, transaction_id = parse_increase(await request.body(), packed, request.header(_KEY), by.id)
    request.transaction_id = transaction_id
    services = request.services
    answer = await services.calls.run(services.wallet.increase_hold(by, command))
    return _hold_answer(answer, hold_id, transaction_id, 200)


async def capture(request: Request) -> Answer:
    """Pay from a hold."""
    by, hold_id = request.visit.principal, _hold_of_path(request)
    packed = pack_transaction_id(hold_id)
    command, transaction_id = parse_capture(await request.body(), packed, request.header(_KEY), by.id)
    request.transaction_id = transaction_id
    services = request.services
    answer = await services.calls.run(services.wallet.capture_hold(by, command))
    if answer.outcome != Outcome.APPLIED:
        return declined(
            answer.outcome, transaction_id=transaction_id, replayed=answer.replayed, details=SIDED_DETAILS
        )
    hold = None if answer.hold is None else _hold(answer.hold, hold_id)
    body = wire.CaptureSucceeded(status="success", transaction_id=transaction_id, hold=hold)
    return json_answer(200, wire.encode(body), (REPLAYED,) if answer.replayed else ())


async def void(request: Request) -> Answer:
    """Release what remains of a hold."""
    hold_id = _hold_of_path(request)
    account_id = parse_void(await request.body())
    services, by = request.services, request.visit.principal
    answer = await services.calls.run(services.wallet.void_hold(by, account_id, pack_transaction_id(hold_id)))
    return _hold_answer(answer, hold_id, hold_id, 200)


async def show(request: Request) -> Answer:
    """A hold that is open, or ended and still remembered."""
    hold_id = _hold_of_path(request)
    account_id = holder(request.query("account_id"))
    wallet, by = request.services.wallet, request.visit.principal
    hold = await wallet.hold(by, account_id, pack_transaction_id(hold_id))
    if hold is None:
        raise Refused("hold_not_found", "this account has no hold of this id that is still remembered")
    return json_answer(200, wire.encode(_hold(hold, hold_id)))


def _hold_of_path(request: Request) -> str:
    try:
        return check_transaction_id(request.path("hold_id"))
    except InvalidInput as error:
        raise Refused(error.code, error.detail.replace("transaction_id", "hold_id")) from None


def _hold_answer(answer: HoldAnswer, hold_id: str, transaction_id: str, status_new: int) -> Answer:
    outcome, replayed, hold = answer
    if hold is None:
        return declined(outcome, transaction_id=transaction_id, replayed=replayed)
    headers = (REPLAYED,) if replayed else ()
    return json_answer(200 if replayed else status_new, wire.encode(_hold(hold, hold_id)), headers)


def _hold(hold: Hold, hold_id: str) -> wire.Hold:
    def amount(minor: int) -> str:
        return format_amount(minor, hold.currency)

    return wire.Hold(
        hold_id=hold_id,
        account_id=hold.account,
        to_account=hold.receiver,
        currency=hold.currency,
        amount=amount(hold.amount),
        captured=amount(hold.captured),
        released=amount(hold.released),
        remaining=amount(hold.remaining),
        status=STATUS_WORDS[hold.status],
        expires_at=time_text(hold.expires_ms),
        reference=hold.reference or None,
    )


ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "/v1/holds",
        place,
        "Set money of an account aside; 200 when it was placed before.",
        {201: wire.Hold, 200: wire.Hold},
        (
            *(*MALFORMED, "invalid_amount", "invalid_currency", "same_account", "request_too_large"),
            *(*_REFUSALS, "insufficient_funds", "balance_limit", "hold_limit", *OUTAGE_CODES),
        ),
        wire.HoldRequest,
        replayable=True,
        pays=True,
    ),
    Endpoint(
        "GET",
        "/v1/holds/{hold_id}",
        show,
        "A hold.",
        {200: wire.Hold},
        (*MALFORMED, "hold_not_found", *OUTAGE_CODES),
        query=("account_id",),
        ordinary=True,
    ),
    Endpoint(
        "POST",
        "/v1/holds/{hold_id}/capture",
        capture,
        "Pay from a hold, once per transaction id; the rest is released unless `final` is false.",
        {200: wire.CaptureSucceeded},
        (
            *(*MALFORMED, "invalid_amount", "same_account", "request_too_large", *_REFUSALS, *_OPEN),
            *("destination_mismatch", "amount_exceeds_hold", "balance_limit", *OUTAGE_CODES),
        ),
        wire.CaptureRequest,
        replayable=True,
        pays=True,
    ),
    Endpoint(
        "POST",
        "/v1/holds/{hold_id}/increase",
        increase,
        "Increase the amount of a hold.",
        {200: wire.Hold},
        (
            *(*MALFORMED, "invalid_amount", "request_too_large", *_REFUSALS, *_OPEN),
            *("insufficient_funds", "balance_limit", *OUTAGE_CODES),
        ),
        wire.IncreaseRequest,
        replayable=True,
        pays=True,
    ),
    Endpoint(
        "POST",
        "/v1/holds/{hold_id}/void",
        void,
        "Release what remains of a hold; a repeat gets the same answer.",
        {200: wire.Hold},
        (
            *(*MALFORMED, "request_too_large", "account_not_found", "hold_not_found", "hold_not_open"),
            *("hold_busy", "balance_limit", *OUTAGE_CODES),
        ),
        wire.VoidRequest,
    ),
)
