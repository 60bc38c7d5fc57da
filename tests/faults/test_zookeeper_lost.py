"""ZooKeeper comes back empty while all other processes run; its runbook is walked command by command (G9)."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.dev_process import DevCluster, admin_environment
from support.replicated import kill, supervisor_sleeps, wait_until
from support.runbooks import commands_of
from support.under_fault import UnderFault
from unit.admin.made import admin, answer, refusal

from wallet_engine.dev.zookeeper_users import API, JOURNAL, ZooKeeperUsers
from wallet_engine.routing import zookeeper_tls
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.tree import NotAllowed

#: kazoo leaves the sockets of failed handshakes to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PARTITIONS = 8
COPIES = {"j1", "j2", "j3"}
#: While every partition is certified anew; on 2 shared cores.
PAUSE_S_MAX = 15.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DevCluster]:
    """Two shards and three journal copies, whose tree only ZooKeeper's users may change.

    `dev` gives its ZooKeeper users, and TLS, when the data directory holds the password of one.
    """
    (tmp_path / "dev").mkdir()
    ZooKeeperUsers(tmp_path / "dev" / "credentials").roles()
    cluster = DevCluster(tmp_path / "dev", shards=2, partitions=PARTITIONS, extra=("--journals", "3"))
    try:
        yield cluster.start()
    finally:
        cluster.kill_all()
        zookeeper_tls.use(zookeeper_tls.ZooKeeperTls())


def lose_zookeeper(cluster: DevCluster) -> None:
    """Killed, its disk wiped; returns when it serves again, empty."""
    zookeeper = cluster.living("zookeeper")
    with supervisor_sleeps(cluster):
        kill(zookeeper)
        shutil.rmtree(cluster.data_dir / "zookeeper" / "data")
    cluster.wait_replaced(zookeeper["pid"])
    wait_until(lambda: admin("status", *cluster.admin_flags()).exit_code == 1, "it serves again")


def running(cluster: DevCluster) -> set[int]:
    return {pid for role in ("redis", "journal", "api") for pid in cluster.pids(role)}


@pytest.mark.soak
def test_the_runbook_is_walked_while_payments_go_on(cluster: DevCluster, tmp_path: Path) -> None:
    """No process is restarted. Sessions begin anew, payments go on with the known map, nothing is lost."""
    flags, passwords = cluster.admin_flags(), cluster.data_dir / "credentials"
    service = (
        *("--service-user", JOURNAL, "--service-password-file", str(passwords / "zookeeper-journal.pw")),
        *("--api-user", API, "--api-password-file", str(passwords / "zookeeper-api.pw")),
    )
    taken = answer("backup", tmp_path / "wallet-tree-2026-11-21.json", *flags)
    assert (set(taken["journal_copies"]), taken["not_counted"]) == (COPIES, [])
    before, faulted = running(cluster), UnderFault(cluster, PARTITIONS, frozenset({0}))

    def registered() -> bool:
        with closing(open_directory(cluster.state()["zookeeper"], None)) as directory:
            return set(directory.journals()) == COPIES and len(directory.services()) == 1

    def walk() -> None:
        lose_zookeeper(cluster)
        shards = [f"--shard={node['shard']}={node['address']}" for node in cluster.processes("redis")]
        assert "restore it with wallet-admin restore" in refusal(admin("init", *shards, *flags, "--yes"))
        assert "run wallet-admin init, or if its tree was lost wallet-admin restore" in refusal(
            admin("status", *flags)
        )
        wait_until(registered, "every process has a new session")
        paid = faulted.mixed.answers["success"]
        wait_until(
            lambda: faulted.mixed.answers["success"] > paid + 100, "payments go on with the map that is known"
        )
        for command in commands_of("ZooKeeper lost its data"):
            roles = service if " restore " in f" {command} " else ()
            run(command, tmp_path, cluster, *roles)

    faulted.run(walk, mixed=4, spared=1)
    faulted.check("ZooKeeper lost its data")
    assert running(cluster) == before
    assert faulted.pause_s < PAUSE_S_MAX
    with (
        closing(open_directory(cluster.state()["zookeeper"], None)) as nobody,
        pytest.raises(NotAllowed),
    ):
        nobody.raise_epochs([0])


def run(command: str, folder: Path, cluster: DevCluster, *flags: str) -> None:
    """Run it in a shell and answer yes when asked; doctor is repeated until all is certified."""
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": tools, **admin_environment(cluster)}

    def once() -> bool:
        done = subprocess.run(
            ["bash", "-c", f"{command} {' '.join(flags)}"],
            cwd=folder,
            env=environ,
            input="y\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said.append(done.stdout + done.stderr)
        return done.returncode == 0

    said: list[str] = []
    if command == "wallet-admin doctor":
        wait_until(once, "doctor finds no error", seen=lambda: said[-1])
    else:
        assert once(), "\n".join(said)
    print(f"$ {command}", said[-1], sep="\n")
