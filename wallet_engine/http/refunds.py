"""The handler of refunds: money of a transfer, or a part of it, goes back to its payer."""

from typing import Final

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.ids import check_transaction_id, pack_transaction_id
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.refund_command import RefundCommand
from wallet_engine.http import wire
from wallet_engine.http.endpoint import Endpoint, Request
from wallet_engine.http.parse import check_shape, known_id, load_object, side, transaction_id_of, whole_number
from wallet_engine.http.parse_notes import parse_note
from wallet_engine.http.problems import (
    HISTORY_OUTAGES,
    MALFORMED,
    OUTAGE_CODES,
    REPLAYED,
    Answer,
    Refused,
    json_answer,
    refund_refused,
)

#: The highest index that a leg of a group can have.
LEG_MAX: Final = 99
_FIELDS: Final = frozenset(("from_account", "transaction_id", "amount", "leg", "reference"))


def parse_refund(body: bytes, original_id: str, key: str | None, by: str) -> tuple[RefundCommand, str]:
    """The body of `POST /v1/transfers/{transaction_id}/refunds`, and the refund's canonical id. Raises `Refused`.

    The amount is checked once the original's currency is known.
    """
    document = load_object(body)
    known = known_id(document, key)
    try:
        required = ("from_account",) if key is not None else ("from_account", "transaction_id")
        check_shape(document, _FIELDS, required)
        payer = side(document["from_account"], "from_account")
        transaction_id = transaction_id_of(document, key)
        amount, leg = document.get("amount"), document.get("leg")
        if amount is not None and not isinstance(amount, str):
            raise InvalidInput("invalid_amount", "amount must be a string of a decimal number")
        leg = None if leg is None else whole_number(leg, "leg", 0, LEG_MAX)
        packed, note = pack_transaction_id(transaction_id), parse_note(document)
    except (InvalidInput, Refused) as error:
        raise Refused(error.code, error.detail, transaction_id=known) from None
    original = pack_transaction_id(original_id)
    return RefundCommand(payer, original, packed, amount, leg, note, by), transaction_id


async def refund(request: Request) -> Answer:
    """Refund a transfer, once per transaction id."""
    by, services = request.visit.principal, request.services
    original_id = check_transaction_id(request.path("transaction_id"))
    key = request.header(b"idempotency-key")
    command, transaction_id = parse_refund(await request.body(), original_id, key, by.id)
    request.transaction_id = transaction_id
    answer = await services.calls.run(services.wallet.refund(by, command))
    if answer.code:
        return refund_refused(
            answer.code, transaction_id=transaction_id, replayed=answer.replayed, back=answer.back
        )
    body = wire.RefundSucceeded(
        status="success",
        transaction_id=transaction_id,
        refunded_total=format_amount(answer.returned_minor, answer.currency),
        refundable=format_amount(answer.refundable_minor, answer.currency),
    )
    return json_answer(200, wire.encode(body), (REPLAYED,) if answer.replayed else ())


ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "/v1/transfers/{transaction_id}/refunds",
        refund,
        "Refund a transfer, in total never more than its amount; without an amount, all that is left.",
        {200: wire.RefundSucceeded},
        (
            *(*MALFORMED, "invalid_amount", "request_too_large", "account_not_found", "account_closed"),
            *("account_frozen", "insufficient_funds", "balance_limit", "idempotency_conflict"),
            *("transfer_not_found", "transfer_pending", "not_refundable", "refund_exceeds"),
            *("refund_window_closed", *OUTAGE_CODES, *HISTORY_OUTAGES),
        ),
        wire.RefundRequest,
        replayable=True,
        pays=True,
    ),
)
