"""A recovery that was stopped, and overtaken by another one, does no harm when it wakes up (G6, G9)."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from lua.partition import LuaPartition
from support.clusters import RedisClusterFactory

from wallet_engine.recovery.hands import Hands
from wallet_engine.recovery.recover import ShardRecovery
from wallet_engine.redis_store.connection import Connection

OURS, THEIRS = 6, 7


@pytest.fixture
def address(redis_cluster: RedisClusterFactory) -> str:
    return redis_cluster().primary("s1").address


@pytest.fixture
def partition(address: str) -> LuaPartition:
    """It serves in a later epoch. Its stream lacks one open entry, and has one that may be on no disk yet."""
    host, port = address.rsplit(":", 1)
    client = redis.Redis(host=host, port=int(port), decode_responses=True)
    client.flushall()
    made = LuaPartition(client, "3")
    made.apply(["o - alice - 0 USD"])
    made.apply(["t 1 @bank alice 500 USD"])
    made.apply(["d 2 alice bob 100 USD"])
    made.apply(["d 3 alice bob 100 USD"])
    assert client.zcard(made.keys.open) == 2
    client.xdel(made.keys.journal, "3-0")
    made.meta(epoch=THEIRS, state="live")
    return made


def test_g9_the_stream_of_a_partition_that_serves_again_stays(address: str, partition: LuaPartition) -> None:
    recovery = ShardRecovery("s1", *[SimpleNamespace(writer=None)] * 4)  # type: ignore[list-item]

    async def wake_up() -> None:
        connection = await Connection.open(address, lambda _: None)
        try:
            await recovery._restore_open_entries(Hands(connection, 3, partition.keys, OURS))
        finally:
            connection.close()

    before: list[Any] = partition.client.xrange(partition.keys.journal)
    with pytest.raises(OSError, match="partition 3 has changed"):
        asyncio.run(wake_up())
    assert partition.client.xrange(partition.keys.journal) == before
    assert partition.client.hget(partition.keys.meta, "state") == "live"
