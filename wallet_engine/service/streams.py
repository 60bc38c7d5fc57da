"""Turns for answers that are streamed: each keeps a connection to the database as long as its caller reads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from wallet_engine.domain.errors import Outage
from wallet_engine.service.shares import Share

#: How long a caller waits for its turn; most streams take some milliseconds.
TURN_S_MAX: Final = 10.0


class _Caller:
    __slots__ = ("present", "turns")

    def __init__(self, turns: int) -> None:
        self.turns = asyncio.Semaphore(turns)
        #: Its streams, with those that wait.
        self.present = 0


class Streams:
    """At most `each` streams of one caller at the same time, and `every` of all. Use it on one event loop."""

    def __init__(self, each: int, every: int) -> None:
        self._each = each
        self._every = every
        self._turns = asyncio.Semaphore(every)
        self._callers: dict[Share, _Caller] = {}

    def __repr__(self) -> str:
        return f"<Streams callers={len(self._callers)}>"

    @asynccontextmanager
    async def turn(self, share: Share) -> AsyncIterator[None]:
        """One stream of the caller with this share. Raises `Outage` when others last too long."""
        caller = self._callers.setdefault(share, _Caller(self._each))
        caller.present += 1
        try:
            async with AsyncExitStack() as held:
                try:
                    async with asyncio.timeout(TURN_S_MAX):
                        await held.enter_async_context(caller.turns)
                        await held.enter_async_context(self._turns)
                except TimeoutError:
                    limits = f"{self._each} of one caller at the same time, and {self._every} of all"
                    raise Outage(
                        "overloaded", f"answers of this length are sent to others: {limits}"
                    ) from None
                yield
        finally:
            caller.present -= 1
            if not caller.present:
                del self._callers[share]
