"""Measures the wall clocks of the machines.

How far they are apart is only reported.
"""

import asyncio
import time
from typing import Final

import hiredis

from wallet_engine.domain.limits import ISSUED_AGE_MS_MAX
from wallet_engine.engine.cluster import ClusterView
from wallet_engine.redis_store.connection import ConnectionLost, NotSent
from wallet_engine.telemetry.logging import get_logger

LOOK_S: Final = 1.0
#: If clocks are further apart, the service is not ready, because the times of entries would be too
#: inaccurate.
APART_MS_MAX: Final = ISSUED_AGE_MS_MAX


log = get_logger(__name__)


def now_ms() -> int:
    """Unix time in milliseconds, by this machine's wall clock."""
    return time.time_ns() // 1_000_000


class Clocks:
    """Measures the clock of every shard's primary once a second."""

    def __init__(self, cluster: ClusterView) -> None:
        self._cluster = cluster
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Clocks {self.ahead_ms()}>"

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="clocks")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def ahead_ms(self) -> dict[str, int]:
        """shard -> milliseconds by which its clock is ahead of this machine's, for the connected shards."""
        here_ms, now_s = now_ms(), self._loop.time()
        return {
            shard: lane.clock.ms_at(now_s) - here_ms
            for shard, lane in self._cluster.lanes.items()
            if lane.is_open
        }

    def may_be_older(self, recorded_ms: int, age_ms: int, partition_ms: int = 0) -> bool:
        """Whether what was recorded at `recorded_ms` may be older than `age_ms`.

        The clock of its node may be wrong now, or have been wrong then. So the latest of all clocks counts, by their
        last measurement. What is ahead of them all is of unknown age. `partition_ms`: its partition's own time, if it
        is known.
        """
        now_s = self._loop.time()
        latest_ms = max(now_ms(), *(lane.clock.ms_at(now_s) for lane in self._cluster.lanes.values()), 0)
        return max(partition_ms, latest_ms) - recorded_ms > age_ms or recorded_ms - latest_ms > APART_MS_MAX

    def apart(self) -> str:
        """A sentence about clocks that are too far apart; empty when none are."""
        ahead = {"this service": 0, **{f"shard {shard}": ms for shard, ms in self.ahead_ms().items()}}
        slow, fast = min(ahead, key=ahead.__getitem__), max(ahead, key=ahead.__getitem__)
        apart_ms = ahead[fast] - ahead[slow]
        if apart_ms <= APART_MS_MAX:
            return ""
        return (
            f"the clock of {fast} is {apart_ms / 1000:.1f} s ahead of that of {slow}: set the wrong one right"
        )

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            looks = [self._look(shard) for shard in list(self._cluster.lanes)]
            for result in await asyncio.gather(*looks, return_exceptions=True):
                if isinstance(result, Exception):  # the next look, and those at other shards, go on
                    log.error("clock of a shard not measured", exc_info=result)

    async def _look(self, shard: str) -> None:
        try:
            await self._cluster.lanes[shard].look_at_clock()
        except (NotSent, ConnectionLost, hiredis.ReplyError, KeyError):
            return  # the last measurement stays
