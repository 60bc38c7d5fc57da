"""Callers take turns: much work of one caller does not delay little work of another, and all queues are bounded."""

import asyncio
import time
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from wallet_engine.domain.errors import Outage, RateLimited
from wallet_engine.domain.limits import IN_FLIGHT_TRANSFERS_MAX
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.service import shares as shares_module
from wallet_engine.service import turns as turns_module
from wallet_engine.service.shares import Share, Shares
from wallet_engine.service.turns import (
    AT_ONCE_BYTES_MAX,
    LITTLE_MAX,
    READ_AHEAD_MAX,
    ROUND_BYTES_MAX,
    SLICE_NARROW,
    SLICE_WIDE,
    WAITING_BYTES_MAX,
    WINDOW_NARROW,
    WINDOW_WIDE,
    Turns,
)

COMMAND = TransferCommand("alice", "bob", 1, "USD", "A" * 22)


class Engine:
    """An engine that keeps its work (`inside`) until the test releases it."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, asyncio.Future[list[str]]]] = []
        self.slices: list[int] = []

    @property
    def inside(self) -> int:
        return sum(size for size, _ in self.begun)

    async def start(self, commands: Sequence[TransferCommand]) -> list[str]:
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self.begun.append((len(commands), future))
        self.slices.append(len(commands))
        return await future

    def finish(self, count: int = 1) -> None:
        for size, future in self.begun[:count]:
            future.set_result(["+"] * size)
        del self.begun[:count]


async def rounds(count: int = 60) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def drained(engine: Engine, *tasks: "asyncio.Task[Any]") -> list[Any]:
    async with asyncio.timeout(20):
        while not all(task.done() for task in tasks):
            engine.finish()
            await rounds(3)
    return [task.result() for task in tasks]


def scene(work: Any) -> None:
    asyncio.run(work())


def test_alone_a_batch_goes_in_wide_slices_up_to_the_window() -> None:
    async def work() -> None:
        shares, engine = Shares(), Engine()
        turns, mine = Turns(shares), shares.of("mine")
        tasks = [
            asyncio.create_task(turns.carry_out(mine, [COMMAND] * size, engine.start))
            for size in (1_000, 10_000, 10_000)
        ]
        await rounds()
        assert engine.inside == WINDOW_WIDE
        assert set(engine.slices) == {SLICE_WIDE}
        results = await drained(engine, *tasks)
        assert [len(result) for result in results] == [1_000, 10_000, 10_000]
        assert mine.in_flight == 0
        assert repr(turns) == "<Turns taken=0 inside=0 waiting=0, 0>"

    scene(work)


def test_beside_small_calls_of_another_a_batch_has_a_narrow_window() -> None:
    async def work() -> None:
        shares, engine = Shares(), Engine()
        turns, flood, other = Turns(shares), shares.of("flood"), shares.of("other")
        other.present_s = float("inf")
        tasks = [
            asyncio.create_task(turns.carry_out(flood, [COMMAND] * 1_000, engine.start)) for _ in range(40)
        ]
        await rounds(200)
        assert engine.inside == WINDOW_NARROW
        assert set(engine.slices) == {SLICE_NARROW}
        little = asyncio.create_task(turns.carry_out(other, [COMMAND] * 10, engine.start))
        await rounds(2)
        assert engine.slices[-1] == 10  # it was not delayed
        engine.begun[-1][1].set_result(["+"] * 10)
        engine.begun.pop()
        await rounds(2)
        assert little.result() == ["+"] * 10
        most = 0
        for _ in range(20):
            engine.finish()
            await rounds(10)
            most = max(most, engine.inside)
        assert most == WINDOW_NARROW
        await drained(engine, *tasks)

    scene(work)


def test_two_who_flood_have_their_turns_one_after_the_other() -> None:
    async def work() -> None:
        shares, engine = Shares(), Engine()
        turns = Turns(shares)
        order: list[str] = []

        def start(name: str) -> Any:
            async def started(commands: Sequence[TransferCommand]) -> list[str]:
                order.append(name)
                return await engine.start(commands)

            return started

        tasks = []
        for name, count in (("a", 10), ("b", 2)):  # the operations of a come first
            for _ in range(count):
                going = turns.carry_out(shares.of(name), [COMMAND] * 4_000, start(name))
                tasks.append(asyncio.create_task(going))
        await drained(engine, *tasks)
        # While both wait, every second slice is b's.
        first, last = order.index("b"), len(order) - 1 - order[::-1].index("b")
        assert order[first : last + 1].count("a") <= order.count("b") + 1
        assert last < len(order) / 2

    scene(work)


def test_one_batch_is_read_in_each_round_of_the_loop() -> None:
    async def work() -> None:
        shares = Shares()
        turns = Turns(shares)
        rounds_passed, read_in = 0, []

        def steps(count: int) -> Generator[None, None, int]:
            for _ in range(count - 1):
                read_in.append(rounds_passed)
                yield
            read_in.append(rounds_passed)
            return count

        large = AT_ONCE_BYTES_MAX + 1
        readers = [asyncio.create_task(turns.read(shares.of(f"c{n % 3}"), large, steps(3))) for n in range(9)]
        while not all(reader.done() for reader in readers):
            await asyncio.sleep(0)
            rounds_passed += 1
            assert rounds_passed < 1_000
        assert [reader.result() for reader in readers] == [3] * 9
        assert len(set(read_in)) == len(read_in) == 27

    scene(work)


def test_who_is_alone_reads_small_batches_in_one_round_but_no_more_than_a_few_milliseconds_of_them() -> None:
    async def work() -> None:
        shares = Shares()
        turns, mine, read_in, rounds_passed = Turns(shares), shares.of("mine"), [], 0

        def steps() -> Generator[None, None, None]:
            read_in.append(rounds_passed)
            return None
            yield

        at_once = ROUND_BYTES_MAX // AT_ONCE_BYTES_MAX
        for _ in range(at_once * 2):
            asyncio.create_task(turns.read(mine, AT_ONCE_BYTES_MAX, steps()))  # noqa: RUF006
        while len(read_in) < at_once * 2:
            await asyncio.sleep(0)
            rounds_passed += 1
            assert rounds_passed < 1_000
        assert read_in.count(0) == at_once + 1  # and one more that had its turn
        assert max(map(read_in.count, read_in)) == at_once + 1

    scene(work)


def test_beside_others_even_small_batches_take_turns_to_be_read() -> None:
    async def work() -> None:
        shares = Shares()
        turns, mine, other = Turns(shares), shares.of("mine"), shares.of("other")
        other.present_s = float("inf")
        read_in, rounds_passed = [], 0

        def steps() -> Generator[None, None, None]:
            read_in.append(rounds_passed)
            return None
            yield

        readers = [asyncio.create_task(turns.read(mine, 100, steps())) for _ in range(5)]
        while not all(reader.done() for reader in readers):
            await asyncio.sleep(0)
            rounds_passed += 1
            assert rounds_passed < 1_000
        assert len(set(read_in)) == 5

    scene(work)


def test_alone_and_without_others_waiting_nothing_waits() -> None:
    async def work() -> None:
        shares, engine = Shares(), Engine()
        turns, mine = Turns(shares), shares.of("mine")

        def step() -> Generator[None, None, str]:
            return "read"
            yield

        reading = turns.read(mine, 100, step())
        with pytest.raises(StopIteration) as ended:  # it ends without waiting
            reading.send(None)
        assert ended.value.value == "read"
        await rounds(3)
        going = asyncio.create_task(turns.carry_out(mine, [COMMAND] * 1_000, engine.start))
        await asyncio.sleep(0)
        assert engine.inside == 1_000
        engine.finish()
        assert len(await going) == 1_000

    scene(work)


def test_who_has_much_that_was_read_reads_no_more_while_others_are_there() -> None:
    async def work() -> None:
        shares, engine = Shares(), Engine()
        turns, flood, other = Turns(shares), shares.of("flood"), shares.of("other")
        other.present_s = float("inf")
        going = asyncio.create_task(turns.carry_out(flood, [COMMAND] * READ_AHEAD_MAX, engine.start))
        await rounds()
        read: list[str] = []

        def step(name: str) -> Generator[None, None, None]:
            read.append(name)
            return None
            yield

        waiting = asyncio.create_task(turns.read(flood, 100, step("flood")))
        await rounds()
        await asyncio.wait_for(turns.read(other, 100, step("other")), 5)
        assert read == ["other"]
        await drained(engine, going)
        await asyncio.wait_for(waiting, 5)
        assert read == ["other", "flood"]

    scene(work)


def test_what_waits_is_bounded_and_one_may_not_have_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        shares, engine = Shares(), Engine()
        turns, flood, other = Turns(shares), shares.of("flood"), shares.of("other")
        batches = [
            asyncio.create_task(turns.carry_out(flood, [COMMAND] * 10_000, engine.start))
            for _ in range(IN_FLIGHT_TRANSFERS_MAX // 10_000)
        ]
        await rounds(3)
        with pytest.raises(Outage, match="transfers are in flight"):
            await turns.carry_out(flood, [COMMAND] * 1_000, engine.start)
        await drained(engine, *batches)
        other.present_s = float("inf")
        shares._looked_s = 0.0
        half = [
            asyncio.create_task(turns.carry_out(flood, [COMMAND] * 10_000, engine.start))
            for _ in range(IN_FLIGHT_TRANSFERS_MAX // 20_000)
        ]
        await rounds(3)
        with pytest.raises(RateLimited, match="of this caller alone"):
            await turns.carry_out(flood, [COMMAND] * 1_000, engine.start)
        await drained(engine, *half)

        def step() -> Generator[None, None, None]:
            yield

        reading = [asyncio.create_task(turns.read(flood, WAITING_BYTES_MAX // 4, step())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RateLimited, match="bytes of batches wait"):
            await turns.read(flood, WAITING_BYTES_MAX // 4, step())
        await asyncio.gather(*reading)

    scene(work)


def test_a_batch_that_waits_too_long_says_what_was_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "WAIT_S_MAX", 1.0)

    async def work() -> None:
        shares, engine = Shares(), Engine()
        turns, mine = Turns(shares), shares.of("mine")
        first = asyncio.create_task(turns.carry_out(mine, [COMMAND] * 10_000, engine.start))
        await rounds()
        with pytest.raises(Outage, match="waited too long"):
            await turns.carry_out(mine, [COMMAND] * 1_000, engine.start)
        engine.finish(100)
        results = await asyncio.wait_for(first, 5)
        assert results == ["+"] * WINDOW_WIDE + ["overloaded"] * (10_000 - WINDOW_WIDE)

    scene(work)


def test_g9_a_turn_that_comes_with_the_time_limit_leaves_no_room_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a stop of the process, all time limits have passed, and the next turn is given in the same round."""

    async def work() -> None:
        shares, engine = Shares(), Engine()
        turns, mine = Turns(shares), shares.of("mine")
        monkeypatch.setattr(turns_module, "WAIT_S_MAX", 0.3)
        full = asyncio.create_task(turns.carry_out(mine, [COMMAND] * WINDOW_WIDE, engine.start))
        await rounds()
        assert engine.inside == WINDOW_WIDE
        late = asyncio.create_task(turns.carry_out(mine, [COMMAND] * SLICE_WIDE, engine.start))
        await rounds()
        engine.finish(WINDOW_WIDE // SLICE_WIDE)
        await asyncio.sleep(0)  # the slices have ended, and the turn is planned for the next round
        time.sleep(0.4)  # noqa: ASYNC251  # the process is stopped
        await asyncio.wait([full, late])
        with pytest.raises(Outage):
            late.result()
        monkeypatch.setattr(turns_module, "WAIT_S_MAX", 5.0)
        again = asyncio.create_task(turns.carry_out(mine, [COMMAND] * 2 * WINDOW_WIDE, engine.start))
        await rounds()
        assert engine.inside == WINDOW_WIDE
        await drained(engine, again)

    scene(work)


def test_outages_of_slices_are_those_of_their_transfers_and_of_all_that_of_the_call() -> None:
    async def work() -> None:
        shares, engine = Shares(), Engine()
        turns, mine = Turns(shares), shares.of("mine")
        going = asyncio.create_task(turns.carry_out(mine, [COMMAND] * 3_000, engine.start))
        await rounds()
        engine.begun[1][1].set_exception(Outage("journal_unavailable", "why"))
        del engine.begun[1]
        engine.finish(2)
        expected = ["+"] * 1_000 + ["journal_unavailable"] * 1_000 + ["+"] * 1_000
        assert await asyncio.wait_for(going, 5) == expected
        refused = asyncio.create_task(turns.carry_out(mine, [COMMAND] * 3_000, engine.start))
        await rounds()
        for _, future in engine.begun:
            future.set_exception(Outage("overloaded", "why"))
        with pytest.raises(Outage, match="why"):
            await asyncio.wait_for(refused, 5)
        assert repr(turns) == "<Turns taken=0 inside=0 waiting=0, 0>"

    scene(work)


def test_a_rate_lets_bursts_through_and_large_batches_are_paid_off(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(shares_module.time, "perf_counter", lambda: now_s)
    share = Share(rate=100)
    for _ in range(100):
        share.spend(1)
    with pytest.raises(RateLimited, match="100 transfers a second") as limited:
        share.spend(1)
    assert limited.value.retry_after_s == 1
    now_s += 0.5
    share.spend(50)
    with pytest.raises(RateLimited):
        share.spend(1)
    now_s += 1
    share.spend(1_000)  # more than the share of a second: the rest is owed
    with pytest.raises(RateLimited) as limited:
        share.spend(1)
    assert limited.value.retry_after_s == 10
    now_s += 9.1
    share.spend(1)
    Share().spend(10**9)


def test_shares_are_kept_while_their_keys_change_and_forgotten_when_nothing_is_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shares_module, "SHARES_MAX", 3)
    shares = Shares()
    mine = shares.of("mine", 10, 5)
    mine.in_flight = 1
    assert shares.of("mine", None, None) is mine
    assert (mine.rate, mine.in_flight_max) == (None, float("inf"))
    for name in "abcdef":
        shares.of(name)
    assert shares.of("mine") is mine
    assert repr(shares) in ("<Shares 2>", "<Shares 3>")
    assert LITTLE_MAX <= SLICE_NARROW


def test_a_batch_above_its_keys_share_goes_in_alone_and_not_beside_others() -> None:
    async def work() -> None:
        engine, shares = Engine(), Shares()
        turns, share = Turns(shares), shares.of("k1", in_flight_max=5)
        share.in_flight = 1  # its present request
        first = asyncio.create_task(turns.carry_out(share, [COMMAND] * 9, engine.start))
        await rounds()
        share.in_flight += 1
        with pytest.raises(RateLimited, match="5 transfers in flight"):
            await turns.carry_out(share, [COMMAND] * 3, engine.start)
        assert await drained(engine, first) == [["+"] * 9]
        assert share.in_flight == 2

    scene(work)
