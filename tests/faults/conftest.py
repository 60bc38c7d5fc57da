"""Two clusters, one with replicas and one without, for all fault tests that leave them sound."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.dev_process import DevCluster
from support.shared import SHARED

PARTITIONS = 16


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """3 shards with a replica each, 2 API processes, 1 journal, ZooKeeper."""
    with SHARED.lend("replicated", lambda: _running(tmp_path_factory.mktemp("replicated"), 1)) as cluster:
        yield cluster


@pytest.fixture
def cluster(unreplicated: DevCluster) -> DevCluster:
    """The one without replicas, when both of its API processes take transfers."""
    unreplicated.wait_ready()
    return unreplicated


@pytest.fixture(scope="module")
def unreplicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """3 shards without replicas, 2 API processes, 1 journal, ZooKeeper."""
    with SHARED.lend("unreplicated", lambda: _running(tmp_path_factory.mktemp("unreplicated"), 0)) as cluster:
        yield cluster


@contextlib.contextmanager
def _running(directory: Path, replicas: int) -> Iterator[DevCluster]:
    cluster = DevCluster(directory / "dev", shards=3, replicas=replicas, partitions=PARTITIONS, apis=2)
    try:
        yield cluster.start()
    finally:
        cluster.kill_all()
