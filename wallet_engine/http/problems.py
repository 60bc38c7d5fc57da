"""Answers, and the stable codes of everything that is not a success."""

import time
from collections.abc import AsyncGenerator, Mapping
from typing import Final, NamedTuple

from msgspec import UNSET

from wallet_engine.domain.errors import Forbidden, InvalidInput, Outage, RateLimited
from wallet_engine.domain.outcomes import WIRE_CODES, Outcome
from wallet_engine.http import wire
from wallet_engine.service.api import OF_RECEIVER, outage_detail
from wallet_engine.telemetry.logging import get_logger

_log = get_logger(__name__)

#: Seconds between two log lines of why an outage is, which callers are not told.
WHY_LOG_S: Final = 60.0

Headers = tuple[tuple[bytes, bytes], ...]


class Answer(NamedTuple):
    """A complete response, ready to send."""

    status: int
    body: bytes
    headers: Headers
    #: The rest of the body, made while it is sent.
    stream: AsyncGenerator[bytes, None] | None = None
    #: For `Wallet-Position`: `<p>.<seq>` of each entry written, separated by commas.
    position: str = ""


class Kind(NamedTuple):
    """The constant part of a code. `retryable`: the same request with the same id may succeed later."""

    status: int
    title: str
    retryable: bool = False


KINDS: Final[dict[str, Kind]] = {
    "invalid_request": Kind(400, "Malformed request"),
    "invalid_amount": Kind(400, "Malformed amount"),
    "invalid_currency": Kind(400, "Unknown currency"),
    "cursor_mismatch": Kind(400, "Cursor of another call"),
    "same_account": Kind(400, "Sender and receiver are the same account"),
    "unauthenticated": Kind(401, "Caller not authenticated"),
    "forbidden": Kind(403, "Not allowed"),
    "not_found": Kind(404, "No such path"),
    "account_not_found": Kind(404, "No such account"),
    "transfer_not_found": Kind(404, "No such transfer"),
    "hold_not_found": Kind(404, "No such hold"),
    "webhook_not_found": Kind(404, "No such webhook"),
    "method_not_allowed": Kind(405, "Method not allowed"),
    "events_expired": Kind(410, "Events no longer kept"),
    "history_expired": Kind(410, "History no longer kept"),
    "request_timeout": Kind(408, "Request too slow", retryable=True),
    "idempotency_conflict": Kind(409, "Id used before with another body"),
    "request_too_large": Kind(413, "Request too large"),
    "unsupported_media_type": Kind(415, "Body of another type"),
    "head_too_large": Kind(431, "Head too large"),
    "insufficient_funds": Kind(422, "Insufficient funds"),
    "account_frozen": Kind(422, "Account frozen"),
    "account_closed": Kind(422, "Account closed"),
    "balance_limit": Kind(422, "Balance limit reached"),
    "balance_not_zero": Kind(422, "Balance not zero"),
    "operations_pending": Kind(422, "Operations pending"),
    "hold_not_open": Kind(422, "Hold has ended"),
    "hold_expired": Kind(422, "Hold has expired"),
    "hold_busy": Kind(409, "A final capture is under way", retryable=True),
    "destination_mismatch": Kind(422, "Held for another receiver"),
    "amount_exceeds_hold": Kind(422, "More than is held"),
    "hold_limit": Kind(422, "Too many holds or captures"),
    "transfer_pending": Kind(409, "The transfer is on its way", retryable=True),
    "not_refundable": Kind(422, "Not refundable"),
    "refund_exceeds": Kind(422, "More than is left of the transfer"),
    "refund_window_closed": Kind(422, "Too late for a refund"),
    "rate_limited": Kind(429, "Too much at once", retryable=True),
    # Retryable: the caller cannot know how far it came, and a repeat with the same id is always safe.
    "internal_error": Kind(500, "Internal error", retryable=True),
    "history_not_configured": Kind(501, "History not configured"),
    "overloaded": Kind(503, "Overloaded", retryable=True),
    "partition_unavailable": Kind(503, "Partition unavailable", retryable=True),
    "journal_unavailable": Kind(503, "Journal unavailable", retryable=True),
    "outcome_unknown": Kind(503, "Outcome unknown", retryable=True),
    "history_unavailable": Kind(503, "History unavailable", retryable=True),
    "history_behind": Kind(503, "History behind", retryable=True),
    "maintenance": Kind(503, "No new payments for now", retryable=True),
}

#: Codes of an `Outage` of the history store.
HISTORY_OUTAGES: Final = ("history_unavailable", "history_behind")

#: Codes of a malformed request.
MALFORMED: Final = ("invalid_request",)

