"""`wallet-admin verify` on the cluster of a test."""

import json
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from support.dev_process import DevCluster

from wallet_engine.admin.journals import find_journal
from wallet_engine.admin.proof.cluster import verify_online
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.directory import Directory, open_directory

VERIFY_S_MAX = 60.0
#: A journal process that was stopped for longer than its session is registered again a moment after it goes on.
REGISTERED_S_MAX = 20.0
#: A ZooKeeper that was killed may take this long to serve again on a busy machine.
STARTED_S_MAX = 60.0


def verify(cluster: DevCluster, timeout_s: float = VERIFY_S_MAX) -> dict[str, Any]:
    """The document of `wallet-admin verify --json`, which must be ok.

    On a closed cluster it runs as a command, as an auditor would run it: a login holds for a whole process.
    """
    if cluster.admin_flags() != cluster.coordination_flags():
        return _by_command(cluster, timeout_s)
    zookeeper = cluster.state()["zookeeper"]
    map_file = None if zookeeper else cluster.data_dir / "map.json"
    with closing(_opened(zookeeper, map_file)) as directory:
        verdict = verify_online(directory, _journal_of(directory))
    document = verdict.document()
    assert verdict.ok, document
    return document


def _opened(zookeeper: str | None, map_file: Path | None) -> Directory:
    deadline = time.monotonic() + STARTED_S_MAX
    while True:
        try:
            return open_directory(zookeeper, map_file)
        except ConfigError:
            if time.monotonic() > deadline:
                raise


def _journal_of(directory: Directory) -> Path:
    deadline = time.monotonic() + REGISTERED_S_MAX
    while True:
        try:
            return find_journal(directory, None).directory
        except ConfigError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _by_command(cluster: DevCluster, timeout_s: float) -> dict[str, Any]:
    command = str(Path(sys.executable).with_name("wallet-admin"))
    run = subprocess.run(
        [command, *cluster.admin_flags(), "--json", "verify"],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    document: dict[str, Any] = json.loads(run.stdout)
    return document


def verified(cluster: DevCluster, timeout_s: float = VERIFY_S_MAX) -> dict[str, Any]:
    """The same, and no money is in transit (G1, G2)."""
    document = verify(cluster, timeout_s)
    assert document["ok"], document
    assert {amount.strip("0.") for amount in document["in_transit"].values()} <= {""}, document
    return document
