"""Wrong configuration stops a process at its start: status 1, and one line that says what to change.

All commands of the table run together; those that look for ZooKeeper take longest and begin first.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.clusters import even_ownership, redis_binary

from wallet_engine.dev.ports import free_port
from wallet_engine.dev.redis_cluster import RedisCluster
from wallet_engine.journal.snapshots import SNAPSHOT_VERSION, snapshot_path
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.model import ClusterConfig, Shard, spread

#: All start at once, and each imports the program: a busy machine takes its time.
START_S_MAX = 150.0
#: The fixture fills in `{…}`. Nothing listens on port 1.
NO_ZOOKEEPER = "--zookeeper 127.0.0.1:1"
INIT = "--partitions 16 --yes --shard s1="


pytestmark = pytest.mark.timeout(200)


class Row(NamedTuple):
    argv: str
    says: str
    #: 2 where the command line alone is wrong.
    status: int = 1


ROWS = {
    "serve-zookeeper-unreachable": Row(
        f"engine serve --port 0 {NO_ZOOKEEPER}",
        "ZooKeeper at 127.0.0.1:1 does not answer: start it or set --zookeeper",
    ),
    "journal-zookeeper-unreachable": Row(
        f"engine journal --directory {{dir}}/j {NO_ZOOKEEPER}",
        "ZooKeeper at 127.0.0.1:1 does not answer: start it or set --zookeeper",
    ),
    "admin-zookeeper-unreachable": Row(
        f"admin status {NO_ZOOKEEPER}",
        "ZooKeeper at 127.0.0.1:1 does not answer: start it or set --zookeeper",
    ),
    "serve-nothing-given": Row("engine serve", "give either --zookeeper host:port,… or --map-file FILE", 2),
    "journal-nothing-given": Row(
        "engine journal --directory {dir}/j", "give either --zookeeper host:port,… or --map-file FILE", 2
    ),
    "serve-not-initialised": Row("engine serve --map-file {dir}/none.json", "run wallet-admin init"),
    "journal-not-initialised": Row(
        "engine journal --directory {dir}/j --map-file {dir}/none.json", "run wallet-admin init"
    ),
    "init-redis-unreachable": Row(
        f"admin init --map-file {{dir}}/new1.json {INIT}127.0.0.1:1", "Redis at 127.0.0.1:1 does not answer"
    ),
    "init-redis-not-in-cluster-mode": Row(
        f"admin init --map-file {{dir}}/new2.json {INIT}{{plain}}",
        "is not in cluster mode: set `cluster-enabled yes` and restart it",
    ),
    "init-redis-evicts": Row(
        f"admin init --map-file {{dir}}/new3.json {INIT}{{evicting}}",
        "has maxmemory-policy allkeys-lru, which may evict balances: "
        "run CONFIG SET maxmemory-policy noeviction",
    ),
    "init-partitions": Row(
        "admin init --map-file {dir}/new4.json --partitions 48 --yes --shard s1={evicting}",
        "partitions must be a power of two, 1 to 4096: 48",
        2,
    ),
    "dev-partitions": Row(
        "engine dev --embedded --partitions 48 --data-dir {dir}/dev",
        "partitions must be a power of two, 1 to 4096: 48",
        2,
    ),
    "journal-redis-not-in-cluster-mode": Row(
        "engine journal --map-file {dir}/plain.json --directory {dir}/j1",
        "is not in cluster mode: set `cluster-enabled yes` and restart it",
    ),
    "journal-redis-evicts": Row(
        "engine journal --map-file {dir}/evicting.json --directory {dir}/j2",
        "has maxmemory-policy allkeys-lru, which may evict balances: "
        "run CONFIG SET maxmemory-policy noeviction",
    ),
    "serve-redis-not-in-cluster-mode": Row(
        "engine serve --port 0 --map-file {dir}/plain.json",
        "is not in cluster mode: set `cluster-enabled yes` and restart it",
    ),
    "serve-redis-evicts": Row(
        "engine serve --port 0 --map-file {dir}/evicting.json",
        "has maxmemory-policy allkeys-lru, which may evict balances: "
        "run CONFIG SET maxmemory-policy noeviction",
    ),
    "journal-directory-in-use": Row(
        "engine journal --map-file {dir}/down.json --directory {dir}/used",
        "/used is in use by another journal process",
    ),
    "journal-directory-of-another": Row(
        "engine journal --map-file {dir}/down.json --journal-id j2 --directory {dir}/others",
        "belongs to journal 'j1', not to 'j2'",
    ),
    "journal-snapshot-of-a-later-version": Row(
        "engine journal --map-file {dir}/fit.json --directory {dir}/later",
        f"0001.snapshot is a snapshot of version {SNAPSHOT_VERSION + 1}, and this program knows them up to "
        f"{SNAPSHOT_VERSION}: a later version of it wrote that. Run that version here",
    ),
    "journal-directory-not-writable": Row(
        "engine journal --map-file {dir}/down.json --directory {dir}/a-file/below",
        "/a-file/below: Not a directory",
    ),
    "serve-open-door": Row(
        "engine serve --map-file {dir}/fit.json --host 0.0.0.0 --port 0",
        "--host 0.0.0.0 is open to other machines, and callers need not identify themselves: "
        "make keys with wallet-admin key create, or add --insecure",
    ),
    "journal-open-door": Row(
        "engine journal --map-file {dir}/fit.json --directory {dir}/open --host 0.0.0.0",
        "--host 0.0.0.0 is open to other machines, and callers need not identify themselves",
    ),
    "serve-password-file-of-everybody": Row(
        f"engine serve {NO_ZOOKEEPER} --zookeeper-user u --zookeeper-password-file {{dir}}/readable",
        "/readable, which holds a secret: chmod 600",
    ),
    "admin-key-file-of-everybody": Row(
        "admin freeze alice --yes --map-file {dir}/fit.json --key-file {dir}/readable",
        "/readable, which holds a secret: chmod 600",
    ),
    "serve-port-in-use": Row(
        "engine serve --map-file {dir}/fit.json --host 127.0.0.1 --port {taken}", "{taken}"
    ),
}


class Ended(NamedTuple):
    status: int | None
    stdout: str
    stderr: str
    says: str


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    """How every row ended; a command that still runs after `START_S_MAX` is killed and has status None."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "readable").write_text("a secret\n")
    (folder / "readable").chmod(0o644)
    early = {name for name, row in ROWS.items() if NO_ZOOKEEPER in row.argv}
    running = start(early, {"dir": str(folder)})
    (folder / "a-file").touch()
    JournalWriter(folder / "others", "j1").close()
    later = snapshot_path(folder / "later", 3, 1)
    later.parent.mkdir(parents=True)
    later.write_text(f"wallet snapshot {SNAPSHOT_VERSION + 1}\n")
    in_use = JournalWriter(folder / "used", "j1")
    plain_port = free_port()
    plain = subprocess.Popen(
        [str(redis_binary().path), "--port", str(plain_port), "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        with RedisCluster(redis_binary(), folder / "redis", even_ownership(2)) as cluster:
            node = cluster.shard_nodes("s1")[0]
            node.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            addresses = {"plain": f"127.0.0.1:{plain_port}", "evicting": node.address, "down": "127.0.0.1:1"}
            addresses["fit"] = cluster.shard_nodes("s2")[0].address
            for name, address in addresses.items():
                directory = open_directory(None, folder / f"{name}.json")
                directory.initialise(ClusterConfig(16), [Shard("s1", (address,))], spread(16, ["s1"]))
                directory.close()
            words = {"dir": str(folder), "taken": str(plain_port), **addresses}
            running |= start(ROWS.keys() - early, words)
            yield ends(running, words)
    finally:
        for process in running.values():
            process.kill()
            process.communicate()
        in_use.close()
        plain.kill()
        plain.wait()


def start(names: Iterable[str], words: dict[str, str]) -> dict[str, subprocess.Popen[str]]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
    running = {}
    for name in names:
        command, *argv = ROWS[name].argv.format(**words).split()
        path = str(Path(sys.executable).with_name(f"wallet-{command}"))
        running[name] = subprocess.Popen(
            [path, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
        )
    return running


def ends(running: dict[str, subprocess.Popen[str]], words: dict[str, str]) -> dict[str, Ended]:
    deadline = time.monotonic() + START_S_MAX
    while any(process.poll() is None for process in running.values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    ended = {}
    for name, process in running.items():
        status = process.poll()
        process.kill()
        stdout, stderr = process.communicate()
        ended[name] = Ended(status, stdout, stderr, ROWS[name].says.format(**words))
    return ended


@pytest.mark.parametrize(
    "name",
    ROWS,
)
def test_wrong_configuration_stops_the_process_with_one_line(outcomes: dict[str, Ended], name: str) -> None:
    ended = outcomes[name]
    assert ended.status == ROWS[name].status, ended
    assert ended.stdout == ""
    assert ended.says in ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
