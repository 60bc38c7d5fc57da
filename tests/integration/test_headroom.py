"""G10: what `Headroom` sees of a real node, and the refusals that it gives to new work on it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from support.clusters import RedisClusterFactory

from wallet_engine.domain.errors import Outage
from wallet_engine.engine import headroom
from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.headroom import MEMORY_SHARE_MAX, Headroom
from wallet_engine.redis_store.connection import Connection
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect

KEYS = PartitionKeys("3")
ENTRIES_MAX = 256
SEEN_S_MAX = 10.0
#: So large that the node's own varying memory makes no difference.
BALLAST_BYTES = 32 << 20


@pytest.fixture
def node(redis_cluster: RedisClusterFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    monkeypatch.setattr(headroom, "LOOK_S", 0.02)
    with closing(connect(redis_cluster(private=True).primary("s1").address, timeout_s=5)) as client:
        client.hset(KEYS.meta, "state", "live")
        yield client


@asynccontextmanager
async def looking(node: redis.Redis) -> AsyncIterator[Headroom]:
    """A `Headroom` that looks at the node as the shard of partition 0."""
    words = node.connection_pool.connection_kwargs
    lane = await Connection.open(f"{words['host']}:{words['port']}", lambda _: None)
    cluster: Any = SimpleNamespace(
        accumulators=[Accumulator(0, KEYS, "s1", 1)],
        lanes={"s1": lane},
        config=SimpleNamespace(stream_entries_max=ENTRIES_MAX),
    )
    room = Headroom(cluster)
    room.start()
    try:
        yield room
    finally:
        await room.close()
        lane.close()


async def until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(SEEN_S_MAX):
        while not seen():
            await asyncio.sleep(0.01)


async def looks(node: redis.Redis) -> None:
    """Return when it has looked twice."""

    def count() -> int:
        return int(node.info("commandstats")["cmdstat_xlen"]["calls"])

    await until(lambda: "cmdstat_xlen" in node.info("commandstats"))
    begun = count()
    await until(lambda: count() >= begun + 2)


def told(room: Headroom) -> tuple[str, str]:
    """Code and detail of the refusal of new work; empty when new work is taken."""
    assert room.wary == bool(room.short or room.closed or room.refusing)
    try:
        room.check(0)
    except Outage as outage:
        return outage.code, outage.detail
    return "", ""


def test_new_work_is_refused_from_85_percent_on(node: redis.Redis) -> None:
    def limit(share: float) -> None:
        memory = node.info("memory")
        used = memory["used_memory"] - memory["mem_not_counted_for_evict"]
        node.config_set("maxmemory", int(used / share) if share else 0)

    async def scenario() -> None:
        async with looking(node) as room:
            limit(MEMORY_SHARE_MAX - 0.05)
            await looks(node)
            assert told(room) == ("", "")
            limit(MEMORY_SHARE_MAX + 0.05)
            await until(lambda: told(room) == ("overloaded", "the memory of shard s1 is nearly full"))
            limit(0)
            await until(lambda: told(room) == ("", ""))

    assert MEMORY_SHARE_MAX == 0.85
    node.setrange(KEYS.journal.replace("journal", "ballast"), BALLAST_BYTES, "x")
    asyncio.run(scenario())


def test_a_node_that_takes_no_writes_is_noticed_while_nobody_pays(node: redis.Redis) -> None:
    async def scenario() -> None:
        async with looking(node) as room:
            await looks(node)
            assert told(room) == ("", "")
            node.config_set("min-replicas-to-write", 1)
            await until(lambda: told(room)[0] == "partition_unavailable")
            assert "partition 0: shard s1 refuses writes: NOREPLICAS" in told(room)[1]
            node.config_set("min-replicas-to-write", 0)
            await until(lambda: told(room) == ("", ""))

    asyncio.run(scenario())


def test_a_full_stream_closes_the_door_and_open_entries_do_not_count(node: redis.Redis) -> None:
    def fill(entries: int) -> None:
        with node.pipeline(transaction=False) as pipe:
            for seq in range(1, entries + 1):
                pipe.xadd(KEYS.journal, {"header": "x"}, f"{seq}-0")
            pipe.execute()

    async def scenario() -> None:
        async with looking(node) as room:
            fill(ENTRIES_MAX - 1)
            await looks(node)
            assert told(room) == ("", "")
            node.xadd(KEYS.journal, {"header": "x"}, f"{ENTRIES_MAX}-0")
            await until(lambda: told(room)[0] == "journal_unavailable")
            node.zadd(KEYS.open, {"7": 7})
            await until(lambda: told(room) == ("", ""))

    asyncio.run(scenario())
