"""G9: the disk under `dev` is full. The supervisor says so once, goes on watching its processes, and writes again when
there is space.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest
from support.dev_process import DevCluster, end
from support.replicated import wait_until
from support.wallet_api import WalletApi

from wallet_engine.dev.ports import free_port
from wallet_engine.dev.process import identify

DISK_BYTES = 192 * 1024 * 1024
PARTITIONS = 4

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="filling a disk takes root: a small one is mounted")


@pytest.fixture(
    params=[pytest.param(True, id="embedded", marks=pytest.mark.soak), pytest.param(False, id="zookeeper")]
)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DevCluster]:
    """A `dev` whose directory is on a small disk of its own."""
    with small_disk(tmp_path / "disk") as disk:
        started = DevCluster(disk / "dev", partitions=PARTITIONS, embedded=request.param)
        started.stderr_path = tmp_path / "stderr"
        try:
            yield started.start()
        finally:
            started.kill_all()


@contextlib.contextmanager
def small_disk(disk: Path) -> Iterator[Path]:
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "wallet-test", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not a byte is left."""
    filler = disk / "somebody-elses"
    try:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))
        yield
    finally:
        filler.unlink()


@pytest.mark.timeout(180)
def test_g9_a_full_disk_under_dev(cluster: DevCluster) -> None:
    with WalletApi(cluster.url, PARTITIONS) as api:
        ann, bob = api.account(0, "100.00"), api.account(1, "100.00")
    victims, state = cluster.pids(), cluster.data_dir / "dev.json"
    with full(cluster.data_dir.parent):
        end(*victims)
        for process in cluster.processes():
            again = f"{process['name']} was started again"
            wait_until(lambda again=again: said(cluster).count(again), again)
        if (
            cluster.state()["zookeeper"] is None
        ):  # ZooKeeper cannot run on a full disk, and an API process cannot start without ZooKeeper
            wait_until(lambda: answers(cluster.url), "a new API process answers")
        assert cluster.running
        assert cluster.pids() == victims
    cluster.wait_ready()
    wait_until(lambda: all(identify(pid) for pid in cluster.pids()), "dev.json names who runs")
    assert said(cluster).count(f"cannot write {state}: No space left on device") == 1
    assert said(cluster).count(f"{state} is written again") == 1
    with WalletApi(cluster.url, PARTITIONS) as api:
        api.paid(ann, bob, "1.00")
        assert [api.balance(name) for name in (ann, bob)] == ["99.00", "101.00"]
    assert cluster.stop() == 0
    assert cluster.state()["processes"] == []


def said(cluster: DevCluster) -> str:
    return cluster.stderr_path.read_text(encoding="utf-8", errors="replace")


def answers(url: str) -> bool:
    with contextlib.suppress(OSError, HTTPException), WalletApi(url, PARTITIONS) as api:
        return api.get("/healthz").status == 200
    return False


def test_a_start_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """It leaves no half-written `layout.json`, which would stop the next start."""
    with small_disk(tmp_path / "disk") as disk:
        argv = [sys.executable, "-m", "wallet_engine", "dev", "--embedded", "--port", str(free_port())]
        (disk / "dev").mkdir()
        with full(disk):
            done = subprocess.run(
                [*argv, "--data-dir", str(disk / "dev")], capture_output=True, timeout=60, check=False
            )
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].endswith(b"No space left on device"), done.stderr
        assert not (disk / "dev" / "layout.json").exists()
