"""The cluster that all tests of the HTTP contract share: 3 shards, 16 partitions, a real ZooKeeper.

Tests take new account names, so none sees what another did. When the session ends the whole cluster must verify.
"""

from collections.abc import Iterator

import pytest
from support.dev_process import DevCluster
from support.verification import verified
from support.wallet_api import WalletApi

PARTITIONS = 16


@pytest.fixture(scope="session")
def api_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """Not to be killed or stopped. Its end checks G1 and G2 over everything that all tests did."""
    cluster = DevCluster(tmp_path_factory.mktemp("api") / "dev", shards=3, partitions=PARTITIONS)
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
