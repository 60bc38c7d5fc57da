"""Checks every shard once a second: its memory, its streams, and whether it takes writes at all. Knows which
partitions take no new work, so that new transfers are refused before their debit.

Memory headroom (G10): Redis refuses every growing write beyond `maxmemory`, also credits and refunds of
earlier debits. So services refuse operations that begin new work from `MEMORY_SHARE_MAX` on, and keep the
rest of the memory for operations that end begun work. A stream at its limit works in the same way: the script
refuses operations that begin new work, and the checks here see when the journal has caught up.
"""

import asyncio
from typing import Final

import hiredis

from wallet_engine.domain.errors import Outage
from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.cluster import ClusterView
from wallet_engine.engine.conditions import Condition
from wallet_engine.redis_store.connection import ConnectionLost, NotSent
from wallet_engine.redis_store.refusals import Meaning, refusal_of
from wallet_engine.telemetry.logging import get_logger

#: Share of `maxmemory`.
MEMORY_SHARE_MAX: Final = 0.85
LOOK_S: Final = 1.0
#: Partitions asked together for the length of their streams: about 50 us of a node's time.
STREAMS_LOOKED_AT: Final = 64

log = get_logger(__name__)


class Headroom:
    """Checks every shard's primary once a second."""

    def __init__(self, cluster: ClusterView) -> None:
        self._cluster = cluster
        #: Shards whose memory is nearly full.
        self.short: set[str] = set()
        #: Shards that answer reads but refuse writes, and the error of Redis. Also found without traffic.
        self.refusing: dict[str, str] = {}
        #: Partitions that take no new work, and for each reason the answer to a caller who would begin some.
        self.closed: dict[int, dict[Condition, Outage]] = {}
        #: Whether any shard or partition takes no new work; read for every transfer.
        self.wary = False
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Headroom short={sorted(self.short)} refusing={sorted(self.refusing)} closed={sorted(self.closed)}>"

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="headroom")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def check(self, *partitions: int) -> None:
        """Raises `Outage` when one of them takes no new work: `overloaded`, or the one it was closed with."""
        for partition in partitions:
            shard = self._cluster.accumulators[partition].shard
            if shard in self.short:
                raise Outage("overloaded", f"the memory of shard {shard} is nearly full")
            if shard in self.refusing:
                raise Outage(
                    "partition_unavailable",
                    f"partition {partition}: shard {shard} refuses writes: {self.refusing[shard]}",
                )
            for outage in self.closed.get(partition, {}).values():
                raise Outage(outage.code, outage.detail)

    def close_door(self, partition: int, condition: Condition, outage: Outage) -> None:
        """The partition takes no new work until `open_door`; callers who would begin some get `outage`."""
        reasons = self.closed.setdefault(partition, {})
        if condition not in reasons:
            log.warning(
                "partition takes no new work", partition=partition, condition=condition, why=outage.detail
            )
        reasons[condition] = outage
        self.wary = True

    def open_door(self, partition: int, condition: Condition) -> None:
        """Remove one reason; no effect if the partition was not closed for it."""
        reasons = self.closed.get(partition)
        if reasons is not None and reasons.pop(condition, None) is not None:
            log.info("partition takes new work again", partition=partition, condition=condition)
            if not reasons:
                del self.closed[partition]
                self._look_up()

    def exhausted(self, shard: str) -> None:
        """Redis itself has refused a write because it is out of memory."""
        if shard not in self.short:
            log.error("Redis is out of memory: raise maxmemory", shard=shard)
            self.short.add(shard)
            self.wary = True

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            looks = [self._look(shard) for shard in list(self._cluster.lanes)]
            for result in await asyncio.gather(*looks, return_exceptions=True):
                if isinstance(result, Exception):  # the next look, and those at other shards, go on
                    log.error("headroom of a shard not checked", exc_info=result)

    async def _look(self, shard: str) -> None:
        await self._look_at_writes(shard)
        await self._look_at_memory(shard)
        await self._look_at_streams(shard)

    async def _look_at_writes(self, shard: str) -> None:
        """Try a write that changes nothing."""
        some = next((a for a in self._cluster.accumulators if a.shard == shard), None)
        if some is None:
            return
        try:
            await self._cluster.lanes[shard].call("PERSIST", some.keys.meta)
        except hiredis.ReplyError as error:
            refusal = refusal_of(str(error))
            if refusal.reads and refusal.meaning is Meaning.RETRY:
                if shard not in self.refusing:
                    log.error("Redis refuses writes", shard=shard, said=refusal.text)
                self.refusing[shard] = refusal.text
                self.wary = True
                return
        except (NotSent, ConnectionLost, KeyError):
            return  # what was known of it stays
        if self.refusing.pop(shard, None) is not None:
            log.info("Redis takes writes again", shard=shard)
            self._look_up()

    async def _look_at_memory(self, shard: str) -> None:
        try:
            share = memory_share(await self._cluster.lanes[shard].call("INFO", "memory"))
        except (NotSent, ConnectionLost, hiredis.ReplyError, KeyError):
            return  # what was known of it stays
        if share >= MEMORY_SHARE_MAX and shard not in self.short:
            log.error("shard takes no new work: raise maxmemory", shard=shard, share=round(share, 3))
            self.short.add(shard)
            self.wary = True
        elif share < MEMORY_SHARE_MAX and shard in self.short:
            log.info("shard takes new work again", shard=shard, share=round(share, 3))
            self.short.discard(shard)
            self._look_up()

    def _look_up(self) -> None:
        self.wary = bool(self.short or self.closed or self.refusing)

    async def _look_at_streams(self, shard: str) -> None:
        mine = [a for a in self._cluster.accumulators if a.shard == shard]
        for start in range(0, len(mine), STREAMS_LOOKED_AT):
            some = mine[start : start + STREAMS_LOOKED_AT]
            await asyncio.gather(*(self._look_at_stream(accumulator) for accumulator in some))

    async def _look_at_stream(self, accumulator: Accumulator) -> None:
        entries_max, keys = self._cluster.config.stream_entries_max, accumulator.keys
        try:
            lane = self._cluster.lanes[accumulator.shard]
            entries = await lane.call("XLEN", keys.journal)
            if entries >= entries_max:  # open entries do not count, as in lua/apply.lua
                entries -= await lane.call("ZCARD", keys.open)
        except (NotSent, ConnectionLost, hiredis.ReplyError, KeyError):
            return  # what was known of it stays
        if entries >= entries_max:
            self.close_door(
                accumulator.partition, Condition.FULL, stream_full(accumulator.partition, entries)
            )
        else:
            self.open_door(accumulator.partition, Condition.FULL)


def stream_full(partition: int, entries: int) -> Outage:
    """The answer while a partition's stream is at its limit."""
    return Outage("journal_unavailable", f"partition {partition}: {entries} entries wait for the journal")


def memory_share(info: bytes) -> float:
    """Used memory as a share of `maxmemory`, counted as Redis counts it; 0 without a limit. `info`: INFO memory."""
    values = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    limit = int(values["maxmemory"])
    used = int(values["used_memory"]) - int(values.get("mem_not_counted_for_evict", 0))
    return used / limit if limit else 0.0
