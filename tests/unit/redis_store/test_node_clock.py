"""The clock of a node, estimated with a monotonic clock."""

import asyncio
from typing import Any, cast

from wallet_engine.redis_store.node_clock import NodeClock


def test_it_goes_on_from_what_was_seen() -> None:
    clock = NodeClock()
    clock.shows(1_700_000_000_500, 10.0)
    assert (clock.ms_at(10.0), clock.ms_at(12.25), clock.ms_at(9.0)) == (
        1_700_000_000_500,
        1_700_000_002_750,
        1_699_999_999_500,
    )


def test_it_is_measured_half_way_between_question_and_answer() -> None:
    class Connection:
        async def call(self, *words: str) -> Any:
            assert words == ("TIME",)
            await asyncio.sleep(0.05)
            return [b"1700000000", b"250000"]

    async def measured() -> float:
        clock, loop = NodeClock(), asyncio.get_running_loop()
        before_s = loop.time()
        await clock.measure(cast(Any, Connection()))
        return 1_700_000_000_250 - clock.ms_at((before_s + loop.time()) / 2)

    assert abs(asyncio.run(measured())) <= 5
