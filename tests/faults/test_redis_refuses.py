"""G9, G10, G14: a Redis node takes no writes. Callers are told that nothing ran, `readyz` and `doctor` say which shard
refuses and why, the other shards go on, and this one serves again as soon as it is mended.
"""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from redis.exceptions import ResponseError
from support.dev_process import DevCluster
from support.replicated import Process, command, wait_until
from support.verification import verified
from support.wallet_api import WalletApi, check_problem, check_success, new_id, transfer_body

from wallet_engine.routing.model import spread

PARTITIONS = 16
SHARDS = ["s1", "s2", "s3"]
SICK = "s2"


@contextlib.contextmanager
def background_saves_fail(cluster: DevCluster, node: Process) -> Iterator[None]:
    """MISCONF: a folder stands where the dump is to be written."""
    dump = cluster.data_dir / "redis" / node["name"] / "dump.rdb"
    (dump / "x").mkdir(parents=True)
    try:
        command(node, "CONFIG", "SET", "save", "1 1")
        wait_until(lambda: last_save(node) == "err", "a background save fails")
        yield
    finally:
        shutil.rmtree(dump)
        wait_until(lambda: last_save(node) == "ok", "a background save succeeds")
        command(node, "CONFIG", "SET", "save", "")
        dump.unlink()


def last_save(node: Process) -> str:
    """How the last background save ended; starts the next one."""
    with contextlib.suppress(ResponseError):  # one is being made already
        command(node, "BGSAVE")
    return str(command(node, "INFO", "persistence")["rdb_last_bgsave_status"])


@contextlib.contextmanager
def replicas_are_demanded(cluster: DevCluster, node: Process) -> Iterator[None]:
    """NOREPLICAS: the node has no replica, and one is required."""
    command(node, "CONFIG", "SET", "min-replicas-to-write", 1)
    try:
        yield
    finally:
        command(node, "CONFIG", "SET", "min-replicas-to-write", 0)


def readiness(url: str) -> dict[str, Any]:
    with contextlib.closing(urlopen(f"{url}/readyz", timeout=10)) as answer:
        document: dict[str, Any] = json.load(answer)
    return document


def refused(url: str) -> list[int]:
    """The partitions that take no writes, as the API process there says it."""
    conditions = readiness(url)["conditions"]
    return [
        p for condition in conditions if condition["condition"] == "refused" for p in condition["partitions"]
    ]


def doctor(cluster: DevCluster) -> list[str]:
    """What makes the cluster unhealthy."""
    argv = [str(Path(sys.executable).with_name("wallet-admin")), *cluster.coordination_flags(), "--json"]
    run = subprocess.run([*argv, "doctor"], capture_output=True, timeout=60, check=False)
    document = json.loads(run.stdout)
    assert document["healthy"] == (run.returncode == 0)
    return [found["what"] for found in document["findings"] if found["severity"] in ("critical", "error")]


@pytest.mark.parametrize(
    ("refusing", "code"),
    [
        pytest.param(background_saves_fail, "MISCONF", id="misconf"),
        pytest.param(replicas_are_demanded, "NOREPLICAS", id="noreplicas", marks=pytest.mark.soak),
    ],
)
def test_g9_g14_a_node_that_takes_no_writes(cluster: DevCluster, refusing: Any, code: str) -> None:
    (node,) = [process for process in cluster.processes("redis") if process["shard"] == SICK]
    mine, others = (spread(PARTITIONS, SHARDS).partitions_of(name) for name in (SICK, "s1"))
    with WalletApi(cluster.urls[0], PARTITIONS) as api, WalletApi(cluster.urls[1], PARTITIONS) as api_2:
        ann, bob = (api.account(partition, "100.00") for partition in mine[:2])
        eve, joe = (api.account(partition, "100.00") for partition in others[:2])
        bodies = []

        def refused_payment(client: WalletApi, sender: str, receiver: str) -> None:
            bodies.append(transfer_body(sender, receiver, "1.00", new_id()))
            reply = client.post("/v1/wallet/balance_transfer", bodies[-1])
            check_problem(reply, 503, "partition_unavailable", transaction_id=bodies[-1]["transaction_id"])
            assert "nothing was done" in reply.json()["detail"]

        with refusing(cluster, node):
            refused_payment(api, ann, bob)  # by Redis itself, unless the service has noticed already
            # The second process has had no payment, and notices all the same.
            for url in cluster.urls:
                wait_until(lambda url=url: refused(url) == list(mine), f"{url} has noticed")
                document = readiness(url)
                assert document["status"] == "degraded"
                assert f"shard {SICK} refuses writes: {code} " in document["reason"]
            assert [what for what in doctor(cluster) if SICK in what and code in what]

            for _ in range(3):
                for client, sender, receiver in (
                    (api, ann, bob),
                    (api_2, bob, ann),
                    (api, ann, eve),
                    (api, eve, ann),
                ):
                    refused_payment(client, sender, receiver)
            check_problem(api.open(api.name(mine[2])), 503, "partition_unavailable")
            api.paid(eve, joe, "1.00")
            assert [api.balance(name) for name in (ann, bob, eve)] == ["100.00", "100.00", "99.00"]
        for url in cluster.urls:
            wait_until(lambda url=url: readiness(url)["status"] == "ready", f"{url} serves again", 10)
        # Nothing had run, as the answers said: no request counts as a repeat, and no payer into the shard was debited.
        for body in bodies:
            check_success(api.post("/v1/wallet/balance_transfer", body), body["transaction_id"])
        assert [api.balance(name) for name in (ann, bob, eve)] == ["99.00", "101.00", "99.00"]
    verified(cluster)
