"""`wallet-admin verify` as an auditor runs it, on the cluster of a test."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.dev_process import DevCluster

VERIFY_S_MAX = 60.0


def verify(cluster: DevCluster, timeout_s: float = VERIFY_S_MAX) -> dict[str, Any]:
    """The document of `wallet-admin verify --json`, which must end with status 0."""
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
    """The same, which must say ok and find no money on its way (G1, G2)."""
    document = verify(cluster, timeout_s)
    assert document["ok"], document
    assert {amount.strip("0.") for amount in document["in_transit"].values()} <= {""}, document
    return document
