"""The bodies of the HTTP interface as types: they decode, encode and document. The docstrings of the types are
descriptions in the OpenAPI document.

Formats of strings are notes for OpenAPI only (`extra_json_schema`). `parse.py` checks them, because a pattern that is
checked during decoding could not tell `invalid_amount` from `invalid_request`.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from wallet_engine.domain.currencies import MINOR_DIGITS

AccountId = Annotated[
    str,
    Meta(
        description="Account; a leading @ names a system account.",
        extra_json_schema={"pattern": "^(?:[A-Za-z0-9._:-]{1,64}|@[A-Za-z0-9._:-]{1,63})$"},
    ),
]
OrdinaryAccountId = Annotated[
    str, Meta(description="Account.", extra_json_schema={"pattern": "^[A-Za-z0-9._:-]{1,64}$"})
]
#: The payer or the receiver of a transfer.
Party = Annotated[
    str,
    Meta(
        description="Account; a leading @ names a system account. @transit is the engine's own.",
        extra_json_schema={"pattern": "^(?:[A-Za-z0-9._:-]{1,64}|(?!@transit$)@[A-Za-z0-9._:-]{1,63})$"},
    ),
]
TransactionId = Annotated[
    str, Meta(description="UUID, compared in canonical lower case.", extra_json_schema={"format": "uuid"})
]
_AMOUNT: Final = "[0-9]{1,16}(\\.[0-9]{1,4})?$"
Amount = Annotated[
    str,
    Meta(
        description="Major units with at most the currency's ISO 4217 digits, above zero.",
        extra_json_schema={"pattern": f"^(?=.*[1-9]){_AMOUNT}", "examples": ["12.34"]},
    ),
]
Limit = Annotated[
    str,
    Meta(
        description="Major units with at most the currency's ISO 4217 digits.",
        extra_json_schema={"pattern": f"^{_AMOUNT}", "examples": ["12.34"]},
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
    str,
    Meta(description="ISO 4217.", extra_json_schema={"enum": sorted(MINOR_DIGITS), "examples": ["USD"]}),
]
#: What `str.isprintable` accepts, without and with spaces.
_PRINTED: Final = r"[\p{L}\p{M}\p{N}\p{P}\p{S}]"
_PRINTABLE: Final = r"[\p{L}\p{M}\p{N}\p{P}\p{S} ]"
Reference = Annotated[
    str,
    Meta(
        description="Printable text, part of the body, kept in the journal.",
        extra_json_schema={
            "minLength": 1,
            "maxLength": 140,
            "pattern": f"^{_PRINTED}(?:{_PRINTABLE}*{_PRINTED})?$",
        },
    ),
]
MetadataValue = Annotated[str, Meta(extra_json_schema={"maxLength": 200, "pattern": f"^{_PRINTABLE}*$"})]
Metadata = Annotated[
    dict[str, MetadataValue],
    Meta(
        description="At most 1,024 bytes in all; part of the body, kept in the journal.",
        extra_json_schema={
            "maxProperties": 16,
            "propertyNames": {"pattern": "^[a-z0-9_]{1,40}$"},
        },
    ),
]
#: The id of a request that may have it in a header instead; never null.
IdOfBodyOrHeader = TransactionId | UnsetType


class TransferRequest(Struct, gc=False, forbid_unknown_fields=True):
    from_account: Party
    to_account: Party
    amount: Amount
    currency: CurrencyCode
    #: May be left out of a single transfer that carries an `Idempotency-Key`.
    transaction_id: IdOfBodyOrHeader = UNSET
    reference: Reference | None = None
    metadata: Metadata | None = None
    #: Declined as `insufficient_funds` if the payer would have less available afterwards.
    min_balance_after: Limit | None = None


class BatchedTransfer(Struct, gc=False, forbid_unknown_fields=True):
    from_account: Party
    to_account: Party
    amount: Amount
    currency: CurrencyCode
    transaction_id: TransactionId
    reference: Reference | None = None
    metadata: Metadata | None = None
    min_balance_after: Limit | None = None


class BatchRequest(Struct, gc=False, forbid_unknown_fields=True):
    transfers: Annotated[list[BatchedTransfer], Meta(extra_json_schema={"maxItems": 10_000})]


class OpenAccountRequest(Struct, gc=False, forbid_unknown_fields=True):
    account_id: OrdinaryAccountId
    currency: CurrencyCode
    overdraft_limit: Limit | None = None
    #: The most that the account may have; a payment above it is declined as `balance_limit`.
    max_balance: Limit | None = None
    metadata: Metadata | None = None


class PatchAccountRequest(Struct, gc=False, forbid_unknown_fields=True):
    #: May be left out if the account has only one.
    currency: CurrencyCode | None = None
    #: A lowered limit only stops new payments; null removes it.
    overdraft_limit: Limit | None = None
    max_balance: Limit | None = None
    #: Replaces all present metadata.
    metadata: Metadata | None = None


class TransferSucceeded(Struct):
    status: Literal["success"]
    transaction_id: TransactionId


class TransferResult(Struct, omit_defaults=True):
    transaction_id: TransactionId
    status: Literal["success", "declined", "unknown"]
    code: str | UnsetType = UNSET
    #: Why it was not applied, and on whose side.
    detail: str | UnsetType = UNSET


class BatchResponse(Struct):
    results: list[TransferResult]


class RefundedTransfer(Struct):
    from_account: Party
    transaction_id: TransactionId


class GroupLeg(Struct, gc=False, forbid_unknown_fields=True):
    from_account: Party
    to_account: Party
    amount: Amount
    currency: CurrencyCode
    reference: Reference | None = None


class GroupRequest(Struct, gc=False, forbid_unknown_fields=True):
    legs: Annotated[list[GroupLeg], Meta(extra_json_schema={"minItems": 1, "maxItems": 100})]
    #: The group is identified by it and the payer of the first leg; an `Idempotency-Key` may stand in for it.
    transaction_id: IdOfBodyOrHeader = UNSET
    reference: Reference | None = None
    metadata: Metadata | None = None


class LegStatus(Struct, omit_defaults=True):
    """One leg of a group."""

    from_account: Party
    to_account: Party
    amount: Amount
    currency: CurrencyCode
    reference: str | UnsetType = UNSET
    #: Its index in the group, where the key may not see all legs before it.
    leg: int | UnsetType = UNSET


class TransferStatus(Struct, omit_defaults=True):
    transaction_id: TransactionId
    status: Literal["success", "declined", "pending"]
    code: str | UnsetType = UNSET
    reference: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    #: For an applied refund: the transfer that was refunded.
    refunds: RefundedTransfer | UnsetType = UNSET
    #: For a group: the legs that the key may see, and if it was declined, the leg that caused it.
    legs: list[LegStatus] | UnsetType = UNSET
    leg: int | UnsetType = UNSET


class RefundRequest(Struct, gc=False, forbid_unknown_fields=True):
    #: The payer of the transfer to refund.
    from_account: Party
    #: The id of the refund.
    transaction_id: IdOfBodyOrHeader = UNSET
    #: If left out: all that is left of the transfer.
    amount: Amount | None = None
    #: The leg to refund, if the transfer is a group.
    leg: Annotated[int, Meta(ge=0, le=99)] | None = None
    reference: Reference | None = None


class RefundSucceeded(Struct):
    status: Literal["success"]
    transaction_id: TransactionId
    #: The amount refunded so far, and the amount that still can be.
    refunded_total: Balance
    refundable: Balance


class HoldRequest(Struct, gc=False, forbid_unknown_fields=True):
    account_id: OrdinaryAccountId
    amount: Amount
    currency: CurrencyCode
    transaction_id: IdOfBodyOrHeader = UNSET
    #: The only account that captures may pay.
    to_account: Party | None = None
    expires_in_s: Annotated[int, Meta(ge=1, le=2_592_000)] = 604_800
    reference: Reference | None = None
    metadata: Metadata | None = None


class CaptureRequest(Struct, gc=False, forbid_unknown_fields=True):
    account_id: OrdinaryAccountId
    transaction_id: IdOfBodyOrHeader = UNSET
    to_account: Party | None = None
    #: If left out: all that remains of the hold.
    amount: Amount | None = None
    final: bool = True
    reference: Reference | None = None


class IncreaseRequest(Struct, gc=False, forbid_unknown_fields=True):
    account_id: OrdinaryAccountId
    amount: Amount
    transaction_id: IdOfBodyOrHeader = UNSET


class VoidRequest(Struct, gc=False, forbid_unknown_fields=True):
    account_id: OrdinaryAccountId


class Hold(Struct):
    """`amount` is always captured + released + remaining."""

    hold_id: TransactionId
    account_id: OrdinaryAccountId
    to_account: Party | None
    currency: CurrencyCode
    amount: Balance
    captured: Balance
    released: Balance
    remaining: Balance
    status: str
    #: RFC 3339, UTC.
    expires_at: str
    reference: str | None


class CaptureSucceeded(Struct):
    status: Literal["success"]
    transaction_id: TransactionId
    #: Null when the capture was made so long ago that the hold is forgotten.
    hold: Hold | None


class OpenedAccount(Struct, omit_defaults=True):
    account_id: AccountId
    currency: CurrencyCode
    balance: Balance
    available: Balance
    held: Balance
    pending: Balance
    status: str
    #: Left out without one.
    max_balance: Balance | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


class AccountBalance(Struct, omit_defaults=True):
    """`balance` is available + held; pending money does not belong to the account yet."""

    currency: CurrencyCode
    balance: Balance
    available: Balance
    held: Balance
    pending: Balance
    overdraft_limit: Balance
    #: Left out without one.
    max_balance: Balance | UnsetType = UNSET


class Account(Struct, omit_defaults=True):
    account_id: AccountId
    status: str
    balances: list[AccountBalance]
    #: Left out without any.
    metadata: dict[str, str] | UnsetType = UNSET


class DurableBalance(Struct):
    account_id: AccountId
    currency: CurrencyCode
    balance: Balance
    available: Balance
    held: Balance
    pending: Balance
    #: Null for a system account: it is in every partition.
    partition: int | None
    seq: int | None


class Health(Struct):
    status: Literal["ok"]


class ReadinessCondition(Struct):
    condition: str
    #: Null when it affects every partition.
    partitions: list[int] | None
    detail: str


class ReadinessReport(Struct):
    """`ready` is true while some partition takes transfers; `status` is `ready` only when all do."""

    ready: bool
    status: Literal["ready", "degraded", "unready"]
    reason: str
    conditions: list[ReadinessCondition]
    #: Unix milliseconds by this machine's clock.
    clock_ms: int


class Problem(Struct, omit_defaults=True):
    """RFC 9457 `application/problem+json`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    transaction_id: TransactionId | UnsetType = UNSET
    #: For a group: the index of the first leg that cannot be applied.
    leg: int | UnsetType = UNSET


#: Encodes any of the above.
encode = msgspec.json.Encoder().encode
