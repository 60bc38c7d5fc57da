"""The sink `history`: entries into rows of PostgreSQL, each exactly once.

Rows and positions are written in one transaction, and only if the positions are still those that the entries
follow. So a process that was paused, while another one took over its partitions, writes nothing.

While one batch is written, the next is folded and turned into rows, so that the database, which works on
another core, gets it right after its commit. So long work here is done in pieces: between them the sending of
the other batch goes on.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from wallet_engine.domain.entry import ZERO_NONCE, Entry
from wallet_engine.domain.errors import Corruption
from wallet_engine.history.book import Wanted
from wallet_engine.history.books import RECORDS_MAX, Books
from wallet_engine.history.database import (
    WRITES,
    HistoryUnavailable,
    check_version,
    make_months,
    time_of,
)
from wallet_engine.history.ends import Ends, Matched, TakenOver
from wallet_engine.history.facts import AccountChange, End, Facts, Transfer
from wallet_engine.history.fold import fold
from wallet_engine.history.pieces import in_pieces
from wallet_engine.history.rows import (
    GROUP_COLUMNS,
    HOLD_COLUMNS,
    POSTING_COLUMNS,
    TRANSFER_COLUMNS,
    Row,
    group_row,
    hold_row,
    noted,
    posting_row,
    transfer_row,
    uuid_of,
)
from wallet_engine.history.session import Session
from wallet_engine.history.stalled import HISTORY_WRITER
from wallet_engine.journal.feed import FeedEntry, FeedPosition

SINK: Final = "history"
#: A commit need not wait for the disk when the entries are older than this, because more will follow.
CATCHES_UP_S: Final = 5.0

_ADVANCE: Final = """
UPDATE positions AS p SET seq = u.seq, nonce = u.nonce, at = greatest(p.at, u.at)
FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::text[], $6::timestamptz[])
    AS u (partition, before, seq, nonce, at)
WHERE p.sink = $1 AND p.partition = u.partition AND p.seq = u.before
"""
_CAUGHT_UP: Final = """
UPDATE positions AS p SET at = greatest(p.at, $4) FROM unnest($2::integer[], $3::bigint[]) AS u (partition, seq)
WHERE p.sink = $1 AND p.partition = u.partition AND p.seq = u.seq
"""
_THERE: Final = """
SELECT count(*) FROM positions AS p
JOIN unnest($2::integer[], $3::bigint[]) AS u (partition, seq) ON p.partition = u.partition AND p.seq = u.seq
WHERE p.sink = $1
"""
#: A write whose commit waits for the disk, and so for all earlier commits.
_TO_DISK: Final = "UPDATE positions SET at = at WHERE sink = $1 AND partition = $2"
#: Inserts many accounts in one statement, for the case that a million are opened.
_ACCOUNTS_OPENED: Final = """
INSERT INTO accounts
    (account, currency, partition, opened_at, changed_at, overdraft_limit, max_balance, metadata, status)
SELECT u.account, u.currency, u.partition, u.at, u.at, u.overdraft_limit, u.max_balance, u.metadata,
    coalesce((SELECT min(a.status) FROM accounts AS a WHERE a.account = u.account), 'active')
FROM unnest($1::text[], $2::text[], $3::integer[], $4::timestamptz[], $5::bigint[], $6::bigint[], $7::jsonb[])
    AS u (account, currency, partition, at, overdraft_limit, max_balance, metadata)
"""
_ACCOUNT_UPDATED: Final = """
UPDATE accounts SET changed_at = $3, overdraft_limit = coalesce($4, overdraft_limit),
    max_balance = coalesce($5, max_balance), metadata = coalesce($6, metadata)
