"""Releases expired holds: every service looks for due ones once a second, and asks the script to decide.

The script compares the expiry with the time that it records, so late or repeated checks do no harm.
"""

import asyncio
import random
from contextlib import suppress
from typing import Final

import hiredis

from wallet_engine.domain.errors import Corruption, Outage
from wallet_engine.domain.holds import parse_hold
from wallet_engine.domain.memory import PAYER_LENGTH
from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.engine import Engine
from wallet_engine.redis_store.connection import ConnectionLost, NotSent
from wallet_engine.telemetry.logging import get_logger

TICK_S: Final = 1.0
#: Holds of one partition expired in one tick.
EXPIRIES_MAX: Final = 64

log = get_logger(__name__)


class _Expiry:
    """Ignores the outcome: a hold that was not released is due again at the next tick."""

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        pass

    def failed(self, outage: Outage) -> None:
        pass


_EXPIRY: Final = _Expiry()


class Expirer:
    """Looks at every partition about once a second; `submitted` counts the holds it asked to release."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        #: Partition -> where the next tick goes on, if all holds that the last one looked at were due.
        self._starts: dict[int, int] = {}
        self.submitted = 0

    def __repr__(self) -> str:
        return f"<Expirer submitted={self.submitted}>"

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="expirer")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S * random.uniform(0.5, 1.5))
            ticks = [self._tick(accumulator) for accumulator in self._engine.cluster.accumulators]
            for result in await asyncio.gather(*ticks, return_exceptions=True):
                if isinstance(result, Exception):
                    log.error("expiry failed", exc_info=result)

    async def _tick(self, accumulator: Accumulator) -> None:
        keys = accumulator.keys
        try:
            lane = self._engine.cluster.lanes[accumulator.shard]
            start = self._starts.pop(accumulator.partition, 0)
            due = await lane.call("ZRANGE", keys.due, start, start + EXPIRIES_MAX - 1, "WITHSCORES")
            if start and not due:
                start, due = 0, await lane.call("ZRANGE", keys.due, 0, EXPIRIES_MAX - 1, "WITHSCORES")
            if not due:
                return
            (seconds, micros), clock = await asyncio.gather(
                lane.call("TIME"), lane.call("HGET", keys.meta, "clock")
            )
            # The time that an entry would record now. A clock that was set back does not set back recorded
            # time.
            now_ms = max(int(seconds) * 1000 + int(micros) // 1000, int(clock or 0))
            fields = [field for field, score in zip(due[::2], due[1::2], strict=True) if int(score) <= now_ms]
            if len(fields) == EXPIRIES_MAX:
                # Some may not be released yet: those whose capture waits for a receiver that is down. They must not
                # hide the holds behind them.
                self._starts[accumulator.partition] = start + EXPIRIES_MAX
            records = await lane.call("HMGET", keys.hold, *fields) if fields else []
            for field, record in zip(fields, records, strict=True):
                with suppress(Corruption):  # `verify` names it; it holds up no other
                    if record is not None:
                        self._expire(accumulator.partition, field.decode(), record.decode(errors="replace"))
        except (NotSent, ConnectionLost, KeyError, Outage, hiredis.ReplyError) as error:
            log.debug("expiry postponed", partition=accumulator.partition, error=str(error))

    def _expire(self, partition: int, field: str, record: str) -> None:
        hold = parse_hold(record)
        words = ("e", field[:-PAYER_LENGTH], hold.account, "-", 0, hold.currency, "", "")
        self._engine.submit(partition, words, _EXPIRY, self._engine.now_s())
        self.submitted += 1
