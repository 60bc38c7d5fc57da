"""Decides when batches leave: those of all partitions together, once the previous ones are durable.

A script call, a journal entry and a receipt each cost much more than one operation in them. If each partition
left as soon as it may, the operations of many small callers would be spread over many calls. Partitions that
leave together come back together, with one fdatasync; then their callers' next operations, and the credits of
their debits, leave together too.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from wallet_engine.engine.accumulator import EARLY_OPERATIONS_MIN, Accumulator

#: A wave leaves when at most this many batches are still out: so a few slow ones do not delay all others.
OUT_MAX: Final = 2
#: A wave leaves anyway this long after the last one, and no longer waits for batches that are out by then: a
#: shard that hangs costs the others only one such wait.
WAIT_S_MAX: Final = 0.02
#: A partition with a good batch does not wait for batches that are out; this is the minimum time between
#: waves.
WAIT_S_MIN: Final = 0.002


class Wave:
    """The partitions that wait for their turn."""

    __slots__ = ("_handle", "_left_s", "_loop", "_out", "_send", "_waiting", "_when_s")

    def __init__(self, send: Callable[[list[Accumulator]], None]) -> None:
        """`send(accumulators)` takes a batch from each and calls `left` for it."""
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._waiting: list[Accumulator] = []
        self._out: set[str] = set()
        self._left_s = 0.0
        #: The planned turn, and its time (loop time).
        self._handle: asyncio.Handle | None = None
        self._when_s = 0.0

    def __repr__(self) -> str:
        return f"<Wave waiting={len(self._waiting)} out={len(self._out)}>"

    def join(self, accumulator: Accumulator) -> None:
        """A partition that may send asks for a turn, or now has enough for a good batch."""
        if not accumulator.scheduled:
            accumulator.scheduled = True
            self._waiting.append(accumulator)
        if len(self._out) <= OUT_MAX:
            self._plan(0.0)
        elif accumulator.pending >= EARLY_OPERATIONS_MIN:
            self._plan(self._left_s + WAIT_S_MIN)
        else:
            self._plan(self._left_s + WAIT_S_MAX)

    def left(self, nonce: str) -> None:
        """A batch is on its way."""
        self._out.add(nonce)

    def back(self, nonce: str) -> None:
        """A batch is durable, or failed, or was put back. May be called more than once."""
        self._out.discard(nonce)
        if self._waiting and len(self._out) <= OUT_MAX:
            self._plan(0.0)

    def _plan(self, when_s: float) -> None:
        """Leave at that time, or in the next turn of the loop if it is past.

        An earlier plan stays as it is.
        """
        if self._handle is not None:
            if self._when_s <= when_s:
                return
            self._handle.cancel()
        self._when_s = when_s
        wait_s = when_s - self._loop.time() if when_s else 0.0
        self._handle = (
            self._loop.call_later(wait_s, self._leave) if wait_s > 0 else self._loop.call_soon(self._leave)
        )

    def _leave(self) -> None:
        self._handle = None
        now_s = self._loop.time()
        if now_s - self._left_s >= WAIT_S_MAX:
            self._out.clear()
        self._left_s = now_s
        waiting, self._waiting = self._waiting, []
        for accumulator in waiting:
            accumulator.scheduled = False
        self._send(waiting)
