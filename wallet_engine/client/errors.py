"""The errors of calls. Every error has `code`, `detail`, `retryable`, `transaction_id`, `status` and `request_id`.

`Declined`        the service decided against it: `InsufficientFunds`, `AccountFrozen`, … a class for each code
`Malformed`       the request is invalid; nothing was done
`Unauthenticated`, `Forbidden`   the key is unknown, or may not do this; nothing was done
`RateLimited`     too many requests until the last try; nothing was done
`Unavailable`     no usable answer until the last try or the deadline
`OutcomeUnknown`  the same for a call that changes something: make it again with the same transaction id
"""

from typing import Final

import msgspec


class WalletError(Exception):
    """The base class: a call was answered with an error, or not at all."""

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
        #: The HTTP status; None without an answer.
        self.status = status
        #: For a group: the index of the first leg that cannot be made.
        self.leg = leg
        #: The id of the request in the service's log and traces; None without an answer.
        self.request_id: str | None = None


class Malformed(WalletError):
    """The request is invalid (400, 404 for an unknown path, 413, 415, …); nothing was done."""


class Unauthenticated(WalletError):
    """The key is missing or unknown (401); nothing was done."""


class Forbidden(WalletError):
    """The key may not do this (403); the detail names the missing right. Nothing was done."""


class RateLimited(WalletError):
    """Too many requests (429), also at the last try; nothing was done."""


class Unavailable(WalletError):
    """No answer, or only refusals that say `retryable`, until the last try or the deadline.

    Of a certificate that is not trusted (`untrusted_certificate`) it is raised at once.
    """


class OutcomeUnknown(Unavailable):
    """The call may have been done or not. Make the same call again with the same `transaction_id` to know.

    `__cause__` is the error of the last try.
    """

    def __init__(
        self, transaction_id: str | None, detail: str = "no answer tells whether it was done"
    ) -> None:
        super().__init__("outcome_unknown", detail, retryable=True, transaction_id=transaction_id)


class Declined(WalletError):
    """The service decided against the call. The same id gets the same answer again, unless it is `retryable`."""


class AccountNotFound(Declined):
    """`account_not_found`: the account, or its balance in this currency, was never opened."""


class AccountFrozen(Declined):
    """`account_frozen`: it neither pays nor receives until it is unfrozen."""


class AccountClosed(Declined):
    """`account_closed`: for ever."""


class InsufficientFunds(Declined):
    """`insufficient_funds`: less would be available than the overdraft limit, or `min_balance_after`, allows."""


class BalanceLimit(Declined):
    """`balance_limit`: a balance would be above its `max_balance`, or too large to be exact."""


class BalanceNotZero(Declined):
    """`balance_not_zero`: an account with money or holds cannot be closed."""


class OperationsPending(Declined):
    """`operations_pending`: payments of the account are still on their way, so it cannot be closed yet."""


class IdempotencyConflict(Declined):
    """`idempotency_conflict`: this id was used before with another body."""


class TransferNotFound(Declined):
    """`transfer_not_found`: the service remembers no transfer of this payer with this id."""


class TransferPending(Declined):
    """`transfer_pending`: the transfer is neither paid nor declined yet."""


class NotRefundable(Declined):
    """`not_refundable`: the transfer was declined, or is itself a refund."""


class RefundWindowClosed(Declined):
    """`refund_window_closed`: the transfer is older than 400 days."""


class RefundExceeds(Declined):
    """`refund_exceeds`: the amount is larger than what can still be refunded of the transfer."""


class HoldNotFound(Declined):
    """`hold_not_found`: the service remembers no hold of this account with this id."""


class HoldNotOpen(Declined):
    """`hold_not_open`: the hold was captured or voided."""


class HoldExpired(Declined):
    """`hold_expired`: the hold expired before the call."""


class HoldBusy(Declined):
    """`hold_busy`: a final capture of the hold is in progress."""


class HoldLimit(Declined):
    """`hold_limit`: the account has 1,000 open holds, or the hold 50 captures."""


class DestinationMismatch(Declined):
    """`destination_mismatch`: the hold was placed for another receiver."""


class AmountExceedsHold(Declined):
    """`amount_exceeds_hold`: the amount is larger than what remains of the hold."""


class WebhookNotFound(Declined):
    """`webhook_not_found`: there is no webhook with this id."""


class EventsExpired(Declined):
    """`events_expired`: the events after this place are not kept. Continue without `after`, from the oldest event."""


class HistoryExpired(Declined):
    """`history_expired`: the history no longer has the rows of this time."""


#: Code -> class. A decline with another code, which this version does not know, is a plain `Declined`.
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
    """The fields of `application/problem+json` that the client uses."""

    code: str
    detail: str = ""
    retryable: bool = False
    transaction_id: str | None = None
    leg: int | None = None


def error_of(problem: Problem, status: int, transaction_id: str | None) -> WalletError:
    """The error for a problem. `transaction_id`: that of the call, used when the problem has none."""
    kind = DECLINES.get(problem.code) or _BY_STATUS.get(status, Malformed)
    return kind(
        problem.code,
        problem.detail,
        retryable=problem.retryable,
        transaction_id=problem.transaction_id or transaction_id,
        status=status,
        leg=problem.leg,
    )