WHERE account = $1 AND currency = $2
"""
_ACCOUNT_FLAGGED: Final = "UPDATE accounts SET status = $2, changed_at = $3 WHERE account = $1"
_PARTS: Final = (
    (True, "INSERT INTO group_parts VALUES ($1, $2) ON CONFLICT DO NOTHING"),
    (False, "DELETE FROM group_parts WHERE partition = $1 AND part = $2"),
)
#: The driver's time of a millisecond, cached: all operations of an entry have the same.
_time_of: Final = lru_cache(maxsize=1024)(time_of)
_STATUS_OF: Final = {"frozen": "frozen", "unfrozen": "active", "closed": "closed"}
_HOLD_CHANGED: Final = (
    f"INSERT INTO holds ({', '.join(HOLD_COLUMNS)}) "
    f"VALUES ({', '.join(f'${number}' for number in range(1, len(HOLD_COLUMNS) + 1))}) "
    f"ON CONFLICT (account, placed_at, hold_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in HOLD_COLUMNS[4:])
)
#: The book has only the newest hold of an id, so this one changes in the table alone.
_LATE_REFUSAL: Final = """
UPDATE holds AS h SET captured = h.captured - $4, captures = h.captures - 1, released = h.released + $4, changed_at = $5
FROM (
    SELECT placed_at FROM holds WHERE account = $1 AND hold_id = $2 AND placed_seq < $3
    ORDER BY placed_at DESC LIMIT 1
) AS its
WHERE h.account = $1 AND h.hold_id = $2 AND h.placed_at = its.placed_at
"""


@dataclass(slots=True)
class _Batch:
    """The contents of one transaction."""

    facts: Facts
    matched: Matched
    postings: list[Row]
    transfers: list[Row]
    #: partition, previous seq, seq and nonce, time of the last entry
    advance: list[tuple[int, int, int, str | None, datetime]]
    #: Times of the entries, Unix ms.
    moments: set[int]


class HistorySink:
    """See the module; `follow.sink.Sink`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: Session | None = None
        self._books = Books()
        self._ends = Ends()
        self._positions: dict[int, FeedPosition] = {}
        self._months: set[tuple[int, int]] = set()
        self._writing: asyncio.Task[None] | None = None
        self._on_disk = True

    def __repr__(self) -> str:
        return f"<HistorySink partitions={len(self._positions)} {self._books!r}>"

    @property
    def name(self) -> str:
        return SINK

    @property
    def _open(self) -> Session:
        if self._session is None:
            raise HistoryUnavailable(ConnectionError("not connected"))
        return self._session

    async def start(self) -> None:
        """Raises `HistoryUnavailable`, and `ConfigError` for tables of another version."""
        self._session = session = await Session.open(self._url, HISTORY_WRITER, by_key=True)
        await session.ask(check_version(session.connection))
        self._months.clear()

    async def positions(self, partitions: Collection[int]) -> dict[int, FeedPosition]:
        self._books.forget()
        self._ends.forget()
        await self._open.ask(
            self._open.connection.execute(
                "INSERT INTO positions SELECT $1::text, p, 0, $3::text, timestamptz 'epoch' "
                "FROM unnest($2::integer[]) AS p ON CONFLICT DO NOTHING",
                *(SINK, list(partitions), ZERO_NONCE),
            )
        )
        self._positions = await self.stored(partitions)
        return dict(self._positions)

    async def stored(self, partitions: Collection[int]) -> dict[int, FeedPosition]:
        """The positions in the table."""
        rows = await self._open.ask(
            self._open.connection.fetch(
                "SELECT partition, seq, nonce FROM positions WHERE sink = $1 AND partition = ANY($2)",
                *(SINK, list(partitions)),
            )
        )
        return {row[0]: FeedPosition(row[1], row[2]) for row in rows}

    async def take(self, batch: Sequence[FeedEntry]) -> None:
        """Fold the batch, wait for the previous one's commit, and start writing.

        Raises the previous one's error.
        """
        if self._books.size() > RECORDS_MAX:
            self._books.forget()
        entries: list[tuple[int, Entry]] = []
        lacking: dict[int, Wanted] = {}
        async for some in in_pieces(batch, lambda item: len(item.header.outcomes)):
            parsed = [(item.partition, item.entry) for item in some]
            self._books.add_lacking(parsed, lacking)
            entries += parsed
        if any(map(any, lacking.values())):
            await self._written()  # the batch being written may contain what is needed
            await self._open.ask(self._books.fill(self._open.connection, lacking))
        facts = Facts()
        try:
            async for piece in in_pieces(entries, lambda item: len(item[1].operations)):
                for partition, entry in piece:
                    fold(partition, entry, self._books.of(partition), facts)
        except Corruption:
            await self._written()
            await self._check_positions()
            raise
        matched = await self._match(facts)
        postings, transfers = await _rows(facts, matched)
        moments = {item.header.time_ms for item in batch}
        made = _Batch(facts, matched, postings, transfers, self._advance(batch), moments)
        await self._written()
        self._writing = asyncio.create_task(self._write(self._open.connection, made))

    async def _check_positions(self) -> None:
        """Raises `TakenOver` when the tables are not where they were: what a book lacks may be gone from them."""
        seqs = list(self._positions), [at.seq for at in self._positions.values()]
        asking = self._open.connection.fetchval(_THERE, SINK, *seqs)
        if await self._open.ask(asking) != len(self._positions):
            raise TakenOver(
                "another process has written what follows, or it is made anew: positions are read again"
            )

    async def _match(self, facts: Facts) -> Matched:
        """Match what ends in the batch with its beginning."""
        matched, lacking = self._ends.match(facts)
        if lacking or matched.legs.lacking:
            await self._written()  # the batch being written may contain what is needed
        await self._open.ask(self._ends.look_up(self._open.connection, facts, matched, lacking))
        return matched

    def _advance(self, batch: Sequence[FeedEntry]) -> list[tuple[int, int, int, str | None, datetime]]:
        """The new positions of the batch's partitions, with the previous ones."""
        before = dict(self._positions)
        times = {item.partition: item.header.time_ms for item in batch}
        for item in batch:
            self._positions[item.partition] = FeedPosition(item.header.seq, item.header.nonce)
        return [
            (p, before[p].seq, at.seq, at.nonce, time_of(times[p]))
            for p, at in self._positions.items()
            if at != before[p]
        ]

    async def flush(self) -> None:
        """Wait until everything is on disk, including commits that did not wait for it."""
        await self._written()
        if not self._on_disk:
            partition = next(iter(self._positions))
            await self._open.ask(self._open.connection.execute(_TO_DISK, SINK, partition))
            self._on_disk = True

    def resumes_after(self) -> None:
        """Rows and positions are one."""

    async def _written(self) -> None:
        """Wait until the previous batch is committed."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await self._open.ask(writing)
        elif self._ends.early:
            await self._open.ask(self._ends.settle_early(self._open.connection))

    async def caught_up(self, partitions: Collection[int], at_ms: int) -> None:
        """Raises `TakenOver`, also when the history of some partitions is being rebuilt."""
        await self.flush()
        seqs = [self._positions[p].seq for p in partitions]
        moved = await self._open.ask(
            self._open.connection.execute(_CAUGHT_UP, SINK, list(partitions), seqs, time_of(at_ms))
        )
        if moved != f"UPDATE {len(seqs)}":
            raise TakenOver(
                "these partitions are written by another process, or anew: positions are read again"
            )

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        session.close()
        writing, self._writing = self._writing, None
        if writing is not None:
            with suppress(Exception):  # it ends with its connection
                await session.ask(writing)

    async def _write(self, connection: Any, batch: _Batch) -> None:
        await self._make_months(connection, batch.moments)
        to_disk = time.time() - max(batch.moments) / 1000 < CATCHES_UP_S
        async with connection.transaction():
            if not to_disk:
                await connection.execute("SET LOCAL synchronous_commit = off")
            await connection.execute(WRITES)
            moved = await connection.execute(_ADVANCE, SINK, *map(list, zip(*batch.advance, strict=True)))
            if moved != f"UPDATE {len(batch.advance)}":
                raise TakenOver("another process has written what follows: positions are read anew")
            if batch.postings:
                await connection.copy_records_to_table(
                    "postings", records=batch.postings, columns=POSTING_COLUMNS
                )
            if batch.transfers:
                await connection.copy_records_to_table(
                    "transfers", records=batch.transfers, columns=TRANSFER_COLUMNS
                )
            await batch.matched.write(connection)
            facts = batch.facts
            if facts.groups or facts.holds or facts.late_refusals or facts.accounts or facts.parts:
                await self._write_rare(connection, facts)
        self._on_disk = to_disk
        await self._ends.written(connection, batch.matched)

    async def _write_rare(self, connection: Any, facts: Facts) -> None:
        if facts.groups:
            rows = [group_row(group) for group in facts.groups]
            await connection.copy_records_to_table("groups", records=rows, columns=GROUP_COLUMNS)
        if facts.holds:
            newest = {
                (c.hold.account, c.hold.hold, c.hold.placed_ms): hold_row(c.hold, c.partition, c.at_ms)
                for c in facts.holds
            }
            await connection.executemany(_HOLD_CHANGED, list(newest.values()))
        for account, hold, seq, amount, at_ms in facts.late_refusals:
            await connection.execute(_LATE_REFUSAL, account, uuid_of(hold), seq, amount, time_of(at_ms))
        # In order, because a change may depend on the one before; equal statements in a row go together.
        for query, changes in groupby(map(_account_change, facts.accounts), itemgetter(0)):
            rows = [arguments for _, arguments in changes]
            if query is _ACCOUNTS_OPENED:
                await connection.execute(query, *map(list, zip(*rows, strict=True)))
            else:
                await connection.executemany(query, rows)
        for there, query in _PARTS:
            parts = [part for part, now in facts.parts.items() if now is there]
            if parts:
                await connection.executemany(query, parts)

    async def _make_months(self, connection: Any, moments: Collection[int]) -> None:
        needed = {(time.year, time.month) for time in map(_time_of, moments)} - self._months
        if needed:
            await make_months(connection, needed)
            self._months |= needed


async def _rows(facts: Facts, matched: Matched) -> tuple[list[Row], list[Row]]:
    """The rows of postings and transfers, with the ends known so far."""
    postings: list[Row] = []
    transfers: list[Row] = []
    async for posted in in_pieces(facts.postings):
        postings += [posting_row(p, _time_of(p.at_ms), *matched.of_posting(p)) for p in posted]
    async for begun in in_pieces(facts.transfers):
        transfers += [_transfer_row(transfer, matched.of_transfer(transfer)) for transfer in begun]
    return postings, transfers


def _transfer_row(transfer: Transfer, end: End | None) -> Row:
    at = _time_of(transfer.at_ms)
    if end is None:
        ended_at = None if transfer.status == "pending" else at
        return transfer_row(transfer, at, ended_at, transfer.status, transfer.code)
    return transfer_row(transfer, at, _time_of(end.at_ms), end.status, end.code)


def _account_change(change: AccountChange) -> tuple[str, Row]:
    """The statement for the change, and its arguments."""
    at = time_of(change.at_ms)
    if change.what in _STATUS_OF:
        return _ACCOUNT_FLAGGED, (change.account, _STATUS_OF[change.what], at)
    metadata = noted(change.note)[1]
    limits = (change.overdraft_minor, change.most_minor, metadata)
    if change.what == "opened":
        place = (change.account, change.currency, change.partition, at)
        return _ACCOUNTS_OPENED, (*place, limits[0] or 0, *limits[1:])
    return _ACCOUNT_UPDATED, (change.account, change.currency, at, *limits)
