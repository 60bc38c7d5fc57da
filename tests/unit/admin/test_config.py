"""`config get | set | history`: accepted values, unsafe changes, and the record of who changed what."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.admin.made import admin, answer, make_map, refusal

from wallet_engine.admin import settings
from wallet_engine.admin.settings import check_safe, write
from wallet_engine.admin.survey import JournalState, PartitionStatus, Survey
from wallet_engine.admin.tracing.open_entries import OpenEntry
from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import ClusterConfig, JournalInfo, ServiceInfo
from wallet_engine.routing.tree import LockTimeout, VersionConflict

HOUR_MS = 3600 * 1000


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    opened = make_map(tmp_path / "map.json", 2)
    yield opened
    opened.close()


def flags(tmp_path: Path) -> list[str]:
    return ["--map-file", str(tmp_path / "map.json")]


def journal(name: str, lag: int | None = 0, *, answers: bool = True) -> JournalState:
    info = JournalInfo(name, "127.0.0.1:1", "/j", 1, "h")
    return JournalState(info, {0: 5} if answers else None, lag, ())


def found(journals: tuple[JournalState, ...] = (), services: tuple[ServiceInfo, ...] = ()) -> Survey:
    status = PartitionStatus(0, "s1", 1, 5, "live", 1, 0)
    return Survey(ClusterConfig(1), 0, (), (status,), journals, services)


def test_get_shows_every_setting(directory: Directory, tmp_path: Path) -> None:
    assert answer("config", "get", *flags(tmp_path)) == {
        "retention_hours": 24,
        "journal_quorum": 1,
        "stream_entries_max": 100_000,
        "partitions": 2,
        "system_accounts": "@bank,@fees,@unclaimed,@bank:*",
    }
    assert answer("config", "get", "retention-hours", *flags(tmp_path)) == {"retention_hours": 24}
    assert "there is no setting colour" in refusal(admin("config", "get", "colour", *flags(tmp_path)), 2)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "colour",
            "1",
            "there is no setting colour: retention-hours, journal-quorum, stream-entries-max, partitions",
        ),
        ("partitions", "4", "partitions cannot be changed"),
        ("retention-hours", "23", "must be 24 to 8760: 23"),
        ("retention-hours", "8761", "must be 24 to 8760: 8761"),
        ("retention-hours", "49", "may be doubled at most, to 48"),
        ("retention-hours", "-24", "No such option"),
        ("retention-hours", "1e2", "must be a whole number"),
        ("retention-hours", "٢٤", "must be a whole number"),
        ("journal-quorum", "0", "journal_quorum must be at least 1"),
        ("journal-quorum", "2", "there are 0 journal copies: start 2 more first"),
        ("stream-entries-max", "255", "stream_entries_max must be 256 to 10000000: 255"),
        ("stream-entries-max", "10000001", "stream_entries_max must be 256 to 10000000"),
        ("retention-hours", "48", "not every shard answers"),
    ],
)
def test_what_is_refused_changes_nothing(
    directory: Directory, tmp_path: Path, name: str, value: str, said: str
) -> None:
    before = directory.config()
    result = admin("config", "set", name, value, *flags(tmp_path), "--yes")
    assert said in result.stderr
    needs_the_cluster = ("doubled at most", "journal copies", "every shard answers")
    assert result.exit_code == (1 if any(each in said for each in needs_the_cluster) else 2)
    assert directory.config() == before


def test_a_change_is_made_and_in_the_history(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "survey", lambda _: found())
    monkeypatch.setattr(settings, "find_open_entries", lambda _: [])
    directory.register_service(ServiceInfo("api-1", "127.0.0.1:1", 1))
    words = ("config", "set", "retention-hours", "48", *flags(tmp_path))
    assert answer(*words, "--dry-run")["plan"]["new"] == 48
    assert directory.config().retention_ms == 24 * HOUR_MS
    document = answer(*words, "--yes")
    assert (document["old"], document["new"]) == (24, 48)
    assert document["restart"] == ["API process api-1 at 127.0.0.1:1"]
    assert directory.config() == ClusterConfig(2, 48 * HOUR_MS, 1)
    (change,) = answer("config", "history", *flags(tmp_path))["changes"]
    assert (change["what"], change["state"]) == ("retention-hours from 24 to 48", "done")
    assert "retention-hours from 24 to 48  [done]" in admin("config", "history", *flags(tmp_path)).stdout


def test_the_limit_of_the_streams_may_be_changed_at_any_time(directory: Directory, tmp_path: Path) -> None:
    answer("config", "set", "stream-entries-max", "256", *flags(tmp_path), "--yes")
    assert directory.config() == ClusterConfig(2, stream_entries_max=256)
    assert answer("config", "get", "stream-entries-max", *flags(tmp_path)) == {"stream_entries_max": 256}


@pytest.mark.parametrize(("age_ms", "safe"), [(11 * HOUR_MS, True), (13 * HOUR_MS, False), (None, False)])
def test_retention_stays_while_something_is_open_for_long(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, age_ms: int | None, safe: bool
) -> None:
    """G4: with the smaller retention one service forgets a credit that another, with the larger one, drives blindly."""
    monkeypatch.setattr(settings, "survey", lambda _: found())
    monkeypatch.setattr(settings, "find_open_entries", lambda _: [OpenEntry(0, 5, age_ms, ())])
    old, new = ClusterConfig(2), ClusterConfig(2, 48 * HOUR_MS)
    for pair in ((old, new), (new, old)):
        if safe:
            check_safe(directory, *pair)
        else:
            with pytest.raises(ConfigError, match="open for too long"):
                check_safe(directory, *pair)


QUORUM_CASES: list[tuple[Survey, str]] = [
    (found((journal("j1"), journal("j2"))), ""),
    (found((journal("j1"), journal("j2")), (ServiceInfo("api", "h:1", 1),)), "stop every API process first"),
    (found((journal("j1"), journal("j2", answers=False))), "journal copy j2 does not answer"),
    (found((journal("j1"),)), "journal copy j2 does not answer"),
    (found((journal("j1"), journal("j2", 3))), "journal copy j2 is behind Redis"),
    (found((journal("j1"), journal("j2", None))), "journal copy j2 is behind Redis"),
]


@pytest.mark.parametrize(("state", "said"), QUORUM_CASES)
def test_the_quorum_is_raised_only_when_every_copy_has_everything(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, state: Survey, said: str
) -> None:
    """G5: a recovery with the new quorum fences too few copies to see every answer given with the old one."""
    directory.replace_members(directory.members(), ("j1", "j2"))
    monkeypatch.setattr(settings, "survey", lambda _: state)
    old, new = directory.config(), ClusterConfig(2, journal_quorum=2)
    if said:
        with pytest.raises(ConfigError, match=said):
            write(directory, old, new)
        assert directory.config() == old
    else:
        write(directory, old, new)
        assert directory.config() == new
        check_safe(directory, new, old)  # a lower quorum is always safe: recoveries fence more copies


def test_it_is_not_written_during_a_recovery_nor_over_another_change(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "RECOVERY_WAIT_S_MAX", 0.0)
    monkeypatch.setattr(settings, "survey", lambda _: found())
    monkeypatch.setattr(settings, "find_open_entries", lambda _: [])
    old, new = directory.config(), ClusterConfig(2, 48 * HOUR_MS)
    with directory.lock("recovery-s1"), pytest.raises(LockTimeout):
        write(directory, old, new)
    with pytest.raises(VersionConflict, match="somebody else"):
        write(directory, ClusterConfig(2, 30 * HOUR_MS), new)
    assert directory.config() == old


def test_every_part_of_config_has_help() -> None:
    for words in ((), ("get",), ("set",), ("history",)):
        result: Any = admin("config", *words, "--help")
        assert "EXAMPLES" in result.stdout
