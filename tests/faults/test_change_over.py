"""A running cluster is closed step by step, as `cluster_config/DEPLOY.md` says, while a caller pays all the time."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from support.clusters import redis_binary
from support.replicated import wait_until
from support.rogue import Rogue
from support.secured import password_file
from support.wallet_api import new_id, transfer_body
from support.zookeeper_ports import TwoPorts

from wallet_engine.dev.config_files import config_path
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.process import Child, stop_all
from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.principals import checked
from wallet_engine.telemetry.authority import Authority

PARTITIONS = 4
COPIES = ("j1", "j2", "j3")
APIS = ("api-1", "api-2")
BIN = Path(sys.executable).parent
STEP_S_MAX = 60.0
#: The longest wait for one payment, whatever is being restarted.
PAYMENT_S_MAX = 30.0


class Payer(threading.Thread):
    """Pays one cent at a time and retries each payment, at the API processes in turn, until it succeeds."""

    def __init__(self, ports: list[int]) -> None:
        super().__init__()
        self._ports = ports
        self.key: str | None = None
        self.paid = 0
        self.refused: list[str] = []
        self.longest_s = 0.0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            began_s = time.monotonic()
            body = transfer_body("@bank", "ann", "0.01", new_id())
            while (status := self._ask(body)) != 200:
                if status not in (0, 429, 503):
                    self.refused.append(f"{status}")
                    return
                if time.monotonic() - began_s > PAYMENT_S_MAX:
                    self.refused.append(f"not within {PAYMENT_S_MAX:.0f} s")
                    return
                time.sleep(0.02)
            self.longest_s = max(self.longest_s, time.monotonic() - began_s)
            self.paid += 1

    def _ask(self, body: dict[str, str]) -> int:
        self._ports.append(self._ports.pop(0))
        return post(self._ports[0], "/v1/wallet/balance_transfer", body, self.key)


def post(port: int, path: str, body: dict[str, Any], key: str | None = None) -> int:
    """The status; 0 when there is no answer."""
    known = {} if key is None else {"Authorization": f"Bearer {key}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **known})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


class Cluster:
    """Its processes, each with the flags that it has now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create(folder / "ca", "test")
        pair = self.authority.issue(checked("server", "zookeeper"), hosts=("127.0.0.1",))
        self.zookeeper = TwoPorts(folder, pair.key, pair.cert, self.authority.pair.cert)
        self.children: dict[str, Child] = {"zookeeper": self.zookeeper.child}
        self.ports = {name: free_port() for name in (*COPIES, *APIS)}
        #: Whether processes started from now on speak TLS to ZooKeeper, and log in as a user.
        self.by_tls = False
        self.redis_closed = False

    def begin(self) -> None:
        self.start_zookeeper(plain=True, secure=False)
        port = free_port(redis=True)
        (self.folder / "users.acl").touch()
        where = (
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.folder),
            "--aclfile",
            "users.acl",
        )
        self.redis = f"127.0.0.1:{port}"
        redis = (str(redis_binary().path), str(config_path("redis.conf")), *where)
        self.children["redis"] = child = Child("redis", redis, self.folder / "redis.log")
        child.start()
        shard, partitions = f"--shard=s1=127.0.0.1:{port}", f"--partitions={PARTITIONS}"
        self._run(str(BIN / "wallet-admin"), "cluster", "form", shard, partitions, "--yes")
        self.admin("init", shard, partitions, "--journal-quorum=2", "--yes")
        for name in (*COPIES, *APIS):
            self._start(name)
        for name in (*COPIES, *APIS):
            self._wait(name)

    def start_zookeeper(self, *, plain: bool, secure: bool) -> None:
        """Start it, or start it again, and wait until it listens."""
        self.zookeeper.start(plain=plain, secure=secure)
        wanted = [
            port for port, open_ in ((self.zookeeper.plain, plain), (self.zookeeper.secure, secure)) if open_
        ]
        wait_until(lambda: all(map(listens, wanted)), "ZooKeeper listens", STEP_S_MAX)

    def certificates(self, role: str, name: str, to: str = "peer") -> tuple[str, ...]:
        pair = self.authority.issue(checked(role, name), renew=True)
        ca = self.authority.pair.cert
        return (f"--{to}-ca={ca}", f"--{to}-cert={pair.cert}", f"--{to}-key={pair.key}")

    def user(self, of: str, user: str, prefix: str = "") -> tuple[str, ...]:
        """Flags with which a process logs in as that user; the first call makes the password file."""
        file = self.folder / f"{of}-{user}.password"
        if not file.exists():
            password_file(self.folder, f"{of}-{user}", f"{user} has a password")
        return (f"--{prefix or of}-user={user}", f"--{prefix or of}-password-file={file}")

    def redis_user(self, user: str) -> tuple[str, ...]:
        return self.user("redis", user)

    def directory(self, role: str, name: str, user: str) -> tuple[str, ...]:
        """Flags with which a process finds ZooKeeper."""
        if not self.by_tls:
            return (f"--zookeeper=127.0.0.1:{self.zookeeper.plain}",)
        secured = (*self.certificates(role, name, "zookeeper"), *self.user("zookeeper", user))
        return (f"--zookeeper=127.0.0.1:{self.zookeeper.secure}", *secured)

    def start(self, name: str, *flags: str) -> None:
        """Start it, or start it again with other flags, and wait until it does its work."""
        if name in self.children:
            self.children[name].terminate()
            self.children[name].wait(STEP_S_MAX)
        self._start(name, *flags)
        self._wait(name)

    def _start(self, name: str, *flags: str) -> None:
        words: tuple[str, ...] = ("serve", "--service-id", name, *self.directory("service", name, "api"))
        if name in COPIES:
            words = ("journal", "--journal-id", name, "--directory", str(self.folder / name))
            words = (*words, *self.directory("journal", name, "journal"))
        at = ("--port", str(self.ports[name]))
        argv = (str(BIN / "wallet-engine"), *words, *at, *flags)
        self.children[name] = child = Child(name, argv, self.folder / f"{name}.log")
        child.start()

    def _wait(self, name: str) -> None:
        works = self._ready if name in APIS else self._counts
        log = self.folder / f"{name}.log"
        wait_until(lambda: works(name), f"{name} works", STEP_S_MAX, lambda: log.read_text()[-2000:])

    def close_redis(self) -> None:
        """From now on Redis lets in only its named users."""
        with redis.Redis(*split_address(self.redis), protocol=2) as client:
            client.execute_command("ACL", "SETUSER", "default", "off")
            client.execute_command("CLIENT", "KILL", "USER", "default", "SKIPME", "yes")
        self.redis_closed = True

    def _ready(self, name: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[name], timeout=10)
        try:
            connection.request("GET", "/readyz")
            return bool(json.loads(connection.getresponse().read())["status"] == "ready")
        except (OSError, ValueError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _counts(self, name: str) -> bool:
        """Whether the journal copy counts towards the quorum and lags by fewer than 50 entries."""
        both = (*self.certificates("admin", "t"), "--peer-tls=optional")
        info = self.admin("journal", "info", flags=both)
        mine = [copy for copy in info["copies"] if copy["journal_id"] == name and copy["reachable"]]
        return bool(mine) and mine[0]["counts"] and mine[0]["lag_entries"] < 50

    def admin(self, *words: str, flags: tuple[str, ...] = (), key: str | None = None) -> dict[str, Any]:
        environ = dict(os.environ) if key is None else {**os.environ, "WALLET_KEY": key}
        where = self.directory("admin", "t", "sre")
        where = (*where, *self.redis_user("admin")) if self.redis_closed else where
        said = self._run(str(BIN / "wallet-admin"), *words, *where, *flags, "--json", environ=environ)
        document: dict[str, Any] = json.loads(said)
        return document

    def _run(self, *argv: str, environ: dict[str, str] | None = None) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False, env=environ)
        assert done.stdout or done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def paid(self) -> Iterator[Payer]:
        """A `Payer` pays all the time; `going_on` fails when one of its payments was refused."""
        api = self.ports[APIS[0]]
        body = {"account_id": "ann", "currency": "USD"}
        wait_until(lambda: post(api, "/v1/accounts", body) in (200, 201), "an account is opened", STEP_S_MAX)
        payer = Payer([self.ports[name] for name in APIS])
        payer.start()
        try:
            yield payer
        finally:
            payer.stopping.set()
            payer.join()

    def going_on(self, payer: Payer, step: str) -> None:
        until = payer.paid + 20
        wait_until(lambda: payer.paid >= until or payer.refused, f"payments go on after: {step}", STEP_S_MAX)
        assert not payer.refused, f"{step}: {payer.refused}"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        stop_all(list(made.children.values())[::-1])


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_g13_an_open_cluster_is_closed_while_it_is_paid(cluster: Cluster) -> None:
    cluster.begin()
    with cluster.paid() as payer:
        cluster.going_on(payer, "open")
        for name in COPIES:
            cluster.start(name, *cluster.certificates("journal", name), "--peer-tls=optional")
            cluster.going_on(payer, f"{name} takes both")
        for name in APIS:
            certificates = cluster.certificates("service", name)
            cluster.start(name, *certificates, "--peer-tls=optional", "--insecure")
            cluster.going_on(payer, f"{name} speaks both")
        for name in COPIES:
            cluster.start(name, *cluster.certificates("journal", name))
            cluster.going_on(payer, f"{name} is closed")
        payer.key = cluster.admin("key", "create", "shop", "--role=admin", "--yes")["key"]
        cluster.going_on(payer, "callers show keys")
        for name in APIS:
            cluster.start(name, *cluster.certificates("service", name))
            cluster.going_on(payer, f"{name} is closed")
        files = [
            cluster.redis_user(user)[1].replace("--redis", f"--{user}")
            for user in ("api", "journal", "admin")
        ]
        applied = cluster.admin("redis", "acl", "--apply", "--yes", f"--node={cluster.redis}", *files)
        assert applied["nodes"] == {cluster.redis: ""}
        for name in COPIES:
            cluster.start(name, *cluster.certificates("journal", name), *cluster.redis_user("journal"))
            cluster.going_on(payer, f"{name} logs in to Redis")
        for name in APIS:
            cluster.start(name, *cluster.certificates("service", name), *cluster.redis_user("api"))
            cluster.going_on(payer, f"{name} logs in to Redis")
        cluster.close_redis()
        cluster.going_on(payer, "Redis lets in its users alone")
        cluster.start_zookeeper(plain=True, secure=True)
        cluster.going_on(payer, "ZooKeeper takes both")
        cluster.by_tls = True
        for name in (*COPIES, *APIS):
            who, user = ("journal", "journal") if name in COPIES else ("service", "api")
            cluster.start(name, *cluster.certificates(who, name), *cluster.redis_user(user))
            cluster.going_on(payer, f"{name} speaks TLS to ZooKeeper")
        others = (*cluster.user("zookeeper", "journal", "service"), *cluster.user("zookeeper", "api", "api"))
        assert cluster.admin("protect", "--yes", *others)["nodes"] > 10
        cluster.going_on(payer, "the tree belongs to its users")
        cluster.start_zookeeper(plain=False, secure=True)
        cluster.going_on(payer, "ZooKeeper takes TLS alone")
    print(f"{payer.paid} paid, the longest took {payer.longest_s:.2f} s")
    assert not listens(cluster.zookeeper.plain)
    api = cluster.ports[APIS[0]]
    assert post(api, "/v1/wallet/balance_transfer", transfer_body("@bank", "ann", "1.00", new_id())) == 401
    for name in COPIES:
        with Rogue(f"127.0.0.1:{cluster.ports[name]}") as rogue:
            assert rogue.send(b"\0" * 64).hear() is None
    with (
        redis.Redis(*split_address(cluster.redis), protocol=2) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    admin = cluster.certificates("admin", "t")
    wait_until(lambda: cluster.admin("verify", flags=admin)["ok"], "it verifies", STEP_S_MAX)
    found = cluster.admin("doctor", flags=admin, key=payer.key)["findings"]
    assert [one for one in found if one["severity"] in ("error", "warning")] == []
    balance = cluster.admin("balance", "ann", "USD", flags=admin)["balance"]
    assert balance == f"{payer.paid // 100}.{payer.paid % 100:02d}"
