"""No mend of a finding destroys anything: collects all advice that `doctor` can give, and checks it."""

import ast
import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click
import pytest
from support.advice import RUN_BY, shape
from unit.admin.test_findings import CASES, healthy

import wallet_engine
from wallet_engine.admin.cli import main as wallet_admin_cli
from wallet_engine.admin.diagnosis import (
    certificates,
    findings,
    followers,
    layout,
    mends,
    partitions,
    payments,
    redis_findings,
)
from wallet_engine.admin.diagnosis.finding import Finding
from wallet_engine.admin.diagnosis.findings import find
from wallet_engine.cli import main as wallet_engine_cli
from wallet_engine.redis_store import login
from wallet_engine.redis_store.login import Login

#: Words that delete, empty or reset, in Redis, in ZooKeeper and in a shell.
DESTRUCTIVE = re.compile(
    r"\b(FLUSHALL|FLUSHDB|UNLINK|DEL|HDEL|XTRIM|CLUSTER RESET|RESET HARD|DELSLOTS|DELSLOTSRANGE|FORGET|SHUTDOWN"
    r"|DEBUG|RENAME|RESTORE|SWAPDB|EXPIRE|deleteall|rmr|rm|truncate|dd|mkfs)\b"
)
#: Placeholders that a person fills in, with an example of each.
FILLED = {"NEW": "10.0.0.9:6379", "ROLE": "payer", "HOST:PORT": "10.0.0.9:6379"}
PROGRAMS = {"wallet-admin": wallet_admin_cli, "wallet-engine": wallet_engine_cli}


@functools.cache
def all_findings() -> list[tuple[str, Finding]]:
    return [(name, found) for name, fault, _ in CASES for found in find(fault(healthy()))]


def test_nothing_is_destroyed_and_each_line_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FILE", "NOW.json"):
        (tmp_path / name).touch()
    every = {str(found.mend): found.mend for _, found in all_findings()}
    assert len(every) > 50
    for mend in every.values():
        is_harmless(mend)


