"""The command-line behaviour that `wallet-engine` and `wallet-admin` share."""

import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner, Result

from wallet_engine.cli import main
from wallet_engine.domain.errors import ConfigError
from wallet_engine.telemetry.flags import Verb, VerbGroup, pass_over_service_links


@click.command()
@click.option("--zookeeper")
@click.option("--port", type=int, default=8080)
@click.option("--fast/--slow", default=False)
def serve(zookeeper: str | None, port: int, fast: bool) -> None:
    """Serve."""
    click.echo(f"{zookeeper} {port} {fast}")


@click.command()
@click.option("--map-file")
@click.argument("what", default="-")
def fail(map_file: str | None, what: str) -> None:
    raise ConfigError(f"{map_file} {what}\nis wrong")


@pytest.fixture
def run() -> Callable[..., Result]:
    group = VerbGroup("wallet", params=[click.Option(["--loud"], is_flag=True)], callback=lambda loud: None)
    group.add_command(serve)
    group.add_command(fail)
    nested = VerbGroup("partition")
    nested.add_command(serve, "move")
    group.add_command(nested)
    return lambda *args, **env: CliRunner().invoke(group, args, env=env)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("serve", "None 8080 False"),
        ("serve --zookeeper z:1", "z:1 8080 False"),
        ("--zookeeper z:1 serve", "z:1 8080 False"),
        ("--zookeeper=z:1 serve", "z:1 8080 False"),
        ("--zookeeper z:1 serve --port 1", "z:1 1 False"),
        ("--fast --zookeeper z:1 serve --port 1", "z:1 1 True"),
        ("--fast serve --slow", "None 8080 False"),
        ("--port 1 serve --port 2", "None 2 False"),
        ("--loud --port 1 serve", "None 1 False"),
        ("--port 1 --loud serve", "None 1 False"),
        # The name of a verb may be the value of a flag.
        ("--zookeeper serve serve", "serve 8080 False"),
        ("serve --zookeeper serve", "serve 8080 False"),
        ("partition move --port 3", "None 3 False"),
        ("partition --port 3 move", "None 3 False"),
        ("--port 3 partition --fast move", "None 3 True"),
    ],
)
def test_flags_stand_before_or_after_the_verb(run: Callable[..., Result], line: str, said: str) -> None:
    result = run(*line.split())
    assert (result.output.strip(), result.exit_code) == (said, 0)


@pytest.mark.parametrize("verb", [["serve"], ["partition", "move"]])
def test_every_flag_is_an_environment_variable_and_the_flag_wins(
    run: Callable[..., Result], verb: list[str]
) -> None:
    environment = {
        "WALLET_ZOOKEEPER": "z:1",
        "WALLET_PORT": "7",
        "WALLET_FAST": "1",
        "WALLET_SERVE_PORT": "9",
    }
    assert run(*verb, **environment).output == "z:1 7 True\n"
    assert run("--port", "8", *verb, **environment).output == "z:1 8 True\n"


def test_what_kubernetes_makes_of_a_service_named_wallet_is_no_flag(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    links = {
        "WALLET_SERVICE_HOST": "10.0.0.1",
        "WALLET_SERVICE_PORT": "8080",
        "WALLET_PORT": "tcp://10.0.0.1:8080",
        "WALLET_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "WALLET_PORT_8080_TCP_PROTO": "tcp",
        "WALLET_METRICS_PORT": "udp://[fd00::1]:9090",
    }
    before = run("serve").output
    assert run("serve", **links).output == before
    assert run("serve", **links, WALLET_ZOOKEEPER="z:1").output == before.replace("None", "z:1", 1)
    kept = {**links, "OTHER_PORT": "tcp://10.0.0.1:8080"}
    pass_over_service_links(kept)
    assert kept.keys() == {
        "WALLET_SERVICE_HOST",
        "WALLET_SERVICE_PORT",
        "WALLET_PORT_8080_TCP_PROTO",
        "OTHER_PORT",
    }


@pytest.mark.parametrize(
    "line",
    ["", "nonsense", "--nonsense", "--nonsense serve", "serve --port x", "--port x serve", "--port serve"],
)
def test_wrong_usage_is_status_2(run: Callable[..., Result], line: str) -> None:
    result = run(*line.split())
    assert result.exit_code == 2
    assert "Usage" in result.output


def test_a_failure_is_one_line_and_status_1(run: Callable[..., Result]) -> None:
    result = run("--map-file", "m.json", "fail", "this")
    assert (result.output, result.exit_code) == ("Error: m.json this is wrong\n", 1)


def test_help_names_the_variables_and_lists_verbs_without_importing_them(run: Callable[..., Result]) -> None:
    assert "WALLET_PORT" in run("serve", "--help").output
    group = VerbGroup("wallet", verbs={"absent": Verb("no_such_module.x:y", "Not there.")})
    result = CliRunner().invoke(group, ["--help"])
    assert result.exit_code == 0
    assert "absent  Not there." in result.output
    result = CliRunner().invoke(group, ["absent"])
    assert (result.output, result.exit_code) == (
        "Error: this installation lacks the command absent (no_such_module.x)\n",
        1,
    )


def test_wallet_engine_lists_its_commands() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name in ("dev", "serve", "journal"):
        assert f"\n  {name} " in result.output


def test_wallet_engine_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wallet_engine", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith("wallet-engine, version ")
