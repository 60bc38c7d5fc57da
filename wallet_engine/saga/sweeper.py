"""Ends what a crash left open (G9): debits whose credit nobody is driving any more.

An entry stands in `open` from its debit until its settle. One that stays there longer than any healthy transfer
takes is read from the stream and its credits are driven again; the receivers' memory makes that harmless. Of one
so old that a receiver may have forgotten its credits, those are first looked up in the journal (`_look_up`).
Every service sweeps; jitter keeps them from doing the same work at the same time.
"""

import asyncio
import random
from collections import defaultdict
from typing import Any, Final

import hiredis

from wallet_engine.domain.entry import Entry, outgoing, parse_entry
from wallet_engine.domain.errors import Outage, text_of
from wallet_engine.domain.kinds import receiver_of
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.lane import Lane
from wallet_engine.engine.passage import Passage
from wallet_engine.engine.reads import Reader
from wallet_engine.journal.receipts_wire import CreditReference, CreditsFound, FindCredits
from wallet_engine.redis_store.connection import ConnectionLost, NotSent
from wallet_engine.redis_store.stream import stream_entries
from wallet_engine.saga.capture import resumable
from wallet_engine.saga.transfer import Call
from wallet_engine.telemetry.logging import get_logger

SWEEP_S: Final = 1.0
#: An entry younger than this is left to the service that wrote it.
OPEN_AGE_MS_MIN: Final = 5_000
#: Entries of one partition driven in one sweep.
ENTRIES_PER_SWEEP_MAX: Final = 32
DRIVE_TIMEOUT_S: Final = 30.0
#: How long a journal copy may take to look old credits up; it reads its part of the journal since the debit.
LOOK_UP_TIMEOUT_S: Final = 60.0

#: Credits (partition, seq, idx of the debit) -> outcome.
Decided = dict[CreditReference, str]

log = get_logger(__name__)


