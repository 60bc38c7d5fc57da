"""Sends single transfers of many coroutines as batches. Each caller gets the answer of its own transfer.

The first transfer opens a batch. The batch is sent after `LINGER_S_MAX`, or when it has `BATCH_TRANSFERS_MAX`.
A transfer that its batch left open is sent alone, with the tries and the time that the batch has left.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from wallet_engine.client.calls import Call
from wallet_engine.client.errors import (
    DECLINES,
    Declined,
    Forbidden,
    Malformed,
    OutcomeUnknown,
    Unavailable,
    WalletError,
)
from wallet_engine.client.tries import Policy, Tries, now_s
from wallet_engine.client.types import Batch, Transfer, TransferResult

LINGER_S_MAX: Final = 0.002
BATCH_TRANSFERS_MAX: Final = 1_000

Send = Callable[[Call[Any], Tries[Any]], Awaitable[Any]]


class _Waiting(NamedTuple):
    call: Call[Transfer]
    future: asyncio.Future[Transfer]


class Gatherer:
    """Gathers transfers and sends them with `send`, which retries a batch as it retries a single call."""

    def __init__(self, send: Send, policy: Policy) -> None:
        self._send = send
        self._policy = policy
        self._waiting: list[_Waiting] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Gatherer waiting={len(self._waiting)} in_flight={len(self._tasks)}>"

    async def transfer(self, call: Call[Transfer]) -> Transfer:
        """Send the transfer in a batch. Returns and raises as a single call does, without `replayed` and `position`."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(call, loop.create_future())
        self._waiting.append(waiting)
        if len(self._waiting) >= BATCH_TRANSFERS_MAX:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(LINGER_S_MAX, self._flush)
        return await waiting.future

    async def close(self) -> None:
        """Send the waiting transfers, and wait for all answers."""
        self._flush()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            gathered, self._waiting = self._waiting, []
            task = asyncio.ensure_future(self._deliver(gathered))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, gathered: Sequence[_Waiting]) -> None:
        call = batch_call([waiting.call for waiting in gathered])
        tries = Tries(call, self._policy, now_s())
        try:
            batch: Batch = await self._send(call, tries)
        except (Malformed, Forbidden) as error:
            # One invalid transfer makes the service refuse the batch, and nothing is done. So each is sent alone.
            alone = (self._deliver_alone(waiting, tries, error, in_doubt=False) for waiting in gathered)
            await asyncio.gather(*alone)
        except Exception as error:
            for waiting in gathered:
                _fail(waiting, _of_all(error, waiting.call))
        else:
            unknown = gathered  # also when it cannot be told whose result is missing
            if len(batch.results) == len(gathered):
                unknown = [w for w, r in zip(gathered, batch.results, strict=True) if not _settle(w, r)]
            left_open = Unavailable("outcome_unknown", "its batch left it open", retryable=True)
            alone = (self._deliver_alone(waiting, tries, left_open, in_doubt=True) for waiting in unknown)
            await asyncio.gather(*alone)

    async def _deliver_alone(
        self, waiting: _Waiting, tries: Tries[Batch], error: WalletError, *, in_doubt: bool
    ) -> None:
        """`in_doubt`: the batch may have made the transfer. Then only a decision about it is an answer."""
        try:
            rest, wait_s = tries.rest(waiting.call, error, now_s(), in_doubt=in_doubt)
            await asyncio.sleep(wait_s)
            answer = await self._send(waiting.call, rest)
        except Exception as failed:
            _fail(waiting, failed)
        else:
            if not waiting.future.done():
                waiting.future.set_result(answer)


def batch_call(calls: Sequence[Call[Transfer]]) -> Call[Batch]:
    """One batch call of these calls."""
    elements = b",".join([call.element or b"" for call in calls])
    return Call("POST", "/v1/transfers/batch", Batch, b'{"transfers":[%b]}' % elements)


def _settle(waiting: _Waiting, result: TransferResult) -> bool:
    """Give the caller its answer or error. Returns False when the result is `unknown`: then it has none yet."""
    if result.status == "unknown":
        return False
    if result.status == "declined":
        code = result.code or "declined"
        told, known = result.detail or "declined", result.transaction_id
        _fail(waiting, DECLINES.get(code, Declined)(code, told, transaction_id=known))
    elif not waiting.future.done():
        waiting.future.set_result(Transfer(transaction_id=result.transaction_id))
    return True


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(error)


def _of_all(error: Exception, call: Call[Transfer]) -> Exception:
    """The error of a batch as the error of one of its calls."""
    if not isinstance(error, WalletError):
        return error
    if isinstance(error, OutcomeUnknown):
        return _unknown(error, call)
    own = type(error)(error.code, error.detail, retryable=error.retryable, transaction_id=call.transaction_id)
    own.status, own.request_id = error.status, error.request_id
    return own


def _unknown(error: WalletError, call: Call[Any]) -> OutcomeUnknown:
    unknown = OutcomeUnknown(call.transaction_id, error.detail)
    unknown.status, unknown.request_id, unknown.__cause__ = error.status, error.request_id, error
    return unknown
