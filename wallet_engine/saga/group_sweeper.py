"""Ends groups without a driver (G9): those prepared in a part, and those the home decided but did not forget.

Time alone ends nothing. If a part's record is older than any healthy group, the sweeper asks the home to
decide that the group is void, and does what the home answers: the first decision counts. It tells the parts
the home's decision until each has carried it out. Every service sweeps; every step may be repeated.
"""

import asyncio
import random
from typing import Final

import hiredis

from wallet_engine.domain.errors import Corruption, Outage
from wallet_engine.domain.groups import COMMITTED, INTERRUPT, NONE, Record, parse_record
from wallet_engine.domain.memory import PAYER_LENGTH
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.passage import Passage
from wallet_engine.redis_store.connection import ConnectionLost, NotSent
from wallet_engine.saga.group import GroupDriver, parts_of
from wallet_engine.saga.open_ages import OpenAges
from wallet_engine.telemetry.logging import get_logger

TICK_S: Final = 1.0
#: A record younger than this is left to the service that wrote it.
RECORD_AGE_S_MIN: Final = 5.0
#: Maximum records of one partition to read, and to drive, in one tick.
LOOKED_AT_MAX: Final = 2_000
DRIVEN_MAX: Final = 32
DRIVE_TIMEOUT_S: Final = 8.0
#: Characters of an id in a field.
_ID_LENGTH: Final = 22
_FIELD_LENGTH: Final = _ID_LENGTH + PAYER_LENGTH

log = get_logger(__name__)


