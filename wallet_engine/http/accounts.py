"""The handlers of accounts and balances."""

from urllib.parse import unquote

from starlette.types import Receive, Scope

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.ids import check_account_id
from wallet_engine.domain.money import check_currency, format_amount
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.http import wire
from wallet_engine.http.body import BodyReader
from wallet_engine.http.parse import check_ordinary_account, parse_open_account
from wallet_engine.http.problems import Answer, Refused, declined, json_answer
from wallet_engine.http.transfers import query_parameter
from wallet_engine.http.uncancelled import Uncancelled
from wallet_engine.service.api import AccountView, Wallet


class AccountHandlers:
    """Opening, reading and flagging accounts."""

    def __init__(self, wallet: Wallet, bodies: BodyReader, calls: Uncancelled) -> None:
        self._wallet = wallet
        self._bodies = bodies
        self._calls = calls

    async def open(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /v1/accounts`."""
        request = parse_open_account(await self._bodies.read(scope, receive))
        outcome, view = await self._calls.run(self._wallet.open_account(*request))
        if view is None or outcome == Outcome.CONFLICT:
            return declined(outcome)
        balance = next(b for b in view.balances if b.currency == request.currency)
        body = wire.OpenedAccount(
            account_id=view.account_id,
            currency=balance.currency,
            balance=format_amount(balance.balance_minor, balance.currency),
            status=view.status,
        )
        return json_answer(201 if outcome == Outcome.APPLIED else 200, wire.encode(body))

    async def show(self, scope: Scope, receive: Receive) -> Answer:
        """`GET /v1/accounts/{account_id}`."""
        view = await self._wallet.account(_account_of_path(scope))
        if view is None:
            raise _unknown_account()
        return _account_answer(view)

    async def balance(self, scope: Scope, receive: Receive) -> Answer:
        """`GET /v1/accounts/{account_id}/balance?currency=USD`."""
        account_id = _account_of_path(scope)
        try:
            currency = check_currency(query_parameter(scope, "currency"))
        except InvalidInput as error:
            raise Refused(error.code, error.detail) from None
        view = await self._wallet.balance(account_id, currency)
        if view is None:
            raise _unknown_account()
        body = wire.DurableBalance(
            account_id=account_id,
            currency=currency,
            balance=format_amount(view.balance_minor, currency),
            partition=view.partition,
            seq=view.seq,
        )
        return json_answer(200, wire.encode(body))

    async def freeze(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /v1/accounts/{account_id}/freeze`."""
        return await self._set_flags(scope, "freeze")

    async def unfreeze(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /v1/accounts/{account_id}/unfreeze`."""
        return await self._set_flags(scope, "unfreeze")

    async def close(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /v1/accounts/{account_id}/close`."""
        return await self._set_flags(scope, "close")

    async def _set_flags(self, scope: Scope, action: str) -> Answer:
        account_id = _account_of_path(scope)
        try:
            check_ordinary_account(account_id)
        except InvalidInput as error:
            raise Refused(error.code, error.detail) from None
        outcome, view = await self._calls.run(self._wallet.set_flags(account_id, action))
        return declined(outcome) if view is None else _account_answer(view)


def _account_of_path(scope: Scope) -> str:
    try:
        return check_account_id(unquote(scope["path_params"]["account_id"]))
    except InvalidInput as error:
        raise Refused(error.code, error.detail) from None


def _unknown_account() -> Refused:
    return Refused("account_not_found", "the account, or its balance in this currency, was never opened")


def _account_answer(view: AccountView) -> Answer:
    body = wire.Account(
        account_id=view.account_id,
        status=view.status,
        balances=[
            wire.AccountBalance(
                currency=b.currency,
                balance=format_amount(b.balance_minor, b.currency),
                overdraft_limit=format_amount(b.overdraft_limit_minor, b.currency),
            )
            for b in view.balances
        ],
    )
    return json_answer(200, wire.encode(body))
