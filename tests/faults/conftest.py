"""Two clusters, one with replicas and one without, for all fault tests that leave them sound."""

from collections.abc import Iterator

import pytest
from support.dev_process import DevCluster

PARTITIONS = 16


@pytest.fixture(scope="session")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """3 shards with a replica each, 2 API processes, 1 journal, ZooKeeper."""
    path = tmp_path_factory.mktemp("replicated") / "dev"
    started = DevCluster(path, shards=3, replicas=1, partitions=PARTITIONS, apis=2)
    try:
        yield started.start()
    finally:
        started.kill_all()


@pytest.fixture
def cluster(unreplicated: DevCluster) -> DevCluster:
    """The one without replicas, when both of its API processes take transfers."""
    unreplicated.wait_ready()
    return unreplicated


@pytest.fixture(scope="session")
def unreplicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """3 shards without replicas, 2 API processes, 1 journal, ZooKeeper."""
    path = tmp_path_factory.mktemp("unreplicated") / "dev"
    started = DevCluster(path, shards=3, partitions=PARTITIONS, apis=2)
    try:
        yield started.start()
    finally:
        started.kill_all()
