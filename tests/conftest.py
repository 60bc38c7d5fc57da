"""Fixtures on real processes. Every process is stopped by its id when the test or the session ends.

redis_cluster       factory: redis_cluster(shards=1, replicas=0, ownership=None, bundled=False, private=False)
zookeeper           ZooKeeperProcess that modules share; not to be killed
zookeeper_hosts     connect string with a fresh root of its own on the shared ZooKeeper
private_zookeeper   ZooKeeperProcess of this test alone
postgresql          PostgresProcess shared by the session; not to be killed
history_url         URL of a fresh database on it, without tables
dev_cluster         factory: dev_cluster(shards=1, replicas=0, partitions=16, apis=1, embedded=False,
                    data_dir=None, extra=())
"""

import contextlib
import itertools
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from support.clusters import ClusterPool, RedisClusterFactory, even_ownership, redis_binary
from support.databases import fresh_database
from support.dev_process import DevCluster
from support.shared import SHARED

from wallet_engine.dev.binaries import find_zookeeper
from wallet_engine.dev.postgresql import PostgresProcess, find_postgresql
from wallet_engine.dev.redis_cluster import Ownership, RedisCluster
from wallet_engine.dev.zookeeper import ZooKeeperProcess

pytest_plugins = ["support.workers"]

_roots = itertools.count(1)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """As it was: `wallet-admin` in this process sets one for its files, and the tests behind it would rely on it."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture(scope="module")
def _cluster_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterPool]:
    with SHARED.lend("redis", lambda: closing(ClusterPool(tmp_path_factory.mktemp("redis")))) as pool:
        yield pool


@pytest.fixture
def redis_cluster(_cluster_pool: ClusterPool, tmp_path: Path) -> Iterator[RedisClusterFactory]:
    """Running `RedisCluster`s. Without `private` one is shared with other tests and handed out empty.

    A test that kills, stops or reshards nodes asks for a private one.
    """
    with contextlib.ExitStack() as stack:
        numbers = itertools.count(1)

        def make(
            shards: int = 1,
            replicas: int = 0,
            *,
            ownership: Ownership | None = None,
            bundled: bool = False,
            private: bool = False,
        ) -> RedisCluster:
            owned = even_ownership(shards) if ownership is None else ownership
            binary = redis_binary(bundled=bundled)
            if not private:
                return _cluster_pool.take(owned, replicas, binary)
            directory = tmp_path / f"redis-{next(numbers)}"
            return stack.enter_context(RedisCluster(binary, directory, owned, replicas=replicas))

        yield make


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresProcess]:
    """A PostgreSQL for the whole session; use `history_url` to have a database of your own on it."""
    server = PostgresProcess(find_postgresql(), tmp_path_factory.mktemp("postgresql"))
    server.start_and_wait()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def history_url(postgresql: PostgresProcess) -> str:
    """URL with the password of a database that nobody else uses."""
    return fresh_database(postgresql)


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperProcess]:
    """A ZooKeeper that others use, too; `zookeeper_hosts` is a root of your own on it."""
    with SHARED.lend(
        "zookeeper",
        lambda: _running(ZooKeeperProcess(find_zookeeper(), tmp_path_factory.mktemp("zookeeper"))),
    ) as process:
        yield process


@pytest.fixture
def private_zookeeper(tmp_path: Path) -> Iterator[ZooKeeperProcess]:
    """A ZooKeeper for this test alone: it may be killed and started again."""
    with _running(ZooKeeperProcess(find_zookeeper(), tmp_path / "zookeeper")) as process:
        yield process


@contextlib.contextmanager
def _running(process: ZooKeeperProcess) -> Iterator[ZooKeeperProcess]:
    try:
        process.start_and_wait()
        yield process
    finally:
        process.stop()


@pytest.fixture
def zookeeper_hosts(zookeeper: ZooKeeperProcess) -> str:
    """`host:port/root` with an empty root that no other test uses."""
    root = f"/test{next(_roots)}"
    client = KazooClient(zookeeper.address)
    client.start(timeout=10)
    try:
        client.create(root)
    finally:
        client.stop()
        client.close()
    return zookeeper.address + root


@pytest.fixture
def dev_cluster(tmp_path: Path) -> Iterator[Any]:
    """Started `DevCluster`s: `wallet-engine dev` on free ports and a directory of its own."""
    made: list[DevCluster] = []

    def make(*, data_dir: Path | None = None, **options: Any) -> DevCluster:
        cluster = DevCluster(data_dir or tmp_path / f"dev-{len(made) + 1}", **options)
        made.append(cluster)
        return cluster.start()

    try:
        yield make
    finally:
        for cluster in made:
            cluster.kill_all()
