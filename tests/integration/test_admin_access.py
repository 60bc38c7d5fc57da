"""ZooKeeper's access control: services read, only SREs change, and wrong credentials change nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.admin.made import admin, answer, refusal

from wallet_engine.admin.audit_log import audit_records
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.directory import CONFIG, MAP, Directory, open_directory
from wallet_engine.routing.model import ClusterConfig, JournalInfo, ServiceInfo, Shard, spread
from wallet_engine.routing.tree import NotAllowed
from wallet_engine.routing.zookeeper import Credentials

SRE = Credentials("sre", "secret-of-sres")
SERVICE = Credentials("wallet", "secret-of-services")
API = Credentials("api", "secret-of-apis")


def password_file(tmp_path: Path, credentials: Credentials) -> Path:
    path = tmp_path / f"password-{credentials.user}-{len(credentials.password)}"
    path.write_text(credentials.password + "\n")
    path.chmod(0o600)
    return path


def login(tmp_path: Path, credentials: Credentials) -> list[str]:
    file = password_file(tmp_path, credentials)
    return ["--zookeeper-user", credentials.user, "--zookeeper-password-file", str(file)]


def service_flags(tmp_path: Path) -> list[str]:
    given = []
    for role, who in (("service", SERVICE), ("api", API)):
        given += [f"--{role}-user", who.user, f"--{role}-password-file", str(password_file(tmp_path, who))]
    return given


@pytest.fixture
def protected(zookeeper_hosts: str, tmp_path: Path) -> Iterator[str]:
    """ZooKeeper's hosts; its tree has a registered API process and was then protected."""
    with_service = open_directory(zookeeper_hosts, None)
    with_service.initialise(ClusterConfig(2), [Shard("s1", ("127.0.0.1:1",))], spread(2, ["s1"]))
    with_service.register_service(ServiceInfo("before", "127.0.0.1:1", 1))
    words = ("protect", "--zookeeper", zookeeper_hosts, *login(tmp_path, SRE), *service_flags(tmp_path))
    assert answer(*words, "--dry-run")["plan"] == {
        "sre_user": "sre",
        "service_user": "wallet",
        "api_user": "api",
    }
    assert answer(*words, "--yes")["nodes"] > 10
    assert answer(*words, "--yes")["nodes"] > 10, "it may be repeated"
    yield zookeeper_hosts
    with_service.close()


def opened(hosts: str, credentials: Credentials | None) -> Directory:
    return open_directory(hosts, None, credentials=credentials)


def change_config(directory: Directory) -> None:
    node = directory.tree.get(CONFIG)
    assert node is not None
    directory.tree.set(CONFIG, node.data, node.version)


def test_each_role_changes_what_it_must_and_no_more(protected: str) -> None:
    for credentials in (None, SERVICE, API):
        directory = opened(protected, credentials)
        assert directory.config().partitions == 2
        assert list(directory.services()) == ["before"]
        for forbidden in (
            lambda d=directory: change_config(d),
            lambda d=directory: d.put_shard(Shard("s2", ("127.0.0.1:2",))),
            lambda d=directory: d.put_shard(Shard("s1", ("127.0.0.1:2",))),
            lambda d=directory: d.tree.create("/wallet/keys/k1", b"{}"),
            lambda d=directory: d.tree.create("/wallet/moves/1", b""),
            lambda d=directory: d.tree.create("/wallet/audit/0000000099", b""),
            lambda d=directory: d.tree.delete(MAP),
        ):
            with pytest.raises(NotAllowed, match="--zookeeper-user"):
                forbidden()
        directory.close()

    nobody = opened(protected, None)
    for forbidden in (
        lambda: nobody.raise_epochs([0]),
        lambda: nobody.register_service(ServiceInfo("intruder", "127.0.0.1:2", 2)),
        lambda: nobody.replace_members(nobody.members(), ("j1",)),
        lambda: nobody.lock("initialise").__enter__(),
    ):
        with pytest.raises(NotAllowed):
            forbidden()
    nobody.close()

    api = opened(protected, API)
    for forbidden in (
        lambda: api.raise_epochs([0]),
        lambda: api.register_journal(JournalInfo("j9", "127.0.0.1:3", "/j", 3, "h")),
        lambda: api.replace_members(api.members(), ("j9",)),
        lambda: api.lock("recovery-s1").__enter__(),
    ):
        with pytest.raises(NotAllowed):
            forbidden()
    api.register_service(ServiceInfo("api-1", "127.0.0.1:4", 4))
    api.close()

    service = opened(protected, SERVICE)
    assert service.raise_epochs([0]).epoch_of(0) == 2
    service.register_service(ServiceInfo("api", "127.0.0.1:2", 2))
    service.register_journal(JournalInfo("j1", "127.0.0.1:3", "/j", 3, "h"))
    service.replace_members(service.members(), ("j1",))
    with service.lock("recovery-s1") as lock:
        assert lock.held
    sre = opened(protected, SRE)
    with sre.lock("recovery-s1") as lock:
        assert lock.held
    change_config(sre)
    sre.put_shard(Shard("s2", ("127.0.0.1:2",)))
    sre.tree.delete("/wallet/services/api")
    service.close()
    sre.close()


def test_wrong_credentials_are_one_line_and_change_nothing(protected: str, tmp_path: Path) -> None:
    for wrong in (Credentials("sre", "guessed"), Credentials("ann", SRE.password)):
        said = refusal(admin("status", "--zookeeper", protected, *login(tmp_path, wrong)))
        assert said.startswith(f"ZooKeeper knows no user {wrong.user} with this password")
    words = ("protect", "--yes", "--zookeeper", protected, *service_flags(tmp_path))
    assert "knows no user" in refusal(admin(*words, *login(tmp_path, Credentials("sre", "guessed"))))
    sre = opened(protected, SRE)
    assert [record.verb for record in audit_records(sre)] == ["protect", "protect"]
    assert audit_records(sre)[0].user.endswith(" as sre")
    sre.close()


def test_a_service_role_cannot_take_the_tree(protected: str, tmp_path: Path) -> None:
    words = ("protect", "--yes", "--zookeeper", protected, *login(tmp_path, SERVICE))
    assert "may not be changed like this" in refusal(admin(*words))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--zookeeper-user", "sre"), "are given together or not at all"),
        (("--zookeeper-user", "a:b", "--zookeeper-password-file", "/dev/null"), "without a colon"),
        (
            ("--zookeeper-user", "sre", "--zookeeper-password-file", "/dev/null"),
            "first line of /dev/null is empty",
        ),
        (("--zookeeper-user", "sre", "--zookeeper-password-file", "/no/such"), "cannot read the password"),
        ((), "give the SRE role"),
        (("--service-user", "wallet"), "--service-user and --service-password-file are given together"),
        (("--api-user", "api"), "--api-user and --api-password-file are given together"),
    ],
)
def test_bad_flags(words: tuple[str, ...], said: str) -> None:
    usage = "/dev/null is empty" not in said and "cannot read" not in said
    assert said in refusal(admin("protect", "--zookeeper", "127.0.0.1:1", *words), 2 if usage else 1)


def test_a_map_file_has_no_users(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="map file"):
        open_directory(None, tmp_path / "map.json", credentials=SRE)
