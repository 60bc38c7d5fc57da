"""The calls of the HTTP API: one function for each. It makes a `Call`, and sends nothing.

The methods of `Wallet` and `AsyncWallet` have the same names and parameters, send the call and return its answer.

Amounts are in major units: `Decimal`, `int` or decimal text, never `float`. When no transaction id is given, a random
UUID is made here, once: all tries of the call then have the same id.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

import msgspec
from msgspec import UNSET, UnsetType

from wallet_engine.client.types import (
    Account,
    Balance,
    Batch,
    Capture,
    Health,
    Hold,
    Leg,
    OpenedAccount,
    Readiness,
    Refund,
    Transfer,
    TransferStatus,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Amount = Decimal | int | str
Id = UUID | str

_encode: Final = msgspec.json.Encoder().encode


class Call(NamedTuple, Generic[T]):
    """One request, and the type of its answer."""

    method: str
    #: With its query.
    path: str
    answer: type[T]
    #: JSON.
    body: bytes | None = None
    transaction_id: str | None = None
    #: The JSON of the same call as an element of a batch; None when it cannot be sent in a batch.
    element: bytes | None = None
    #: A status besides 2xx whose body is an answer and no problem.
    also: int | None = None
    #: Seconds that the service may wait before it answers.
    wait_s: float = 0.0
    #: The call has no id, so a second try could do it twice. It is retried only after 429.
    once: bool = False

    @property
    def changes(self) -> bool:
        """Whether the call may change something. Then a lost answer means `OutcomeUnknown`."""
        return self.method != "GET"


class Page(Protocol[T_co]):
    """One page of a listing. `next_cursor`: the cursor of the next page; None on the last one."""

    @property
    def items(self) -> Sequence[T_co]: ...

    @property
    def next_cursor(self) -> str | None: ...


class TransferOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """One transfer of a batch. Make it with `order`: amounts here are decimal text."""

    from_account: str
    to_account: str
    amount: str
    currency: str
    transaction_id: str
    reference: str | None = None
    metadata: Mapping[str, str] | None = None
    min_balance_after: str | None = None


def amount_text(amount: Amount) -> str:
    """The decimal text of an amount. Text is returned unchecked: the service refuses an invalid one.

    Raises `TypeError` for floats and other types, `ValueError` for a Decimal that is infinite or NaN.
    """
    if isinstance(amount, Decimal):
        if not amount.is_finite():
            raise ValueError(f"an amount is a finite number, not {amount}")
        return format(amount, "f")
    if isinstance(amount, str):
        return amount
    if isinstance(amount, int) and not isinstance(amount, bool):
        return str(amount)
    raise TypeError(f"an amount is a Decimal, an int or a decimal text, not {type(amount).__name__}")


def limit_text(amount: Amount | None) -> str | None:
    """The decimal text of an optional amount. Raises as `amount_text` does."""
    return None if amount is None else amount_text(amount)


def _id(given: Id | None) -> str:
    return str(uuid4() if given is None else given)


def body_of(**fields: Any) -> bytes:
    """The fields as a JSON object, without those that are None."""
    return _encode({name: value for name, value in fields.items() if value is not None})


def query_text(**filters: str | int | None) -> str:
    """The filters as a query (`?…`), without those that are None; empty when all are None."""
    given = {name: value for name, value in filters.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def time_text(time: datetime | None) -> str | None:
    """The time in RFC 3339. Raises `ValueError` for a time without time zone."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError(f"a time must have a time zone: {time.isoformat()}")
    return time.isoformat()


def account_path(account_id: str, rest: str = "") -> str:
    """`/v1/accounts/<account_id><rest>`, the id percent-encoded."""
    name = quote(account_id, safe="")
    if name in (".", ".."):  # httpx takes these for steps in the path
        name = name.replace(".", "%2E")
    return f"/v1/accounts/{name}{rest}"


def _hold_path(hold_id: Id, rest: str = "") -> str:
    return f"/v1/holds/{quote(str(hold_id), safe='')}{rest}"


# Accounts


