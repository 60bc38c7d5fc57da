"""A whole cluster for `wallet-admin` to examine and to mend: two shards with a replica each, a real ZooKeeper."""

import time
from dataclasses import dataclass

import redis
from support.dev_process import DevCluster
from unit.admin.made import admin

from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.slots import tag_of

PARTITIONS = 16
HEALTHY_S_MAX = 60.0


@dataclass
class Patient:
    """A cluster of two shards with a replica each, and a client of every node."""

    cluster: DevCluster
    flags: list[str]
    directory: Directory
    primary: redis.Redis
    replica: redis.Redis
    addresses: dict[str, str]

    def meta(self, partition: int) -> str:
        return PartitionKeys(tag_of(partition, PARTITIONS)).meta


def wait_healthy(patient: Patient) -> None:
    deadline = time.monotonic() + HEALTHY_S_MAX
    while True:
        result = admin("doctor", *patient.flags)
        if "HEALTHY: 0 errors, 0 warnings" in result.stdout and "NOT" not in result.stdout:
            assert result.exit_code == 0
            return
        assert time.monotonic() < deadline, result.stdout
        time.sleep(0.5)
