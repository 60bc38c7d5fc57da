"""Three hosts with everything on: keys and HTTPS, certificates between our processes, Redis with users and TLS,
ZooKeeper by TLS with users. One host dies and returns. `cluster_config/DEPLOY.md` says the same for people.
"""

import http.client
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.hosts import NETWORK, Host, hosts
from support.replicated import wait_until
from support.rogue import Rogue
from support.wallet_api import new_id, transfer_body

from wallet_engine.dev.binaries import find_zookeeper, system_redis
from wallet_engine.dev.config_files import config_path
from wallet_engine.domain.principals import checked
from wallet_engine.routing.slots import partition_of
from wallet_engine.telemetry.authority import Authority, Pair

pytestmark = [pytest.mark.soak, pytest.mark.timeout(570)]

COUNT, PARTITIONS = 3, 8
BIN = Path(sys.executable).parent
START_S_MAX = 120.0
#: Debian's zookeeper.jar does not name it, and needs it for TLS.
CODEC_JAR = "/usr/share/java/netty-codec.jar"
NETTY = "org.apache.zookeeper.server.NettyServerCnxnFactory"
ZOOKEEPER, REDIS, REPLICA, JOURNAL, API = 2281, 7001, 7002, 7400, 8443


class Deployment:
    """What an SRE would have on his machine: the authority, passwords, and a way to each host."""

    def __init__(self, folder: Path, machines: list[Host]) -> None:
        self.folder = folder
        self.hosts = machines
        self.authority = Authority.create(folder / "ca", "three hosts")
        self.key: str | None = None
        self.passwords = {
            name: self._password(name)
            for name in ("api", "journal", "admin", "replica", "zk-sre", "zk-service", "zk-api")
        }

    def _password(self, name: str) -> Path:
        path = self.folder / f"{name}.pw"
        path.touch(0o600)
        path.write_text(secrets.token_hex(16))
        return path

    def pair(self, role: str, name: str, *names: str) -> Pair:
        return self.authority.issue(checked(role, name), hosts=names, renew=True)

    @property
    def zookeeper(self) -> str:
        return ",".join(f"{host.address}:{ZOOKEEPER}" for host in self.hosts)

    def environ(self, pair: Pair, redis_user: str, zookeeper_user: str) -> dict[str, str]:
        """What a process of ours needs to know of the others, and to say who it is."""
        ca, (cert, key) = str(self.authority.pair.cert), map(str, pair)
        found = {"ZOOKEEPER": self.zookeeper, "REDIS_USER": redis_user, "ZOOKEEPER_USER": zookeeper_user}
        found["REDIS_PASSWORD_FILE"] = str(self.passwords[redis_user])
        found["ZOOKEEPER_PASSWORD_FILE"] = str(self.passwords[zookeeper_user])
        for server in ("REDIS", "ZOOKEEPER", "PEER"):
            found |= {f"{server}_CA": ca, f"{server}_CERT": cert, f"{server}_KEY": key}
        return {f"WALLET_{name}": value for name, value in found.items()}

    # The parts ---------------------------------------------------------------------------------------------

    def start_zookeeper(self) -> None:
        install = find_zookeeper()
        for host in self.hosts:
            pair = self.pair("server", f"zk-{host.number}", host.address)
            store = host.folder / "zookeeper.pem"
            store.write_text(pair.key.read_text() + pair.cert.read_text())
            data = host.folder / "zookeeper"
            data.mkdir()
            (data / "myid").write_text(f"{host.number}\n")
            lines = [
                config_path("zoo.cfg").read_text("utf-8"),
                f"dataDir={data}",
                "initLimit=20",
                "syncLimit=10",
            ]
            lines += [f"secureClientPort={ZOOKEEPER}", f"secureClientPortAddress={host.address}"]
            lines += [f"serverCnxnFactory={NETTY}", "sslQuorum=true"]
            for prefix in ("ssl", "ssl.quorum"):
                lines.append(f"{prefix}.keyStore.location={store}")
                lines.append(f"{prefix}.trustStore.location={self.authority.pair.cert}")
            lines += [f"server.{each.number}={each.address}:2888:3888" for each in self.hosts]
            config = host.folder / "zoo.cfg"
            config.write_text("\n".join(lines) + "\n")
            java = (str(install.java), "-Xmx96m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
            main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
            host.start("zookeeper", (*java, "-cp", f"{install.classpath}:{CODEC_JAR}", main, str(config)))

    def start_redis(self) -> None:
        replica = self.passwords["replica"].read_text()
        for host in self.hosts:
            pair = self.pair("server", f"redis-{host.number}", host.address)
            for name, port in (("primary", REDIS), ("replica", REPLICA)):
                folder = host.folder / name
                folder.mkdir()
                # Anybody may come in until `redis acl` has made the users.
                users = (
                    "user default on nopass ~* &* +@all",
                    f"user replica on >{replica} +psync +replconf +ping",
                )
                (folder / "users.acl").write_text("\n".join(users) + "\n")
                (folder / "redis.conf").write_text(
                    f"""
                    include {config_path("redis.conf")}
                    protected-mode no
                    bind {host.address}
                    port 0
                    tls-port {port}
                    tls-cluster yes
                    tls-replication yes
                    tls-cert-file {pair.cert}
                    tls-key-file {pair.key}
                    tls-ca-cert-file {self.authority.pair.cert}
                    masteruser replica
                    masterauth {replica}
                    aclfile {folder}/users.acl
                    dir {folder}
                    """
                )
                host.start(name, (str(system_redis().path), str(folder / "redis.conf")))

    @property
    def shards(self) -> list[str]:
        """Each has its replica on the next host."""
        after = [*self.hosts[1:], self.hosts[0]]
        pairs = zip(self.hosts, after, strict=True)
        return [
            f"--shard=s{one.number}={one.address}:{REDIS},{other.address}:{REPLICA}" for one, other in pairs
        ]

    def form(self) -> None:
        """One Redis Cluster, its users, and the cluster written down."""
        pair = self.pair("admin", "sre")
        tls = [
            f"--redis-ca={self.authority.pair.cert}",
            f"--redis-cert={pair.cert}",
            f"--redis-key={pair.key}",
        ]
        forming = ("cluster", "form", *self.shards, f"--partitions={PARTITIONS}", "--yes", *tls)
        self.run(str(BIN / "wallet-admin"), *forming)
        nodes = [f"--node={host.address}:{port}" for host in self.hosts for port in (REDIS, REPLICA)]
        users = [f"--{user}-password-file={self.passwords[user]}" for user in ("api", "journal", "admin")]
        acl = ("redis", "acl", "--apply", "--yes", "--json", *nodes, *users, *tls)
        whole = self.environ(pair, "admin", "zk-sre")
        environ = {
            name: value for name, value in whole.items() if "_USER" not in name and "PASSWORD" not in name
        }
        done = json.loads(self.run(str(BIN / "wallet-admin"), *acl, environ=environ))
        assert set(done.get("nodes", {}).values()) == {""}, done
        for host in self.hosts:
            for port in (REDIS, REPLICA):
                self._redis(host, port, pair, "ACL", "SETUSER", "default", "off")
                self._redis(host, port, pair, "ACL", "SAVE")
        users = [
            f"--{role}-{what}={value}"
            for role in ("service", "api")
            for what, value in (("user", f"zk-{role}"), ("password-file", self.passwords[f"zk-{role}"]))
        ]
        words = (*self.shards, f"--partitions={PARTITIONS}", "--journal-quorum=2", "--yes")
        self.admin("init", *words, *users)

    def _redis(self, host: Host, port: int, pair: Pair, *words: str) -> None:
        at = ("-h", host.address, "-p", str(port), "--tls", "--cacert", str(self.authority.pair.cert))
        who = ("--cert", str(pair.cert), "--key", str(pair.key), "--user", "admin", "--no-auth-warning")
        environ = {"REDISCLI_AUTH": self.passwords["admin"].read_text()}
        assert "OK" in self.run("redis-cli", *at, *who, *words, environ=environ)

    def start_ours(self) -> None:
        for host in self.hosts:
            name = f"j{host.number}"
            environ = self.environ(self.pair("journal", name), "journal", "zk-service")
            words = ("journal", "--journal-id", name, "--directory", str(host.folder / name))
            at = ("--host", host.address, "--port", str(JOURNAL))
            host.start(name, (str(BIN / "wallet-engine"), *words, *at), environ)
        self.key = self.admin("key", "create", "ops", "--role=admin", "--yes")["key"]
        for host in self.hosts:
            pair = self.pair("service", f"api-{host.number}", host.address)
            environ = self.environ(pair, "api", "zk-api")
            https = ("--tls-cert", str(pair.cert), "--tls-key", str(pair.key))
            at = ("--host", host.address, "--port", str(API))
            host.start("api", (str(BIN / "wallet-engine"), "serve", *at, *https), environ)

    # What is done with it -------------------------------------------------------------------------------------

    def run(self, *argv: str, environ: dict[str, str] | None = None) -> str:
        known = {**os.environ, **(environ or {})}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=known)
        assert done.stdout or done.returncode == 0, done.stderr
        return done.stdout

    def admin(self, *words: str) -> dict[str, Any]:
        environ = self.environ(self.pair("admin", "sre"), "admin", "zk-sre")
        environ["WALLET_API_CA"] = str(self.authority.pair.cert)
        if self.key is not None:
            environ["WALLET_KEY"] = self.key
        document: dict[str, Any] = json.loads(
            self.run(str(BIN / "wallet-admin"), *words, "--json", environ=environ)
        )
        assert "error" not in document, document
        return document

    def ask(self, host: Host, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status 0 when there is no answer."""
        context = ssl.create_default_context(cafile=str(self.authority.pair.cert))
        connection = http.client.HTTPSConnection(host.address, API, timeout=10, context=context)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()

    def pay(self, host: Host, account: str) -> int:
        return self.ask(
            host, "POST", "/v1/wallet/balance_transfer", transfer_body("@bank", account, "1.00", new_id())
        )[0]

    def pays(self, host: Host, accounts: list[str]) -> bool:
        return all(self.pay(host, account) == 200 for account in accounts)

    def said(self) -> str:
        """The end of every log."""
        logs = [child.log for host in self.hosts for child in host.children.values()]
        return "\n".join(f"{log}:\n{log.read_text(errors='replace')[-600:]}" for log in logs)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    if os.geteuid():
        pytest.skip("network namespaces are for root")
    with hosts(COUNT, tmp_path) as machines:
        made = Deployment(tmp_path, machines)
        made.start_zookeeper()
        made.start_redis()
        wait_until(lambda: all(map(_zookeeper_serves, machines)), "ZooKeeper listens", START_S_MAX, made.said)
        made.form()
        made.start_ours()

        def serves() -> bool:
            answers = [made.ask(host, "GET", "/readyz") for host in machines]
            return all(status == 200 and found["status"] == "ready" for status, found in answers)

        wait_until(serves, "every API process serves", START_S_MAX, made.said)
        yield made


def _zookeeper_serves(host: Host) -> bool:
    with suppress(OSError), socket.create_connection((host.address, ZOOKEEPER), timeout=1):
        return True
    return False


def test_g13_three_hosts_with_everything_on_outlive_one_of_them(deployment: Deployment) -> None:
    first, second, third = deployment.hosts
    accounts = [
        next(name for n in range(10_000) if partition_of(name := f"a-{n}", PARTITIONS) == partition)
        for partition in range(PARTITIONS)
    ]
    for account in accounts:
        status, _ = deployment.ask(first, "POST", "/v1/accounts", {"account_id": account, "currency": "USD"})
        assert status == 201
    for host in deployment.hosts:
        assert deployment.pays(host, accounts)
    nobody_is_let_in(deployment)
    check(deployment)

    third.fall()
    fell_s = time.monotonic()
    for host in (first, second):
        wait_until(
            lambda host=host: deployment.pays(host, accounts), "two hosts pay", START_S_MAX, deployment.said
        )
    print(f"paid everywhere {time.monotonic() - fell_s:.1f} s after a host died")
    third.rise()
    wait_until(lambda: deployment.pays(third, accounts), "the third pays again", START_S_MAX, deployment.said)
    check(deployment)


def check(deployment: Deployment) -> None:
    wait_until(
        lambda: deployment.admin("verify", "--journal", _journal(deployment))["ok"],
        "it verifies",
        START_S_MAX,
    )
    found: list[dict[str, Any]] = []

    def well() -> bool:
        findings = deployment.admin("doctor")["findings"]
        found[:] = [one for one in findings if one["severity"] in ("error", "warning")]
        return not found

    wait_until(well, "doctor finds nothing", START_S_MAX, lambda: found)
    assert deployment.admin("journal", "verify")["same"]


def _journal(deployment: Deployment) -> str:
    return str(deployment.hosts[0].folder / "j1")


def nobody_is_let_in(deployment: Deployment) -> None:
    """Nothing on these hosts speaks plainly, or to who has no certificate."""
    host = deployment.hosts[0]
    for port in (ZOOKEEPER, REDIS, REPLICA, JOURNAL, API):
        for said in (b"PING\r\n", b"srvr\n", b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"):
            with socket.create_connection((host.address, port), timeout=10) as link:
                link.sendall(said)
                answer = b""
                with suppress(OSError):
                    answer = link.recv(1000)
                assert not any(word in answer for word in (b"PONG", b"Mode:", b"HTTP/1.1 200")), (
                    port,
                    answer,
                )
    for port in (ZOOKEEPER, REDIS, JOURNAL):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with Rogue(f"{host.address}:{port}", context) as rogue:
            assert rogue.send(b"PING\r\n" * 20).hear() is None, port
    assert host.address.startswith(NETWORK)
    key, deployment.key = deployment.key, "wk_aaaaaaaa_" + "0" * 64
    assert deployment.pay(host, "a-0") == 401
    deployment.key = key
