"""The cluster that all tests of the HTTP contract share: 3 shards, 16 partitions, a real ZooKeeper.

Tests take new account names, so none sees another's changes. At the end the whole cluster must verify.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.dev_process import DevCluster
from support.patient import Patient
from support.shared import SHARED
from support.verification import verified
from support.wallet_api import WalletApi

from wallet_engine.redis_store.topology import connect, find_primary
from wallet_engine.routing.directory import open_directory

PARTITIONS = 16


@pytest.fixture(scope="module")
def api_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """Tests must not kill or stop it. At its end G1 and G2 are checked over the work of all tests."""
    with SHARED.lend("api", lambda: _verified_at_end(tmp_path_factory.mktemp("api"))) as cluster:
        yield cluster


@contextlib.contextmanager
def _verified_at_end(directory: Path) -> Iterator[DevCluster]:
    cluster = DevCluster(directory / "dev", shards=3, partitions=PARTITIONS)
    try:
        yield cluster.start()
        verified(cluster)
        assert cluster.stop() == 0
    finally:
        cluster.kill_all()


@pytest.fixture
def api(api_cluster: DevCluster) -> Iterator[WalletApi]:
    with WalletApi(api_cluster.url, PARTITIONS) as client:
        yield client


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    """Tests may damage it, if they leave it healthy (`wait_healthy`).

    It ends with its module: kazoo's threads draw random numbers, and Hypothesis takes that for a flaky test.
    """
    started = DevCluster(
        tmp_path_factory.mktemp("doctor") / "dev", shards=2, replicas=1, partitions=PARTITIONS
    )
    with contextlib.ExitStack() as stack:
        stack.callback(started.kill_all)
        started.start()
        directory = open_directory(started.state()["zookeeper"], None)
        stack.callback(directory.close)
        nodes = directory.shards()["s1"].nodes
        view = find_primary(nodes)
        assert view is not None
        (replica,) = (node for node in nodes if node != view.address)
        clients = [stack.enter_context(connect(address, timeout_s=5)) for address in (view.address, replica)]
        addresses = {"primary": view.address, "replica": replica}
        yield Patient(started, started.coordination_flags(), directory, clients[0], clients[1], addresses)
