"""Common to all verbs: flags before and after the verb, environment, exit status, one line on failure."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from unit.admin.made import admin, make_map, refusal

from wallet_engine.admin.cli import main as wallet_admin
from wallet_engine.cli import main as wallet_engine

VERBS = {
    "init": ("--shard", "s1=127.0.0.1:1"),
    "status": (),
    "verify": (),
    "balance": ("alice", "USD"),
    "audit": (),
    "doctor": (),
    "partitions": (),
    "shards": (),
    "account": ("alice",),
    "transfer": ("22222222-2222-4222-8222-222222222222", "--from", "alice"),
    "pending": (),
    "freeze": ("alice",),
    "unfreeze": ("alice",),
    "journal info": (),
    "journal cat": (),
}


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_every_flag_with_its_variable(verb: str) -> None:
    result = admin(*verb.split(), "--help")
    assert result.exit_code == 0
    for text in ("--zookeeper", "--map-file", "--json", "--yes", "EXAMPLES"):
        assert text in result.stdout
    for name in ("WALLET_ZOOKEEPER", "WALLET_MAP_FILE", "WALLET_JSON", "WALLET_YES"):
        assert f"[env var: {name}]" in " ".join(result.stdout.split())


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "give either --zookeeper host:port,… or --map-file FILE"),
        (
            ("--zookeeper", "h:1", "--map-file", "map.json"),
            "give either --zookeeper host:port,… or --map-file FILE",
        ),
        (("--map-file", "/dev/null/map.json"), "set --map-file"),
        (("--zookeeper", "nonsense:port"), "--zookeeper"),
    ],
)
def test_without_a_directory(verb: str, flags: tuple[str, ...], said: str) -> None:
    status = 1 if said == "set --map-file" else 2
    assert said in refusal(admin(*verb.split(), *VERBS[verb], *flags), status)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "init"])
def test_before_init(verb: str, tmp_path: Path) -> None:
    said = refusal(admin(*verb.split(), *VERBS[verb], "--map-file", tmp_path / "map.json"))
    assert "run wallet-admin init" in said
    assert not (tmp_path / "map.json").exists()


def test_zookeeper_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wallet_engine.routing.directory.SESSION_TIMEOUT_S", 0.2)
    monkeypatch.setattr("wallet_engine.routing.directory.open_directory.__kwdefaults__", {"timeout_s": 0.2})
    said = refusal(admin("status", "--zookeeper", "127.0.0.1:1"))
    assert "ZooKeeper at 127.0.0.1:1 does not answer" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("status", "--nonsense"), "No such option"),
        (("status", "more"), "unexpected extra argument"),
        (("balance", "alice"), "Missing argument 'CURRENCY'"),
        (("init",), "Missing option '--shard'"),
        (("init", "--shard", "s1=h:1", "--partitions", "many"), "not a valid integer"),
    ],
)
def test_usage_is_status_2(words: tuple[str, ...], said: str) -> None:
    assert said in refusal(admin(*words), 2)


def test_flags_stand_anywhere_or_in_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    make_map(path, 2).close()
    for words, env in (
        (("--json", "--map-file", path, "status"), {}),
        (("status", "--map-file", path, "--json"), {}),
        (("--yes", "status"), {"WALLET_MAP_FILE": str(path), "WALLET_JSON": "1"}),
    ):
        result = admin(*words, env=env)
        assert result.exit_code == 0, result.output
        assert len(json.loads(result.stdout)["partitions"]) == 2
        assert result.stderr == ""


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (("--partitions", "3"), "partitions must be a power of two, 1 to 4096: 3", 2),
        (("--partitions", "0"), "partitions must be a power of two", 2),
        (("--partitions", "-64"), "partitions must be a power of two", 2),
        (("--partitions", "8192"), "partitions must be a power of two", 2),
        (("--retention-hours", "23"), "--retention-hours must be at least 24: 23", 2),
        (("--journal-quorum", "0"), "journal_quorum must be at least 1: 0", 2),
        (("--shard", "s2"), "must be NAME=HOST:PORT", 2),
        (("--shard", "s2=somewhere"), "must be host:port", 2),
        (("--shard", "s1=h:9"), "shard s1 is named twice", 2),
        (("--shard", "s2=127.0.0.1:1"), "node 127.0.0.1:1 stands in shard s1 and in shard s2", 2),
        ((), "Redis at 127.0.0.1:1 does not answer", 1),
    ],
)
def test_init_with_bad_input_changes_nothing(
    words: tuple[str, ...], said: str, tmp_path: Path, status: int
) -> None:
    path = tmp_path / "map.json"
    assert said in refusal(admin("init", *VERBS["init"], *words, "--map-file", path, "--yes"), status)
    assert not path.exists()


def options(command: click.Command, ctx: click.Context) -> Iterator[tuple[str, click.Option]]:
    """Every option of a command and of the commands below it, with the words of its command."""
    for param in command.params:
        if isinstance(param, click.Option):
            yield ctx.command_path, param
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None
            yield from options(below, click.Context(below, parent=ctx, info_name=name))


@pytest.mark.parametrize("group", [wallet_admin, wallet_engine], ids=["wallet-admin", "wallet-engine"])
def test_the_variable_of_a_flag_has_the_name_of_the_flag(group: click.Group) -> None:
    found = list(options(group, click.Context(group, info_name="")))
    assert len(found) > 50
    for where, option in found:
        if option.is_eager:  # --help, --version
            continue
        flags = [name[2:] for name in option.opts if name.startswith("--")]
        assert option.envvar == ["WALLET_" + flag.replace("-", "_").upper() for flag in flags], where
