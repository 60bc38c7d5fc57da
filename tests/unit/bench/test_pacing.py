"""Arrivals at a rate, and latencies that count from them."""

import asyncio
import secrets
import time
from itertools import pairwise
from random import Random

import pytest
import uvloop

from bench import pacing
from bench.pacing import Arrivals, BacklogFull, ClosedLoop, OpenLoop


@pytest.fixture
def rng() -> Random:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return Random(seed)


def test_arrivals_come_at_the_rate_and_without_memory(rng: Random) -> None:
    moments = Arrivals(1000.0, rng, 50.0).due(150.0)
    # 100,000 expected, seven standard deviations are 2,214.
    assert 97_700 < len(moments) < 102_300
    assert moments == sorted(moments)
    assert moments[0] > 50.0
    gaps = [later - sooner for sooner, later in pairwise(moments)]
    beyond = sum(gap > 0.001 for gap in gaps) / len(gaps)
    assert beyond == pytest.approx(0.3679, abs=0.02)  # in a Poisson process 1/e of the gaps exceed the mean


def test_each_arrival_is_handed_out_once_however_often_one_looks(rng: Random) -> None:
    seed = rng.getrandbits(32)
    often, once = Arrivals(500.0, Random(seed), 0.0), Arrivals(500.0, Random(seed), 0.0)
    found = [moment for tick in range(1, 2001) for moment in often.due(tick / 1000)]
    assert found == once.due(2.0)


def test_a_stall_is_counted_from_the_arrivals_it_delayed(rng: Random) -> None:
    async def stalled() -> list[float]:
        failures: list[BacklogFull] = []
        loop = OpenLoop(2000.0, rng, failures.append)
        waited: list[float] = []
        loop.start()
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251 - the stall
        await asyncio.sleep(0.01)
        while (since_s := loop.take()) is not None:
            waited.append(time.perf_counter() - since_s)
        loop.stop()
        assert failures == []
        return waited

    waited = asyncio.run(stalled())
    assert len(waited) > 250
    assert max(waited) > 0.18
    assert sum(waited) / len(waited) > 0.08  # a closed loop would have seen one slow request


def test_who_is_parked_first_gets_the_first_arrival(rng: Random) -> None:
    async def parked() -> list[tuple[str, float]]:
        woken: list[tuple[str, float]] = []
        ready = asyncio.Event()
        loop = OpenLoop(1000.0, rng, lambda error: None)
        loop.start()

        def second(since_s: float) -> None:
            woken.append(("second", since_s))
            ready.set()

        loop.park(lambda since_s: woken.append(("first", since_s)))
        loop.park(second)
        await asyncio.wait_for(ready.wait(), 20)
        loop.stop()
        return woken

    (first, early_s), (second, late_s) = asyncio.run(parked())
    assert (first, second) == ("first", "second")
    assert early_s < late_s


def test_looking_for_arrivals_takes_no_core_of_its_own(rng: Random, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    due = Arrivals.due

    def counted(arrivals: Arrivals, now_s: float) -> list[float]:
        nonlocal looks
        looks += 1
        return due(arrivals, now_s)

    monkeypatch.setattr(Arrivals, "due", counted)

    async def idle() -> float:
        began_s = time.perf_counter()
        loop = OpenLoop(5000.0, rng, lambda error: None)
        loop.start()
        await asyncio.sleep(0.1)
        loop.stop()
        return time.perf_counter() - began_s

    lasted_s = uvloop.run(idle())  # the benchmark uses its timers
    assert looks <= 2 * lasted_s / pacing.TICK_S_MIN


def test_more_arrivals_than_answers_end_the_run(rng: Random, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "BACKLOG_MAX", 20)

    async def overloaded() -> BacklogFull:
        failed: asyncio.Future[BacklogFull] = asyncio.get_running_loop().create_future()
        OpenLoop(5000.0, rng, failed.set_result).start()
        return await asyncio.wait_for(failed, 20)

    assert "20 requests wait" in str(asyncio.run(overloaded()))


def test_a_closed_loop_counts_from_now() -> None:
    before_s = time.perf_counter()
    taken_s = ClosedLoop().take()
    assert taken_s is not None
    assert before_s <= taken_s <= time.perf_counter()
