"""Ends transfers that a crash left open (G9): debits whose credit has no driver any more.

An entry is in `open` from its debit until its settle. If it stays there longer than any healthy transfer, the sweeper
reads it from the stream and drives its credits again; the receivers' dedupe memory makes that harmless. If it
is so old that a receiver may have forgotten the credits, the sweeper first looks them up in the journal
(`_look_up`). Every service sweeps; jitter prevents that they do the same work at the same time.

A receiver delays only its own money: the sweeper drives an entry's money for each receiving partition
separately, with one task for each pair of partitions. It pauses for a receiver that does not take its
credits.
"""

import asyncio
import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import hiredis

from wallet_engine.domain.entry import Entry, outgoing, parse_entry
from wallet_engine.domain.errors import Outage, text_of
from wallet_engine.domain.kinds import receiver_of
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.conditions import Condition
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.lane import Lane
from wallet_engine.engine.passage import Passage
from wallet_engine.engine.reads import Reader
from wallet_engine.journal.link_wire import CreditReference, CreditsFound, FindCredits
from wallet_engine.redis_store.connection import ConnectionLost, NotSent
from wallet_engine.redis_store.stream import stream_entries
from wallet_engine.saga.open_ages import OpenAges
from wallet_engine.saga.resuming import resumable
from wallet_engine.saga.settling import settle
from wallet_engine.saga.standing import OPEN_PER_RECEIVER_MAX, RETRY_S, Receiver, Standings
from wallet_engine.saga.transfer import CREDIT, Call, Transfer
from wallet_engine.telemetry.logging import get_logger

SWEEP_S: Final = 1.0
#: Maximum time of the look at a new process' partitions, which comes before it reads requests.
FIRST_LOOK_S_MAX: Final = 1.0
FIRST_LOOK_PAUSE_S: Final = 0.01
#: An entry younger than this is left to the service that wrote it.
OPEN_AGE_MS_MIN: Final = 5_000
#: Members of `open` read in one command: about 0.2 ms of a node's time.
MEMBERS_PER_PAGE: Final = 1_000
#: Entries of one partition read together (each may have 150 kB) and driven together for one receiver.
ENTRIES_AT_ONCE_MAX: Final = 32
DRIVE_TIMEOUT_S: Final = 30.0
#: Maximum time of a journal copy to look up old credits; it reads its journal since the debit.
LOOK_UP_TIMEOUT_S: Final = 60.0

#: Credits (partition, seq, idx of the debit) -> outcome.
Decided = dict[CreditReference, str]

log = get_logger(__name__)


