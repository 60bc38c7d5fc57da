"""One cluster with replicas for all fault tests that leave it sound."""

from collections.abc import Iterator

import pytest
from support.dev_process import DevCluster

REPLICATED_PARTITIONS = 16


@pytest.fixture(scope="session")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """3 shards with a replica each, 2 API processes, 1 journal, ZooKeeper."""
    path = tmp_path_factory.mktemp("replicated") / "dev"
    started = DevCluster(path, shards=3, replicas=1, partitions=REPLICATED_PARTITIONS, apis=2)
    try:
        yield started.start()
    finally:
        started.kill_all()
