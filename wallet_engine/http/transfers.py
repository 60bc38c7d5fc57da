"""The handlers that move money, and the one that looks a transfer up."""

from typing import Final
from urllib.parse import parse_qs, unquote

from starlette.types import Receive, Scope

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.ids import check_account_id, check_transaction_id, pack_transaction_id
from wallet_engine.domain.outcomes import WIRE_CODES, Outcome
from wallet_engine.http import wire
from wallet_engine.http.body import BodyReader
from wallet_engine.http.fastparse import parse_batch, parse_transfer
from wallet_engine.http.problems import OUTAGE_CODES, REPLAYED, Answer, Refused, declined, json_answer
from wallet_engine.service.api import TransferAnswer, Wallet

#: Where a handler leaves the transaction id, so that a problem raised by anything below can name it.
TRANSACTION_ID_KEY: Final = "wallet.transaction_id"

_PAID: Final = Outcome.APPLIED.value
_PENDING: Final = "~"

#: Outcome, or code of an outage -> what follows the transaction id in a result of a batch.
_RESULT_TAILS: Final[dict[str, str]] = {
    _PAID: '","status":"success"}',
    **{
        outcome.value: f'","status":"declined","code":"{WIRE_CODES[outcome]}"}}'
        for outcome in Outcome
        if outcome is Outcome.CONFLICT or (outcome.declined and outcome is not Outcome.BALANCE_NOT_ZERO)
    },
    **{code: f'","status":"unknown","code":"{code}"}}' for code in OUTAGE_CODES},
}


class TransferHandlers:
    """Single transfers, batches, and lookups."""

    def __init__(self, wallet: Wallet, bodies: BodyReader) -> None:
        self._wallet = wallet
        self._bodies = bodies

    async def transfer(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /v1/wallet/balance_transfer`."""
        body = await self._bodies.read(scope, receive)
        command, transaction_id = parse_transfer(body, _idempotency_key(scope))
        scope[TRANSACTION_ID_KEY] = transaction_id
        return transfer_answer(await self._wallet.transfer(command), transaction_id)

    async def batch(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /v1/transfers/batch`."""
        body = await self._bodies.read(scope, receive)
        commands, transaction_ids = parse_batch(body)
        if not commands:
            return json_answer(200, b'{"results":[]}')
        outcomes = await self._wallet.transfer_many(commands)
        tails = _RESULT_TAILS
        results = '{"transaction_id":"'.join(
            [
                transaction_id + tails[outcome] + ","
                for transaction_id, outcome in zip(transaction_ids, outcomes, strict=True)
            ]
        )
        return json_answer(200, b'{"results":[{"transaction_id":"%b]}' % results[:-1].encode())

    async def find(self, scope: Scope, receive: Receive) -> Answer:
        """`GET /v1/transfers/{transaction_id}?from_account=…`."""
        try:
            transaction_id = check_transaction_id(unquote(scope["path_params"]["transaction_id"]))
            from_account = check_account_id(query_parameter(scope, "from_account"), "from_account")
        except InvalidInput as error:
            raise Refused(error.code, error.detail) from None
        scope[TRANSACTION_ID_KEY] = transaction_id
        outcome = await self._wallet.find_transfer(from_account, pack_transaction_id(transaction_id))
        if outcome is None:
            raise Refused(
                "transfer_not_found",
                "this account sent no transfer of this id that is still remembered",
                transaction_id=transaction_id,
            )
        status = wire.TransferStatus(transaction_id=transaction_id, status="success")
        if outcome == _PENDING:
            status.status = "pending"
        elif outcome != _PAID:
            status.status, status.code = "declined", WIRE_CODES[outcome]
        return json_answer(200, wire.encode(status))


def transfer_answer(decision: TransferAnswer, transaction_id: str) -> Answer:
    """What a single transfer is answered with."""
    outcome, replayed = decision
    if outcome != _PAID:
        return declined(outcome, transaction_id=transaction_id, replayed=replayed)
    body = b'{"status":"success","transaction_id":"%b"}' % transaction_id.encode()
    return json_answer(200, body, (REPLAYED,) if replayed else ())


def query_parameter(scope: Scope, name: str) -> str:
    """A query parameter that must be there once. Raises `Refused`."""
    values: list[str] = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get(
        name, []
    )
    if len(values) != 1:
        given = "is missing" if not values else "is given twice"
        raise Refused("invalid_request", f"query parameter {name} {given}")
    return values[0]


def _idempotency_key(scope: Scope) -> str | None:
    keys = {value for name, value in scope["headers"] if name == b"idempotency-key"}
    if len(keys) > 1:
        raise Refused("invalid_request", "Idempotency-Key is given twice")
    return keys.pop().decode("latin-1").strip() if keys else None