class Sweeper:
    """Looks at every partition about once a second; `swept` counts the entries it ended."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        self._engine = engine
        self._reader = reader
        self._task: asyncio.Task[None] | None = None
        self.swept = 0
        self._request = 0
        self._sweeps: dict[int, asyncio.Task[None]] = {}
        #: Open entries of each partition at the last look.
        self._open: dict[int, int] = {}
        #: What is left to the service that wrote it, by partition.
        self._passages: defaultdict[int, Passage] = defaultdict(lambda: Passage(OPEN_AGE_MS_MIN / 1000))

    def __repr__(self) -> str:
        return f"<Sweeper swept={self.swept}>"

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="sweeper")

    async def close(self) -> None:
        tasks = [*self._sweeps.values(), *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S * random.uniform(0.5, 1.5))
            for accumulator in self._engine.cluster.accumulators:
                # One that takes long, because a receiver is down or has to be looked up, holds up no other.
                running = self._sweeps.get(accumulator.partition)
                if running is None or running.done():
                    self._sweeps[accumulator.partition] = asyncio.create_task(self._sweep(accumulator))

    async def _sweep(self, accumulator: Accumulator) -> None:
        try:
            now_s = self._engine.now_s()
            young, old = await self._stale_entries(accumulator)
            decided = await self._look_up(accumulator.partition, old)
            for entry in young:
                await self._end(accumulator.partition, entry, now_s, {})
            for entry in old if decided is not None else ():
                await self._end(accumulator.partition, entry, now_s, decided or {})
        except hiredis.ReplyError as error:
            self._engine.cluster.heed(accumulator.shard, str(error))
        except (NotSent, ConnectionLost, Outage, TimeoutError, KeyError) as error:
            log.debug("sweep postponed", partition=accumulator.partition, error=str(error))
        except Exception:
            log.exception("sweep failed", partition=accumulator.partition)

    async def _stale_entries(self, accumulator: Accumulator) -> tuple[list[Entry], list[Entry]]:
        """The open entries that nobody drives any more: those whose receivers remember the credits, and the others."""
        keys, partition = accumulator.keys, accumulator.partition
        lane = self._engine.cluster.lanes[accumulator.shard]
        await self._look_at(accumulator, lane)
        members: list[bytes] = await lane.call("ZRANGE", keys.open, 0, ENTRIES_PER_SWEEP_MAX)
        self._open[partition] = sum(b"." not in member for member in members)
        self._engine.metrics.sweeper_open_entries.set(sum(self._open.values()))
        young: list[Entry] = []
        old: list[Entry] = []
        for seq in (member.decode() for member in members if b"." not in member):
            if not self._passages[partition].passed(int(seq), self._engine.now_s()):
                break  # so are those behind it
            found: list[Any] = await lane.call("XRANGE", keys.journal, f"{seq}-0", f"{seq}-0")
            if not found:
                if await lane.call("ZSCORE", keys.open, seq) is None:
                    continue  # settled and trimmed meanwhile
                log.error("open entry is not in the stream", partition=partition, seq=seq)
                continue
            [(_, payload, _)] = stream_entries(found)
            entry = parse_entry(payload)
            recorded_age_ms = lane.clock.ms_at(self._engine.now_s()) - entry.header.time_ms
            is_old = self._engine.is_old(partition, entry.header.seq, recorded_age_ms)
            (old if is_old else young).append(entry)
        return young, old

    async def _look_at(self, accumulator: Accumulator, lane: Lane) -> None:
        """Note where the partition stands now, by which the age of its entries is told later."""
        state, seq, window = await lane.call("HMGET", accumulator.keys.meta, "state", "seq", "window")
        now_s = self._engine.now_s()
        if state == b"live":
            accumulator.learn_window(int(window), now_s)
            self._passages[accumulator.partition].note(int(seq), now_s)
            self._engine.passages[accumulator.partition].note(int(seq), now_s)

    async def _look_up(self, partition: int, entries: list[Entry]) -> Decided | None:
        """What the receivers' journals say of the entries' credits; None when a journal copy did not say.

        Each receiving partition is asked of as it stands after its entry (seq, nonce) read here, so a credit that is
        not found was not decided before the entries were read, and one decided since is still remembered.
        """
        asked: dict[int, list[CreditReference]] = {}
        for entry in entries:
            for idx, debit in outgoing(entry):
                q = self._engine.cluster.homes.of(receiver_of(debit))
                asked.setdefault(q, []).append((partition, entry.header.seq, idx))
        since_ms = min((entry.header.time_ms for entry in entries), default=0)
        decided: Decided = {}
        try:
            for q, references in asked.items():
                seq, nonce = await self._reader.position(q)
                if seq:
                    self._request += 1
                    decided |= await self._ask(
                        FindCredits(self._request, q, seq, nonce, since_ms, references)
                    )
        except (Outage, TimeoutError) as error:
            log.warning(
                "old credits are not known", partition=partition, entries=len(entries), error=text_of(error)
            )
            return None
        return decided

    async def _ask(self, question: FindCredits) -> Decided:
        """Raises TimeoutError."""
        answer: asyncio.Future[CreditsFound] = asyncio.get_running_loop().create_future()
        self._engine.tracker.find(question, answer.set_result)
        try:
            async with asyncio.timeout(LOOK_UP_TIMEOUT_S):
                found = await answer
        finally:
            self._engine.tracker.forget_question(question.request)
        return {(p, seq, idx): outcome for p, seq, idx, outcome in found.credits}

    async def _end(self, partition: int, entry: Entry, now_s: float, decided: Decided) -> None:
        """Drive the entry's credits, but do only what follows from those that are known to be `decided`."""
        header = entry.header
        await self._reader.durable(partition, header.seq, header.nonce)
        debits = outgoing(entry)
        call, ended = Call.awaited(len(debits))
        homes = self._engine.cluster.homes
        for position, (idx, debit) in enumerate(debits):
            receiver = receiver_of(debit)
            q = homes.of(receiver)
            transfer = resumable(self._engine, debit, receiver, partition, q, call, position)
            credit = decided.get((partition, header.seq, idx))
            if credit is None:
                transfer.resume(header.seq, idx, now_s)
            else:
                log.info(
                    "credit was found in the journal", partition=q, debit=f"{partition}.{header.seq}.{idx}"
                )
                transfer.conclude(header.seq, idx, credit, now_s)
        async with asyncio.timeout(DRIVE_TIMEOUT_S):
            await ended
        if "outcome_unknown" not in call.results:
            self._engine.settle(partition, header.seq)
            self.swept += 1
            for result in call.results:
                self._engine.metrics.sweeper_transfers.labels(
                    "paid" if result == Outcome.APPLIED else "refunded"
                ).inc()
            log.info("open entry ended", partition=partition, seq=header.seq, transfers=len(debits))
