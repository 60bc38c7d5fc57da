"""One sink and its partitions: reads the feed, hands over batches, and starts again after a failure."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Final

from wallet_engine.domain.errors import Outage, WalletError, text_of
from wallet_engine.follow.claims import Claims
from wallet_engine.follow.sink import Remade, Sink
from wallet_engine.journal.errors import Fork, NoEntry
from wallet_engine.journal.feed import Feed, FeedEntry, FeedPosition
from wallet_engine.routing.followers import NOTE_S, Followers
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics

#: Maximum bytes of entries that are read and not yet handed over, and of one batch.
WAITING_BYTES_MAX: Final = 4 * 1024 * 1024
BATCH_BYTES_MAX: Final = 1024 * 1024
#: How long a batch that is not full waits for more, because a database transaction costs the same for any
#: size.
LINGER_S: Final = 0.05
BACKOFF_S_MIN: Final = 0.2
BACKOFF_S_MAX: Final = 10.0
#: How often the follower checks whether it has taken everything.
LOOK_S: Final = 1.0
#: How long a check that found nothing missing stays valid; normally the next one comes sooner.
LOOKED_S_MAX: Final = 3 * LOOK_S
#: How soon a partition with an entry that cannot be read is followed again: the entry may have been cut.
UNREADABLE_S: Final = 60.0
#: An entry has the time at which Redis decided it. It may be so long on its way to the first journal copy, and the
#: clock of its node so far behind ours.
UNDER_WAY_MS: Final = 250
#: How often it records all positions, not only those that changed: others may have replaced or removed what was
#: recorded, as an interrupted `history rebuild` does.
NOTED_ALL_S: Final = 600.0
#: How long copies that have just started may say that the journal is shorter than it is.
BEYOND_S: Final = 30.0
#: Maximum time for the sink to close.
CLOSE_S_MAX: Final = 5.0

log = get_logger(__name__)


class Follower:
    """Follows for one sink until it is cancelled. `claims` says which partitions."""

    def __init__(
        self, feed: Feed, sink: Sink, claims: Claims, followers: Followers, metrics: Metrics
    ) -> None:
        self._feed = feed
        self._sink = sink
        self._claims = claims
        self._followers = followers
        #: partition -> seq that was handed over (taken), and seq at the last flush.
        self._taken: dict[int, int] = {}
        self._flushed: dict[int, int] = {}
        #: partition -> seq behind which a new process would read on, and seq at the last flush.
        self._noted: dict[int, tuple[int, int]] = {}
        self._noted_all_s = time.monotonic()
        #: Partitions whose chain differs from the one that the sink has: an operator must look.
        self.forked: dict[int, str] = {}
        #: The positions of these in the sink. Another position there means that the sink is made anew.
        self._forked_at: dict[int, FeedPosition] = {}
        #: Partitions among them with an entry that cannot be read -> since when (`time.monotonic`).
        self._unreadable_s: dict[int, float] = {}
        #: partition -> since when the journal ends before what the sink has (`time.monotonic`); and what is said of it.
        self._beyond_s: dict[int, float] = {}
        self.beyond: dict[int, str] = {}
        #: Why the sink takes nothing now; empty while it works.
        self.trouble = ""
        self._entries = metrics.follow_entries.labels(sink.name)
        self._failures = metrics.follow_failures.labels(sink.name)
        self._behind = metrics.follow_behind_entries.labels(sink.name)
        #: Unix time up to which the sink is known to have all entries, and whether it has everything.
        self._whole_s = time.time()
        self._whole = False
        metrics.follow_lag_seconds.labels(sink.name).set_function(self._lag_s)

    def __repr__(self) -> str:
        return f"<Follower {self._sink.name} partitions={len(self._taken)} {self.trouble or 'well'}>"

    async def run(self) -> None:
        """Run forever: a failure is logged, and the sink is opened again after a pause."""
        failures = 0
        while True:
            began_s = time.monotonic()
            try:
                await self._sink.start()
                await self._follow()
            except (Fork, NoEntry) as fork:
                self.forked[fork.partition] = text_of(fork)
                if isinstance(fork, NoEntry):
                    self._unreadable_s[fork.partition] = time.monotonic()
                log.error("not followed any more", sink=self._sink.name, error=text_of(fork))
                with suppress(Exception):
                    await self._look_at_forks()
            except Exception as error:
                self._failures.inc()
                failures = 0 if time.monotonic() - began_s > BACKOFF_S_MAX else failures + 1
                self.trouble = text_of(error)
                wait_s = min(BACKOFF_S_MIN * 2 ** min(failures, 10), BACKOFF_S_MAX)
                unforeseen = not isinstance(error, WalletError | OSError)
                log.warning(
                    "the sink failed",
                    sink=self._sink.name,
                    error=self.trouble,
                    again_in_s=wait_s,
                    exc_info=error if unforeseen else None,
                )
                await asyncio.sleep(wait_s)
            finally:
                await self._close_sink()

    async def _close_sink(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                await self._sink.close()
        except Exception as error:  # whatever is not stored comes again
            log.warning("the sink was not closed in order", sink=self._sink.name, error=text_of(error))

    async def _follow(self) -> None:
        """Follow the claimed partitions as long as the sink works. Never returns."""
        while True:
            self._claims.changed.clear()
            partitions = [p for p in self._claims.partitions if p not in self.forked]
            if partitions:
                positions = await self._sink.positions(partitions)
                self._taken = {p: at.seq for p, at in positions.items()}
                self._flushed = dict(self._taken)
                async with aclosing(self._feed.follow(positions)) as batches:
                    await _Run(self, batches).until(self._claims.changed)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S if self.forked else None):
                        await self._claims.changed.wait()
                await self._look_at_forks()
            await self._release()

    async def _release(self) -> None:
        """Release partitions that another process should have; nothing is under way for them here."""
        unwanted = self._claims.unwanted
        if unwanted:
            await self.note()
            await self._claims.release(unwanted)

    async def take(self, batch: Sequence[FeedEntry]) -> None:
        await self._sink.take(batch)
        for entry in batch:
            self._taken[entry.partition] = entry.header.seq
        self._entries.inc(len(batch))
        self._whole_s, self._whole = batch[-1].header.time_ms / 1000, False

    async def flush(self) -> None:
        taken = dict(self._taken)
        await self._sink.flush()
        self._flushed.update(taken)
        self.trouble = ""

    async def _look_at_forks(self) -> None:
        """Follow a forked partition again once the sink has another position for it, because it is made anew.

        One with an entry that cannot be read is followed again after `UNREADABLE_S`.
        """
        for partition, since_s in list(self._unreadable_s.items()):
            if time.monotonic() >= since_s + UNREADABLE_S:
                del self._unreadable_s[partition]
                self.forked.pop(partition, None)
                self._forked_at.pop(partition, None)
                self._claims.changed.set()
        if not self.forked or not isinstance(self._sink, Remade):
            return
        for partition, at in (await self._sink.stored(list(self.forked))).items():
            if self._forked_at.setdefault(partition, at) != at:
                del self.forked[partition], self._forked_at[partition]
                log.info("followed again, anew", sink=self._sink.name, partition=partition)
                self._claims.changed.set()

    async def look(self) -> None:
        """Tell the sink when it has all entries."""
        await self._look_at_forks()
        at_ms = time.time_ns() // 1_000_000
        try:
            ends, under_way = await self._feed.reached()
        except Outage:
            return
        behind = {p: ends.get(p, 0) - seq for p, seq in self._taken.items()}
        self._behind.set(sum(max(0, entries) for entries in behind.values()))
        self._look_beyond(ends)
        # Of a partition whose last entry no copy knows as final now, or ever, nobody knows whether it is complete.
        current = [
            p
            for p, entries in behind.items()
            if entries == 0 and self._flushed[p] >= self._taken[p] and p not in under_way
        ]
        if all(entries == 0 for entries in behind.values()):
            self._whole_s, self._whole = at_ms / 1000, True
        if current:
            await self._sink.caught_up(current, at_ms - UNDER_WAY_MS)

    def _look_beyond(self, ends: Mapping[int, int]) -> None:
        """Note partitions that have fewer final entries in the journal than in the sink: it may be an older journal.

        A copy that was just started, without a quorum, knows of none.
        """
        now_s = time.monotonic()
        more = [p for p, seq in self._taken.items() if 0 < ends.get(p, 0) < seq]
        self._beyond_s = {p: self._beyond_s.get(p, now_s) for p in more}
        name, taken = self._sink.name, self._taken
        self.beyond = {
            p: f"partition {p}: the sink {name} has {taken[p]} entries, and the copies that answer know of {ends[p]}"
            for p, since_s in self._beyond_s.items()
            if now_s - since_s > BEYOND_S
        }

    def _lag_s(self) -> float:
        """The lag in seconds. It grows while the sink hangs or fails, or no journal copy answers."""
        lag_s = max(0.0, time.time() - self._whole_s)
        idle = all(partition in self.forked for partition in self._claims.partitions)
        return 0.0 if idle or (self._whole and lag_s < LOOKED_S_MAX) else lag_s

    async def note(self) -> None:
        """Record in the tree what the sink has stored."""
        now_s = time.monotonic()
        if now_s >= self._noted_all_s + NOTED_ALL_S:
            self._noted_all_s = now_s
            self._noted.clear()
        kept, flushed = self._sink.resumes_after(), self._flushed
        reached = {p: (seq if kept is None else min(seq, kept.get(p, 0)), seq) for p, seq in flushed.items()}
        changed = {p: seqs for p, seqs in reached.items() if seqs != self._noted.get(p)}
        if not changed:
            return
        try:
            kept_at, taken = ({p: seqs[n] for p, seqs in changed.items()} for n in (0, 1))
            await asyncio.to_thread(self._followers.note, self._sink.name, kept_at, taken)
            self._noted.update(changed)
        except WalletError as error:
            log.debug("not noted", sink=self._sink.name, error=text_of(error))


class _Run:
    """One reading of the feed: one task reads, and the caller hands over."""

    def __init__(self, follower: Follower, batches: AsyncIterator[Sequence[FeedEntry]]) -> None:
        self._follower = follower
        self._batches = batches
        self._waiting: deque[Sequence[FeedEntry]] = deque()
        self._waiting_bytes = 0
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def until(self, changed: asyncio.Event) -> None:
        """Hand over until `changed`.

        Raises errors of the feed, after handing over what was read, and the sink.
        """
        reading = asyncio.create_task(self._read(), name="feed")
        reading.add_done_callback(lambda _: self._more.set())
        changing = asyncio.create_task(changed.wait())
        changing.add_done_callback(lambda _: self._more.set())
        try:
            looked_s = noted_s = -1e9
            while not changing.done():
                if self._waiting:
                    await self._follower.take(self._next())
                    if not self._waiting:
                        await asyncio.sleep(LINGER_S)
                if not self._waiting:
                    await self._follower.flush()
                    if reading.done():
                        reading.result()
                    now_s = time.monotonic()
                    if now_s - looked_s >= LOOK_S:
                        looked_s = now_s
                        await self._follower.look()
                    self._more.clear()
                    if not self._waiting and not reading.done() and not changing.done():
                        with suppress(TimeoutError):
                            async with asyncio.timeout(LOOK_S):
                                await self._more.wait()
                if time.monotonic() - noted_s >= NOTE_S:
                    noted_s = time.monotonic()
                    await self._follower.note()
            await self._follower.flush()
        finally:
            reading.cancel()
            changing.cancel()
            await asyncio.gather(reading, changing, return_exceptions=True)

    async def _read(self) -> None:
        async for batch in self._batches:
            self._waiting.append(batch)
            self._waiting_bytes += _bytes_of(batch)
            self._more.set()
            if self._waiting_bytes >= WAITING_BYTES_MAX:
                self._room.clear()
                await self._room.wait()

    def _next(self) -> list[FeedEntry]:
        taken: list[FeedEntry] = []
        size = 0
        while self._waiting and size < BATCH_BYTES_MAX:
            batch = self._waiting.popleft()
            size += _bytes_of(batch)
            taken += batch
        self._waiting_bytes -= size
        self._room.set()
        return taken


def _bytes_of(batch: Sequence[FeedEntry]) -> int:
    return sum(len(entry.payload) for entry in batch)
