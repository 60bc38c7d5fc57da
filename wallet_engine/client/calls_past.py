"""The calls about the past, as `calls.py` has the others. They take a service with a history (`serve --database`).

Listings come in pages; the wallets walk them. `min_position`, the `position` of something that was paid, has the answer
know of it.
"""

from datetime import datetime
from typing import Literal

from wallet_engine.client.calls import Amount, Call, account_path, limit_text, query_text, time_text
from wallet_engine.client.types import Balance
from wallet_engine.client.types_past import (
    HoldPage,
    Kind,
    Statement,
    Status,
    TransactionPage,
    TransferPage,
)


def past_balance(
    account_id: str, currency: str, at: datetime, *, min_position: str | None = None
) -> Call[Balance]:
    """The balance of a time; its `as_of` says until when the history is complete."""
    query = query_text(currency=currency, at=time_text(at), min_position=min_position)
    return Call("GET", account_path(account_id, f"/balance{query}"), Balance)


def transactions(
    account_id: str,
    *,
    currency: str | None = None,
    type: Kind | None = None,
    direction: Literal["in", "out"] | None = None,
    status: Status | Literal["all"] | None = None,
    counterparty: str | None = None,
    reference: str | None = None,
    min_amount: Amount | None = None,
    max_amount: Amount | None = None,
    from_: datetime | None = None,
    to: datetime | None = None,
    order: Literal["desc", "asc"] | None = None,
    page_size: int | None = None,
    min_position: str | None = None,
) -> Call[TransactionPage]:
    """What an account has paid and received, the newest first."""
    query = query_text(
        currency=currency,
        type=type,
        direction=direction,
        status=status,
        counterparty=counterparty,
        reference=reference,
        min_amount=limit_text(min_amount),
        max_amount=limit_text(max_amount),
        order=order,
        limit=page_size,
        min_position=min_position,
        to=time_text(to),
        **{"from": time_text(from_)},
    )
    return Call("GET", account_path(account_id, f"/transactions{query}"), TransactionPage)


def statement(
    account_id: str,
    currency: str,
    *,
    from_: datetime | None = None,
    to: datetime | None = None,
    min_position: str | None = None,
) -> Call[Statement]:
    """All that changed an account's balance in one currency."""
    times = {"from": time_text(from_), "to": time_text(to)}
    query = query_text(currency=currency, min_position=min_position, **times)
    return Call("GET", account_path(account_id, f"/statement{query}"), Statement)


def account_holds(
    account_id: str,
    *,
    status: Literal["open", "captured", "voided", "expired"] | None = None,
    page_size: int | None = None,
    min_position: str | None = None,
) -> Call[HoldPage]:
    """The holds of an account."""
    query = query_text(status=status, limit=page_size, min_position=min_position)
    return Call("GET", account_path(account_id, f"/holds{query}"), HoldPage)


def transfers(
    reference: str,
    *,
    from_: datetime | None = None,
    to: datetime | None = None,
    page_size: int | None = None,
    min_position: str | None = None,
) -> Call[TransferPage]:
    """The transfers of a reference."""
    times = {"from": time_text(from_), "to": time_text(to)}
    query = query_text(reference=reference, limit=page_size, min_position=min_position, **times)
    return Call("GET", f"/v1/transfers{query}", TransferPage)
