"""A value that no cluster could take is wrong usage, exit status 2 and one line; every flag of free form is here."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from unit.admin.made import make_map

from wallet_engine.admin.cli import main as wallet_admin
from wallet_engine.app import follow
from wallet_engine.cli import main as wallet_engine

ID = "22222222-2222-4222-8222-222222222222"
SHARD = ("--shard", "s1=127.0.0.1:1")
AUTHORITY = ("--ca", "ca")

#: Command -> malformed words for each flag and argument of free form.
MALFORMED: dict[str, tuple[tuple[str, ...], ...]] = {
    "wallet-engine dev": (
        ("--keep", "3x"),
        ("--archive-command", "true"),
        ("--partitions", "48"),
    ),
    "wallet-engine serve": (
        ("--service-id", "a b"),
        ("--advertise", "h:x:1"),
        ("--database", "mysql://h/d"),
        ("--port", "65536"),
    ),
    "wallet-engine journal": (
        ("--journal-id", "a b", "--directory", "."),
        ("--replaces", "a/b", "--directory", "."),
        ("--advertise", "h:0", "--directory", "."),
        ("--keep", "3x", "--directory", "."),
        ("--archive-command", "true", "--directory", "."),
        ("--metrics-port", "65536", "--directory", "."),
    ),
    "wallet-engine follow": (
        ("--to", "history", "--event-source", "a b"),
        ("--to", "history", "--event-source", ""),
        ("--to", "webhooks", "--events-kept-days", "inf"),
        ("--to", "nonsense"),
        ("--to", "history", "--database", "h/d"),
        ("--to", "kafka://broker"),
        ("--to", "parquet:"),
        ("--to", "oracle"),
        ("--to", "history"),
        ("--to", "webhooks", "--follower-id", "a/b"),
    ),
    "wallet-admin cluster form": (
        ("--shard", "nowhere"),
        (*SHARD, "--partitions", "3"),
    ),
    "wallet-admin init": (
        ("--shard", "s1"),
        (*SHARD, "--partitions", "3"),
        (*SHARD, "--retention-hours", "1"),
        (*SHARD, "--retention-hours", "8761"),
        (*SHARD, "--retention-hours", "9" * 30),
        (*SHARD, "--journal-quorum", "9" * 30),
        (*SHARD, "--journal-quorum", "0"),
        (*SHARD, "--service-user", "a"),
        (*SHARD, "--api-user", "a"),
    ),
    "wallet-admin balance": (
        ("a/b", "USD"),
        ("alice", "usd"),
        ("alice", "USD", "--at", "yesterday"),
    ),
    "wallet-admin account": (("a/b",),),
    "wallet-admin transfer": (("3", "--from", "alice"), (ID, "--from", "a/b")),
    "wallet-admin hold": (("3", "--account", "alice"), (ID, "--account", "a/b")),
    "wallet-admin holds": (("a/b",),),
    "wallet-admin pending": (("--older-than", "x"), ("--older-than", "nan"), ("--watch", "1e300")),
    "wallet-admin top": (("--every", "1e300"),),
    "wallet-admin freeze": (("a/b",),),
    "wallet-admin unfreeze": (("a/b",),),
    "wallet-admin pause": (("--reason", "\n"),),
    "wallet-admin journal prune": (("--keep", "3x"),),
    "wallet-admin journal cat": (
        ("--account", "a/b"),
        ("--since", "yesterday"),
        ("--partition", "abc"),
        ("--partition", "-1"),
    ),
    "wallet-admin journal cut": ((".", "abc", "3"),),
    "wallet-admin replay": (("--into", "redis://here"), ("--into", "x", "--at", "yesterday")),
    "wallet-admin rebuild": (("abc",), ("-1",), ("0", "--timeout", "nan")),
    "wallet-admin move": (("abc", "s1"),),
    "wallet-admin add-shard": (("a b", "h:1"), ("s2", "nowhere")),
    "wallet-admin switchover": (("s1", "--to", "nowhere"),),
    "wallet-admin add-replica": (("s1", "nowhere"),),
    "wallet-admin replace-node": (("nowhere", "h:1"), ("h:1", "nowhere")),
    "wallet-admin history detach": (
        ("--database", "mysql://h/d", "2025-01"),
        ("--database", "postgresql://h/d", "2025-13"),
    ),
    "wallet-admin history migrate": (("--database", "mysql://h/d"), ()),
    "wallet-admin history rebuild": (("--database", "mysql://h/d"), ("abc",)),
    "wallet-admin history status": (("--database", "mysql://h/d"),),
    "wallet-admin history verify": (("--database", "mysql://h/d"),),
    "wallet-admin key create": (
        ("a b", "--role", "payer"),
        ("n", "--role", "payer", "--accounts", "@bank"),
        ("n", "--role", "treasury", "--system", "bank"),
        ("n", "--role", "payer", "--amount-max", "12"),
        ("n", "--role", "payer", "--expires", "soon"),
        ("n", "--role", "payer", "--rate", "nan"),
    ),
    "wallet-admin key rotate": (("n", "--keep", "3x"),),
    "wallet-admin ca init": ((".", "--name", ""),),
    "wallet-admin ca issue": (
        ("journal", "a/b", *AUTHORITY),
        ("journal", "j1", "--hosts", "a b", *AUTHORITY),
    ),
    "wallet-admin ca revoke": (("journal", "a/b", *AUTHORITY), ("journal", *AUTHORITY)),
    "wallet-admin redis acl": (("--node", "nowhere"), ("--apply",)),
    "wallet-admin config set": (("retention-hours", "soon"), ("colour", "1")),
    "wallet-admin config get": (("colour",),),
    "wallet-admin restore": (
        ("backup.json", "--shard", "s1"),
        ("backup.json", "--journal-copies", "a/b"),
        ("backup.json", "--service-user", "a"),
        ("backup.json", "--api-user", "a"),
    ),
    "wallet-admin protect": (("--service-user", "a"), ("--api-user", "a")),
}

#: Free form in which nothing is malformed: a command of a shell, a host, or a name that is looked up in the cluster.
ANY_TEXT = {
    *("--restore-command", "--host", "--otlp-endpoint", "--forget", "--zookeeper-user"),
    *("--redis-user", "--zookeeper", "key_name", "shard"),
    *("wallet-admin partitions --shard", "wallet-admin remove-shard name"),
    "wallet-admin add-replica name",
}


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    for word in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), word)
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        elif command is not None:
            yield f"{name} {word}", command


ALL = dict([*commands(wallet_engine, "wallet-engine"), *commands(wallet_admin, "wallet-admin")])


@pytest.mark.parametrize("name", ALL)
def test_every_flag_of_free_form_has_a_row(name: str) -> None:
    rows = MALFORMED.get(name, ())
    free = [param for param in ALL[name].params if isinstance(param.type, click.types.StringParamType)]
    options = {param.opts[0] for param in free if isinstance(param, click.Option)} - ANY_TEXT
    options = {option for option in options if f"{name} {option}" not in ANY_TEXT}
    assert options <= {word for row in rows for word in row}
    arguments = {param.name for param in free if isinstance(param, click.Argument)} - ANY_TEXT
    arguments = {argument for argument in arguments if f"{name} {argument}" not in ANY_TEXT}
    assert bool(arguments) <= bool(rows)


@pytest.fixture(autouse=True)
def _normal_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower lowers the priority of its process, which is that of all tests here."""
    monkeypatch.setattr(follow, "take_priority", str)


@pytest.mark.parametrize(
    ("name", "words"), [(name, words) for name, rows in MALFORMED.items() for words in rows]
)
def test_a_malformed_value_is_wrong_usage(
    name: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_map(tmp_path / "map.json", 2).close()
    if AUTHORITY[0] in words:
        CliRunner().invoke(wallet_admin, ["ca", "init", AUTHORITY[1]])
    (program, *verb) = name.split()
    cluster = ("--map-file", "map.json") if any("--map-file" in p.opts for p in ALL[name].params) else ()
    group = wallet_engine if program == "wallet-engine" else wallet_admin
    result = CliRunner().invoke(group, [*verb, *words, *cluster])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("Error: ")
