"""The sink `webhooks`: writes every event to the event log, and sends it from there to the endpoints that
want it.

Rows of the log and positions are written in one transaction, only if the positions are still those that the
entries follow. So each event is in the log once. Another task makes deliveries from the log; it continues
when the feed stops.

The folds of the partitions are saved now and then, so that a process that takes over a partition need not
start at its first entry.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.errors import Corruption, WalletError, text_of
from wallet_engine.events.event import SOURCE_DEFAULT
from wallet_engine.events.maker import Maker, Start, from_first
from wallet_engine.events.saved import Pace, load_book, save_book
from wallet_engine.history.database import HistoryUnavailable, check_version, time_of
from wallet_engine.history.session import Pool, Session
from wallet_engine.history.stalled import DELIVERIES_WRITER, EVENTS_WRITER
from wallet_engine.journal.feed import Feed, FeedEntry, FeedPosition
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics
from wallet_engine.webhooks.dispatcher import BACKOFF_S, Dispatcher
from wallet_engine.webhooks.log import LogRow, append
from wallet_engine.webhooks.outbox import EVENTS_KEPT_DAYS

SINK: Final = "webhooks"
#: Connections for deliveries, and the maximum time of one of their statements.
_CONNECTIONS_MAX: Final = 4
_ANSWER_S_MAX: Final = 30.0

_ADVANCE: Final = """
UPDATE positions AS p SET seq = u.seq, nonce = u.nonce, at = greatest(p.at, u.at)
FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::text[], $6::timestamptz[])
    AS u (partition, before, seq, nonce, at)
