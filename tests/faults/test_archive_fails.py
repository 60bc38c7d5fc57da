"""When the archive command fails, payments go on and `doctor` reports it, until the command works again."""

import contextlib
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.dev_process import DevCluster
from support.replicated import wait_until
from support.wallet_api import WalletApi, new_id, transfer_body

from wallet_engine.routing.directory import open_directory

PARTITIONS = 4


def archive_findings(cluster: DevCluster) -> list[str]:
    argv = [str(Path(sys.executable).with_name("wallet-admin")), *cluster.coordination_flags(), "--json"]
    run = subprocess.run([*argv, "doctor"], capture_output=True, timeout=60, check=False)
    return [found["what"] for found in json.loads(run.stdout)["findings"] if found["check"] == "archive"]


def test_g14_a_failing_archive_is_a_finding(dev_cluster: Any, tmp_path: Path) -> None:
    archive = tmp_path / "the archive"
    command = f"cp %p {shlex.quote(str(archive))}/%f"
    cluster: DevCluster = dev_cluster(
        data_dir=tmp_path / "two words",
        partitions=PARTITIONS,
        embedded=True,
        extra=("--segment-bytes=4096", f"--archive-command={command}"),
    )
    with (
        WalletApi(cluster.url, PARTITIONS) as api,
        contextlib.closing(open_directory(None, cluster.data_dir / "map.json")) as directory,
    ):
        ann, bob = api.account(0, "1000.00"), api.account(1)
        assert not directory.journals()["j1"].troubles
        api.batch([transfer_body(ann, bob, "0.01", new_id()) for _ in range(200)])
        wait_until(lambda: directory.journals()["j1"].troubles, "the journal says that archiving fails")
        (found,) = archive_findings(cluster)
        assert "journal copy j1, since 20" in found
        assert "00000001.wal: --archive-command ended with status 1" in found
        api.paid(ann, bob, "0.01")

        archive.mkdir()
        wait_until(lambda: not directory.journals()["j1"].troubles, "it says so no longer", 90)
    assert archive_findings(cluster) == []
    journal = cluster.data_dir / "journal"
    assert (archive / "00000001.wal").read_bytes() == (journal / "00000001.wal").read_bytes()
