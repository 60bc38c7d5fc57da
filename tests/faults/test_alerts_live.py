"""Debian's Prometheus scrapes a live cluster by the rules that we ship; alerts fire and end again."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.dev_process import DevCluster
from support.prometheus import Prometheus, prometheus
from support.redis_peek import node_of
from support.replicated import supervisor_sleeps, wait_until

from wallet_engine.dev.ports import free_port

REPOSITORY = Path(__file__).parents[2]
RULES = REPOSITORY / "cluster_config" / "alerts.yml"
RUNBOOKS = REPOSITORY / "cluster_config" / "RUNBOOKS.md"
PARTITIONS = 8
#: An alert waits for a minute; the rest is for a busy machine.
FIRES_S_MAX = 200.0
#: The first journal copy's; the other copies take the next ports.
METRICS_PORT = free_port(run=3)

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="there is no prometheus here"),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DevCluster]:
    started = DevCluster(
        tmp_path / "dev",
        shards=2,
        partitions=PARTITIONS,
        extra=("--journals", "3"),
        environ={"WALLET_METRICS_PORT": str(METRICS_PORT)},
    )
    try:
        yield started.start()
    finally:
        started.kill_all()


@pytest.fixture
def looking(cluster: DevCluster, tmp_path: Path) -> Iterator[Prometheus]:
    """It scrapes every second."""
    jobs = {
        "wallet-api": [process["address"] for process in cluster.processes("api")],
        "wallet-journal": [f"127.0.0.1:{METRICS_PORT + number}" for number in range(3)],
    }
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": targets}]} for job, targets in jobs.items()
        ],
    }
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    with prometheus(file, tmp_path) as running:
        yield running


def firing(looking: Prometheus) -> dict[str, dict[str, str]]:
    """Alert -> its annotations."""
    found = looking.asked("alerts")["alerts"]
    return {each["labels"]["alertname"]: each["annotations"] for each in found if each["state"] == "firing"}


def test_alerts_fire_on_a_live_cluster_and_end(cluster: DevCluster, looking: Prometheus) -> None:
    """A journal copy and a shard's only primary are killed: alerts fire until both are back, and name the runbook."""

    def all_scraped() -> bool:
        return [state for _, state in looking.health()] == ["up"] * 4

    wait_until(all_scraped, "every process is scraped", FIRES_S_MAX)
    assert firing(looking) == {}
    wanted = {"WalletProcessDown", "WalletPartitionsDown"}
    with supervisor_sleeps(cluster):
        cluster.kill("journal-j3")
        cluster.kill(node_of(cluster, 0, PARTITIONS)["name"])
        wait_until(
            lambda: wanted <= firing(looking).keys(),
            "both alerts fire",
            FIRES_S_MAX,
            lambda: looking.asked("alerts"),
        )
        for name, annotations in firing(looking).items():
            file, _, anchor = annotations["runbook"].partition("#")
            assert (file, anchor) == ("RUNBOOKS.md", "alerts")
            assert f"| {name} |" in RUNBOOKS.read_text()
    # WalletRecoveryFails may fire too, and counts failures of the last ten minutes: its end is not waited for.
    wait_until(lambda: wanted.isdisjoint(firing(looking)), "they end", FIRES_S_MAX, lambda: firing(looking))