def open_account(
    account_id: str,
    currency: str,
    *,
    overdraft_limit: Amount | None = None,
    max_balance: Amount | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Call[OpenedAccount]:
    """Open an account in a currency (ISO 4217 code). Opening it again returns the account as it is.

    `overdraft_limit`: by how much the balance may be below zero. `max_balance`: a payment that would raise the balance
    above it is declined. `metadata`: up to 16 pairs of text. Raises `IdempotencyConflict` when the account is open
    with other limits or metadata than those given here, `AccountClosed`.
    """
    body = body_of(
        account_id=account_id,
        currency=currency,
        overdraft_limit=limit_text(overdraft_limit),
        max_balance=limit_text(max_balance),
        metadata=metadata,
    )
    return Call("POST", "/v1/accounts", OpenedAccount, body)


def account(account_id: str) -> Call[Account]:
    """An account with its status and its balances in all currencies. Raises `AccountNotFound`."""
    return Call("GET", account_path(account_id), Account)


def balance(account_id: str, currency: str) -> Call[Balance]:
    """The balance of an account in one currency: a durable value, with the journal entry it includes.

    Raises `AccountNotFound`.
    """
    return Call("GET", account_path(account_id, f"/balance?{urlencode({'currency': currency})}"), Balance)


def patch_account(
    account_id: str,
    *,
    currency: str | None = None,
    overdraft_limit: Amount | UnsetType | None = UNSET,
    max_balance: Amount | UnsetType | None = UNSET,
    metadata: Mapping[str, str] | UnsetType | None = UNSET,
) -> Call[Account]:
    """Change the limits of an account in one currency, or replace its metadata. Its balance does not change.

    `currency` may be left out when the account has only one. A value that is not given stays as it is. None removes
    it: no overdraft, no maximum, no metadata. A lowered limit stops new payments only. Raises `AccountNotFound`,
    `AccountClosed`.
    """
    given = {"currency": UNSET if currency is None else currency, "metadata": metadata}
    for name, limit in (("overdraft_limit", overdraft_limit), ("max_balance", max_balance)):
        given[name] = limit if isinstance(limit, UnsetType) else limit_text(limit)
    body = _encode({name: value for name, value in given.items() if value is not UNSET})
    return Call("PATCH", account_path(account_id), Account, body)


def freeze_account(account_id: str) -> Call[Account]:
    """Freeze an account: it neither pays nor receives until it is unfrozen."""
    return Call("POST", account_path(account_id, "/freeze"), Account)


def unfreeze_account(account_id: str) -> Call[Account]:
    """Unfreeze an account: it pays and receives again."""
    return Call("POST", account_path(account_id, "/unfreeze"), Account)


def close_account(account_id: str) -> Call[Account]:
    """Close an account for ever.

    Raises `BalanceNotZero` when it has money or holds, `OperationsPending` when payments are still on their way.
    """
    return Call("POST", account_path(account_id, "/close"), Account)


# Transfers


def order(
    from_account: str,
    to_account: str,
    amount: Amount,
    currency: str,
    *,
    transaction_id: Id | None = None,
    reference: str | None = None,
    metadata: Mapping[str, str] | None = None,
    min_balance_after: Amount | None = None,
) -> TransferOrder:
    """Make one transfer for `transfer_batch`. The parameters are those of `transfer`."""
    sides = (from_account, to_account, amount_text(amount), currency, _id(transaction_id))
    return TransferOrder(*sides, reference, metadata, limit_text(min_balance_after))


def transfer(
    from_account: str,
    to_account: str,
    amount: Amount,
    currency: str,
    *,
    transaction_id: Id | None = None,
    reference: str | None = None,
    metadata: Mapping[str, str] | None = None,
    min_balance_after: Amount | None = None,
) -> Call[Transfer]:
    """Move money from one account to another, durably.

    The payer and the `transaction_id` name the transfer. The same call with the same id is answered again and moves
    nothing a second time, for at least the service's retention of ids (24 h or more).

    `reference`: up to 140 characters. `metadata`: up to 16 pairs of text. `min_balance_after`: decline the transfer
    (`InsufficientFunds`) if the payer would have less than this available afterwards.

    Raises `Declined`, above all `InsufficientFunds`; `IdempotencyConflict` when the id was used with another body;
    `OutcomeUnknown`: then make the same call again, with the `transaction_id` of the error.
    """
    asked = order(
        from_account,
        to_account,
        amount,
        currency,
        transaction_id=transaction_id,
        reference=reference,
        metadata=metadata,
        min_balance_after=min_balance_after,
    )
    body = _encode(asked)
    return Call("POST", "/v1/wallet/balance_transfer", Transfer, body, asked.transaction_id, body)


def transfer_batch(orders: Iterable[TransferOrder]) -> Call[Batch]:
    """Send at most 10,000 transfers in one request. Each is decided on its own.

    The answer has a result for each, in their order: a declined transfer raises nothing. Raises `Malformed` when any of
    them is invalid; then nothing was done.
    """
    return Call("POST", "/v1/transfers/batch", Batch, _encode({"transfers": list(orders)}))


def transfer_group(
    legs: Iterable[Leg],
    *,
    transaction_id: Id | None = None,
    reference: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Call[Transfer]:
    """Make up to 100 transfers (legs), all of them or none. Reference and metadata are those of the group.

    Raises `Declined`; its `leg` is the index of the first leg that cannot be made.
    """
    named = _id(transaction_id)
    said = [msgspec.structs.replace(leg, amount=amount_text(leg.amount), leg=None) for leg in legs]
    body = body_of(transaction_id=named, legs=said, reference=reference, metadata=metadata)
    return Call("POST", "/v1/transfers/group", Transfer, body, named)


def find_transfer(transaction_id: Id, from_account: str) -> Call[TransferStatus]:
    """The status of a transfer or group, by its id and its payer. Raises `TransferNotFound`.

    That error does not prove that nothing was paid: an earlier try may still arrive. Repeat the transfer instead.
    """
    named = str(transaction_id)
    query = urlencode({"from_account": from_account})
    return Call("GET", f"/v1/transfers/{quote(named, safe='')}?{query}", TransferStatus, None, named)


def refund(
    transaction_id: Id,
    from_account: str,
    *,
    amount: Amount | None = None,
    leg: int | None = None,
    reference: str | None = None,
    refund_id: Id | None = None,
) -> Call[Refund]:
    """Pay money of a transfer back to its payer. Without an amount: all that is left of it.

    `transaction_id`, `from_account`: id and payer of the original. `leg`: the leg's index when the original is a group
    of several. `refund_id`: the id of the refund itself. Raises `TransferNotFound`, `TransferPending`,
    `NotRefundable`, `RefundExceeds`, `RefundWindowClosed` (older than 400 days).
    """
    named = _id(refund_id)
    body = body_of(
        from_account=from_account,
        transaction_id=named,
        amount=limit_text(amount),
        leg=leg,
        reference=reference,
    )
    return Call("POST", f"/v1/transfers/{quote(str(transaction_id), safe='')}/refunds", Refund, body, named)


# Holds


def place_hold(
    account_id: str,
    amount: Amount,
    currency: str,
    *,
    hold_id: Id | None = None,
    to_account: str | None = None,
    expires_in_s: int | None = None,
    reference: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Call[Hold]:
    """Reserve money of an account for later captures: it is held, and no longer available.

    `to_account`: if given, captures may pay only this account. `expires_in_s`: 1 to 2,592,000 (30 days); the service's
    default is 604,800 (7 days). Raises `InsufficientFunds`, `HoldLimit` and other `Declined`.
    """
    named = _id(hold_id)
    body = body_of(
        account_id=account_id,
        amount=amount_text(amount),
        currency=currency,
        transaction_id=named,
        to_account=to_account,
        expires_in_s=expires_in_s,
        reference=reference,
        metadata=metadata,
    )
    return Call("POST", "/v1/holds", Hold, body, named)


def hold(hold_id: Id, account_id: str) -> Call[Hold]:
    """A hold, by its id and its account. Raises `HoldNotFound`."""
    return Call("GET", _hold_path(hold_id, f"?{urlencode({'account_id': account_id})}"), Hold)


def capture_hold(
    hold_id: Id,
    account_id: str,
    *,
    to_account: str | None = None,
    amount: Amount | None = None,
    final: bool | None = None,
    reference: str | None = None,
    transaction_id: Id | None = None,
) -> Call[Capture]:
    """Pay from a hold. Without an amount: all that remains. The rest is released, unless `final` is False.

    `to_account`: the receiver; may be left out when the hold names one. Raises `HoldNotFound`, `HoldNotOpen`,
    `HoldExpired`, `HoldBusy`, `HoldLimit`, `AmountExceedsHold`, `DestinationMismatch`, and for the receiver
    `AccountNotFound`, `AccountFrozen`, `AccountClosed`, `BalanceLimit`.
    """
    named = _id(transaction_id)
    body = body_of(
        account_id=account_id,
        transaction_id=named,
        to_account=to_account,
        amount=limit_text(amount),
        final=final,
        reference=reference,
    )
    return Call("POST", _hold_path(hold_id, "/capture"), Capture, body, named)


def increase_hold(
    hold_id: Id, account_id: str, amount: Amount, *, transaction_id: Id | None = None
) -> Call[Hold]:
    """Raise the amount of an open hold. Raises as `place_hold` and `capture_hold` do."""
    named = _id(transaction_id)
    body = body_of(account_id=account_id, amount=amount_text(amount), transaction_id=named)
    return Call("POST", _hold_path(hold_id, "/increase"), Hold, body, named)


def void_hold(hold_id: Id, account_id: str) -> Call[Hold]:
    """Release what remains of a hold. A hold that was voided or has expired is returned as it is.

    Raises `HoldNotFound`, `HoldNotOpen` for a captured hold, `HoldBusy`.
    """
    return Call("POST", _hold_path(hold_id, "/void"), Hold, body_of(account_id=account_id), str(hold_id))


# The service


def health() -> Call[Health]:
    """Whether the process is alive. It says nothing about readiness."""
    return Call("GET", "/healthz", Health)


def readiness() -> Call[Readiness]:
    """Whether the service takes transfers, and the conditions that stop some or all partitions.

    An answer with status 503 is returned too, and raises nothing.
    """
    return Call("GET", "/readyz", Readiness, also=503)


def page(path: str, **filters: str | int | None) -> Call[dict[str, Any]]:
    """One page of any listing, as plain JSON. `filters`: the query, with `cursor` for a later page."""
    return Call("GET", path + query_text(**filters), dict[str, Any])


def next_page(call: Call[T], cursor: str) -> Call[T]:
    """The same listing's page at a cursor."""
    return call._replace(path=f"{call.path}{'&' if '?' in call.path else '?'}{urlencode({'cursor': cursor})}")
