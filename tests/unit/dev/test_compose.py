"""Compares `docker-compose.yml` with the options of the programs. `tests/faults/test_containers.py` starts it."""

import itertools
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from wallet_engine.app import journal, serve
from wallet_engine.http.server import DRAIN_SECONDS_MAX

ROOT = Path(__file__).resolve().parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
#: Services whose commands are checked. `secrets` runs a script, which `tests/faults/test_containers.py` tests.
ENGINE = [
    name for name, service in SERVICES.items() if service["image"] == "wallet-engine" and name != "secrets"
]


def words(name: str) -> list[str]:
    """The command line of a service; for `sh -c 'command || other'`, the first command."""
    line = shlex.split(SERVICES[name]["command"])
    return shlex.split(line[2].partition("||")[0]) if line[:2] == ["sh", "-c"] else line


def program(name: str) -> tuple[click.Command, list[str]]:
    """The click command that a service runs, and its arguments."""
    if words(name)[0] == "wallet-admin":
        from wallet_engine.admin.cli import main as admin

        return admin, words(name)[1:]
    assert words(name)[0] == "wallet-engine"
    from wallet_engine.cli import main as engine

    return engine, words(name)[1:]


def context_of(name: str) -> click.Context:
    """The command line of a service, as its command parses it."""
    command, arguments = program(name)
    context = command.make_context(name, list(arguments))
    while isinstance(command, click.Group):
        verb, *arguments = arguments
        found = command.get_command(context, verb)
        assert found is not None
        command, context = found, found.make_context(verb, list(arguments), parent=context)
    return context


def test_it_has_the_services_of_a_whole_cluster() -> None:
    redis = [name for name in SERVICES if name.startswith("redis-")]
    assert len(redis) == 6
    assert set(SERVICES) == {
        *(*redis, "secrets", "zookeeper", "admin", "form", "init", "journal", "api-1", "api-2")
    }
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:8081:8080", "127.0.0.1:8082:8080"]


@pytest.mark.parametrize("name", ENGINE)
def test_every_command_has_flags_that_exist(name: str) -> None:
    known = {f"WALLET_{parameter.name}".upper() for parameter in context_of(name).command.params}
    assert set(SERVICES[name]["environment"]) <= known | {"WALLET_KEY"}


def test_nobody_is_let_in_without_saying_who_he_is() -> None:
    """Ports are published only on loopback, all processes have certificates, and the file has no secrets."""
    text = (ROOT / "docker-compose.yml").read_text()
    assert "--insecure" not in text
    assert "protected-mode no" not in text
    for name in ENGINE:
        environment = SERVICES[name]["environment"]
        assert {f"WALLET_{server}_CA" for server in ("ZOOKEEPER", "REDIS", "PEER")} <= set(environment)
        assert all(value.startswith("/secrets/") for what, value in environment.items() if "FILE" in what)


def test_every_shard_is_a_primary_and_a_replica_with_an_address_of_the_network() -> None:
    addresses = {
        service["networks"]["wallet"]["ipv4_address"] for n, service in SERVICES.items() if "redis-" in n
    }
    for name in ("form", "init"):
        arguments = words(name)
        shards = [value for flag, value in itertools.pairwise(arguments) if flag == "--shard"]
        nodes = [node for shard in shards for node in shard.partition("=")[2].split(",")]
        assert len(shards) == 3
        assert {node.removesuffix(":6379") for node in nodes} == addresses
        assert len(nodes) == 6


def test_what_it_mounts_and_waits_for_exists() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    assert (ROOT / COMPOSE["x-engine"]["build"]["dockerfile"]).is_file()


def test_everything_that_keeps_money_keeps_it_on_a_volume() -> None:
    assert "journal:/var/lib/wallet" in SERVICES["journal"]["volumes"]
    directory = words("journal")[words("journal").index("--directory") + 1]
    assert directory.startswith("/var/lib/wallet/")


def test_processes_have_the_time_that_they_take_to_end() -> None:
    """Docker kills a container after its grace period, by default 10 s."""
    takes_s = {"journal": journal.STOP_S_MAX}
    for name in ("api-1", "api-2"):
        takes_s[name] = context_of(name).params["leave_s"] + DRAIN_SECONDS_MAX + serve.STOP_S_MAX
    for name, longest_s in takes_s.items():
        assert float(SERVICES[name].get("stop_grace_period", "10s").removesuffix("s")) > longest_s, name
