"""Queries to the history: plain rows from PostgreSQL, and how far the tables reach."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from wallet_engine.domain.errors import InvalidInput, Outage
from wallet_engine.domain.ids import TRANSIT, is_system
from wallet_engine.history.database import (
    ATTACHED_AS_SEEN,
    as_outage,
    check_version,
    ms_of,
    time_of,
)
from wallet_engine.history.edges import ORDER, last_postings, opening_of
from wallet_engine.history.listing import COMPLETE, COMPLETE_OF, Listing, between, query_of
from wallet_engine.history.session import Pool
from wallet_engine.history.sink import SINK
from wallet_engine.routing.homes import Homes

CONNECTIONS_MAX: Final = 8
#: How long a query waits for the answer of a live server.
ANSWER_S_MAX: Final = 10.0
#: How long a query waits until the history has the required entries.
BEHIND_S_MAX: Final = 2.0
#: The same for a statement whose period is over.
PERIOD_S_MAX: Final = 10.0
_BEHIND_POLL_S: Final = 0.02
#: A partition that is further behind than this does not keep the rows of others from being listed.
LATE_MS_MAX: Final = 10_000
STREAM_ROWS: Final = 500

#: Whether entries are here, and no early credit or leg up to them still waits for its transfer.
_REACHED: Final = """
SELECT bool_and(coalesce(p.seq >= u.seq, false) AND NOT EXISTS (
    SELECT FROM early_credits AS e WHERE e.partition = u.partition AND e.seq <= u.seq
) AND NOT EXISTS (
    SELECT FROM early_legs AS e WHERE e.partition = u.partition AND e.seq <= u.seq
))
FROM unnest($2::integer[], $3::bigint[]) AS u (partition, seq)
LEFT JOIN positions AS p ON p.sink = $1 AND p.partition = u.partition
"""


#: Whether a credit or a leg of the account in a period still waits for its transfer or group.
_WAITS: Final = """
SELECT EXISTS (SELECT FROM early_credits WHERE account = $1 AND at < $2 AND ($3::timestamptz IS NULL OR at >= $3))
    OR EXISTS (SELECT FROM early_legs WHERE account = $1 AND at < $2 AND ($3::timestamptz IS NULL OR at >= $3))
"""


class Behind(Outage):
    """The history does not have the requested entries yet."""

    def __init__(self) -> None:
        super().__init__("history_behind", "the history does not reach there yet: ask again")


class Position(NamedTuple):
    """An entry of a partition."""

    partition: int
    seq: int


@dataclass(frozen=True, slots=True)
class AsOf:
    """The answer includes everything that was durable at `at_ms` in the partitions that it is about."""

    at_ms: int

    @property
    def lag_s(self) -> float:
        return max(0, time.time_ns() // 1_000_000 - self.at_ms) / 1000

    def reaches(self, row: Any) -> bool:
        """Whether nothing that comes in later is older than this row."""
        return ms_of(row["at"]) < self.at_ms

    def until(self, before_ms: int) -> "AsOf":
        """The same for an answer that leaves out everything from that time on."""
        return AsOf(min(self.at_ms, before_ms))

    def without(self, row: Any) -> "AsOf":
        """The same for an answer that leaves out this posting, and later ones."""
        return AsOf(min(self.at_ms, ms_of(row["at"]) - 1))


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, whether more follow, and how far the tables reached."""

    rows: list[Any]
    more: bool
    as_of: AsOf


def place_of(row: Any) -> tuple[int, ...]:
    """A posting's place in its account's order."""
    return ms_of(row["at"]), row["partition"], row["seq"], row["idx"], row["sub"]


