"""Finds redis-server and ZooKeeper; an error says in one line what is missing."""

from pathlib import Path

import pytest

from wallet_engine.dev import binaries, postgresql
from wallet_engine.dev.binaries import bundled_redis, find_zookeeper, redis_version, system_redis
from wallet_engine.dev.postgresql import find_postgresql
from wallet_engine.domain.errors import ConfigError


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is the whole PATH. No other program of this machine is found."""
    monkeypatch.setattr(binaries, "SYSTEM_DIRS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(directory: Path, name: str, says: str, status: int = 0) -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return path


def test_the_system_redis_is_taken_from_the_path(program: Path) -> None:
    path = install(program, "redis-server", "Redis server v=6.2.0 sha=0 bits=64")
    found = system_redis()
    assert (found.path, found.version, found.source) == (path, (6, 2, 0), "system")


@pytest.mark.usefixtures("program")
def test_a_missing_redis_is_said_with_how_to_get_it() -> None:
    with pytest.raises(ConfigError, match="apt-get install redis-server, or start with --embedded"):
        system_redis()


def test_an_old_redis_is_refused(program: Path) -> None:
    install(program, "redis-server", "Redis server v=6.0.16 sha=0")
    with pytest.raises(ConfigError, match=r"6\.0\.16 .* is older than 6\.2"):
        system_redis()


@pytest.mark.parametrize(("says", "status"), [("hello", 0), ("v=7.0.0", 1)])
def test_what_is_no_redis_is_refused(program: Path, says: str, status: int) -> None:
    with pytest.raises(ConfigError, match=r"is not a redis-server|does not run"):
        redis_version(install(program, "redis-server", says, status))


def test_the_bundled_one_is_a_maintained_valkey() -> None:
    found = bundled_redis()
    assert found.source == "bundled"
    assert found.version >= (9, 1, 0)


def test_zookeeper_home_is_a_tarball(program: Path) -> None:
    install(program, "java", "")
    (program / "zk" / "lib").mkdir(parents=True)
    for jar in ("zookeeper-3.9.3.jar", "zookeeper-jute-3.9.3.jar", "slf4j-api.jar"):
        (program / "zk" / "lib" / jar).touch()
    found = find_zookeeper({"ZOOKEEPER_HOME": str(program / "zk")})
    assert len(found.classpath.split(":")) == 4
    assert found.java == program / "java"


@pytest.mark.parametrize(
    ("make_jar", "environ", "complaint"),
    [
        (False, {}, "ZooKeeper is missing: apt-get install zookeeper, or start with --embedded"),
        (False, {"ZOOKEEPER_HOME": "/nowhere"}, "ZOOKEEPER_HOME=/nowhere holds no"),
        (True, {}, "Java is missing: apt-get install default-jre-headless"),
        (True, {"JAVA_HOME": "/nowhere"}, "Java is missing"),
    ],
)
def test_what_zookeeper_lacks_is_one_line(
    program: Path, monkeypatch: pytest.MonkeyPatch, make_jar: bool, environ: dict[str, str], complaint: str
) -> None:
    jar = program / "zookeeper.jar"
    if make_jar:
        jar.touch()
    monkeypatch.setattr(binaries, "DEBIAN_ZOOKEEPER_JAR", jar)
    with pytest.raises(ConfigError, match=complaint) as caught:
        find_zookeeper(environ)
    assert "\n" not in str(caught.value)


def test_postgresql_is_the_systems_or_the_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_postgresql().source == "bundled"
    for version in ("9.6", "15", "16"):
        (tmp_path / version / "bin").mkdir(parents=True)
        install(tmp_path / version / "bin", "initdb", "")
    assert str(find_postgresql().binaries) == str(tmp_path / "16" / "bin")
    assert find_postgresql(bundled=True).source == "bundled"