#: The codes of an `Outage` of payments.
OUTAGE_CODES: Final = tuple(
    code
    for code, kind in KINDS.items()
    if kind.status == 503 and code not in (*HISTORY_OUTAGES, "maintenance")
)

_DECLINE_DETAILS: Final[dict[str, str]] = {
    Outcome.CONFLICT: "this id was used before with another body; nothing was changed",
    Outcome.UNKNOWN_ACCOUNT: "the account, or its balance in this currency, was never opened",
    Outcome.CLOSED: "a closed account neither pays nor receives",
    Outcome.FROZEN: "a frozen account neither pays nor receives",
    Outcome.INSUFFICIENT_FUNDS: "the account would have less available than its overdraft limit allows",
    Outcome.BALANCE_LIMIT: "a balance would pass its limit, or leave the range that can be held exactly",
    Outcome.BALANCE_NOT_ZERO: "only an account without balance, holds and pending money can be closed",
    Outcome.OPERATIONS_PENDING: "payments of the account are still on their way: close it when they have ended",
    Outcome.HOLD_NOT_FOUND: "this account has no hold of this id that is still remembered",
    Outcome.HOLD_NOT_OPEN: "the hold was captured or voided",
    Outcome.HOLD_EXPIRED: "the hold expired before this was decided",
    Outcome.HOLD_BUSY: "a final capture of the hold is on its way: try again when it has ended",
    Outcome.DESTINATION_MISMATCH: "the hold was placed for another receiver",
    Outcome.AMOUNT_EXCEEDS_HOLD: "the amount exceeds what remains of the hold",
    Outcome.HOLD_LIMIT: "an account has at most 1,000 open holds, a hold at most 50 captures",
    Outcome.TRANSFER_FORGOTTEN: "this account sent no transfer of this id that is still remembered",
    Outcome.REFUND_EXCEEDS: "the amount exceeds what is left of the transfer to refund",
    Outcome.RECEIVER_UNKNOWN: "the receiver's account, or its balance in this currency, was never opened",
    Outcome.RECEIVER_CLOSED: "the receiver's account is closed",
    Outcome.RECEIVER_FROZEN: "the receiver's account is frozen",
}

#: Details for requests with a payer and a receiver.
SIDED_DETAILS: Final[dict[str, str]] = {
    **_DECLINE_DETAILS,
    Outcome.UNKNOWN_ACCOUNT: "the payer's account, or its balance in this currency, was never opened",
    Outcome.CLOSED: "the payer's account is closed",
    Outcome.FROZEN: "the payer's account is frozen",
    Outcome.INSUFFICIENT_FUNDS: (
        "the payer's account would have less available than its overdraft limit, or min_balance_after, allows"
    ),
}

#: Details for single transfers, where only the receiver's balance has a limit, and of outages, for a batch.
TRANSFER_DETAILS: Final[dict[str, str]] = {
    **SIDED_DETAILS,
    Outcome.BALANCE_LIMIT: "the receiver's balance would pass its limit, or leave the range that can be held exactly",
    **{code: outage_detail(code) for code in OUTAGE_CODES},
    **{code + OF_RECEIVER: outage_detail(code + OF_RECEIVER) for code in OUTAGE_CODES},
}

#: By code. A refund is paid by the receiver of the original.
_REFUND_DETAILS: Final[dict[str, str]] = {
    **{
        WIRE_CODES[outcome]: detail
        for outcome, detail in _DECLINE_DETAILS.items()
        if not Outcome(outcome).of_receiver
    },
    "account_not_found": "the account that received the transfer, or its balance, was never opened",
    "account_closed": "the account that received the transfer, and would give it back, is closed",
    "account_frozen": "the account that received the transfer, and would give it back, is frozen",
    "insufficient_funds": "the amount exceeds what the account that received the transfer has",
    "transfer_pending": "the transfer is neither paid nor declined yet: try again when it is",
    "not_refundable": "the transfer was declined, or is itself a refund",
    "refund_window_closed": "the transfer is older than 400 days",
}
_REFUND_BACK_DETAILS: Final[dict[str, str]] = {
    "account_not_found": "the account that paid the transfer, to which it would go back, does not exist",
    "account_closed": "the account that paid the transfer, to which it would go back, is closed",
    "account_frozen": "the account that paid the transfer, to which it would go back, is frozen",
}

_JSON: Final = (b"content-type", b"application/json")
_PROBLEM_JSON: Final = (b"content-type", b"application/problem+json")
REPLAYED: Final = (b"idempotent-replayed", b"true")


