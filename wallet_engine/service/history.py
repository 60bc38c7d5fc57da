"""Authorizes callers of the history, then asks the history store."""

from collections.abc import AsyncIterator, Sequence
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


class GuardedHistory:
    """`HistoryReader` for a given caller. Every method may raise `Forbidden`, and what the reader raises."""

    def __init__(self, reader: HistoryReader) -> None:
        self._reader = reader
        self._streams = Streams(STATEMENTS_OF_CALLER_MAX, STATEMENTS_MAX)

    def __repr__(self) -> str:
        return f"<GuardedHistory {self._reader!r}>"

    async def transactions(self, by: Principal, asked: Listing, positions: Sequence[Position]) -> Page | None:
        by.check_reads(asked.account)
        return await self._reader.transactions(asked, positions)

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
        async with (
            self._streams.turn(by.share),
            self._reader.statement(account, currency, *span_ms, positions) as statement,
        ):
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
        return await self._reader.holds(account, status, limit, after, positions)

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
