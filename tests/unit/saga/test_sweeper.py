"""The sweeper with doubles of Redis and the engine: which entries it drives, and which it leaves alone."""

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from wallet_engine.domain.columns import pack
from wallet_engine.domain.errors import Outage
from wallet_engine.domain.operation import Words
from wallet_engine.engine.passage import Passage
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.saga import sweeper as module
from wallet_engine.saga.sweeper import MEMBERS_PER_PAGE, OPEN_AGE_MS_MIN, Sweeper

PAYER, HEALTHY, DEAD = 0, 1, 2
NONCE = "ab" * 8


class Lane:
    """The payers' partition: its open entries and their text."""

    def __init__(self) -> None:
        self.members: list[str] = []
        self.texts: dict[int, tuple[bytes, bytes]] = {}
        self.newest = self.clock_ms = 0
        self.is_open = True
        self.clock = SimpleNamespace(ms_at=lambda now_s: 0)
        self.read: list[str] = []

    def entry(self, seq: int, *receivers: str, nonce: str = NONCE, markers: int = 0) -> None:
        """An open entry with a debit for each of the receivers."""
        operations: list[Words] = [
            ("d", f"{seq:05}{number:017}", "payer", to, 1, "USD", "", "")
            for number, to in enumerate(receivers)
        ]
        header = f"{seq} {'0' * 16} {nonce} 1 0 1 {'+' * len(receivers)} 2"
        self.texts[seq] = header.encode(), pack(operations).columns
        self.members += [str(seq), *(f"{seq}.{number}" for number in range(markers))]
        self.newest = max(self.newest, seq)

    async def call(self, name: str, key: str, *words: Any) -> Any:
        if name == "HMGET":
            return [b"live", b"%d" % self.newest, b"9", b"%d" % self.clock_ms]
        if name == "ZRANGEBYSCORE":
            start, most = float(words[0]), words[4]
            found = [member for member in self.members if float(member.partition(".")[0]) >= start]
            self.read += found[:most]
            return [member.encode() for member in found[:most]]
        if name == "XRANGE":
            seq = int(words[0].partition("-")[0])
            if seq not in self.texts:
                return []
            header, operations = self.texts[seq]
            return [[words[0].encode(), [b"header", header, b"operations", operations]]]
        assert name == "ZSCORE"
        return None


class Engine:
    """Applies credits in healthy partitions at once, fails those in dead ones, and records settles."""

    def __init__(self, lane: Lane) -> None:
        self.time_s = 1000.0
        self.dead = {DEAD}
        self.credited: list[tuple[int, str]] = []
        self.settled: list[int] = []
        self.doors: list[tuple[str, int]] = []
        self.windows: list[tuple[int, int]] = []
        #: Recorded times of entries and of their partition, as the sweeper asked whether they are old.
        self.asked_ms: list[tuple[int, ...]] = []
        accumulators = [
            SimpleNamespace(
                partition=p,
                shard=f"s{p}",
                keys=PartitionKeys(str(p)),
                held_since_s=None,
                learn_window=lambda number, now_s, p=p: self.windows.append((p, number)),
            )
            for p in range(3)
        ]
        homes = SimpleNamespace(of=lambda account: HEALTHY if account.startswith("healthy") else DEAD)
        self.cluster = SimpleNamespace(accumulators=accumulators, lanes={"s0": lane}, homes=homes)
        self.passages = [Passage(10**9) for _ in accumulators]
        self.metrics = SimpleNamespace(
            sweeper_open_entries=SimpleNamespace(set=lambda n: None),
            sweeper_transfers=SimpleNamespace(labels=lambda _: SimpleNamespace(inc=lambda: None)),
        )
        self.headroom = SimpleNamespace(
            close_door=lambda p, *_: self.doors.append(("closed", p)),
            open_door=lambda p, *_: self.doors.append(("open", p)),
        )

    def now_s(self) -> float:
        return self.time_s

    def is_old(self, partition: int, seq: int, *recorded_ms: int) -> bool:
        self.asked_ms.append(recorded_ms)
        return False

    @property
    def riders(self) -> "Engine":
        return self

    def add(self, partition: int, operation: Words) -> None:
        self.settled.append(int(operation[1]))

    def submit(self, partition: int, operation: Words, item: Any, issued_s: float) -> None:
        self.credited.append((partition, operation[2]))
        if partition in self.dead:
            item.failed(Outage("outcome_unknown", "the node went away"))
        else:
            item.committed("+", 0, SimpleNamespace(sent_s=0.0, partition=1, entry="1.1"))


@pytest.fixture
def lane() -> Lane:
    return Lane()


@pytest.fixture
def engine(lane: Lane) -> Engine:
    return Engine(lane)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def durable(*_: Any) -> None:
    pass


def made(engine: Engine) -> Sweeper:
    return Sweeper(engine, SimpleNamespace(durable=durable))  # type: ignore[arg-type]


async def sweep(sweeper: Sweeper, engine: Engine, times: int = 1, seconds: float = 1.0) -> None:
    """Look at the payers' partition `times` times, and wait for all that follows."""
    for _ in range(times):
        await sweeper._sweep(engine.cluster.accumulators[PAYER])
        while sweeper._drives:
            await asyncio.sleep(0)
        engine.time_s += seconds


async def aged(sweeper: Sweeper, engine: Engine) -> None:
    """Let the entries of the partition get older than the time in which the sweeper leaves them alone."""
    await sweep(sweeper, engine, 7, OPEN_AGE_MS_MIN / 6000)