class _Whys:
    """Logs why the history store does not answer, at most once in `WHY_LOG_S`."""

    def __init__(self) -> None:
        self._logged_s = -WHY_LOG_S

    def log(self, error: Outage) -> None:
        now_s = time.monotonic()
        if now_s >= self._logged_s + WHY_LOG_S:
            self._logged_s = now_s
            _log.warning("outage", code=error.code, why=error.why)


_whys: Final = _Whys()


class Refused(Exception):
    """Ends a request with a problem; raised by any check that refuses the request."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        transaction_id: str | None = None,
        headers: Headers = (),
        leg: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.leg = leg
        self.code = code
        self.detail = detail
        self.transaction_id = transaction_id
        self.headers = headers


def json_answer(status: int, body: bytes, headers: Headers = (), position: str = "") -> Answer:
    """A JSON answer."""
    length = (b"content-length", b"%d" % len(body))
    return Answer(status, body, (_JSON, length, *headers), None, position)


def stream_answer(media: bytes, stream: AsyncGenerator[bytes, None], headers: Headers = ()) -> Answer:
    """A 200 whose length is not known beforehand."""
    return Answer(200, b"", ((b"content-type", media), *headers), stream)


def problem(
    code: str,
    detail: str,
    *,
    transaction_id: str | None = None,
    headers: Headers = (),
    leg: int | None = None,
) -> Answer:
    """The problem+json answer of a stable code. Every 503 says when to retry."""
    kind = KINDS[code]
    body = wire.encode(
        wire.Problem(
            type=f"urn:wallet-engine:problem:{code}",
            title=kind.title,
            status=kind.status,
            detail=detail,
            code=code,
            retryable=kind.retryable,
            transaction_id=UNSET if transaction_id is None else transaction_id,
            leg=UNSET if leg is None else leg,
        )
    )
    if kind.status == 503 and not any(name == b"retry-after" for name, _ in headers):
        headers = (*headers, (b"retry-after", b"1"))
    return Answer(kind.status, body, (_PROBLEM_JSON, (b"content-length", b"%d" % len(body)), *headers))


def declined(
    outcome: str,
    *,
    transaction_id: str | None = None,
    replayed: bool = False,
    leg: int | None = None,
    details: Mapping[str, str] = _DECLINE_DETAILS,
) -> Answer:
    """The answer to an operation that the script refused. Raises `KeyError` for an outcome that is no refusal.

    The default `details` are for requests with one account.
    """
    return problem(
        WIRE_CODES[outcome],
        details[outcome],
        transaction_id=transaction_id,
        headers=(REPLAYED,) if replayed else (),
        leg=leg,
    )


def refund_refused(code: str, *, transaction_id: str, replayed: bool, back: bool) -> Answer:
    """The answer to a refused refund, by code. Raises `KeyError` for a code that is no refusal.

    `back`: the refusal comes from the account to which the money would go.
    """
    headers = (REPLAYED,) if replayed else ()
    detail = (_REFUND_BACK_DETAILS if back else _REFUND_DETAILS)[code]
    return problem(code, detail, transaction_id=transaction_id, headers=headers)


def outage(error: Outage, *, transaction_id: str | None = None) -> Answer:
    """The 503 of an outage. One with a code outside the contract becomes `outcome_unknown`."""
    return problem(
        error.code if error.code in (*OUTAGE_CODES, *HISTORY_OUTAGES) else "outcome_unknown",
        error.detail,
        transaction_id=transaction_id,
        headers=((b"retry-after", b"%d" % max(1, error.retry_after_s)),),
    )


def failure(error: Exception, path: str, transaction_id: str | None = None) -> Answer:
    """The answer to a request to `path` that ended in `error`; an unexpected error is logged."""
    if isinstance(error, Refused):
        known = error.transaction_id or transaction_id
        return problem(error.code, error.detail, transaction_id=known, headers=error.headers, leg=error.leg)
    if isinstance(error, InvalidInput):
        return problem(error.code, error.detail, transaction_id=transaction_id)
    if isinstance(error, Outage):
        if error.why:
            _whys.log(error)
        return outage(error, transaction_id=transaction_id)
    if isinstance(error, RateLimited):
        headers = ((b"retry-after", b"%d" % max(1, error.retry_after_s)),)
        return problem("rate_limited", str(error), transaction_id=transaction_id, headers=headers)
    if isinstance(error, Forbidden):
        return problem("forbidden", str(error), transaction_id=transaction_id)
    _log.error("request failed", exc_info=error, path=path, transaction_id=transaction_id)
    return problem(
        "internal_error",
        "the request failed unexpectedly; the log has details",
        transaction_id=transaction_id,
    )
