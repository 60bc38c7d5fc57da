"""Ends what a crash left open (G9): debits whose credit nobody is driving any more.

An entry stands in `open` from its debit until its settle. One that stays there longer than any healthy transfer
takes is read from the stream and its credits are driven again; the receivers' memory makes that harmless.
Every service sweeps; jitter keeps them from doing the same work at the same time.
"""

import asyncio
import random
from typing import Any, Final

import hiredis

from wallet_engine.domain.entry import Entry, parse_entry, parse_header
from wallet_engine.domain.errors import Outage
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.reads import Reader
from wallet_engine.redis_store.connection import ConnectionLost, NotSent
from wallet_engine.routing.slots import partition_of
from wallet_engine.saga.transfer import Call, Transfer
from wallet_engine.telemetry.logging import get_logger

SWEEP_S: Final = 1.0
#: An entry younger than this is left to the service that wrote it.
OPEN_AGE_MS_MIN: Final = 5_000
#: Entries of one partition driven in one sweep.
ENTRIES_PER_SWEEP_MAX: Final = 32
DRIVE_TIMEOUT_S: Final = 30.0

log = get_logger(__name__)


class Sweeper:
    """Looks at every partition about once a second; `swept` counts the entries it ended."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        self._engine = engine
        self._reader = reader
        self._task: asyncio.Task[None] | None = None
        self.swept = 0

    def __repr__(self) -> str:
        return f"<Sweeper swept={self.swept}>"

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="sweeper")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S * random.uniform(0.5, 1.5))
            await asyncio.gather(
                *(self._sweep(accumulator) for accumulator in self._engine.cluster.accumulators)
            )

    async def _sweep(self, accumulator: Accumulator) -> None:
        try:
            for entry, now_ms in await self._stale_entries(accumulator):
                await self._end(accumulator.partition, entry, now_ms)
        except hiredis.ReplyError as error:
            self._engine.cluster.heed(accumulator.shard, str(error))
        except (NotSent, ConnectionLost, Outage, TimeoutError, KeyError) as error:
            log.debug("sweep postponed", partition=accumulator.partition, error=str(error))
        except Exception:
            log.exception("sweep failed", partition=accumulator.partition)

    async def _stale_entries(self, accumulator: Accumulator) -> list[tuple[Entry, int]]:
        """The open entries that are old enough, with the Redis time (ms) at which they were read."""
        keys = accumulator.keys
        lane = self._engine.cluster.lanes[accumulator.shard]
        members: list[bytes] = await lane.call("ZRANGE", keys.open, 0, ENTRIES_PER_SWEEP_MAX)
        stale: list[tuple[Entry, int]] = []
        for seq in (member.decode() for member in members if b"." not in member):
            seconds, micros = await lane.call("TIME")
            now_ms = int(seconds) * 1000 + int(micros) // 1000
            found: list[Any] = await lane.call("XRANGE", keys.journal, f"{seq}-0", f"{seq}-0")
            if not found:
                if await lane.call("ZSCORE", keys.open, seq) is None:
                    continue  # settled and trimmed meanwhile
                log.error("open entry is not in the stream", partition=accumulator.partition, seq=seq)
                continue
            payload = found[0][1][1]
            age_ms = now_ms - parse_header(payload)[0].time_ms
            if age_ms < OPEN_AGE_MS_MIN:
                break
            if age_ms > self._engine.cluster.config.retention_ms // 2:
                # The receiver may have forgotten the credit: driving it blindly could pay twice.
                self._engine.metrics.sweeper_transfers.labels("too_old").inc()
                log.error(
                    "open entry is too old to be driven",
                    partition=accumulator.partition,
                    seq=seq,
                    age_ms=age_ms,
                )
                continue
            stale.append((parse_entry(payload), now_ms))
        return stale

    async def _end(self, partition: int, entry: Entry, now_ms: int) -> None:
        header = entry.header
        await self._reader.durable(partition, header.seq, header.nonce)
        debits = [
            (idx, operation)
            for idx, operation in enumerate(entry.operations)
            if operation.kind == "d" and header.outcomes[idx] == Outcome.APPLIED
        ]
        call = Call(len(debits))
        partitions = self._engine.cluster.config.partitions
        for position, (idx, debit) in enumerate(debits):
            command = TransferCommand(debit.a, debit.b, debit.amount_minor, debit.currency, debit.id)
            q = partition_of(debit.b, partitions)
            Transfer(self._engine, command, partition, q, call, position).resume(header.seq, idx, now_ms)
        async with asyncio.timeout(DRIVE_TIMEOUT_S):
            await call.future
        if "outcome_unknown" not in call.results:
            self._engine.settle(partition, header.seq)
            self.swept += 1
            for result in call.results:
                self._engine.metrics.sweeper_transfers.labels(
                    "paid" if result == Outcome.APPLIED else "refunded"
                ).inc()
            log.info("open entry ended", partition=partition, seq=header.seq, transfers=len(debits))
