"""The calls of the interface: one function for each, which makes a `Call` and sends nothing.

Amounts are `Decimal`, `int` or decimal text, never `float`. A transaction id that is not given is made here, once, so
that every try of a call has the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

import msgspec

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
    """One request. `element` is its body where it may go as one of a batch instead."""

    method: str
    path: str
    answer: type[T]
    body: bytes | None = None
    transaction_id: str | None = None
    element: bytes | None = None
    #: A status beside 2xx whose body is the answer too.
    also: int | None = None
    #: How long the service may wait before it answers.
    wait_s: float = 0.0
    #: Nothing tells a second try from another call, so there is none of what may have been done.
    once: bool = False

    @property
    def changes(self) -> bool:
        """Whether it changes anything, so that a lost answer leaves a question."""
        return self.method != "GET"


class Page(Protocol[T_co]):
    """A part of a listing."""

    @property
    def items(self) -> Sequence[T_co]: ...

    @property
    def next_cursor(self) -> str | None: ...


class TransferOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """One transfer of a batch; made by `order`."""

    from_account: str
    to_account: str
    amount: str
    currency: str
    transaction_id: str
    reference: str | None = None
    metadata: Mapping[str, str] | None = None
    min_balance_after: str | None = None


def amount_text(amount: Amount) -> str:
    """The decimal text of an amount. Raises `TypeError` for floats, `ValueError` for what is no number."""
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
    """The text of one that may be left out."""
    return None if amount is None else amount_text(amount)


def _id(given: Id | None) -> str:
    return str(uuid4() if given is None else given)


def body_of(**fields: Any) -> bytes:
    """The JSON of those that are given."""
    return _encode({name: value for name, value in fields.items() if value is not None})


def query_text(**filters: str | int | None) -> str:
    """`?…` of those that are given."""
    given = {name: value for name, value in filters.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def time_text(time: datetime | None) -> str | None:
    """RFC 3339. Raises `ValueError` for one that does not say of which time zone it is."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError(f"a time says its time zone: {time.isoformat()}")
    return time.isoformat()


def account_path(account_id: str, rest: str = "") -> str:
    """`/v1/accounts/…`"""
    return f"/v1/accounts/{quote(account_id, safe='')}{rest}"


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
    """Open an account in a currency; the same again when it is open already."""
    body = body_of(
        account_id=account_id,
        currency=currency,
        overdraft_limit=limit_text(overdraft_limit),
        max_balance=limit_text(max_balance),
        metadata=metadata,
    )
    return Call("POST", "/v1/accounts", OpenedAccount, body)


def account(account_id: str) -> Call[Account]:
    """An account with all its balances."""
    return Call("GET", account_path(account_id), Account)


def balance(account_id: str, currency: str) -> Call[Balance]:
    """A durable balance and the journal entry it stands at."""
    return Call("GET", account_path(account_id, f"/balance?{urlencode({'currency': currency})}"), Balance)


def patch_account(
    account_id: str,
    *,
    currency: str | None = None,
    overdraft_limit: Amount | None = None,
    max_balance: Amount | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Call[Account]:
    """Change what an account may owe or have at most in one currency; what it has now stays."""
    body = body_of(
        currency=currency,
        overdraft_limit=limit_text(overdraft_limit),
        max_balance=limit_text(max_balance),
        metadata=metadata,
    )
    return Call("PATCH", account_path(account_id), Account, body)


def freeze_account(account_id: str) -> Call[Account]:
    """It neither pays nor receives until it is unfrozen."""
    return Call("POST", account_path(account_id, "/freeze"), Account)


def unfreeze_account(account_id: str) -> Call[Account]:
    """It pays and receives again."""
    return Call("POST", account_path(account_id, "/unfreeze"), Account)


def close_account(account_id: str) -> Call[Account]:
    """For good; it must have, hold and expect nothing."""
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
    """One transfer for `transfer_batch`."""
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
    """Move money once."""
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
    """Move money many times (at most 10,000); each transfer is decided on its own and has its own result."""
    return Call("POST", "/v1/transfers/batch", Batch, _encode({"transfers": list(orders)}))


def transfer_group(
    legs: Iterable[Leg],
    *,
    transaction_id: Id | None = None,
    reference: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Call[Transfer]:
    """Move money many times (at most 100), all of it or none; a refusal has the index of its `leg`."""
    named = _id(transaction_id)
    said = [msgspec.structs.asdict(leg) | {"amount": amount_text(leg.amount)} for leg in legs]
    body = body_of(transaction_id=named, legs=said, reference=reference, metadata=metadata)
    return Call("POST", "/v1/transfers/group", Transfer, body, named)


def find_transfer(transaction_id: Id, from_account: str) -> Call[TransferStatus]:
    """What became of a transfer."""
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
    """Give money of a transfer back; without an amount, all that is left. `refund_id`: of the refund itself."""
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
    """Set money of an account aside."""
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
    """A hold."""
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
    """Pay from a hold, all that remains unless an amount says less; the rest is released unless `final` is False."""
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
    """Set more aside with a hold."""
    named = _id(transaction_id)
    body = body_of(account_id=account_id, amount=amount_text(amount), transaction_id=named)
    return Call("POST", _hold_path(hold_id, "/increase"), Hold, body, named)


def void_hold(hold_id: Id, account_id: str) -> Call[Hold]:
    """Give back what remains of a hold."""
    return Call("POST", _hold_path(hold_id, "/void"), Hold, body_of(account_id=account_id), str(hold_id))


# The service


def health() -> Call[Health]:
    """The process lives."""
    return Call("GET", "/healthz", Health)


def readiness() -> Call[Readiness]:
    """Whether transfers are taken, and what keeps those of some partitions from it."""
    return Call("GET", "/readyz", Readiness, also=503)


def page(path: str, **filters: str | int | None) -> Call[dict[str, Any]]:
    """One page of a listing; `cursor` says which."""
    return Call("GET", path + query_text(**filters), dict[str, Any])


def next_page(call: Call[T], cursor: str) -> Call[T]:
    """The page of the same listing behind a cursor."""
    return call._replace(path=f"{call.path}{'&' if '?' in call.path else '?'}{urlencode({'cursor': cursor})}")
