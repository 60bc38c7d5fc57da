"""Redis behind TLS and users: a whole cluster works so; errors name why a node does not let us in."""

import asyncio
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hiredis
import pytest
from redis.exceptions import NoPermissionError
from support.advice import noted
from support.certificates import Authority
from support.clusters import even_ownership
from support.replicated import wait_until
from support.secured import SecuredNode, password_file
from support.wallet_api import WalletApi
from unit.admin.made import admin

from wallet_engine.admin.moving.wire import Setback, Wire
from wallet_engine.dev.forming import form_cluster
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.process import Child, stop_all
from wallet_engine.redis_store.acl import acl_users
from wallet_engine.redis_store.connection import Connection, ConnectionLost
from wallet_engine.redis_store.login import Login, use
from wallet_engine.redis_store.refusals import Obstacle, hindrance_of
from wallet_engine.redis_store.topology import connect, view_node

PARTITIONS = 4
BIN = Path(sys.executable).parent
START_S_MAX = 60.0


@pytest.fixture(autouse=True)
def _plain_again() -> Iterator[None]:
    yield
    use(Login())


@dataclass
class Secured:
    """A cluster of two shards whose nodes let in only their users, and only by TLS."""

    folder: Path
    nodes: dict[str, SecuredNode]
    logins: dict[str, Login]
    children: list[Child]
    url: str = ""

    def flags(self, user: str) -> list[str]:
        who = self.logins[user]
        said = {
            "user": who.user,
            "password-file": who.password_file,
            "ca": who.ca,
            "cert": who.cert,
            "key": who.key,
        }
        return [f"--redis-{name}={value}" for name, value in said.items() if value is not None]

    def admin(self, *words: str, user: str = "admin", map_file: str = "map.json") -> dict[str, Any]:
        """The verb's document; its exit status is ignored."""
        result = admin(*words, "--map-file", self.folder / map_file, *self.flags(user), "--json")
        assert result.stdout, result.stderr
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    def engine(self, *words: str, user: str) -> None:
        argv = [
            str(BIN / "wallet-engine"),
            *words,
            "--map-file",
            str(self.folder / "map.json"),
            *self.flags(user),
        ]
        child = Child(words[0], argv, self.folder / f"{words[0]}.log")
        child.start()
        self.children.append(child)

    def wait_serving(self) -> None:
        def serves() -> bool:
            with WalletApi(self.url, PARTITIONS) as api:
                try:
                    return bool(api.get("/readyz").json()["status"] == "ready")
                except (OSError, ValueError):
                    return False

        logs = [child.log for child in self.children]
        wait_until(
            serves,
            "transfers are taken",
            START_S_MAX,
            lambda: "\n".join(log.read_text()[-1500:] for log in logs),
        )


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder / "ca")
    pair = authority.issue("node", "IP:127.0.0.1")
    nodes = {shard: SecuredNode(folder, shard, authority, pair) for shard in ("s1", "s2")}
    logins = {"nobody": Login(ca=authority.cert, cert=pair.cert, key=pair.key)}
    for user in ("api", "journal", "admin"):
        file = password_file(folder, user, f"{user} has a password")
        logins[user] = replace(
            logins["nobody"], user=user, password=f"{user} has a password", password_file=file
        )
    found = Secured(folder, nodes, logins, [])
    try:
        use(logins["nobody"])
        for node in nodes.values():
            found.children.append(node)
            node.start_and_wait()
        form_cluster([[node] for node in nodes.values()], list(even_ownership(2).values()))
        files = [f"--{user}-password-file={logins[user].password_file}" for user in acl_users()]
        at = [f"--node={node.address}" for node in nodes.values()]
        done = found.admin("redis", "acl", "--apply", "--yes", *at, *files, user="nobody")
        assert done == {
            "users": ["api", "journal", "admin"],
            "nodes": {n.address: "" for n in nodes.values()},
        }
        use(logins["admin"])
        for node in nodes.values():
            node.command("ACL", "SETUSER", "default", "off")
            node.command("ACL", "SAVE")
        shards = [f"--shard={name}={node.address}" for name, node in nodes.items()]
        assert found.admin("init", *shards, f"--partitions={PARTITIONS}", "--yes").get("initialised")
        found.engine("journal", "--directory", str(folder / "journal"), user="journal")
        port = free_port()
        found.url = f"http://127.0.0.1:{port}"
        found.engine("serve", "--port", str(port), user="api")
        found.wait_serving()
        yield found
    finally:
        use(Login())
        stop_all(found.children[::-1])