class GroupSweeper:
    """Checks every partition about once a second; `swept` counts the records it ended."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        self._ticks: dict[int, asyncio.Task[None]] = {}
        self._passages: dict[int, Passage] = {}
        #: Partition -> cursor at which the scan of its records continues.
        self._cursors: dict[int, bytes] = {}
        #: Partition -> records found by that scan so far: field of the record -> the entry that wrote it.
        self._met: dict[int, dict[bytes, int]] = {}
        #: Open groups as of the last complete scan of each partition.
        self.open = OpenAges()
        self._drives: set[asyncio.Task[None]] = set()
        #: (partition, key) of the records that are being ended.
        self._driven: set[tuple[int, str]] = set()
        self.swept = 0

    def __repr__(self) -> str:
        return f"<GroupSweeper swept={self.swept}>"

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="group-sweeper")

    async def close(self) -> None:
        tasks = [*self._drives, *self._ticks.values(), *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S * random.uniform(0.5, 1.5))
            for accumulator in self._engine.cluster.accumulators:
                running = self._ticks.get(accumulator.partition)
                if running is None or running.done():
                    self._ticks[accumulator.partition] = asyncio.create_task(self._tick(accumulator))

    async def _tick(self, accumulator: Accumulator) -> None:
        try:
            stale = await self._stale(accumulator)
            for field, record in stale:  # a group whose home is down does not delay others
                task = asyncio.create_task(self._end(accumulator.partition, field, record))
                self._drives.add(task)
                task.add_done_callback(self._drives.discard)
        except (NotSent, ConnectionLost, KeyError, hiredis.ReplyError) as error:
            log.debug("groups are swept later", partition=accumulator.partition, error=str(error))
        except Exception:
            log.exception("groups are not swept", partition=accumulator.partition)

    async def _stale(self, accumulator: Accumulator) -> list[tuple[str, Record]]:
        """Fields and records of the groups that are older than `RECORD_AGE_S_MIN`."""
        keys, partition = accumulator.keys, accumulator.partition
        lane = self._engine.cluster.lanes[accumulator.shard]
        if not await lane.call("HLEN", keys.group):
            self._passages.pop(partition, None)
            self._cursors.pop(partition, None)
            self.open.note(partition, (), self._engine.now_s())
            return []
        passage = self._passages.setdefault(partition, Passage(RECORD_AGE_S_MIN))
        state, seq = await lane.call("HMGET", keys.meta, "state", "seq")
        now_s = self._engine.now_s()
        if state != b"live":
            return []
        passage.note(int(seq), now_s)
        stale: list[tuple[str, Record]] = []
        looked_at = 0
        cursor = self._cursors.get(partition, b"0")
        met = self._met.setdefault(partition, {})
        if cursor == b"0":
            met.clear()
        while looked_at < LOOKED_AT_MAX and len(stale) < DRIVEN_MAX:
            cursor, found = await lane.call("HSCAN", keys.group, cursor, "COUNT", 100)
            looked_at += max(1, len(found) // 2)
            for field, text in zip(found[::2], found[1::2], strict=True):
                try:
                    record = parse_record(text.decode(errors="replace"))
                except Corruption:  # `doctor` names it; it holds up no other
                    met[field] = 0
                    continue
                met[field] = record.seq
                if passage.passed(record.seq, now_s):
                    stale.append((field.decode(), record))
            if cursor == b"0":
                self.open.note(partition, sorted(met.values()), now_s)
                break
        self._cursors[partition] = cursor
        return stale

    async def _end(self, partition: int, key: str, record: Record) -> None:
        if (partition, key) in self._driven:
            return
        self._driven.add((partition, key))
        try:
            async with asyncio.timeout(DRIVE_TIMEOUT_S):
                await self._drive(partition, key, record)
        except (Outage, TimeoutError, KeyError) as error:
            log.debug("a group is ended later", partition=partition, error=str(error))
        except Exception:
            log.exception("a group is not ended", partition=partition)
        finally:
            self._driven.discard((partition, key))

    async def _drive(self, partition: int, key: str, record: Record) -> None:
        field, mark = key[:_FIELD_LENGTH], key[_FIELD_LENGTH:]
        driver = GroupDriver(self._engine, record.payer, field[:_ID_LENGTH], mark)
        if record.status == COMMITTED:
            await self._tell_parts(driver, field[:_ID_LENGTH], record)
        else:
            await self._ask_home(driver, partition, field[:_ID_LENGTH], record)

    async def _ask_home(self, driver: GroupDriver, partition: int, transaction: str, record: Record) -> None:
        home, said = self._engine.cluster.homes.of_payer(record.payer, transaction), record.words
        issued_s = self._engine.now_s()  # what follows is for this use of the id, and for no later one
        outcome, told = await driver.send("g", home, said.attempt, (), INTERRUPT, issued_s)
        # If the home decided another body under this id, this one is void.
        decision = told[0] if outcome == Outcome.REPEATED else outcome
        paid = decision == Outcome.APPLIED
        kind = "y" if paid else "b"
        ended = await driver.send(kind, partition, said.attempt, said.legs, NONE, issued_s)
        if ended.outcome == Outcome.APPLIED:
            self._count("paid" if paid else "given_back", partition)

    async def _tell_parts(self, driver: GroupDriver, transaction: str, record: Record) -> None:
        transfers = [
            TransferCommand(leg.payer, leg.receiver, leg.minor, leg.currency, transaction)
            for leg in record.words.legs
        ]
        parts = parts_of(self._engine.cluster.homes, record.payer, transaction, transfers)
        # The record may be newer than the journal; the home answers only when its decision is durable.
        issued_s = self._engine.now_s()
        outcome, told = await driver.send("g", parts.home, record.words.attempt, (), INTERRUPT, issued_s)
        if (told[0] if outcome == Outcome.REPEATED else outcome) != Outcome.APPLIED:
            return
        if await driver.tell("y", parts, record.words.attempt, issued_s):
            await driver.send("w", parts.home, record.words.attempt, (), NONE, issued_s)
            self._count("paid", parts.home)

    def _count(self, result: str, partition: int) -> None:
        self.swept += 1
        self._engine.metrics.sweeper_groups.labels(result).inc()
        log.info("group ended", partition=partition, result=result)
