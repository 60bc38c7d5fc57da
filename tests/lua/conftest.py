"""A partition on each Redis the engine supports: the system's redis-server and, in the soak, the bundled one.

What the rules decide is tested on both in the suite, too: `indirect=True`.
"""

from collections.abc import Iterator

import pytest
import redis
from lua.partition import LuaPartition
from support.clusters import RedisClusterFactory


@pytest.fixture(params=["system", pytest.param("bundled", marks=pytest.mark.soak)])
def partition(request: pytest.FixtureRequest, redis_cluster: RedisClusterFactory) -> Iterator[LuaPartition]:
    """An empty live partition; nothing else is in its Redis."""
    cluster = redis_cluster(bundled=request.param == "bundled")
    host, port = cluster.primary("s1").address.rsplit(":", 1)
    client = redis.Redis(host=host, port=int(port), decode_responses=True)
    try:
        yield LuaPartition(client, "3")
    finally:
        client.close()
