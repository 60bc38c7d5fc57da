"""The Python client.

    from wallet_engine.client import Wallet, InsufficientFunds

    with Wallet("http://127.0.0.1:8080", key="wk_…") as wallet:
        wallet.transfer("alice", "bob", Decimal("12.34"), "USD", reference="order 1001")

`testing` has a wallet for unit tests that needs no cluster.
"""

from wallet_engine.client.asynchronous import AsyncWallet
from wallet_engine.client.calls import TransferOrder, order
from wallet_engine.client.errors import (
    AccountClosed,
    AccountFrozen,
    AccountNotFound,
    AmountExceedsHold,
    BalanceLimit,
    BalanceNotZero,
    Declined,
    DestinationMismatch,
    Forbidden,
    HoldBusy,
    HoldExpired,
    HoldLimit,
    HoldNotFound,
    HoldNotOpen,
    IdempotencyConflict,
    InsufficientFunds,
    Malformed,
    NotRefundable,
    OperationsPending,
    OutcomeUnknown,
    RateLimited,
    RefundExceeds,
    RefundWindowClosed,
    TransferNotFound,
    TransferPending,
    Unauthenticated,
    Unavailable,
    WalletError,
)
from wallet_engine.client.types import (
    Account,
    AccountBalance,
    Balance,
    Batch,
    Capture,
    Hold,
    Leg,
    OpenedAccount,
    Readiness,
    Refund,
    Transfer,
    TransferResult,
    TransferStatus,
)
from wallet_engine.client.wallet import Wallet
from wallet_engine.client.webhooks import ForgedWebhook, verify_webhook

__all__ = [
    "Account",
    "AccountBalance",
    "AccountClosed",
    "AccountFrozen",
    "AccountNotFound",
    "AmountExceedsHold",
    "AsyncWallet",
    "Balance",
    "BalanceLimit",
    "BalanceNotZero",
    "Batch",
    "Capture",
    "Declined",
    "DestinationMismatch",
    "Forbidden",
    "ForgedWebhook",
    "Hold",
    "HoldBusy",
    "HoldExpired",
    "HoldLimit",
    "HoldNotFound",
    "HoldNotOpen",
    "IdempotencyConflict",
    "InsufficientFunds",
    "Leg",
    "Malformed",
    "NotRefundable",
    "OpenedAccount",
    "OperationsPending",
    "OutcomeUnknown",
    "RateLimited",
    "Readiness",
    "Refund",
    "RefundExceeds",
    "RefundWindowClosed",
    "Transfer",
    "TransferNotFound",
    "TransferOrder",
    "TransferPending",
    "TransferResult",
    "TransferStatus",
    "Unauthenticated",
    "Unavailable",
    "Wallet",
    "WalletError",
    "order",
    "verify_webhook",
]