def is_harmless(mend: mends.Mend) -> None:
    assert not DESTRUCTIVE.search(str(mend)), mend
    assert not re.search(r"wallet-admin|redis-cli", mend.note), "commands are lines, which are parsed here"
    for line in mend.lines:
        assert "\n" not in line
        for command in line.split(" && "):
            words = [FILLED.get(word, word) for word in shlex.split(command.replace("HOST:PORT", "h:1"))]
            if words[0] in PROGRAMS:
                parse(PROGRAMS[words[0]], words)
    if mend.line:  # the whole line may be pasted
        checked = subprocess.run(["bash", "-n", "-c", str(mend)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_a_test_runs_each_command_in_the_state_that_prints_it() -> None:
    """The suite fails when a named test does not run (`support/workers.py`); this checks that each command has one."""
    printed = {(found.check, shape(line)) for _, found in all_findings() for line in found.mend.lines}
    assert printed == RUN_BY.keys()
    for file, _, test in (by.partition("::") for by in RUN_BY.values()):
        text = (Path(__file__).parents[2] / file).read_text(encoding="utf-8")
        (function,) = (
            node
            for node in ast.parse(text).body
            if isinstance(node, ast.FunctionDef) and node.name == test.partition("[")[0]
        )
        assert not any("soak" in ast.unparse(mark) for mark in function.decorator_list), "it is in the suite"


def parse(program: click.Command, words: list[str]) -> None:
    """Parse a command line as the program does, without running the verb. Raises `click.UsageError`."""
    context = program.make_context(words[0], words[1:])
    while isinstance(program, click.Group):
        rest = [*context._protected_args, *context.args]
        name, command, rest = program.resolve_command(context, rest)
        assert command is not None
        program, context = command, command.make_context(name, rest, parent=context)


@pytest.mark.parametrize(
    "line", ["wallet-admin clear-everything s1", "wallet-admin move 1", "wallet-engine journal --x"]
)
def test_what_the_programs_do_not_know_is_not_understood(line: str) -> None:
    words = line.split(" ")
    with pytest.raises(click.UsageError):
        parse(PROGRAMS[words[0]], words)


@pytest.mark.parametrize(
    "words",
    [("FLUSHALL",), ("UNLINK", "x"), ("CLUSTER", "RESET", "HARD"), ("CLUSTER", "DELSLOTS", 1), ("DEL", "x")],
)
def test_a_line_that_destroys_cannot_be_made(words: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match="no command that doctor may advise"):
        mends.redis_cli("h1:1", *words)
    with pytest.raises(ValueError, match="no command that doctor may advise"):
        mends.program("redis-cli", *words)


def test_what_is_allowed_destroys_nothing() -> None:
    for command in (*mends.REDIS_COMMANDS, *mends.PROGRAMS):
        assert not DESTRUCTIVE.search(command)


def test_words_are_quoted_for_the_shell() -> None:
    assert mends.wallet_admin("drain", "$(reboot)") == "wallet-admin drain '$(reboot)'"
    line = mends.take_slots("[::1]:7", "id", [1, 3])
    assert line == (
        "(echo CLUSTER BUMPEPOCH; for slot in 1 3; do echo CLUSTER SETSLOT $slot NODE id; done) "
        "| redis-cli -h ::1 -p 7"
    )


def test_a_mend_is_a_line_and_a_comment() -> None:
    one, two = mends.wallet_admin("moves"), mends.wallet_admin("shards")
    assert [str(mends.Mend(one)), str(mends.Mend(one, "x")), str(mends.by_hand("x"))] == [
        one,
        f"{one}  # x",
        "x",
    ]
    assert str(mends.Mend(one, "or", (two, one))) == f"{one}  # or: {two} or {one}"


MAKERS = ("by_hand", "in_turn", "program", "redis_cli", "take_slots", "wallet_admin", "wallet_engine")
MODULES = (certificates, findings, followers, layout, partitions, payments, redis_findings)


def test_the_cases_make_every_mend_that_there_is() -> None:
    """The cases reach each place in the code that makes advice. Advice that no case reaches would not be checked."""
    wanted = {
        (module.__file__, node.lineno, node.end_lineno or 0)
        for module in MODULES
        for node in ast.walk(ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS
    }
    made: set[tuple[str, int]] = set()

    def notice(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename == mends.__file__ and frame.f_back is not None:
            made.add((frame.f_back.f_code.co_filename, frame.f_back.f_lineno))

    before = sys.getprofile()
    sys.setprofile(notice)
    try:
        all_findings.__wrapped__()
    finally:
        sys.setprofile(before)
    missed = [
        (file, first)
        for file, first, last in wanted
        if not any(file == made_in and first <= line <= last for made_in, line in made)
    ]
    assert not missed
    assert len(wanted) > 40


def _texts(path: Path) -> Iterator[str]:
    """All text that a module may print: its strings, including help texts, and the parts of f-strings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_nowhere_is_a_person_told_to_empty_a_node() -> None:
    """No error, help text or runbook says so. Commands that the code itself sends are single words."""
    folder = Path(wallet_engine.__file__).parent
    told = {
        (path.name, text)
        for path in (*folder.rglob("*.py"),)
        for text in _texts(path)
        if re.search(r"\b(FLUSHALL|FLUSHDB|CLUSTER RESET|RESET HARD|redis-cli.*(UNLINK|DEL))\b", text)
        and " " in text
    }
    assert not told
    for page in (folder.parent / "cluster_config" / "RUNBOOKS.md", folder.parent / "README.md"):
        commands = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
        assert not [
            line for line in commands if re.search(r"FLUSH(ALL|DB)|CLUSTER RESET|UNLINK|DELSLOTS", line)
        ]


def test_a_line_for_redis_cli_says_who_asks_and_shows_no_password(tmp_path: Path) -> None:
    file = tmp_path / "a password"
    file.write_text("hush\n")
    used = Login("admin", "hush", file, tmp_path / "ca", tmp_path / "cert", tmp_path / "key")
    login.use(used)
    try:
        lines = [mends.redis_cli("h:1", "INFO", "replication"), mends.take_slots("h:1", "id", [1, 2])]
    finally:
        login.use(Login())
    for line in lines:
        assert "hush" not in line
        said = subprocess.run(
            ["bash", "-c", f'redis-cli() {{ echo "$REDISCLI_AUTH" "$@"; }}; {line}'],
            capture_output=True,
            text=True,
            check=True,
        )
        ca, cert, key = tmp_path / "ca", tmp_path / "cert", tmp_path / "key"
        flags = f"-h h -p 1 --user admin --tls --cacert {ca} --cert {cert} --key {key}"
        assert said.stdout.startswith(f"hush {flags}")