class HistoryReader:
    """See the module. Use it on one event loop. Everything may raise `HistoryUnavailable` and `Behind`."""

    def __init__(self, url: str, homes: Homes) -> None:
        self._url = url
        self._homes = homes
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<HistoryReader {'open' if self._pool is not None else 'closed'}>"

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def transactions(self, asked: Listing, positions: Sequence[Position]) -> Page | None:
        """Postings that are transactions; None for an account that was never opened."""
        await self.reach(positions)
        deadline_s = time.monotonic() + BEHIND_S_MAX
        settled, before_ms = False, None
        while True:
            async with self.connection() as connection:
                rows, as_of = await self._listed(connection, asked, before_ms)
                if not rows and not await _known(connection, asked.account):
                    return None
            more = len(rows) > asked.limit
            rows = rows[: asked.limit]
            begins = more and is_system(asked.account) and not asked.ascending and asked.after is None
            if begins and not settled and not as_of.reaches(rows[0]):
                settled, before_ms = True, await self._settled(rows[0], as_of, positions)
                continue
            untold = [number for number, row in enumerate(rows) if row["type"] == ""]
            if not untold:
                return Page(rows, more, as_of)
            # Rows whose transfer is still unknown: the page ends before them, or starts behind them.
            if asked.ascending and untold[0] > 0:
                return Page(rows[: untold[0]], False, as_of.without(rows[untold[0]]))
            if not asked.ascending and asked.after is None and untold[-1] + 1 < len(rows):
                return Page(rows[untold[-1] + 1 :], more, as_of.without(rows[untold[-1]]))
            if time.monotonic() > deadline_s:
                raise Behind
            await asyncio.sleep(_BEHIND_POLL_S)

    async def _listed(self, connection: Any, asked: Listing, before_ms: int | None) -> tuple[list[Any], AsOf]:
        """One row more than the page has, and how far the tables reached at the query or before."""
        if before_ms is None and not (asked.ascending and is_system(asked.account)):
            query, arguments = query_of(asked, None, self._homes)
            rows = await connection.fetch(query, *arguments)
            if rows:
                return rows, _as_of(rows[0]["as_of"])
        as_of = await self._as_of(connection, asked.account)
        if before_ms is not None:
            as_of = as_of.until(before_ms)
        elif asked.ascending and is_system(asked.account):
            # Its partitions advance independently: postings behind this time are not complete yet.
            before_ms = as_of.at_ms
        query, arguments = query_of(asked, before_ms, self._homes)
        return await connection.fetch(query, *arguments), as_of

    async def _settled(self, head: Any, as_of: AsOf, positions: Sequence[Position]) -> int | None:
        """The time before which a walk over several partitions, newest first, may begin; None: anywhere.

        A row that comes in later but belongs in front of the cursor would be on no page. So the walk begins where all
        partitions are complete. Wait up to 2 s until that is behind `head`, the newest row. After that, newer rows are
        left out, unless they may be those of `positions`.
        """
        if time.time_ns() // 1_000_000 - as_of.at_ms <= LATE_MS_MAX:
            with suppress(Behind):
                await self._be_complete(TRANSIT, ms_of(head["at"]) + 1, BEHIND_S_MAX)
        async with self.connection() as connection:
            as_of = await self._as_of(connection, TRANSIT)
        if positions and not as_of.reaches(head):
            return None
        return max(as_of.at_ms, time.time_ns() // 1_000_000 - LATE_MS_MAX)

    async def balance_at(
        self, account: str, currency: str, at_ms: int, positions: Sequence[Position]
    ) -> tuple[list[Any], AsOf]:
        """The last posting at or before that time; for a system account, one of each partition. Raises `NotKept`."""
        await self.reach(positions)
        # In the same millisecond another entry may follow.
        await self._be_complete(account, at_ms + 1, BEHIND_S_MAX)
        async with self.connection() as connection:
            as_of = await self._as_of(connection, account)
            return await last_postings(connection, account, currency, time_of(at_ms)), as_of

    @asynccontextmanager
    async def statement(
        self,
        account: str,
        currency: str,
        from_ms: int | None,
        to_ms: int | None,
        positions: Sequence[Position],
    ) -> AsyncIterator["Statement | None"]:
        """A period's postings that changed the balance, as of one moment; None for an unknown account.

        Of a period that is over, all of them, each with its transfer. Raises `NotKept`.
        """
        await self.reach(positions)
        if to_ms is not None and to_ms <= time.time_ns() // 1_000_000:
            deadline_s = time.monotonic() + PERIOD_S_MAX
            await self._be_complete(account, to_ms, PERIOD_S_MAX)
            await self._be_told(account, from_ms, to_ms, deadline_s)
        async with (
            self.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute(ATTACHED_AS_SEEN)
            as_of = await self._as_of(connection, account)
            if not await _known(connection, account, currency):
                yield None
                return
            opening = await opening_of(connection, account, currency, from_ms)
            yield Statement(connection, account, currency, from_ms, to_ms, opening, as_of)

    async def holds(
        self,
        account: str,
        status: str | None,
        limit: int,
        after: tuple[int, ...] | None,
        positions: Sequence[Position],
    ) -> Page | None:
        """Holds, newest first; `status` is the letter in a record.

        None for an account that was never opened.
        """
        await self.reach(positions)
        conditions = ["account = $1"]
        arguments: list[Any] = [account]
        if status is not None:
            arguments.append(status)
            conditions.append(f"status = ${len(arguments)}")
        if after is not None:
            arguments += [time_of(after[0]), UUID(int=after[1] << 64 | after[2])]
            conditions.append(f"(placed_at, hold_id) < (${len(arguments) - 1}, ${len(arguments)})")
        async with self.connection() as connection:
            as_of = await self._as_of(connection, account)
            rows = await connection.fetch(
                f"SELECT * FROM holds WHERE {' AND '.join(conditions)} "
                f"ORDER BY placed_at DESC, hold_id DESC LIMIT {limit + 1}",
                *arguments,
            )
            if not rows and not await _known(connection, account):
                return None
        return Page(rows[:limit], len(rows) > limit, as_of)

    async def transfers(
        self,
        reference: str,
        from_ms: int | None,
        to_ms: int | None,
        limit: int,
        after: tuple[int, ...] | None,
        positions: Sequence[Position],
        accounts: str | None = None,
    ) -> Page:
        """Transfers with a reference, newest first, with any status.

        Only those that touch an account which matches `accounts`, a regular expression.
        """
        await self.reach(positions)
        conditions = ["reference = $1"]
        arguments: list[Any] = [reference]
        if accounts is not None:
            conditions.append("(payer ~ $2 OR receiver ~ $2)")
            arguments.append(f"^(?:{accounts})$")
        between(conditions, arguments, from_ms, to_ms)
        page = await self._transfers(conditions, arguments, limit, after)
        if after is not None or not page.more or page.as_of.reaches(page.rows[0]):
            return page
        before_ms = await self._settled(page.rows[0], page.as_of, positions)
        if before_ms is None:
            return page
        between(conditions, arguments, None, before_ms)
        page = await self._transfers(conditions, arguments, limit, None)
        return Page(page.rows, page.more, page.as_of.until(before_ms))

    async def _transfers(
        self, conditions: Sequence[str], arguments: Sequence[Any], limit: int, after: tuple[int, ...] | None
    ) -> Page:
        conditions, arguments = [*conditions], [*arguments]
        if after is not None:
            arguments += [time_of(after[0]), *after[1:]]
            first = len(arguments) - 4
            conditions.append(
                f"(at, partition, seq, idx, leg) < ({', '.join(f'${first + n}' for n in range(5))})"
            )
        async with self.connection() as connection:
            as_of = await self._as_of(connection, TRANSIT)
            rows = await connection.fetch(
                f"SELECT * FROM transfers WHERE {' AND '.join(conditions)} "
                f"ORDER BY at DESC, partition DESC, seq DESC, idx DESC, leg DESC LIMIT {limit + 1}",
                *arguments,
            )
        return Page(rows[:limit], len(rows) > limit, as_of)

    async def reach(self, positions: Sequence[Position]) -> None:
        """Wait until these entries are in the history, and joined with the transfers that they end.

        Raises `Behind` after 2 s, `InvalidInput` for a partition that does not exist.
        """
        if not positions:
            return
        count = self._homes.partitions
        for partition, _ in positions:
            if partition >= count:
                said = f"min_position names partition {partition}, and the last is {count - 1}"
                raise InvalidInput("invalid_request", said)
        columns = [p.partition for p in positions], [p.seq for p in positions]
        deadline_s = time.monotonic() + BEHIND_S_MAX
        while True:
            async with self.connection() as connection:
                if await connection.fetchval(_REACHED, SINK, *columns):
                    return
            if time.monotonic() > deadline_s:
                raise Behind
            await asyncio.sleep(_BEHIND_POLL_S)

    async def _be_complete(self, account: str, at_ms: int, wait_s: float) -> None:
        """Wait until everything before this time is here. Raises `Behind` after `wait_s`."""
        deadline_s = time.monotonic() + wait_s
        while True:
            async with self.connection() as connection:
                if (await self._as_of(connection, account)).at_ms >= at_ms:
                    return
            if time.monotonic() > deadline_s:
                raise Behind
            await asyncio.sleep(_BEHIND_POLL_S)

    async def _be_told(self, account: str, from_ms: int | None, to_ms: int, deadline_s: float) -> None:
        """Wait until no posting of a period lacks its transfer. Raises `Behind` at the deadline."""
        asked = (account, time_of(to_ms), None if from_ms is None else time_of(from_ms))
        while True:
            async with self.connection() as connection:
                if not await connection.fetchval(_WAITS, *asked):
                    return
            if time.monotonic() > deadline_s:
                raise Behind
            await asyncio.sleep(_BEHIND_POLL_S)

    async def _as_of(self, connection: Any, account: str) -> AsOf:
        """How far the tables reach for the account's partition; for a system account, for all partitions."""
        if is_system(account):
            return _as_of(await connection.fetchval(COMPLETE.format(self._homes.partitions)))
        return _as_of(await connection.fetchval(COMPLETE_OF.format("$1"), self._homes.of(account)))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """Lend a connection. Errors of PostgreSQL become `HistoryUnavailable`."""
        pool = self._pool or await self._open()
        with as_outage():
            async with pool.acquire() as connection:
                yield connection

    async def _open(self) -> Pool:
        async with self._opening:
            if self._pool is None:
                with as_outage():
                    self._pool = await Pool.open(
                        self._url,
                        "wallet-engine serve",
                        size_max=CONNECTIONS_MAX,
                        answer_s_max=ANSWER_S_MAX,
                        in_order=True,
                        may_idle=True,
                        check=check_version,
                    )
        return self._pool


class Statement:
    """The lines of a statement; usable while its transaction is open."""

    def __init__(
        self,
        connection: Any,
        account: str,
        currency: str,
        from_ms: int | None,
        to_ms: int | None,
        opening_minor: int,
        as_of: AsOf,
    ) -> None:
        self._connection = connection
        self._account = account
        self._currency = currency
        self._span = (from_ms, to_ms)
        self.opening_minor = opening_minor
        self.as_of = as_of

    def __repr__(self) -> str:
        return f"<Statement {self._account} {self._currency}>"

    async def lines(self) -> AsyncIterator[Sequence[Any]]:
        """Some hundred rows at a time, oldest first."""
        conditions = ["account = $1", "currency = $2", "delta <> 0"]
        arguments: list[Any] = [self._account, self._currency]
        between(conditions, arguments, *self._span)
        query = f"SELECT * FROM postings WHERE {' AND '.join(conditions)} ORDER BY {', '.join(ORDER)}"
        with as_outage():
            cursor = await self._connection.cursor(query, *arguments)
            while rows := await cursor.fetch(STREAM_ROWS):
                yield rows


def _as_of(at: datetime | None) -> AsOf:
    return AsOf(0 if at is None else ms_of(at))


async def _known(connection: Any, account: str, currency: str | None = None) -> bool:
    return is_system(account) or await connection.fetchval(
        "SELECT EXISTS (SELECT FROM accounts WHERE account = $1 AND ($2::text IS NULL OR currency = $2))",
        *(account, currency),
    )
