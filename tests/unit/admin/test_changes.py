"""Common to all changing verbs: plan, question, --dry-run, audit record."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from unit.admin.made import admin, answer, make_map, refusal

from wallet_engine.admin import audit_log
from wallet_engine.admin.audit_log import audit_records, audited
from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.admin.waiting import wait_until
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.directory import Directory, open_directory
from wallet_engine.routing.tree import StoreUnavailable
from wallet_engine.telemetry.flags import VerbGroup

NODE = "/wallet/painted"
#: A uid that no user has.
NO_USER = 2_000_000_011


@click.group(cls=VerbGroup)
def wallet_admin() -> None:
    pass


@wallet_admin.command()
@changing_command
@click.argument("colour")
def paint(session: Session, colour: str) -> None:
    with session.directory() as directory:
        plan = Plan(
            f"paint it {colour}", {"colour": colour}, lambda console: console.print(f"paint: {colour}")
        )
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            if colour == "invisible":
                raise ConfigError("there is no such colour")
            directory.tree.create(NODE, colour.encode())
    session.answer({"painted": colour}, lambda console: console.print("painted"))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    opened = make_map(tmp_path / "map.json", 2)
    yield opened
    opened.close()


def run(directory: Directory, tmp_path: Path, *words: str, typed: str = "") -> Result:
    argv = ["paint", *words, "--map-file", str(tmp_path / "map.json")]
    return CliRunner().invoke(wallet_admin, argv, input=typed)


def test_a_dry_run_says_the_plan_and_changes_nothing(directory: Directory, tmp_path: Path) -> None:
    result = run(directory, tmp_path, "red", "--dry-run", "--json", "--yes")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"dry_run": True, "plan": {"colour": "red"}})
    assert run(directory, tmp_path, "red", "--dry-run").stdout == "paint: red\n"
    assert directory.tree.get(NODE) is None
    assert audit_records(directory) == []


@pytest.mark.parametrize("typed", ["n\n", ""], ids=["no", "nobody answers"])
def test_without_a_yes_nothing_is_changed(directory: Directory, tmp_path: Path, typed: str) -> None:
    result = run(directory, tmp_path, "red", typed=typed)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "paint: red\nDo it? [y/N]" in result.stderr
    assert directory.tree.get(NODE) is None
    assert audit_records(directory) == []


def test_a_change_is_asked_for_made_and_recorded(directory: Directory, tmp_path: Path) -> None:
    result = run(directory, tmp_path, "red", typed="y\n")
    assert (result.exit_code, result.stdout) == (0, "painted\n")
    (record,) = audit_records(directory)
    assert (record.number, record.verb, record.what, record.state) == (1, "paint", "paint it red", "done")
    assert (record.host, record.pid) == (socket.gethostname(), os.getpid())


def test_a_change_that_failed_says_why_and_with_json_too(directory: Directory, tmp_path: Path) -> None:
    result = run(directory, tmp_path, "invisible", "--yes", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"error": "there is no such colour"}
    (record,) = audit_records(directory)
    assert (record.state, record.error) == ("failed", "there is no such colour")


def test_what_cannot_be_recorded_is_not_done(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_args: object, **_more: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(directory.tree, "create", away)
    with pytest.raises(StoreUnavailable, match="away"), audited(directory, "paint", "paint it red"):
        pytest.fail("the change was made")


def test_a_change_made_is_no_failure_when_its_end_cannot_be_recorded(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: object, **_more: object) -> None:
        raise StoreUnavailable("away")

    with audited(directory, "paint", "paint it red"):
        monkeypatch.setattr(directory.tree, "set", away)
    assert [record.state for record in audit_records(directory)] == ["begun"]


def test_only_the_newest_records_are_kept(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "AUDIT_RECORDS_MAX", 3)
    for number in range(5):
        with audited(directory, "paint", f"colour {number}", zookeeper_user="sre"):
            pass
    kept = audit_records(directory)
    assert [(record.number, record.what) for record in kept] == [
        (3, "colour 2"),
        (4, "colour 3"),
        (5, "colour 4"),
    ]
    assert kept[-1].user.endswith(" as sre")


def test_the_verb_audit_shows_the_records(directory: Directory, tmp_path: Path) -> None:
    with audited(directory, "paint", "paint it red"):
        pass
    with pytest.raises(ConfigError), audited(directory, "paint", "paint it blue"):
        raise ConfigError("no blue left")
    flags = ("--map-file", tmp_path / "map.json")
    assert [record["what"] for record in answer("audit", *flags)["records"]] == [
        "paint it red",
        "paint it blue",
    ]
    (last,) = answer("audit", *flags, "--last", "1")["records"]
    assert (last["state"], last["error"]) == ("failed", "no blue left")
    assert "no blue left" in admin("audit", *flags).stdout
    assert "is not in the range" in refusal(admin("audit", *flags, "--last", "0"), 2)


def test_waiting_ends_when_it_is_seen_or_says_what_was_not() -> None:
    looks = iter([False, True])
    wait_until(lambda: next(looks), "red", 5)
    with pytest.raises(ConfigError, match="red: not seen within 0 s"):
        wait_until(lambda: False, "red", 0)


def test_init_is_recorded_and_has_a_dry_run(tmp_path: Path) -> None:
    """When no node answers, the map file is not written: the plan needs all nodes."""
    said = refusal(admin("init", "--shard", "s1=127.0.0.1:1", "--map-file", tmp_path / "m.json", "--dry-run"))
    assert "does not answer" in said
    assert not (tmp_path / "m.json").exists()
    opened = open_directory(None, tmp_path / "m.json")
    assert audit_records(opened) == []
    opened.close()


def test_a_user_without_a_name_may_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container with any uid there is no such user: `pause` ended in a traceback, and its record in `failed`."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: NO_USER)
    path = tmp_path / "map.json"
    with closing(make_map(path, 2)) as directory:
        assert answer("pause", "--reason", "bank closed", "--map-file", path, "--yes")["paused"]
        paused = directory.pausing.get()
        assert paused is not None
        assert paused.by == f"uid {NO_USER}"
        assert [record.state for record in audit_records(directory)] == ["done"]


def test_a_backup_in_a_file_whose_name_is_no_text_is_named(tmp_path: Path) -> None:
    """Its document could not be encoded: the command ended with a traceback, behind the backup."""
    make_map(tmp_path / "map.json", 2).close()
    file = os.fsdecode(os.fsencode(tmp_path) + b"/tree-\xff.json")
    assert (
        answer("backup", file, "--map-file", tmp_path / "map.json")["file"] == f"{tmp_path}/tree-\ufffd.json"
    )
    assert Path(file).exists()