def test_g4_what_the_partition_has_recorded_since_counts_for_the_age_of_a_debit(
    lane: Lane, engine: Engine
) -> None:
    """Every clock may have been set back since, and a new process has seen nothing."""
    lane.entry(7, "healthy")
    lane.clock_ms = 5_000_000
    run(aged(made(engine), engine))
    assert set(engine.asked_ms) == {(0, 5_000_000)}


def test_g4_a_new_process_knows_the_windows_before_it_reads_requests(
    lane: Lane, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of shards that answer: it does not wait for long for others."""
    monkeypatch.setattr(module, "FIRST_LOOK_S_MAX", 0.05)
    run(made(engine).look())
    assert engine.windows == [(PAYER, 9)]
    lane.is_open = False
    run(made(engine).look())
    assert engine.windows == [(PAYER, 9)]


def test_entries_towards_a_dead_receiver_hold_up_no_other(lane: Lane, engine: Engine) -> None:
    """G9: at any number of them, also within one entry."""

    async def main() -> None:
        sweeper = made(engine)
        for seq in range(1, 101):
            lane.entry(seq, "dead")
        lane.entry(101, "healthy-a", "dead", "healthy-b")
        lane.entry(102, "healthy-c")
        await aged(sweeper, engine)
        await sweep(sweeper, engine)
        assert {to for q, to in engine.credited if q == HEALTHY} == {"healthy-a", "healthy-b", "healthy-c"}
        assert set(engine.settled) == {102}
        dead = sum(q == DEAD for q, _ in engine.credited)
        assert 0 < dead <= 2 * module.ENTRIES_AT_ONCE_MAX  # then it was left alone

        engine.dead.clear()
        engine.time_s += 60
        await sweep(sweeper, engine, 2)
        assert set(engine.settled) == set(range(1, 103))
        healthy = [to for q, to in engine.credited if q == HEALTHY]
        assert len(healthy) == len(set(healthy))  # each is driven only once

    run(main())


def test_a_receiver_that_is_held_is_not_tried(lane: Lane, engine: Engine) -> None:
    async def main() -> None:
        sweeper = made(engine)
        lane.entry(1, "dead")
        engine.cluster.accumulators[DEAD].held_since_s = 0.0
        await aged(sweeper, engine)
        await sweep(sweeper, engine, 20)
        assert engine.credited == []
        engine.cluster.accumulators[DEAD].held_since_s = None
        engine.dead.clear()
        await sweep(sweeper, engine)
        assert engine.settled == [1]

    run(main())


def test_young_entries_are_left_to_the_service_that_wrote_them(lane: Lane, engine: Engine) -> None:
    async def main() -> None:
        sweeper = made(engine)
        lane.entry(1, "healthy-a")
        await sweep(sweeper, engine, 4)
        assert engine.settled == []
        await aged(sweeper, engine)
        lane.entry(2, "healthy-b")
        await sweep(sweeper, engine)
        assert set(engine.settled) == {1}

    run(main())


def test_every_page_is_read_and_markers_are_passed_over(lane: Lane, engine: Engine) -> None:
    async def main() -> None:
        sweeper = made(engine)
        lane.entry(1, "dead", markers=MEMBERS_PER_PAGE + 500)
        for seq in range(2, MEMBERS_PER_PAGE + 10):
            lane.entry(seq, "dead")
        lane.entry(MEMBERS_PER_PAGE + 10, "healthy-a")
        await aged(sweeper, engine)
        await sweep(sweeper, engine)
        assert set(engine.settled) == {MEMBERS_PER_PAGE + 10}
        lane.read.clear()
        await sweep(sweeper, engine)
        assert len(lane.read) <= 2 * MEMBERS_PER_PAGE + 10  # the other markers are not read

    run(main())


def test_an_entry_that_took_the_place_of_another_is_not_taken_for_paid(lane: Lane, engine: Engine) -> None:
    """G1: the first entry was lost with Redis's memory, and nobody was paid for it."""

    async def main() -> None:
        sweeper = made(engine)
        lane.entry(1, "dead")
        await aged(sweeper, engine)
        await sweep(sweeper, engine)
        lane.members.clear()
        lane.entry(1, "healthy-a", "healthy-b", nonce="cd" * 8)
        engine.dead.clear()
        engine.time_s += 60
        await sweep(sweeper, engine, 3)
        assert [to for q, to in engine.credited if q == HEALTHY] == ["healthy-a", "healthy-b"]
        assert set(engine.settled) == {1}

    run(main())


def test_a_settle_that_was_lost_is_made_again(lane: Lane, engine: Engine) -> None:
    async def main() -> None:
        sweeper = made(engine)
        lane.entry(1, "healthy-a")
        await aged(sweeper, engine)
        made_once = len(engine.settled)
        await sweep(sweeper, engine, 3)
        assert engine.settled == [1] * (made_once + 3)
        assert len(engine.credited) == 1
        lane.members.clear()
        await sweep(sweeper, engine, 2)
        assert engine.settled == [1] * (made_once + 3)

    run(main())


def test_too_many_open_entries_close_the_receivers_door(
    lane: Lane, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G10: no more debits are made for this receiver until the open entries have ended."""
    monkeypatch.setattr("wallet_engine.saga.standing.OPEN_PER_RECEIVER_MAX", 50)
    monkeypatch.setattr(module, "OPEN_PER_RECEIVER_MAX", 50)

    async def main() -> None:
        sweeper = made(engine)
        for seq in range(1, 61):
            lane.entry(seq, "dead")
        await aged(sweeper, engine)
        await sweep(sweeper, engine)
        assert engine.doors == [("closed", DEAD)]
        engine.dead.clear()
        engine.time_s += 60
        await sweep(sweeper, engine, 2)
        assert engine.doors == [("closed", DEAD), ("open", DEAD)]

    run(main())
