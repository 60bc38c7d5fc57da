"""What a call can end in besides an answer. Every error has `code`, `retryable`, `transaction_id` and `detail`.

`Declined`        the decision, which stays: `InsufficientFunds`, `AccountFrozen`, … one class for each code
`Malformed`       the request is wrong; nothing was done
`Unauthenticated`, `Forbidden`   the key; nothing was done
`Unavailable`     tried until the time was up
`OutcomeUnknown`  the same of a call that changes something: make it again with the same transaction id
"""

from typing import Final

import msgspec


class WalletError(Exception):
    """A call that was answered with a problem, or not at all."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retryable: bool = False,
        transaction_id: str | None = None,
        status: int | None = None,
        leg: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retryable = retryable
        self.transaction_id = transaction_id
        #: The HTTP status; None where there was no answer.
        self.status = status
        #: Of a group: the index of the first leg that cannot be.
        self.leg = leg
        #: By which the service's log and traces know the request; None where there was no answer.
        self.request_id: str | None = None


class Malformed(WalletError):
    """The request itself is wrong (400, 404 of a path, 413, 415, …); nothing was done."""


class Unauthenticated(WalletError):
    """The key is not known."""


class Forbidden(WalletError):
    """The key may not do this; the detail names what it lacks."""


class RateLimited(WalletError):
    """Too much at once; nothing was done."""


class Unavailable(WalletError):
    """No answer, or none but "later", until the time was up."""


class OutcomeUnknown(Unavailable):
    """It may have been done, or not. The same call with the same `transaction_id` says which."""

    def __init__(
        self, transaction_id: str | None, detail: str = "no answer that says what became of it"
    ) -> None:
        super().__init__("outcome_unknown", detail, retryable=True, transaction_id=transaction_id)


class Declined(WalletError):
    """The wallet decided against it. The same id gets the same answer, unless it is `retryable`."""


class AccountNotFound(Declined):
    """`account_not_found`"""


class AccountFrozen(Declined):
    """`account_frozen`"""


class AccountClosed(Declined):
    """`account_closed`"""


class InsufficientFunds(Declined):
    """`insufficient_funds`"""


class BalanceLimit(Declined):
    """`balance_limit`"""


class BalanceNotZero(Declined):
    """`balance_not_zero`"""


class OperationsPending(Declined):
    """`operations_pending`"""


class IdempotencyConflict(Declined):
    """`idempotency_conflict`: this id was used before with another body."""


class TransferNotFound(Declined):
    """`transfer_not_found`"""


class TransferPending(Declined):
    """`transfer_pending`: neither paid nor declined yet."""


class NotRefundable(Declined):
    """`not_refundable`"""


class RefundWindowClosed(Declined):
    """`refund_window_closed`: the transfer is older than 400 days."""


class RefundExceeds(Declined):
    """`refund_exceeds`"""


class HoldNotFound(Declined):
    """`hold_not_found`"""


class HoldNotOpen(Declined):
    """`hold_not_open`"""


class HoldExpired(Declined):
    """`hold_expired`"""


class HoldBusy(Declined):
    """`hold_busy`: a final capture is under way."""


class HoldLimit(Declined):
    """`hold_limit`"""


class DestinationMismatch(Declined):
    """`destination_mismatch`"""


class AmountExceedsHold(Declined):
    """`amount_exceeds_hold`"""


class WebhookNotFound(Declined):
    """`webhook_not_found`"""


class EventsExpired(Declined):
    """`events_expired`: read on without `after`, from the oldest that are kept."""


#: Code -> class. A code that is not here is a decision that this version does not know by name.
DECLINES: Final[dict[str, type[Declined]]] = {
    (kind.__doc__ or "").partition("`")[2].partition("`")[0]: kind for kind in Declined.__subclasses__()
}

_BY_STATUS: Final[dict[int, type[WalletError]]] = {
    401: Unauthenticated,
    403: Forbidden,
    408: Unavailable,
    409: Declined,
    422: Declined,
    429: RateLimited,
    500: Unavailable,
    501: Unavailable,
    503: Unavailable,
}


class Problem(msgspec.Struct):
    """The body of `application/problem+json`, as far as it is needed."""

    code: str
    detail: str = ""
    retryable: bool = False
    transaction_id: str | None = None
    leg: int | None = None


def error_of(problem: Problem, status: int, transaction_id: str | None) -> WalletError:
    """The error of a problem; `transaction_id` is that of the call."""
    kind = DECLINES.get(problem.code) or _BY_STATUS.get(status, Malformed)
    return kind(
        problem.code,
        problem.detail,
        retryable=problem.retryable,
        transaction_id=problem.transaction_id or transaction_id,
        status=status,
        leg=problem.leg,
    )
