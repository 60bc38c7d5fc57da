"""The bodies of the HTTP contract (design.md section 11) as types: what is decoded, encoded and documented.

Formats of strings are notes for OpenAPI only (`extra_json_schema`): `parse.py` checks them, because a pattern
checked during decoding could not tell `invalid_amount` from `invalid_request`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

AccountId = Annotated[
    str,
    Meta(
        description="Account; a leading @ names a system account.",
        extra_json_schema={"pattern": "^(?:[A-Za-z0-9._:-]{1,64}|@[A-Za-z0-9._:-]{1,63})$"},
    ),
]
TransactionId = Annotated[
    str, Meta(description="UUID, compared in canonical lower case.", extra_json_schema={"format": "uuid"})
]
Amount = Annotated[
    str,
    Meta(
        description="Major units with at most the currency's ISO 4217 digits.",
        extra_json_schema={"pattern": "^[0-9]{1,16}(\\.[0-9]{1,4})?$", "examples": ["12.34"]},
    ),
]
Balance = Annotated[
    str,
    Meta(
        description="Major units with exactly the currency's ISO 4217 digits.",
        extra_json_schema={"pattern": "^-?[0-9]+(\\.[0-9]+)?$", "examples": ["12.34"]},
    ),
]
CurrencyCode = Annotated[
    str, Meta(description="ISO 4217.", extra_json_schema={"pattern": "^[A-Z]{3}$", "examples": ["USD"]})
]


class TransferRequest(Struct, gc=False, forbid_unknown_fields=True):
    from_account: AccountId
    to_account: AccountId
    amount: Amount
    currency: CurrencyCode
    #: May be left out of a single transfer that carries an `Idempotency-Key`.
    transaction_id: TransactionId | None = None


class BatchedTransfer(Struct, gc=False, forbid_unknown_fields=True):
    from_account: AccountId
    to_account: AccountId
    amount: Amount
    currency: CurrencyCode
    transaction_id: TransactionId


class BatchRequest(Struct, gc=False, forbid_unknown_fields=True):
    transfers: Annotated[list[BatchedTransfer], Meta(extra_json_schema={"maxItems": 10_000})]


class OpenAccountRequest(Struct, gc=False, forbid_unknown_fields=True):
    account_id: AccountId
    currency: CurrencyCode
    overdraft_limit: Amount | None = None


class TransferSucceeded(Struct):
    status: Literal["success"]
    transaction_id: TransactionId


class TransferResult(Struct, omit_defaults=True):
    transaction_id: TransactionId
    status: Literal["success", "declined", "unknown"]
    code: str | msgspec.UnsetType = msgspec.UNSET


class BatchResponse(Struct):
    results: list[TransferResult]


class TransferStatus(Struct, omit_defaults=True):
    transaction_id: TransactionId
    status: Literal["success", "declined", "pending"]
    code: str | msgspec.UnsetType = msgspec.UNSET


class OpenedAccount(Struct):
    account_id: AccountId
    currency: CurrencyCode
    balance: Balance
    status: str


class AccountBalance(Struct):
    currency: CurrencyCode
    balance: Balance
    overdraft_limit: Balance


class Account(Struct):
    account_id: AccountId
    status: str
    balances: list[AccountBalance]


class DurableBalance(Struct):
    account_id: AccountId
    currency: CurrencyCode
    balance: Balance
    #: Null for a system account: it has a stripe in every partition.
    partition: int | None
    seq: int | None


class Health(Struct):
    status: Literal["ok"]


class ReadinessCondition(Struct):
    condition: str
    #: Null when it stops every partition.
    partitions: list[int] | None
    detail: str


class ReadinessReport(Struct):
    """`ready` is true while some partition takes transfers; `status` is `ready` only when all do."""

    ready: bool
    status: Literal["ready", "degraded", "unready"]
    reason: str
    conditions: list[ReadinessCondition]


class Problem(Struct, omit_defaults=True):
    """RFC 9457 `application/problem+json`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    transaction_id: TransactionId | msgspec.UnsetType = msgspec.UNSET


#: Encodes any of the above.
encode = msgspec.json.Encoder().encode
