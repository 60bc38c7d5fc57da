"""The calls of the interface: one function for each, which makes a `Call` and sends nothing.

Amounts are `Decimal`, `int` or decimal text, never `float`. A transaction id that is not given is made here, once, so
that every try of a call has the same.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, Generic, NamedTuple, TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

import msgspec

from wallet_engine.client.types import (
    Account,
    Balance,
    Batch,
    Capture,
    Hold,
    Leg,
    OpenedAccount,
    Readiness,
    Refund,
    Transfer,
    TransferStatus,
)

T = TypeVar("T")
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

    @property
    def changes(self) -> bool:
        """Whether it changes anything, so that a lost answer leaves a question."""
        return self.method != "GET"


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


def _limit(amount: Amount | None) -> str | None:
    return None if amount is None else amount_text(amount)


def _id(given: Id | None) -> str:
    return str(uuid4() if given is None else given)


def _body(**fields: Any) -> bytes:
    return _encode({name: value for name, value in fields.items() if value is not None})


def _account_path(account_id: str, rest: str = "") -> str:
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
    body = _body(
        account_id=account_id,
        currency=currency,
        overdraft_limit=_limit(overdraft_limit),
        max_balance=_limit(max_balance),
        metadata=metadata,
    )
    return Call("POST", "/v1/accounts", OpenedAccount, body)


def account(account_id: str) -> Call[Account]:
    """An account with all its balances."""
    return Call("GET", _account_path(account_id), Account)


def balance(account_id: str, currency: str) -> Call[Balance]:
    """A durable balance and the journal entry it stands at."""
    return Call("GET", _account_path(account_id, f"/balance?{urlencode({'currency': currency})}"), Balance)


def patch_account(
    account_id: str,
    *,
    currency: str | None = None,
    overdraft_limit: Amount | None = None,
    max_balance: Amount | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Call[Account]:
    """Change what an account may owe or have at most in one currency; what it has now stays."""
    body = _body(
        currency=currency,
        overdraft_limit=_limit(overdraft_limit),
        max_balance=_limit(max_balance),
        metadata=metadata,
    )
    return Call("PATCH", _account_path(account_id), Account, body)


def freeze_account(account_id: str) -> Call[Account]:
    """It neither pays nor receives until it is unfrozen."""
    return Call("POST", _account_path(account_id, "/freeze"), Account)


def unfreeze_account(account_id: str) -> Call[Account]:
    """It pays and receives again."""
    return Call("POST", _account_path(account_id, "/unfreeze"), Account)


def close_account(account_id: str) -> Call[Account]:
    """For good; it must have, hold and expect nothing."""
    return Call("POST", _account_path(account_id, "/close"), Account)


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
    return TransferOrder(*sides, reference, metadata, _limit(min_balance_after))


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
    body = _body(transaction_id=named, legs=said, reference=reference, metadata=metadata)
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
    body = _body(
        from_account=from_account, transaction_id=named, amount=_limit(amount), leg=leg, reference=reference
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
    body = _body(
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
    body = _body(
        account_id=account_id,
        transaction_id=named,
        to_account=to_account,
        amount=_limit(amount),
        final=final,
        reference=reference,
    )
    return Call("POST", _hold_path(hold_id, "/capture"), Capture, body, named)


def increase_hold(
    hold_id: Id, account_id: str, amount: Amount, *, transaction_id: Id | None = None
) -> Call[Hold]:
    """Set more aside with a hold."""
    named = _id(transaction_id)
    body = _body(account_id=account_id, amount=amount_text(amount), transaction_id=named)
    return Call("POST", _hold_path(hold_id, "/increase"), Hold, body, named)


def void_hold(hold_id: Id, account_id: str) -> Call[Hold]:
    """Give back what remains of a hold."""
    return Call("POST", _hold_path(hold_id, "/void"), Hold, _body(account_id=account_id), str(hold_id))


# The service


def readiness() -> Call[Readiness]:
    """Whether transfers are taken, and what keeps those of some partitions from it."""
    return Call("GET", "/readyz", Readiness, also=503)


def page(path: str, **filters: str | int | None) -> Call[dict[str, Any]]:
    """One page of a listing; `cursor` says which."""
    query = urlencode({name: value for name, value in filters.items() if value is not None})
    return Call("GET", f"{path}?{query}" if query else path, dict[str, Any])
