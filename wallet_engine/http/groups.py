"""The handler of groups: several transfers, all of them or none."""

from typing import Final

from wallet_engine.domain.outcomes import Outcome
from wallet_engine.http import wire
from wallet_engine.http.endpoint import Endpoint, Request
from wallet_engine.http.parse_groups import parse_group
from wallet_engine.http.problems import (
    MALFORMED,
    OUTAGE_CODES,
    REPLAYED,
    SIDED_DETAILS,
    Answer,
    declined,
    json_answer,
)

_KEY: Final = b"idempotency-key"


async def transfer_group(request: Request) -> Answer:
    """200 when all of it is applied and durable; otherwise none of it is applied."""
    by = request.visit.principal
    command, transaction_id = parse_group(await request.body(), request.header(_KEY), by.id)
    request.transaction_id = transaction_id
    services = request.services
    answer = await services.calls.run(services.wallet.transfer_group(by, command))
    if answer.outcome != Outcome.APPLIED:
        return declined(
            answer.outcome,
            transaction_id=transaction_id,
            replayed=answer.replayed,
            leg=answer.leg,
            details=SIDED_DETAILS,
        )
    body = wire.TransferSucceeded(status="success", transaction_id=transaction_id)
    return json_answer(200, wire.encode(body), (REPLAYED,) if answer.replayed else ())


ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "/v1/transfers/group",
        transfer_group,
        "Make several transfers, all or none; a refusal names the first leg that cannot be applied.",
        {200: wire.TransferSucceeded},
        (
            *(*MALFORMED, "invalid_amount", "invalid_currency", "same_account", "request_too_large"),
            *("account_not_found", "account_closed", "account_frozen", "idempotency_conflict"),
            *("insufficient_funds", "balance_limit", *OUTAGE_CODES),
        ),
        wire.GroupRequest,
        replayable=True,
        pays=True,
    ),
)
