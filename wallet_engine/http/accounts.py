"""Opens, reads, changes and flags accounts."""

import time
from typing import Final

from msgspec import UNSET, UnsetType

from wallet_engine.domain.ids import check_account_id
from wallet_engine.domain.money import check_currency, format_amount
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.http import history, wire
from wallet_engine.http.endpoint import Endpoint, Request
from wallet_engine.http.parse import check_ordinary_account, load_object, parse_limits, parse_open_account
from wallet_engine.http.parse_history import positions_of, time_ms
from wallet_engine.http.problems import MALFORMED, OUTAGE_CODES, Answer, Refused, declined, json_answer
from wallet_engine.service.api import AccountView, CurrencyBalance, Money


async def open_account(request: Request) -> Answer:
    """201, or 200 when it was open already."""
    asked = parse_open_account(await request.body())
    services = request.services
    outcome, view = await services.calls.run(services.wallet.open_account(request.visit.principal, *asked))
    if view is None or outcome == Outcome.CONFLICT:
        return declined(outcome)
    balance = next(b for b in view.balances if b.currency == asked.currency)
    body = wire.OpenedAccount(
        account_id=view.account_id,
        currency=balance.currency,
        **_amounts(balance.money, balance.currency),
        status=view.status,
        max_balance=_most(balance),
        metadata=view.metadata or UNSET,
    )
    return json_answer(201 if outcome == Outcome.APPLIED else 200, wire.encode(body))


async def patch(request: Request) -> Answer:
    """Change limits in one currency, or metadata; null removes a value."""
    account_id = _ordinary_account_of_path(request)
    document = load_object(await request.body())
    services, by = request.services, request.visit.principal
    currencies: list[str] = []
    if document.get("currency") is None:
        found = await services.wallet.account(by, account_id)
        if found is None:
            raise _unknown_account()
        currencies = [balance.currency for balance in found.balances]
    command = parse_limits(document, account_id, currencies)
    outcome, view = await services.calls.run(services.wallet.set_limits(by, command))
    return declined(outcome) if view is None else _account_answer(view)


async def show(request: Request) -> Answer:
    """The account with all its balances."""
    view = await request.services.wallet.account(request.visit.principal, _account_of_path(request))
    if view is None:
        raise _unknown_account()
    return _account_answer(view)


async def balance(request: Request) -> Answer:
    """One balance: the present durable one, or a past one with `at`."""
    account_id = _account_of_path(request)
    currency = check_currency(request.query("currency"))
    at_ms = time_ms(request, "at")
    if at_ms is not None:
        if at_ms > time.time_ns() // 1_000_000:
            raise Refused("invalid_request", "at is in the future: leave it out for the present balance")
        return await history.balance_at(request, account_id, currency, at_ms)
    positions_of(request)  # the present has them all
    view = await request.services.wallet.balance(request.visit.principal, account_id, currency)
    if view is None:
        raise _unknown_account()
    body = wire.DurableBalance(
        account_id=account_id,
        currency=currency,
        **_amounts(view.money, currency),
        partition=view.partition,
        seq=view.seq,
    )
    return json_answer(200, wire.encode(body))


def _flagging(action: str, *codes: str) -> Endpoint:
    """The endpoint that does `action` (freeze, unfreeze, close) to an account."""

    async def set_flags(request: Request) -> Answer:
        account_id = _ordinary_account_of_path(request)
        services = request.services
        outcome, view = await services.calls.run(
            services.wallet.set_flags(request.visit.principal, account_id, action)
        )
        return declined(outcome) if view is None else _account_answer(view)

    return Endpoint(
        "POST",
        f"/v1/accounts/{{account_id}}/{action}",
        set_flags,
        f"{action.capitalize()} an account.",
        {200: wire.Account},
        (*MALFORMED, "account_not_found", *codes, *OUTAGE_CODES),
        ordinary=True,
    )


def _amounts(money: Money, currency: str) -> dict[str, str]:
    """The four amounts in every answer that shows a balance, all from one moment."""
    minor = (money.balance_minor, money.available_minor, money.held_minor, money.pending_minor)
    names = ("balance", "available", "held", "pending")
    return {name: format_amount(value, currency) for name, value in zip(names, minor, strict=True)}


def _account_of_path(request: Request) -> str:
    return check_account_id(request.path("account_id"))


def _ordinary_account_of_path(request: Request) -> str:
    return check_ordinary_account(request.path("account_id"))


def _most(balance: CurrencyBalance) -> str | UnsetType:
    most = balance.max_balance_minor
    return UNSET if most is None else format_amount(most, balance.currency)


def _unknown_account() -> Refused:
    return Refused("account_not_found", "the account, or its balance in this currency, was never opened")


def _account_answer(view: AccountView) -> Answer:
    body = wire.Account(
        account_id=view.account_id,
        status=view.status,
        balances=[
            wire.AccountBalance(
                currency=b.currency,
                **_amounts(b.money, b.currency),
                overdraft_limit=format_amount(b.overdraft_limit_minor, b.currency),
                max_balance=_most(b),
            )
            for b in view.balances
        ],
        metadata=view.metadata or UNSET,
    )
    return json_answer(200, wire.encode(body))


ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "/v1/accounts",
        open_account,
        "Open an account in a currency; 200 when it is open already.",
        {201: wire.OpenedAccount, 200: wire.OpenedAccount},
        (
            *MALFORMED,
            "invalid_amount",
            "invalid_currency",
            "request_too_large",
            "idempotency_conflict",
            "account_closed",
            *OUTAGE_CODES,
        ),
        wire.OpenAccountRequest,
    ),
    Endpoint(
        "GET",
        "/v1/accounts/{account_id}",
        show,
        "An account with all its balances.",
        {200: wire.Account},
        (*MALFORMED, "account_not_found", *OUTAGE_CODES),
    ),
    Endpoint(
        "GET",
        "/v1/accounts/{account_id}/balance",
        balance,
        "A durable balance and its journal entry; a past one with `at`.",
        {200: wire.DurableBalance},
        (
            *(*MALFORMED, "invalid_currency", "account_not_found", "history_expired"),
            *(*OUTAGE_CODES, *history.CODES),
        ),
        query=("currency",),
        optional_query=("at", "min_position"),
    ),
    Endpoint(
        "PATCH",
        "/v1/accounts/{account_id}",
        patch,
        "Change an account's limits in one currency, or its metadata; its balance stays as it is.",
        {200: wire.Account},
        (
            *(*MALFORMED, "invalid_amount", "invalid_currency", "request_too_large", "account_not_found"),
            *("account_closed", *OUTAGE_CODES),
        ),
        wire.PatchAccountRequest,
        ordinary=True,
    ),
    _flagging("freeze", "account_closed"),
    _flagging("unfreeze", "account_closed"),
    _flagging("close", "balance_not_zero", "operations_pending"),
)