class Sweeper:
    """Checks every partition about once a second; `swept` counts the entries it ended."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        self._engine = engine
        self._reader = reader
        self._task: asyncio.Task[None] | None = None
        self.swept = 0
        self._sweeps: dict[int, asyncio.Task[None]] = {}
        #: (payers' partition, receivers' partition) -> task that drives the money from one to the other
        self._drives: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._standings = Standings(self._on_owed)
        self._receivers: defaultdict[int, Receiver] = defaultdict(Receiver)
        #: Open entries as of the last look at each partition.
        self.open = OpenAges()
        #: Partition -> which of its entries are old enough to be swept; younger ones are left to their
        #: service.
        self._passages: defaultdict[int, Passage] = defaultdict(lambda: Passage(OPEN_AGE_MS_MIN / 1000))
        #: Partition -> the time of its newest entry, which never goes back.
        self._recorded_ms: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Sweeper swept={self.swept} drives={len(self._drives)} {self._standings!r}>"

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="sweeper")

    async def close(self) -> None:
        tasks = [*self._sweeps.values(), *self._drives.values()]
        tasks += [self._task] if self._task is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S * random.uniform(0.5, 1.5))
            for accumulator in self._engine.cluster.accumulators:
                # A partition whose shard hangs does not delay others.
                running = self._sweeps.get(accumulator.partition)
                if running is None or running.done():
                    self._sweeps[accumulator.partition] = asyncio.create_task(self._sweep(accumulator))

    # Looking ---------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Learn the windows of all partitions that can be asked now.

        A process that knows them notices later that it stood still, and sends nothing of what it had not read then.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S_MAX):
                await asyncio.gather(*map(self._first_look, self._engine.cluster.accumulators))

    async def _first_look(self, accumulator: Accumulator) -> None:
        while True:
            lane = self._engine.cluster.lanes.get(accumulator.shard)
            if lane is not None and lane.is_open:
                with self._postponing(accumulator):
                    await self._look_at(accumulator, lane)
                return
            await asyncio.sleep(FIRST_LOOK_PAUSE_S)

    async def _sweep(self, accumulator: Accumulator) -> None:
        partition, standings = accumulator.partition, self._standings
        with self._postponing(accumulator):
            lane = self._engine.cluster.lanes[accumulator.shard]
            await self._look_at(accumulator, lane)
            seqs = await self._open_seqs(accumulator, lane)
            self.open.note(partition, seqs, self._engine.now_s())
            self._engine.metrics.sweeper_open_entries.set(self.open.total)
            passed = self._passages[partition].newest_passed(self._engine.now_s())
            stale = seqs[: bisect_right(seqs, passed)]
            for seq in set(standings.seqs(partition)).difference(stale):
                standings.forget(partition, seq)
            await self._learn(accumulator, lane, [s for s in stale if standings.get(partition, s) is None])
            for seq in standings.settled_late(partition):  # its settle was lost
                settle(self._engine, partition, seq)
            for q in standings.owed_by(partition):
                self._drive(accumulator, q)

    @contextmanager
    def _postponing(self, accumulator: Accumulator) -> Iterator[None]:
        """Leave a failure inside to a later sweep."""
        try:
            yield
        except hiredis.ReplyError as error:
            self._engine.cluster.heed(accumulator.shard, str(error))
        except (NotSent, ConnectionLost, Outage, TimeoutError, KeyError) as error:
            log.debug("sweep postponed", partition=accumulator.partition, error=str(error))
        except Exception:
            log.exception("sweep failed", partition=accumulator.partition)

    async def _look_at(self, accumulator: Accumulator, lane: Lane) -> None:
        """Note the partition's present seq, which later gives the age of its entries."""
        fields = ("state", "seq", "window", "clock")
        state, seq, window, clock = await lane.call("HMGET", accumulator.keys.meta, *fields)
        now_s = self._engine.now_s()
        if state == b"live":
            self._recorded_ms[accumulator.partition] = int(clock or 0)
            accumulator.learn_window(int(window), now_s)
            self._passages[accumulator.partition].note(int(seq), now_s)
            self._engine.passages[accumulator.partition].note(int(seq), now_s)

    async def _open_seqs(self, accumulator: Accumulator, lane: Lane) -> list[int]:
        """All open entries, ascending. The markers of an entry's refunds follow it, with the same score."""
        seqs: list[int] = []
        start: int | str = "-inf"
        while True:
            words = ("ZRANGEBYSCORE", accumulator.keys.open, start, "+inf", "LIMIT", 0, MEMBERS_PER_PAGE)
            members: list[bytes] = await lane.call(*words)
            seqs += (int(member) for member in members if b"." not in member)
            if len(members) < MEMBERS_PER_PAGE:
                return seqs
            start = int(members[-1].partition(b".")[0]) + 1

    async def _learn(self, accumulator: Accumulator, lane: Lane, seqs: Sequence[int]) -> None:
        """Find out which partitions these entries have to pay."""
        for start in range(0, len(seqs), ENTRIES_AT_ONCE_MAX):
            for entry in await self._texts(accumulator, lane, seqs[start : start + ENTRIES_AT_ONCE_MAX]):
                self._note(accumulator.partition, entry)

    def _note(self, partition: int, entry: Entry) -> None:
        owed = {self._homes_of(operation) for _, operation in outgoing(entry)}
        self._standings.put(partition, entry.header.seq, entry.header.nonce, owed)

    def _homes_of(self, operation: Operation) -> int:
        return self._engine.cluster.homes.of(receiver_of(operation))

    async def _texts(self, accumulator: Accumulator, lane: Lane, seqs: Sequence[int]) -> list[Entry]:
        """The given entries, as far as they are in the stream."""
        ids = [f"{seq}-0" for seq in seqs]
        calls = (lane.call("XRANGE", accumulator.keys.journal, entry_id, entry_id) for entry_id in ids)
        replies: list[Any] = await asyncio.gather(*calls)
        for seq, found in zip(seqs, replies, strict=True):
            # If it is not open either, it was settled meanwhile.
            if not found and await lane.call("ZSCORE", accumulator.keys.open, seq) is not None:
                log.error("open entry is not in the stream", partition=accumulator.partition, seq=seq)
        return [parse_entry(stream_entries(found)[0].payload) for found in replies if found]

    # Driving ---------------------------------------------------------------------------------------------

    def _drive(self, accumulator: Accumulator, q: int) -> None:
        """Start a task that drives the partition's money to q, unless one runs or q is paused."""
        pair = accumulator.partition, q
        if pair not in self._drives and self._may_drive(q, 0):
            self._receivers[q].drives += 1
            task = asyncio.create_task(self._drive_all(accumulator, q))
            self._drives[pair] = task
            task.add_done_callback(lambda _: self._driven(*pair))

    def _driven(self, partition: int, q: int) -> None:
        del self._drives[partition, q]
        self._receivers[q].drives -= 1

    def _may_drive(self, q: int, mine: int) -> bool:
        if self._engine.cluster.accumulators[q].held_since_s is not None:
            return False  # the engine checks when the partition takes operations again
        return self._receivers[q].may_be_driven(self._engine.now_s(), mine)

    async def _drive_all(self, accumulator: Accumulator, q: int) -> None:
        with self._postponing(accumulator):
            while self._may_drive(q, 1):
                now_s = self._engine.now_s()
                seqs = self._standings.due(accumulator.partition, q, now_s, ENTRIES_AT_ONCE_MAX)
                if not seqs:
                    return
                await self._drive_some(accumulator, q, seqs, now_s)

    async def _drive_some(
        self, accumulator: Accumulator, q: int, seqs: Sequence[int], issued_s: float
    ) -> None:
        """`issued_s` is before the reads on which the credits depend."""
        partition, standings = accumulator.partition, self._standings
        lane = self._engine.cluster.lanes[accumulator.shard]
        young: list[Entry] = []
        old: list[Entry] = []
        self._later(partition, q, seqs)  # in case this drive does not end them
        for entry in await self._texts(accumulator, lane, seqs):
            seq = entry.header.seq
            standing = standings.get(partition, seq)
            if standing is None or standing.nonce != entry.header.nonce:
                self._note(partition, entry)  # another entry, after a recovery
                continue
            recorded_ms = self._recorded_ms.get(partition, 0)
            is_old = self._engine.is_old(partition, seq, entry.header.time_ms, recorded_ms)
            (old if is_old else young).append(entry)
        decided = await self._look_up(partition, q, old)
        ends = [self._end(partition, q, entry, issued_s, {}) for entry in young]
        if decided is not None:
            ends += (self._end(partition, q, entry, issued_s, decided) for entry in old)
        await asyncio.gather(*ends)

    def _later(self, partition: int, q: int, seqs: Sequence[int]) -> None:
        for seq in seqs:
            standing = self._standings.get(partition, seq)
            if standing is not None:
                standing.later(q, self._engine.now_s() + RETRY_S)

    async def _look_up(self, partition: int, q: int, entries: list[Entry]) -> Decided | None:
        """The outcomes of the entries' credits in the journal of q; None when no journal copy could tell.

        The question covers q up to its newest entry (seq, nonce), which is read here. So a credit that is not
        found was not decided before the entries were read, and one that was decided since is still
        remembered.
        """
        if not entries:
            return {}
        asked = [(partition, e.header.seq, idx) for e in entries for idx, _ in self._outgoing(e, q)]
        since_ms = min(entry.header.time_ms for entry in entries)
        try:
            seq, nonce = await self._reader.position(q)
            if not seq:
                return {}
            question = FindCredits(0, q, seq, nonce, since_ms, asked)
            found = await self._engine.tracker.answer_of(question, CreditsFound, LOOK_UP_TIMEOUT_S)
            return {(p, seq, idx): outcome for p, seq, idx, outcome in found.credits}
        except (Outage, TimeoutError) as error:
            what = {"partition": partition, "receiver": q, "entries": len(entries)}
            log.warning("old credits are not known", error=text_of(error), **what)
            return None

    def _outgoing(self, entry: Entry, q: int) -> list[tuple[int, Operation]]:
        return [(idx, operation) for idx, operation in outgoing(entry) if self._homes_of(operation) == q]

    async def _end(self, partition: int, q: int, entry: Entry, issued_s: float, decided: Decided) -> None:
        """Drive the entry's credits in q. For those in `decided`, do only what follows from their outcome."""
        header = entry.header
        try:
            await self._reader.durable(partition, header.seq, header.nonce)
        except Outage as outage:
            log.debug("sweep postponed", partition=partition, error=str(outage))
            return
        debits = self._outgoing(entry, q)
        call, ended = Call.awaited(len(debits))
        transfers: list[Transfer] = []
        for position, (idx, debit) in enumerate(debits):
            transfer = resumable(self._engine, debit, receiver_of(debit), partition, q, call, position)
            transfers.append(transfer)
            credit = decided.get((partition, header.seq, idx))
            if credit is None:
                transfer.resume(header.seq, idx, issued_s)
            else:
                log.info(
                    "credit was found in the journal", partition=q, debit=f"{partition}.{header.seq}.{idx}"
                )
                transfer.conclude(header.seq, idx, credit, issued_s)
        try:
            async with asyncio.timeout(DRIVE_TIMEOUT_S):
                await ended
        except TimeoutError:
            pass
        self._ended(partition, q, header.seq, transfers, call)

    def _ended(self, partition: int, q: int, seq: int, transfers: list[Transfer], call: Call) -> None:
        receiver = self._receivers[q]
        stuck = [t for t, r in zip(transfers, call.results, strict=True) if r in ("", "outcome_unknown")]
        if any(transfer.stage == CREDIT for transfer in stuck):
            receiver.failed(self._engine.now_s())
        else:
            receiver.well()
        if stuck:
            return
        for result in call.results:
            self._engine.metrics.sweeper_transfers.labels(
                "paid" if result == Outcome.APPLIED else "refunded"
            ).inc()
        if self._standings.paid(partition, seq, q):
            settle(self._engine, partition, seq)
            self.swept += 1
            log.info("open entry ended", partition=partition, seq=seq)

    def _on_owed(self, q: int, entries: int) -> None:
        if entries >= OPEN_PER_RECEIVER_MAX:
            detail = f"{entries} entries are open towards partition {q}"
            outage = Outage("partition_unavailable", detail)
            self._engine.headroom.close_door(q, Condition.UNSETTLED, outage)
        else:
            self._engine.headroom.open_door(q, Condition.UNSETTLED)
