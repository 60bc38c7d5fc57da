"""ZooKeeper comes back empty while all other processes run; its runbook is walked command by command (G9)."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.dev_process import DevCluster
from support.replicated import kill, supervisor_sleeps, wait_until
from support.runbooks import commands_of
from support.under_fault import UnderFault
from unit.admin.made import admin, answer, refusal

from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.tree import NotAllowed

PARTITIONS = 8
COPIES = {"j1", "j2", "j3"}
#: While every partition is certified anew; on 2 shared cores.
PAUSE_S_MAX = 15.0


@pytest.fixture
def login(tmp_path: Path) -> dict[str, str]:
    """Role -> file of its password."""
    files = {}
    for role in ("sre", "wallet"):
        (tmp_path / role).touch(mode=0o600)
        (tmp_path / role).write_text(f"secret of {role}\n")
        files[role] = str(tmp_path / role)
    return files


@pytest.fixture
def cluster(tmp_path: Path, login: dict[str, str]) -> Iterator[DevCluster]:
    """Two shards and three journal copies, whose tree only `sre` and `wallet` may change."""
    roles = {"WALLET_ZOOKEEPER_USER": "wallet", "WALLET_ZOOKEEPER_PASSWORD_FILE": login["wallet"]}
    cluster = DevCluster(
        tmp_path / "dev",
        shards=2,
        partitions=PARTITIONS,
        extra=("--journals", "3"),
        environ=roles,
    )
    try:
        yield cluster.start()
    finally:
        cluster.kill_all()


def lose_zookeeper(cluster: DevCluster) -> None:
    """Killed, its disk wiped; returns when it serves again, empty."""
    zookeeper = cluster.living("zookeeper")
    with supervisor_sleeps(cluster):
        kill(zookeeper)
        shutil.rmtree(cluster.data_dir / "zookeeper" / "data")
    cluster.wait_replaced(zookeeper["pid"])
    wait_until(lambda: admin("status", *cluster.coordination_flags()).exit_code == 1, "it serves again")


def running(cluster: DevCluster) -> set[int]:
    return {pid for role in ("redis", "journal", "api") for pid in cluster.pids(role)}


@pytest.mark.soak
def test_the_runbook_is_walked_while_payments_go_on(
    cluster: DevCluster, login: dict[str, str], tmp_path: Path
) -> None:
    """No process is restarted. Sessions begin anew, payments go on with the known map, nothing is lost."""
    sre = ("--zookeeper-user", "sre", "--zookeeper-password-file", login["sre"])
    service = ("--service-user", "wallet", "--service-password-file", login["wallet"])
    flags = (*cluster.coordination_flags(), *sre)
    answer("protect", *flags, *service, "--yes")
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
            run(command, tmp_path, cluster, *sre, *roles)

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
    environ = {**os.environ, "PATH": tools, "WALLET_ZOOKEEPER": cluster.state()["zookeeper"]}

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