def test_a_cluster_pays_recovers_moves_and_verifies(secured: Secured) -> None:
    with WalletApi(secured.url, PARTITIONS) as api:
        ann, bob = api.account(0, "100.00"), api.account(PARTITIONS - 1)
        api.paid(ann, bob, "1.00")
        killed = secured.nodes["s1"]
        killed.kill()
        use(secured.logins["admin"])
        killed.start_and_wait()
        secured.wait_serving()
        wait_until(lambda: api.pay(ann, bob, "2.00").status == 200, "it pays again", START_S_MAX)
        moved = secured.admin("move", "0", "s2", "--yes")
        assert "error" not in moved, moved
        secured.wait_serving()
        before = float(api.balance(bob))
        api.paid(ann, bob, "3.00")
        assert float(api.balance(bob)) == before + 3
    assert secured.admin("verify")["ok"]
    findings = secured.admin("doctor")["findings"]
    assert not [found for found in findings if found["severity"] != "note"], findings
    # No command was denied: the users may do all that the code does.
    use(secured.logins["admin"])
    for node in secured.nodes.values():
        assert node.command("ACL", "LOG") == []
    said = "".join(child.log.read_text() for child in secured.children)
    assert not [who for who in secured.logins.values() if who.password and who.password in said]


@pytest.mark.parametrize(
    "words",
    [
        ("EVAL", "return 1", 0),
        ("SCRIPT", "LOAD", "return 1"),
        ("SCRIPT", "FLUSH"),
        ("CONFIG", "GET", "dir"),
        ("ACL", "LIST"),
        ("CLUSTER", "SETSLOT", 0, "STABLE"),
        ("FLUSHALL",),
        ("XTRIM", "a", "MAXLEN", 0),
        ("SHUTDOWN",),
    ],
    ids=str,
)
def test_an_api_process_may_not(secured: Secured, words: tuple[str | int, ...]) -> None:
    use(secured.logins["api"])
    node = secured.nodes["s2"]
    with pytest.raises(NoPermissionError):
        node.command(*words)
    use(secured.logins["admin"])
    node.command("ACL", "LOG", "RESET")


def test_doctor_tells_what_it_is_not_allowed_to_see_from_what_is_away(secured: Secured) -> None:
    address = secured.nodes["s1"].address

    def doctor(user: str, check: str) -> list[dict[str, Any]]:
        return [found for found in secured.admin("doctor", user=user)["findings"] if found["check"] == check]

    def known_as(user: str, password: str) -> None:
        file = password_file(secured.folder, user, password)
        secured.logins[user] = replace(
            secured.logins["admin"], user=user, password=password, password_file=file
        )

    known_as("stranger", "a guess")
    [said, *_] = doctor("stranger", "nodes")
    assert f"Redis at {address} {Obstacle.WRONG_PASSWORD}" in said["what"]
    assert said["commands"][0].startswith("wallet-admin redis acl")
    [said, *_] = doctor("nobody", "nodes")
    assert f"Redis at {address} {Obstacle.NO_PASSWORD}" in said["what"]
    use(secured.logins["admin"])
    for node in secured.nodes.values():
        node.command("ACL", "SETUSER", "looker", "on", ">looks", "~*", "+info", "+cluster", "+time")
    known_as("looker", "looks")
    [said, *_] = doctor("looker", "settings")
    assert said["what"].startswith("not checked: settings, clock, slots")
    assert Obstacle.NOT_ALLOWED in said["what"]
    assert address in said["what"]


