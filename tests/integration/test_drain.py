"""The drain of one journal copy, between a real Redis and a real directory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
from lua.partition import LuaPartition
from support.clusters import RedisClusterFactory

from wallet_engine.domain.entry import parse_header
from wallet_engine.drain import group_commit
from wallet_engine.drain import shard_drain as module
from wallet_engine.drain.group_commit import GroupCommit, Unreadable
from wallet_engine.drain.shard_drain import Gap, ShardDrain
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.link_server import LinkServer
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.recovery.keeper import _leaves
from wallet_engine.redis_store.connection import Connection
from wallet_engine.telemetry.metrics import Metrics

PARTITION = 3
OTHER = 4

OnGap = Callable[[Mapping[int, int], Callable[[int], None]], bool]


@pytest.fixture
def partition(redis_cluster: RedisClusterFactory) -> Iterator[LuaPartition]:
    host, port = redis_cluster().primary("s1").address.rsplit(":", 1)
    client = redis.Redis(host=host, port=int(port), decode_responses=True)
    try:
        yield LuaPartition(client, str(PARTITION))
    finally:
        client.close()


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JournalWriter]:
    monkeypatch.setattr(module, "TRIM_S", 0.05)
    writer = JournalWriter(tmp_path / "journal", "j1")
    yield writer
    writer.close()


def opening(partition: LuaPartition, count: int) -> None:
    """`count` entries, each of which opens an account."""
    for _ in range(count):
        assert partition.apply([f"o - account{partition.nonces} - 0 USD"])[0] == "OK"


def journaling(writer: JournalWriter, metrics: Metrics | None = None) -> tuple[JournalCopy, GroupCommit]:
    copy = JournalCopy(writer)
    copy.confirm([(PARTITION, 1), (OTHER, 1)])
    return copy, GroupCommit(copy, LinkServer(copy, lambda shard, reason: None), metrics or Metrics())


@asynccontextmanager
async def drained(
    partition: LuaPartition,
    writer: JournalWriter,
    other: LuaPartition | None = None,
    on_gap: OnGap = lambda epochs, caught_up: False,
    metrics: Metrics | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    """A task drains a shard of one or two partitions."""

    async def ours(_: int) -> bool:
        return True

    copy, commit = journaling(writer, metrics)
    keys = {PARTITION: partition.keys} | ({} if other is None else {OTHER: other.keys})
    drain = ShardDrain(
        commit,
        copy,
        keys,
        dict.fromkeys(keys, 1),
        ours,
        lambda p: writer.position(p).seq,
        on_gap,
    )
    host = partition.client.connection_pool.connection_kwargs
    connections = [await Connection.open(f"{host['host']}:{host['port']}", lambda _: None) for _ in range(2)]
    running = asyncio.create_task(drain.run(*connections))
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for connection in connections:
            connection.close()


async def reached(writer: JournalWriter, seq: int, partition: int = PARTITION) -> None:
    async with asyncio.timeout(20):
        while writer.position(partition).seq < seq:
            await asyncio.sleep(0.002)


def test_entries_that_no_service_told_of_are_fetched(partition: LuaPartition, writer: JournalWriter) -> None:
    async def main() -> None:
        opening(partition, 2)
        async with drained(partition, writer):
            await reached(writer, 2)
            opening(partition, 150)  # more than one fetch
            await reached(writer, 152)

    asyncio.run(main())


@pytest.mark.parametrize("lost", [(3,), (3, 4)])
def test_a_gap_is_noticed(partition: LuaPartition, writer: JournalWriter, lost: tuple[int, ...]) -> None:
    """Whether or not the stream has an entry after the gap."""

    async def main() -> None:
        opening(partition, 2)
        async with drained(partition, writer):
            await reached(writer, 2)
        opening(partition, 2)
        partition.client.xdel(partition.keys.journal, *(f"{seq}-0" for seq in lost))
        async with drained(partition, writer) as running:
            with pytest.raises(ExceptionGroup) as raised:
                await asyncio.wait_for(running, 20)
        (gap,) = raised.value.exceptions
        assert isinstance(gap, Gap)
        assert gap.partition == PARTITION
        assert writer.position(PARTITION).seq == 2

    asyncio.run(main())


def test_g9_gaps_of_all_partitions_are_told_at_once_and_everything_else_goes_on(
    partition: LuaPartition, writer: JournalWriter
) -> None:
    """When gaps were told one by one, each with a wait, a copy that was away never caught up: streams are trimmed."""
    other = LuaPartition(partition.client, str(OTHER))
    told: list[tuple[Mapping[int, int], Callable[[int], None]]] = []
    metrics = Metrics()

    def lag(partition: int) -> float | None:
        return metrics.registry.get_sample_value("wallet_journal_lag_entries", {"partition": str(partition)})

    def on_gap(epochs: Mapping[int, int], caught_up: Callable[[int], None]) -> bool:
        told.append((epochs, caught_up))
        return True

    async def main() -> None:
        opening(partition, 6)
        opening(other, 6)
        payloads = {PARTITION: partition.payloads(), OTHER: other.payloads()}
        for each in (partition, other):
            each.client.xtrim(each.keys.journal, minid="4-0", approximate=False)
        async with drained(partition, writer, other, on_gap, metrics):
            async with asyncio.timeout(20):
                while not told:
                    await asyncio.sleep(0.002)
            ((epochs, caught_up),) = told
            assert epochs == {PARTITION: 1, OTHER: 1}
            async with asyncio.timeout(20):
                while [lag(each) for each in (PARTITION, OTHER)] != [6, 6]:
                    await asyncio.sleep(0.002)
            take(
                writer, PARTITION, payloads[PARTITION][:4]
            )  # as from another copy; the stream has entry 4 too
            caught_up(PARTITION)
            opening(partition, 100)
            await reached(writer, 106)
            assert writer.position(OTHER).seq == 0
            take(
                writer, OTHER, payloads[OTHER][:2]
            )  # the stream no longer has entry 3 either: there is a second round
            caught_up(OTHER)
            async with asyncio.timeout(20):
                while len(told) < 2:
                    await asyncio.sleep(0.002)
            take(writer, OTHER, payloads[OTHER][2:3])
            caught_up(OTHER)
            await reached(writer, 6, OTHER)
        assert told[1][0] == {OTHER: 1}

    asyncio.run(main())


@pytest.mark.parametrize("fields", [("header", "x", "operations", '["o","-"]'), ("not", "ours")])
def test_g9_an_entry_that_nobody_can_read_delays_no_other_partition(
    partition: LuaPartition, writer: JournalWriter, fields: tuple[str, ...]
) -> None:
    """Nor the entries before it. The keeper is told of which partition it is."""
    other = LuaPartition(partition.client, str(OTHER))

    async def main() -> None:
        opening(partition, 2)
        opening(other, 6)
        partition.client.execute_command("XADD", partition.keys.journal, "3-0", *fields)
        async with drained(partition, writer, other) as running:
            with pytest.raises(ExceptionGroup) as raised:
                await asyncio.wait_for(running, 20)
        (unreadable,) = _leaves(raised.value)
        assert isinstance(unreadable, Unreadable)
        assert unreadable.partition == PARTITION
        assert (writer.position(PARTITION).seq, writer.position(OTHER).seq) == (2, 6)

    asyncio.run(main())


def take(writer: JournalWriter, partition: int, payloads: list[bytes]) -> None:
    for payload in payloads:
        writer.append(partition, payload, parse_header(payload), bound=False)
    writer.sync()


def test_a_group_waits_for_a_shard_that_fetches_but_not_for_one_that_is_stuck(
    partition: LuaPartition, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        opening(partition, 3)
        first, second, third = ((PARTITION, payload) for payload in partition.payloads())
        _, commit = journaling(writer)
        monkeypatch.setattr(group_commit, "GATHER_S_MAX", 60)
        with commit.gathering():
            with commit.gathering():
                one = commit.add([first])
            await asyncio.sleep(0.01)
            assert not one.done()
        await asyncio.wait_for(one, 20)
        assert writer.position(PARTITION).seq == 1

        monkeypatch.setattr(group_commit, "GATHER_S_MAX", 0.01)
        with commit.gathering():
            with commit.gathering():
                two = commit.add([second])
            await asyncio.wait_for(two, 20)
            monkeypatch.setattr(group_commit, "GATHER_S_MAX", 60)
            with commit.gathering():
                three = commit.add([third])
            await asyncio.wait_for(three, 20)  # the group has waited for the stuck shard already
        assert writer.position(PARTITION).seq == 3

    asyncio.run(main())
