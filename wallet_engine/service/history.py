"""Authorizes callers of the history, then asks the history store."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from wallet_engine.history.listing import Listing
from wallet_engine.history.reader import (
    CONNECTIONS_MAX,
    AsOf,
    HistoryReader,
    Page,
    Position,
    Statement,
)
from wallet_engine.service.policy import Principal
from wallet_engine.service.streams import Streams

#: Statements that are sent at the same time, to one caller and to all: they leave connections for other questions.
STATEMENTS_OF_CALLER_MAX: Final = 2
STATEMENTS_MAX: Final = CONNECTIONS_MAX // 2
#: (account, currency or None for any) -> (partition, seq) of the newest entry, by which it is open; None if it is not.
Newest = Callable[[str, str | None], Awaitable[tuple[int, int] | None]]


class GuardedHistory:
    """`HistoryReader` for a given caller. Every method may raise `Forbidden`, and what the reader raises.

    An account that the history does not know may have been opened a moment ago, or its partition may be made anew.
    So the engine is asked whether the account is open; if it is, the history is read once more when it reaches there.
    """

    def __init__(self, reader: HistoryReader, newest: Newest) -> None:
        self._reader = reader
        self._newest = newest
        self._streams = Streams(STATEMENTS_OF_CALLER_MAX, STATEMENTS_MAX)

    def __repr__(self) -> str:
        return f"<GuardedHistory {self._reader!r}>"

    async def transactions(self, by: Principal, asked: Listing, positions: Sequence[Position]) -> Page | None:
        by.check_reads(asked.account)

        async def look(positions: Sequence[Position]) -> Page | None:
            return await self._reader.transactions(asked, positions)

        return await self._found(asked.account, look, positions)

    async def balance_at(
        self, by: Principal, account: str, currency: str, at_ms: int, positions: Sequence[Position]
    ) -> tuple[list[Any], AsOf]:
        by.check_reads(account)
        return await self._reader.balance_at(account, currency, at_ms, positions)

    @asynccontextmanager
    async def statement(
        self,
        by: Principal,
        account: str,
        currency: str,
        span_ms: tuple[int | None, int | None],
        positions: Sequence[Position],
    ) -> AsyncIterator[Statement | None]:
        """May also raise `Outage` when too many statements are being read slowly."""
        by.check_reads(account)
        async with self._streams.turn(by.share):
            async with self._reader.statement(account, currency, *span_ms, positions) as statement:
                if statement is not None:
                    yield statement
                    return
            newest = await self._newest(account, currency)
            if newest is None:
                yield None
                return
            async with self._reader.statement(account, currency, *span_ms, [Position(*newest)]) as statement:
                yield statement

    async def holds(
        self,
        by: Principal,
        account: str,
        status: str | None,
        limit: int,
        after: tuple[int, ...] | None,
        positions: Sequence[Position],
    ) -> Page | None:
        by.check_reads(account)

        async def look(positions: Sequence[Position]) -> Page | None:
            return await self._reader.holds(account, status, limit, after, positions)

        return await self._found(account, look, positions)

    async def _found(
        self,
        account: str,
        look: Callable[[Sequence[Position]], Awaitable[Page | None]],
        positions: Sequence[Position],
    ) -> Page | None:
        page = await look(positions)
        if page is not None or (newest := await self._newest(account, None)) is None:
            return page
        return await look([Position(*newest)])

    async def transfers(
        self,
        by: Principal,
        reference: str,
        span_ms: tuple[int | None, int | None],
        limit: int,
        after: tuple[int, ...] | None,
        positions: Sequence[Position],
    ) -> Page:
        """Those that touch an account which `by` may read."""
        by.check_reads_some()
        return await self._reader.transfers(reference, *span_ms, limit, after, positions, by.readable)
