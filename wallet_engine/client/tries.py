"""Decides what follows a try of a call: its answer, its error, or another try and the wait before it.

A call is retried after a broken connection, after 429, and after a problem that says `retryable`; after nothing else.
A certificate that is not trusted is no broken connection: waiting does not mend it.
A refusal that is no decision about the transaction id, as of a revoked key, does not tell what an earlier try has done.
All tries have the same transaction id, so nothing is done twice. A wait is what `Retry-After` asks for, plus a random
time between 0 and a bound that doubles ("full jitter": Marc Brooker, "Exponential Backoff And Jitter", 2015).
"""

import random
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from wallet_engine.client.calls import Call
from wallet_engine.client.errors import (
    Declined,
    OutcomeUnknown,
    Problem,
    RateLimited,
    Unavailable,
    WalletError,
    error_of,
)

T = TypeVar("T")
U = TypeVar("U")

TRIES_MAX: Final = 5
DEADLINE_S: Final = 30.0
#: Time-out of one try: longer than a service waits before it answers `unknown`.
TRY_S_MAX: Final = 20.0
WAIT_S_FIRST: Final = 0.1
#: First bound when nothing listens at the address: five tries must outlast the restart of a process, some seconds.
UNREACHED_WAIT_S_FIRST: Final = 1.0
WAIT_S_MAX: Final = 5.0
#: Codes of retryable problems that say that nothing was done.
NOTHING_DONE: Final = frozenset(
    ("rate_limited", "overloaded", "partition_unavailable", "journal_unavailable", "maintenance")
)

_decode_problem: Final = msgspec.json.Decoder(Problem).decode


class Policy(NamedTuple):
    """The limits of a call's tries. `random` returns a number from 0 to 1."""

    deadline_s: float = DEADLINE_S
    tries_max: int = TRIES_MAX
    try_s_max: float = TRY_S_MAX
    random: Callable[[], float] = random.random


#: A clock that goes on while the machine sleeps; not every system has one.
_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