def test_a_node_with_another_password_is_given_the_user_again(secured: Secured) -> None:
    """`doctor` names the command; a user who may set users on that node runs it."""
    node, file = secured.nodes["s1"], password_file(secured.folder, "chief", "leads")
    use(secured.logins["admin"])
    node.command("ACL", "SETUSER", "chief", "on", ">leads", "~*", "+@all")
    secured.logins["chief"] = replace(
        secured.logins["admin"], user="chief", password="leads", password_file=file
    )
    use(secured.logins["chief"])
    node.command("ACL", "SETUSER", "admin", "resetpass", ">another one")

    def refused() -> list[dict[str, Any]]:
        findings = secured.admin("doctor")["findings"]
        return [
            found
            for found in findings
            if f"Redis at {node.address} {Obstacle.WRONG_PASSWORD}" in found["what"]
        ]

    (found,) = refused()
    words = shlex.split(noted(found, FILE=str(secured.logins["admin"].password_file)))
    done = secured.admin(*words[1:], "--yes", user="chief")
    assert done == {"users": ["admin"], "nodes": {node.address: ""}}
    assert refused() == []
    use(secured.logins["admin"])
    node.command("ACL", "DELUSER", "chief")


@dataclass(frozen=True)
class Doors:
    """One node with a plain port, a TLS port, a password, a user with few rights, and no CONFIG."""

    node: SecuredNode
    trusted: Login
    strangers: Path
    authority: Authority

    def address(self, *, tls: bool) -> str:
        return f"127.0.0.1:{self.node.port if tls else self.node.plain_port}"


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("doors")
    authority, strangers = Authority(folder / "ca"), Authority(folder / "other", "other")
    pair = authority.issue("node", "IP:127.0.0.1")
    config = 'requirepass open\nrename-command CONFIG ""\nuser little on >open +ping'
    node = SecuredNode(folder, "node", authority, pair, plain=True, config=config)
    trusted = Login(password="open", ca=authority.cert, cert=pair.cert, key=pair.key)
    use(trusted)
    try:
        node.start_and_wait()
        slots = ["CLUSTER", "ADDSLOTSRANGE", 0, 16383]
        node.command(*slots)
        yield Doors(node, trusted, strangers.cert, authority)
    finally:
        use(Login())
        node.kill()


def by_view(address: str) -> str:
    refused: list[str] = []
    assert view_node(address, refused) is None
    return refused[0] if refused else "does not answer"


def by_connection(address: str) -> str:
    async def ask() -> str:
        lost = asyncio.Event()
        said = "let in"
        try:
            connection = await Connection.open(address, lambda _: lost.set())
            try:
                await connection.call("CLUSTER", "NODES")
            finally:
                connection.close()
        except (hiredis.ReplyError, ConnectionLost) as error:
            said = hindrance_of(error).text
        except OSError as error:
            said = str(error)
        with suppress(TimeoutError):  # a connection that was never made is not lost
            await asyncio.wait_for(lost.wait(), 0.2)
        return said

    return asyncio.run(ask())


def by_wire(address: str) -> str:
    with pytest.raises(Setback) as raised, closing(Wire(address)) as wire:
        wire.call("CLUSTER", "NODES")
    return str(raised.value)


LOGINS: dict[str, tuple[Callable[[Doors], Login], bool, Obstacle]] = {
    "no password": (lambda _: Login(), False, Obstacle.NO_PASSWORD),
    "wrong password": (lambda _: Login(password="guess"), False, Obstacle.WRONG_PASSWORD),
    "unknown user": (lambda _: Login("who", "open"), False, Obstacle.WRONG_PASSWORD),
    "user who may little": (lambda _: Login("little", "open"), False, Obstacle.NOT_ALLOWED),
    "strangers vouch": (lambda doors: replace(doors.trusted, ca=doors.strangers), True, Obstacle.TLS),
    "no certificate": (lambda doors: replace(doors.trusted, cert=None, key=None), True, Obstacle.TLS),
}


