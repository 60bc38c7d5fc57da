"""A whole cluster with IPv6 literals as addresses, and one with host names."""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.replicated import wait_until
from support.wallet_api import WalletApi

from wallet_engine.dev.binaries import find_zookeeper, system_redis
from wallet_engine.dev.config_files import config_path
from wallet_engine.dev.ports import free_port, port_is_free
from wallet_engine.dev.process import Child, stop_all
from wallet_engine.domain.addresses import join_address

PARTITIONS = 4
BIN = Path(sys.executable).parent


def free(address: str) -> int:
    """A port that is free at the address; the port 10,000 above it is free too."""
    for _ in range(100):
        port = free_port(redis=True)
        if port_is_free(port, address) and port_is_free(port + 10_000, address):
            return port
    raise AssertionError(f"no free port at {address}")


class Place:
    """Starts the parts of a cluster, all of which use only addresses of `host`."""

    def __init__(self, folder: Path, host: str, ip: str) -> None:
        self.folder, self.host, self.ip = folder, host, ip
        self.children: list[Child] = []

    def start(self, name: str, *argv: str) -> Child:
        child = Child(name, argv, self.folder / f"{name}.log")
        child.start()
        self.children.append(child)
        return child

    def at(self, port: int) -> str:
        return join_address(self.host, port)

    def redis(self, name: str) -> str:
        port = free(self.ip)
        (self.folder / name).mkdir()
        config = str(config_path("redis.conf"))
        where = ("--port", str(port), "--bind", self.ip, "--dir", str(self.folder / name))
        self.start(name, str(system_redis().path), config, *where)
        return self.at(port)

    def zookeeper(self) -> str:
        port, install = free(self.ip), find_zookeeper()
        config = self.folder / "zoo.cfg"
        config.write_text(
            f"{config_path('zoo.cfg').read_text('utf-8')}\ndataDir={self.folder}/zookeeper\n"
            f"clientPort={port}\nclientPortAddress={self.ip}\n",
            encoding="utf-8",
        )
        (self.folder / "zookeeper").mkdir()
        java = (str(install.java), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        self.start("zookeeper", *java, "-cp", install.classpath, main, str(config))
        wait_until(lambda: serves(self.ip, port), "ZooKeeper serves")
        return self.at(port)

    def run(self, *argv: str, check: bool = True) -> str:
        done = subprocess.run(argv, capture_output=True, timeout=90, check=False)
        assert done.returncode == 0 or not check, done.stdout.decode() + done.stderr.decode()
        return done.stdout.decode()


@dataclass
class Running:
    place: Place
    url: str
    zookeeper: str

    def admin(self, *words: str, check: bool = True) -> str:
        return self.place.run(str(BIN / "wallet-admin"), "--zookeeper", self.zookeeper, *words, check=check)


@pytest.fixture(
    params=[
        pytest.param(("::1", "::1"), id="ipv6"),
        pytest.param(("localhost", "127.0.0.1"), id="names", marks=pytest.mark.soak),
    ]
)
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    host, ip = request.param
    place = Place(tmp_path, host, ip)
    try:
        zookeeper = f"{place.zookeeper()}/not/there/yet"
        nodes = {shard: [place.redis(f"{shard}-{number}") for number in (1, 2)] for shard in ("s1", "s2")}
        shards = [f"--shard={shard}={','.join(addresses)}" for shard, addresses in nodes.items()]
        forming = ("cluster", "form", *shards, f"--partitions={PARTITIONS}", "--yes")
        place.run(str(BIN / "wallet-admin"), *forming)
        found = Running(place, f"http://{place.at(free(ip))}", zookeeper)
        found.admin("init", *shards, f"--partitions={PARTITIONS}", "--yes")
        common = ("--zookeeper", zookeeper, "--host", host)
        journal = ("--directory", str(tmp_path / "journal"))
        place.start("journal", str(BIN / "wallet-engine"), "journal", *common, *journal)
        port = found.url.rpartition(":")[2]
        place.start("api", str(BIN / "wallet-engine"), "serve", *common, "--port", port)
        wait_until(lambda: ready(found.url), "the API process serves", 60)
        yield found
    finally:
        for child in place.children:
            if not child.alive:
                print(child.name, child.log.read_text("utf-8"))
        stop_all(place.children[::-1])


def serves(ip: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((ip, port), 1) as link:
        link.sendall(b"srvr")
        return b"Zookeeper version" in link.recv(100)
    return False


def ready(url: str) -> bool:
    with contextlib.suppress(OSError), WalletApi(url, PARTITIONS) as api:
        return bool(api.get("/readyz").json()["status"] == "ready")
    return False


@pytest.mark.timeout(180)
def test_a_cluster_known_by(running: Running) -> None:
    """Payments, a move, and verbs of `wallet-admin`."""
    with WalletApi(running.url, PARTITIONS) as api:
        ann, bob = api.account(0, "100.00"), api.account(3)
        api.paid(ann, bob, "1.00")
        bound_everywhere(running)
        document = json.loads(running.admin("doctor", "--json"))
        assert document["healthy"], document
        running.admin("move", "0", "s2", "--yes")
        api.paid(ann, bob, "1.00")
        running.admin("verify")
        assert api.balance(bob) == "2.00"


def bound_everywhere(running: Running) -> None:
    """An API process that listens on every address registers the one that `--advertise` names."""
    place, port = running.place, free(running.place.ip)
    every = {"::1": "::", "127.0.0.1": "0.0.0.0"}[place.ip]
    flags = ("--zookeeper", running.zookeeper, "--host", every, "--advertise", place.host, "--insecure")
    place.start(
        "api-2", str(BIN / "wallet-engine"), "serve", *flags, "--port", str(port), "--service-id", "wide"
    )
    wait_until(lambda: ready(f"http://{place.at(port)}"), "it serves", 60)
    services = json.loads(running.admin("status", "--json"))["services"]
    assert place.at(port) in [service["address"] for service in services]