def now_s() -> float:
    """Seconds of the monotonic clock of all tries."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class Again(NamedTuple):
    """Try again after a wait."""

    wait_s: float


class Done(NamedTuple, Generic[T]):
    """The call has its answer."""

    value: T


class Tries(Generic[T]):
    """The tries of one call. `now_s` of each method: seconds of one monotonic clock, as `now_s()` gives them."""

    def __init__(self, call: Call[T], policy: Policy, now_s: float) -> None:
        self._call = call
        self._policy = policy
        self._until_s = now_s + policy.deadline_s + call.wait_s
        self._made = 0
        #: Whether a try may have done something.
        self._in_doubt = False
        #: Why the last try was not enough.
        self._error: WalletError | None = None

    def __repr__(self) -> str:
        return f"<Tries {self._call.method} {self._call.path} made={self._made}>"

    def left_s(self, now_s: float) -> float:
        """Seconds until the call's deadline, at least 0.001."""
        return max(0.001, self._until_s - now_s)

    def timeout_s(self, now_s: float) -> float:
        """Time-out of the next try, seconds, for each read."""
        return min(self._policy.try_s_max + self._call.wait_s, self.left_s(now_s))

    def lost(self, error: Exception, now_s: float, *, unreached: bool = False) -> Again:
        """The connection broke, or the answer did not come in time.

        `unreached`: the connection could not be made at all. After the last try it raises `Unavailable`, of a call that
        may have changed something `OutcomeUnknown`. It raises at once if the service's certificate is not trusted.
        """
        if distrust := _distrust(error):
            untrusted = Unavailable("untrusted_certificate", _advice(distrust))
            untrusted.__cause__ = error
            # This try has sent nothing, but an earlier one may have.
            failed = self._gave_up(untrusted) if self._made else untrusted
            raise failed from failed.__cause__
        self._in_doubt |= not unreached
        unavailable = Unavailable("no_answer", str(error) or type(error).__name__, retryable=True)
        unavailable.__cause__ = error
        return self._again(unavailable, 0.0, now_s, UNREACHED_WAIT_S_FIRST if unreached else WAIT_S_FIRST)

    def received(self, status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> Done[T] | Again:
        """An answer came. Raises its error, unless the call is to be retried: a `WalletError`."""
        if 200 <= status < 300 or status == self._call.also:
            return Done(self._decoded(status, headers, body))
        if status == 404 and self._call.method == "DELETE" and self._made:
            # An earlier try deleted it, and its answer was lost.
            return Done(self._decoded(status, headers, b"null"))
        request_id = headers.get("x-request-id")
        try:
            problem = _decode_problem(body)
        except msgspec.MsgspecError:
            error = _foreign(status, body, request_id)
            if status != 429:
                failed = self._gave_up(error)
                raise failed from failed.__cause__
        else:
            error = error_of(problem, status, self._call.transaction_id)
            error.request_id = request_id
            if status != 429 and not problem.retryable:
                failed = self._gave_up(error) if self._in_doubt and not isinstance(error, Declined) else error
                raise failed from failed.__cause__
            self._in_doubt |= problem.code not in NOTHING_DONE and not isinstance(error, Declined)
        return self._again(error, _seconds(headers.get("retry-after")), now_s)

    def _decoded(self, status: int, headers: Mapping[str, str], body: bytes) -> T:
        try:
            value: Any = msgspec.json.decode(body or b"null", type=self._call.answer)
        except msgspec.MsgspecError as error:
            text = f"this version of the client does not understand the answer: {error}"
            unread = Unavailable("unexpected_answer", text, status=status)
            unread.request_id = headers.get("x-request-id")
            failed = self._gave_up(unread)
            raise failed from failed.__cause__
        if self._call.changes and "replayed" in getattr(value, "__struct_fields__", ()):
            replayed = headers.get("idempotent-replayed") == "true"
            position = headers.get("wallet-position")
            value = msgspec.structs.replace(value, replayed=replayed, position=position)
        result: T = value
        return result

    def _again(
        self, error: WalletError, at_least_s: float, now_s: float, first_s: float = WAIT_S_FIRST
    ) -> Again:
        bound_s = min(WAIT_S_MAX, first_s * 2**self._made)
        self._made += 1
        wait_s = at_least_s + bound_s * self._policy.random()
        last = self._made >= self._policy.tries_max or now_s + wait_s >= self._until_s
        if last or (self._call.once and error.status != 429):
            raise self._gave_up(error)
        self._error = error
        return Again(wait_s)

    def rest(
        self, call: Call[U], error: WalletError, now_s: float, *, in_doubt: bool
    ) -> tuple["Tries[U]", float]:
        """The tries that a batch has left for one of its transfers, and the wait before the next, seconds.

        `error`: why the answer to the batch is none for the transfer. `in_doubt`: the batch may have made it. Raises
        `OutcomeUnknown` if no try or no time is left.
        """
        rest = Tries(call, self._policy, now_s)
        rest._until_s, rest._made, rest._in_doubt, rest._error = self._until_s, self._made, in_doubt, error
        return rest, rest._again(error, 0.0, now_s).wait_s

    def go_on(self, now_s: float) -> None:
        """Call it after the wait. Raises the error of the last try if the deadline has passed meanwhile.

        Then this process stood still, perhaps until the service had forgotten what an earlier try did.
        """
        if self._error is not None and now_s > self._until_s:
            raise self._gave_up(self._error)

    def _gave_up(self, error: WalletError) -> WalletError:
        if not self._call.changes:
            return error
        unknown = OutcomeUnknown(self._call.transaction_id, f"after {max(1, self._made)} tries: {error}")
        unknown.request_id, unknown.status = error.request_id, error.status
        unknown.__cause__ = error
        return unknown


def _distrust(error: Exception) -> ssl.SSLCertVerificationError | None:
    """The refusal of the service's certificate that is behind the error, if there is one."""
    cause: object = error
    while isinstance(cause, Exception) and not isinstance(cause, ssl.SSLCertVerificationError):
        # The pool of httpcore drops the cause of its errors; it is their argument too.
        cause = cause.__cause__ or next(iter(cause.args), None)
    return cause if isinstance(cause, ssl.SSLCertVerificationError) else None


def _advice(error: ssl.SSLCertVerificationError) -> str:
    return (
        f"the certificate of the service is not trusted: {error.verify_message}. If a private authority issued it, use "
        f"tls=ssl.create_default_context(cafile=…); the URL must have a host name of the certificate"
    )


def _foreign(status: int, body: bytes, request_id: str | None) -> WalletError:
    """The error of an answer that is not the service's, but that of a proxy in between."""
    said = body[:200].decode("utf-8", "replace")
    kind = RateLimited if status == 429 else Unavailable
    error = kind("unexpected_answer", f"status {status}, and no problem+json: {said!r}", status=status)
    error.request_id = request_id
    return error


def _seconds(retry_after: str | None) -> float:
    """Seconds that `Retry-After` asks for; 0 without a valid one. A proxy may send a date in place of seconds."""
    if retry_after is None:
        return 0.0
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        then = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
