"""The event log: every event, numbered in the order of commits, with one row for each entry that has events.

The order is total, and safe to read while several followers write: a transaction takes its numbers under a
lock that it keeps until its commit, so no row with a smaller number can become visible later.
"""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from wallet_engine.events.event import Event
from wallet_engine.history.pieces import in_pieces

#: How often the log is checked for waiting callers.
POLL_S: Final = 0.1
#: Maximum range of rows that one query checks, whether or not they pass the filter.
WINDOW_ROWS: Final = 2_000
_ROWS_MAX: Final = 50

_COLUMNS: Final = ("number", "mark", "partition", "seq", "at", "types", "accounts", "events")
_MARK_BITS: Final = 62


class Logged(NamedTuple):
    """One event of the log; `number` and `idx` are its place in the order. `document` is its JSON."""

    number: int
    idx: int
    id: str
    type: str
    subject: str
    accounts: list[str]
    document: msgspec.Raw


class Place(NamedTuple):
    """The place behind event `idx` of row `number`; the events of a row are counted from 1."""

    number: int
    idx: int
    #: That of the row, if it has one: in a log that was restored, another row has the number.
    mark: int | None = None


#: The place before all events.
START: Final = Place(0, 0)


class EventsRemoved(Exception):
    """Some events after the place were removed, so reading on would miss them."""


class OfAnotherLog(EventsRemoved):
    """This log has not given the place: it is from another log, or this one was restored."""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[tuple[str, str, str, list[str], msgspec.Raw]]).decode


class LogRow(NamedTuple):
    """The events of one entry, to append."""

    partition: int
    seq: int
    time_ms: int
    events: Sequence[Event]


async def append(connection: Any, rows: Sequence[LogRow], source: str) -> None:
    """Number these rows and write them, in the connection's open transaction."""
    if not rows:
        return
    told: list[tuple[Any, ...]] = []
    async for some in in_pieces(rows, lambda row: len(row.events)):
        told += [_record(row, source) for row in some]
    query = "UPDATE event_numbers SET last = last + $1 RETURNING last"
    first = await connection.fetchval(query, len(rows)) - len(rows) + 1
    mark = random.getrandbits(_MARK_BITS)
    records = [(number, mark, *record) for number, record in enumerate(told, first)]
    await connection.copy_records_to_table("event_log", records=records, columns=_COLUMNS)


def _record(row: LogRow, source: str) -> tuple[Any, ...]:
    """The columns of a row without its number."""
    types: dict[str, None] = {}
    accounts: dict[str, None] = {}
    told = []
    for event in row.events:
        id_, type_, subject, _, _, its = event
        types[type_] = None
        for account in its:
            accounts[account] = None
        told.append((id_, type_, subject, its, event.document(source)))
    at = datetime.fromtimestamp(row.time_ms / 1000, UTC)
    return row.partition, row.seq, at, list(types), list(accounts), _encode(told)


