"""Ends the wait of calls that have waited too long for their answers."""

import asyncio
from itertools import takewhile
from typing import Final

from wallet_engine.saga.transfer import Call

#: How much later than its deadline a call may be given up.
LATE_S_MAX: Final = 0.25


class Deadlines:
    """Gives up each call that still waits after `timeout_s`.

    One timer serves all calls: a timer per call would cost a single transfer a twentieth of its CPU time.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        #: Call -> when it is given up (loop time), the earliest first.
        self._calls: dict[Call, float] = {}
        self._ticking = False

    def __repr__(self) -> str:
        return f"<Deadlines timeout_s={self._timeout_s} calls={len(self._calls)}>"

    def add(self, call: Call) -> None:
        self._calls[call] = self._loop.time() + self._timeout_s
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(LATE_S_MAX, self._tick)

    def discard(self, call: Call) -> None:
        self._calls.pop(call, None)

    def _tick(self) -> None:
        now_s = self._loop.time()
        for call in list(takewhile(lambda call: self._calls[call] <= now_s, self._calls)):
            del self._calls[call]
            call.give_up()
        self._ticking = bool(self._calls)
        if self._ticking:
            self._loop.call_later(LATE_S_MAX, self._tick)