@pytest.mark.parametrize("way", [by_view, by_connection, by_wire])
@pytest.mark.parametrize("case", LOGINS)
def test_what_is_said_of_a_node_that_does_not_let_us_in(
    doors: Doors, case: str, way: Callable[[str], str]
) -> None:
    who, tls, obstacle = LOGINS[case]
    use(who(doors))
    said = way(doors.address(tls=tls))
    assert obstacle in said
    assert Obstacle.SILENT not in said


@pytest.mark.parametrize("way", [by_view, by_connection, by_wire])
def test_only_the_given_authority_vouches_for_a_node(
    doors: Doors, way: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authorities of the system, which `SSL_CERT_FILE` names here, do not."""
    assert doors.trusted.ca is not None
    monkeypatch.setenv("SSL_CERT_FILE", str(doors.trusted.ca))
    use(replace(doors.trusted, ca=doors.strangers))
    assert Obstacle.TLS in way(doors.address(tls=True))


@pytest.mark.parametrize("way", [by_view, by_connection, by_wire])
def test_a_node_with_a_revoked_certificate_is_no_node(
    doors: Doors, way: Callable[[str], str], tmp_path: Path
) -> None:
    believed = tmp_path / "ca.pem"
    believed.write_bytes(doors.authority.cert.read_bytes() + doors.authority.revoking(doors.trusted.cert))
    use(replace(doors.trusted, ca=believed))
    assert Obstacle.TLS in way(doors.address(tls=True))


@pytest.mark.parametrize("way", [by_view, by_wire])
def test_a_node_that_speaks_no_tls_is_told_from_one_that_is_away(
    doors: Doors, way: Callable[[str], str]
) -> None:
    use(doors.trusted)
    assert Obstacle.TLS in way(doors.address(tls=False))
    assert Obstacle.SILENT in way(f"127.0.0.1:{free_port()}")


def test_a_node_without_config_is_used_and_doctor_names_what_it_could_not_check(
    doors: Doors, tmp_path: Path
) -> None:
    use(doors.trusted)
    with (
        closing(connect(doors.node.address)) as client,
        pytest.raises(Exception, match="unknown command") as said,
    ):
        client.config_get("dir")
    assert hindrance_of(said.value).obstacle is Obstacle.NO_COMMAND
    file = password_file(tmp_path, "default", "open")
    cluster = Secured(tmp_path, {}, {"default": replace(doors.trusted, password_file=file)}, [])
    wait_until(doors.node.cluster_ok, "one node is a cluster")
    made = cluster.admin(
        "init", f"--shard=s1={doors.node.address}", "--partitions=1", "--yes", user="default"
    )
    assert made.get("initialised"), made
    findings = cluster.admin("doctor", user="default")["findings"]
    assert [
        found["what"]
        for found in findings
        if found["what"].startswith(
            "not checked: cluster-require-full-coverage, cluster-allow-replica-migration"
        )
        and Obstacle.NO_COMMAND in found["what"]
    ], findings


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--redis-user=api"], "--redis-user is given with --redis-password-file"),
        (["--redis-cert={dir}/open"], "--redis-cert and --redis-key are given together"),
        (["--redis-cert={dir}/open", "--redis-key={dir}/open"], "--redis-cert needs --redis-ca"),
        (["--redis-password-file={dir}/open"], "others can read {dir}/open, which holds a secret: chmod 600"),
        (["--redis-ca={dir}/absent"], "cannot use the certificates for Redis ({dir}/absent)"),
        (["--redis-ca={dir}/open"], "cannot use the certificates for Redis ({dir}/open)"),
    ],
)
def test_flags_that_cannot_be_used(tmp_path: Path, flags: list[str], said: str) -> None:
    (tmp_path / "open").write_text("no certificate\n")
    (tmp_path / "open").chmod(0o644)
    given = [flag.format(dir=tmp_path) for flag in flags]
    result = admin("status", "--map-file", tmp_path / "map.json", *given)
    about_a_file = "{dir}" in said
    assert result.exit_code == (1 if about_a_file else 2)
    assert said.format(dir=tmp_path) in result.stderr