class EventLog:
    """Reads the log. `pool` is a `Pool`, or one of asyncpg's."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._last = 0
        self._watch: asyncio.Task[None] | None = None
        #: Why the last watch ended, if it failed.
        self._failure: Exception | None = None
        self._waiting = 0
        self._stopped = False
        self._grown = asyncio.Condition()

    def __repr__(self) -> str:
        return f"<EventLog last={self._last} waiting={self._waiting}>"

    async def last(self) -> int:
        """Number of the newest row; lower than before if the log was recreated."""
        last = self._last = await last_number(self._pool)
        return last

    async def read(
        self, after: Place, limit: int, types: Sequence[str] | None = None, account: str | None = None
    ) -> tuple[list[Logged], Place]:
        """Up to `limit` events behind a place, and the place behind all rows checked.

        Raises `EventsRemoved`.
        """
        last = await self.last()
        from_oldest = after == START
        if from_oldest and (removed := await self._removed()):
            after = Place(removed, _ALL)
        end = min(last, after.number + WINDOW_ROWS)
        marks = {row[0]: row[1] for row in await self._pool.fetch(_MARKS, [after.number, end])}
        if after.number > last or (
            after.mark is not None and marks.get(after.number, after.mark) != after.mark
        ):
            raise OfAnotherLog
        found: list[Logged] = []
        rows = await self._pool.fetch(_READ, after.number, end, types, account, _ROWS_MAX)
        if not from_oldest and after[:2] < (await self._removed(), _ALL):
            raise EventsRemoved
        for row in rows:
            events = read_events(row["number"], row["events"])
            for event in events:
                if (event.number, event.idx) <= after[:2] or not _passes(event, types, account):
                    continue
                found.append(event)
                if len(found) == limit:
                    return found, Place(event.number, event.idx, row["mark"])
        if len(rows) == _ROWS_MAX:
            end = rows[-1]["number"]
            marks[end] = rows[-1]["mark"]
        return found, after if end <= after.number else Place(end, _ALL, marks.get(end))

    async def _removed(self) -> int:
        return int(await self._pool.fetchval("SELECT removed FROM event_numbers"))

    async def wait_beyond(self, number: int, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for a row behind this one; whether there is one.

        Raises the error of the database that ended the wait.
        """
        if await self.last() > number:
            return True
        if self._stopped:
            return False
        self._waiting += 1
        try:
            if self._watch is None or self._watch.done():
                self._failure = None
                self._watch = asyncio.create_task(self._look(), name="event-log")
            async with asyncio.timeout(timeout_s), self._grown:
                await self._grown.wait_for(
                    lambda: self._last > number or self._stopped or self._watch is None
                )
            if self._last <= number and self._failure is not None:
                raise self._failure
            return self._last > number
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1

    async def _look(self) -> None:
        """Poll the log for all waiting calls; ends when none waits."""
        try:
            while self._waiting and not self._stopped:
                before = self._last
                if await self.last() > before:
                    await self._tell()
                await asyncio.sleep(POLL_S)
        except Exception as failure:  # those who wait raise it
            self._failure = failure
        finally:
            self._watch = None
            await self._tell()

    async def _tell(self) -> None:
        async with self._grown:
            self._grown.notify_all()

    def stop_waiting(self) -> None:
        """No call waits any more; waiting calls return within `POLL_S`."""
        self._stopped = True

    async def close(self) -> None:
        self._stopped = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)


#: An index behind every event of a row.
_ALL: Final = 1 << 30

_MARKS: Final = "SELECT number, mark FROM event_log WHERE number = ANY($1)"
_READ: Final = """
SELECT number, mark, events FROM event_log
WHERE number >= $1 AND number <= $2
  AND ($3::text[] IS NULL OR types && $3) AND ($4::text IS NULL OR accounts @> ARRAY[$4::text])
ORDER BY number LIMIT $5
"""


#: The first row of each partition since a time is found by bisection: a partition's times grow with its entries, and so
#: do the numbers. The order of all rows is that of commits, which says nothing about their times.
_FIRST_SINCE: Final = """
WITH RECURSIVE those (partition) AS (
    SELECT min(partition) FROM event_log
    UNION ALL
    SELECT (SELECT min(partition) FROM event_log AS e WHERE e.partition > t.partition)
    FROM those AS t WHERE partition IS NOT NULL
), search (partition, low, high) AS (
    SELECT partition, (SELECT min(seq) FROM event_log AS e WHERE e.partition = t.partition),
        (SELECT max(seq) + 1 FROM event_log AS e WHERE e.partition = t.partition)
    FROM those AS t WHERE partition IS NOT NULL
    UNION ALL
    SELECT partition, CASE WHEN since THEN low ELSE middle + 1 END, CASE WHEN since THEN middle ELSE high END
    FROM (
        SELECT s.*, (low + high) / 2 AS middle, coalesce((
            SELECT at >= $1 FROM event_log AS e
            WHERE e.partition = s.partition AND seq >= (low + high) / 2 ORDER BY seq LIMIT 1
        ), true) AS since
        FROM search AS s WHERE low < high
    ) AS looked
)
SELECT min(first.number) FROM search AS s CROSS JOIN LATERAL (
    SELECT number FROM event_log AS e WHERE e.partition = s.partition AND seq >= s.low ORDER BY seq LIMIT 1
) AS first WHERE s.low = s.high
"""


async def first_since(connection: Any, at: datetime) -> int | None:
    """The smallest number of a row of this time or later; None for none."""
    number: int | None = await connection.fetchval(_FIRST_SINCE, at)
    return number


async def last_number(connection: Any) -> int:
    number: int = await connection.fetchval("SELECT last FROM event_numbers")
    return number


def read_events(number: int, text: bytes) -> list[Logged]:
    """The events of one row."""
    return [Logged(number, index, *told) for index, told in enumerate(_decode(text), 1)]


def _passes(event: Logged, types: Sequence[str] | None, account: str | None) -> bool:
    return (types is None or event.type in types) and (account is None or account in event.accounts)
