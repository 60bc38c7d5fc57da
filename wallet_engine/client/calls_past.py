"""The calls about the past. They need a service with a history (`serve --database`).

Without one they raise `Unavailable` with the code `history_not_configured`.

The methods of the wallets iterate over all items of a listing, page by page. `page_size`: items in one request, 1 to
200 (default 50). `min_position`: the `position` of an earlier answer. The result then includes that write; when the
history has not reached it yet, the call is retried. Times must have a time zone. `from_` is inclusive, `to` exclusive.
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
    """The balance at a past time. `as_of` in the answer says until when the history is complete."""
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
    """List the money that an account has paid and received, the newest first unless `order` is `asc`.

    `status`: `success` by default. `min_amount` and `max_amount` need `currency`.
    """
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
    """All changes of an account's balance in one currency, with the balance before and after them."""
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
    """List the holds of an account."""
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
    """List the transfers with this reference, of all accounts that the key may read."""
    times = {"from": time_text(from_), "to": time_text(to)}
    query = query_text(reference=reference, limit=page_size, min_position=min_position, **times)
    return Call("GET", f"/v1/transfers{query}", TransferPage)