WHERE p.sink = $1 AND p.partition = u.partition AND p.seq = u.before
"""
_SAVE: Final = """
INSERT INTO event_folds (partition, seq, nonce, book) VALUES ($1, $2, $3, $4)
ON CONFLICT (partition) DO UPDATE SET seq = excluded.seq, nonce = excluded.nonce, book = excluded.book
WHERE event_folds.seq < excluded.seq
"""

log = get_logger(__name__)


class TakenOver(WalletError):
    """Another process has written events of these partitions, so this one must not."""


class WebhookSink:
    """See the module; `follow.sink.Sink`."""

    def __init__(
        self,
        url: str,
        feed: Feed,
        worker: str,
        *,
        allow_private: bool,
        source: str = SOURCE_DEFAULT,
        metrics: Metrics | None = None,
        events_kept_s: float = EVENTS_KEPT_DAYS * 86_400,
    ) -> None:
        self._url = url
        self._source = source
        self._worker = worker
        self._allow_private = allow_private
        self._metrics = metrics
        self._events_kept_s = events_kept_s
        self._maker = Maker(feed)
        self._session: Session | None = None
        self._pool: Pool | None = None
        self._dispatcher: Dispatcher | None = None
        self._delivering: asyncio.Task[None] | None = None
        self._told: dict[int, FeedPosition] = {}
        #: Partition -> seq of its saved fold, with which a new process would begin.
        self._saved: dict[int, int] = {}
        self._pace = Pace()

    def __repr__(self) -> str:
        return f"<WebhookSink {self._maker!r} {self._dispatcher!r}>"

    @property
    def name(self) -> str:
        return SINK

    async def start(self) -> None:
        """Raises `HistoryUnavailable`, and `ConfigError` for tables of another version."""
        self._session = session = await Session.open(self._url, EVENTS_WRITER)
        await session.ask(check_version(session.connection))
        # These commits need not wait for the disk: a delivery that is not recorded is sent again.
        self._pool = await Pool.open(
            self._url,
            DELIVERIES_WRITER,
            size_max=_CONNECTIONS_MAX,
            answer_s_max=_ANSWER_S_MAX,
            quick_commits=True,
            check=check_version,
        )
        self._dispatcher = Dispatcher(
            self._pool,
            self._worker,
            allow_private=self._allow_private,
            metrics=self._metrics,
            events_kept_s=self._events_kept_s,
        )
        self._delivering = asyncio.create_task(self._deliver(self._dispatcher), name="webhooks")

    @property
    def _open(self) -> Session:
        if self._session is None:
            raise HistoryUnavailable(ConnectionError("not connected"))
        return self._session

    async def positions(self, partitions: Collection[int]) -> dict[int, FeedPosition]:
        self._maker.keep(partitions)
        session = self._open
        await session.ask(
            session.connection.execute(
                "INSERT INTO positions SELECT $1, p, 0, $3, 'epoch' FROM unnest($2::integer[]) AS p "
                "ON CONFLICT DO NOTHING",
                *(SINK, list(partitions), ZERO_NONCE),
            )
        )
        rows = await session.ask(
            session.connection.fetch(
                "SELECT partition, seq, nonce FROM positions WHERE sink = $1 AND partition = ANY($2)",
                *(SINK, list(partitions)),
            )
        )
        self._told = {row[0]: FeedPosition(row[1], row[2]) for row in rows}
        self._saved = {p: seq for p, seq in self._saved.items() if p in self._maker.books}
        unknown = [p for p, told in self._told.items() if not self._maker.knows(p, told)]
        for partition, start in (await session.ask(self._starts(session.connection, unknown))).items():
            self._maker.begin(partition, start)
            self._saved[partition] = start.folded.seq
        return dict(self._maker.folded)

    async def _starts(self, connection: Any, partitions: list[int]) -> dict[int, Start]:
        starts = {partition: from_first(self._told[partition]) for partition in partitions}
        query = "SELECT partition, seq, nonce, book FROM event_folds WHERE partition = ANY($1)"
        for partition, seq, nonce, book in await connection.fetch(query, partitions):
            if seq <= self._told[partition].seq:
                try:
                    starts[partition] = Start(
                        FeedPosition(seq, nonce), load_book(book), self._told[partition]
                    )
                except Corruption as error:
                    log.warning("the fold begins with the first entry", partition=partition, why=str(error))
                    await connection.execute("DELETE FROM event_folds WHERE partition = $1", partition)
        return starts

    async def take(self, batch: Sequence[FeedEntry]) -> None:
        """When this returns, the batch's events are durably in the log."""
        made = await self._maker.make(batch)
        before, after = self._told, dict(self._told)
        times: dict[int, int] = {}
        for at, _ in made:
            if at.seq > before[at.partition].seq:
                after[at.partition] = at.position
                times[at.partition] = at.time_ms
        if not times:
            return
        rows = [LogRow(at.partition, at.seq, at.time_ms, events) for at, events in made if events]
        moved = [(p, before[p].seq, after[p].seq, after[p].nonce, time_of(ms)) for p, ms in times.items()]
        await self._open.ask(self._write(self._open.connection, rows, moved))
        self._told = after
        if self._dispatcher is not None and rows:
            self._dispatcher.wake()
        await self._save(batch[-1].time_ms)

    async def _write(
        self,
        connection: Any,
        rows: Sequence[LogRow],
        moved: Sequence[tuple[int, int, int, str | None, datetime]],
    ) -> None:
        async with connection.transaction():
            done = await connection.execute(_ADVANCE, SINK, *map(list, zip(*moved, strict=True)))
            if done != f"UPDATE {len(moved)}":
                raise TakenOver("another process has written what follows: positions are read anew")
            await append(connection, rows, self._source)

    async def flush(self) -> None:
        """Nothing to do: `take` has stored everything."""

    def resumes_after(self) -> Mapping[int, int]:
        """Entries after the saved folds are folded again."""
        return self._saved

    async def _save(self, clock_ms: int) -> None:
        """Save the folds that have advanced, when it is time."""
        if not self._pace.due():
            return
        session = self._open
        with self._pace.saving():
            for partition, folded in self._maker.folded.items():
                if self._saved.get(partition, 0) < folded.seq <= self._told[partition].seq:
                    book = save_book(self._maker.books[partition], clock_ms)
                    saving = session.connection.execute(_SAVE, partition, folded.seq, folded.nonce, book)
                    if (
                        await session.ask(saving) == "INSERT 0 1"
                    ):  # else another process has saved a later one
                        self._saved[partition] = folded.seq

    async def caught_up(self, partitions: Collection[int], at_ms: int) -> None:
        await self._open.ask(
            self._open.connection.execute(
                "UPDATE positions SET at = greatest(at, $3) WHERE sink = $1 AND partition = ANY($2)",
                *(SINK, list(partitions), time_of(at_ms)),
            )
        )
        await self._save(at_ms)

    async def close(self) -> None:
        delivering, self._delivering, self._dispatcher = self._delivering, None, None
        if delivering is not None:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()
        session, self._session = self._session, None
        if session is not None:
            session.close()

    async def _deliver(self, dispatcher: Dispatcher) -> None:
        while True:
            with suppress(OSError):
                try:
                    await dispatcher.run()
                except Exception as error:
                    log.warning("webhooks wait", error=text_of(error))
            await asyncio.sleep(BACKOFF_S)
