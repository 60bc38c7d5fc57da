"""ZooKeeper by TLS: a real server that takes nothing else, and demands a certificate."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.certificates import Authority
from support.zookeeper_ports import TwoPorts
from unit.admin.made import admin

from wallet_engine.dev.ports import free_port
from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store import login
from wallet_engine.routing import zookeeper_tls
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.model import ClusterConfig, Shard, spread
from wallet_engine.routing.zookeeper_tls import ZooKeeperTls

#: kazoo leaves the sockets of failed handshakes to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

START_S_MAX = 60.0


@pytest.fixture(autouse=True)
def _plain_again() -> Iterator[None]:
    yield
    zookeeper_tls.use(ZooKeeperTls())
    login.use(login.Login())


@dataclass(frozen=True)
class Server:
    secure: str
    plain: str
    tls: ZooKeeperTls
    strangers: Authority


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("zookeeper-tls")
    authority = Authority(folder / "ca")
    pair = authority.issue("zookeeper", "IP:127.0.0.1")
    client = authority.issue("client", "URI:wallet:service/api-1")
    ports = TwoPorts(folder, pair.key, pair.cert, authority.cert)
    tls = ZooKeeperTls(authority.cert, client.cert, client.key)

    def serves() -> bool:
        zookeeper_tls.use(tls)
        try:
            open_directory(f"127.0.0.1:{ports.secure}", None).close()
        except ConfigError:
            return False
        return True

    try:
        ports.start(plain=True, secure=True)
        ports.child.wait_ready(serves, START_S_MAX)
        strangers = Authority(folder / "strangers", "strangers")
        yield Server(f"127.0.0.1:{ports.secure}", f"127.0.0.1:{ports.plain}", tls, strangers)
    finally:
        ports.child.kill()


def flags(tls: ZooKeeperTls) -> list[str]:
    said = {"ca": tls.ca, "cert": tls.cert, "key": tls.key}
    return [f"--zookeeper-{name}={path}" for name, path in said.items() if path is not None]


def test_a_tree_is_written_and_read_by_tls(server: Server) -> None:
    zookeeper_tls.use(server.tls)
    hosts = f"{server.secure}/made/by/us"
    with closing(open_directory(hosts, None)) as directory:
        shards = [Shard("s1", ("127.0.0.1:1",))]
        directory.initialise(ClusterConfig(4), shards, spread(4, ["s1"]))
    zookeeper_tls.use(ZooKeeperTls())
    result = admin("doctor", "--zookeeper", hosts, *flags(server.tls), "--json")
    findings = json.loads(result.stdout)["findings"]
    assert "nodes" in {found["check"] for found in findings}, "the tree was read"
    assert "zookeeper" not in {found["check"] for found in findings}, "the server was asked by TLS how it is"


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("plain", "speaks TLS only: set --zookeeper-ca"),
        ("strangers vouch", "cannot be reached by TLS"),
        ("no certificate", "cannot be reached by TLS"),
        ("TLS where there is none", "whether --zookeeper names its secureClientPort"),
        ("another name", "cannot be reached by TLS"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_told_from_one_that_is_away(
    server: Server, case: str, said: str
) -> None:
    tls, hosts = server.tls, server.secure
    if case == "plain":
        tls = ZooKeeperTls()
    elif case == "strangers vouch":
        tls = ZooKeeperTls(server.strangers.cert, tls.cert, tls.key)
    elif case == "no certificate":
        tls = ZooKeeperTls(tls.ca)
    elif case == "another name":
        hosts = hosts.replace("127.0.0.1", "localhost")
    else:
        hosts = server.plain
    zookeeper_tls.use(tls)
    with pytest.raises(ConfigError) as refused:
        open_directory(hosts, None, timeout_s=1.5)
    assert said in str(refused.value)
    zookeeper_tls.use(tls)
    with pytest.raises(ConfigError, match="does not answer: start it"):
        open_directory(f"127.0.0.1:{free_port()}", None, timeout_s=0.3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--zookeeper-cert={dir}/open"], "--zookeeper-cert and --zookeeper-key are given together"),
        (
            ["--zookeeper-cert={dir}/open", "--zookeeper-key={dir}/open"],
            "--zookeeper-cert needs --zookeeper-ca",
        ),
        (
            ["--zookeeper-ca={dir}/open", "--zookeeper-cert={dir}/open", "--zookeeper-key={dir}/open"],
            "others can read {dir}/open, which holds a secret: chmod 600",
        ),
        (["--zookeeper-ca={dir}/open"], "cannot use the certificates for ZooKeeper ({dir}/open)"),
    ],
)
def test_flags_that_cannot_be_used(tmp_path: Path, given: list[str], said: str) -> None:
    (tmp_path / "open").write_text("no certificate\n")
    (tmp_path / "open").chmod(0o644)
    words = [flag.format(dir=tmp_path) for flag in given]
    result = admin("status", "--zookeeper", "127.0.0.1:1", *words)
    about_a_file = "{dir}" in said
    assert result.exit_code == (1 if about_a_file else 2)
    assert said.format(dir=tmp_path) in result.stderr
