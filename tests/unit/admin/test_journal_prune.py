"""`journal prune` and `journal verify --archive`, on a journal that the oracle decided and an archive of files."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.admin.made import MadeJournal, account_in, admin, answer, make_map, refusal, txid

from wallet_engine.app.archiver import note_archived
from wallet_engine.journal.archive import Archived
from wallet_engine.journal.segments import numbers_on_disk, restore_by, segment_path
from wallet_engine.recovery.snapshotting import make_snapshots
from wallet_engine.routing.directory import Directory

ANN = account_in(0, 2)
BOB = account_in(0, 2, 1)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    """A cluster whose only copy, j1, does not run."""
    directory = make_map(tmp_path / "map.json", 2)
    directory.replace_members(directory.members(), ("j1",))
    yield directory
    directory.close()
    restore_by(None)


@pytest.fixture
def made(tmp_path: Path, directory: Directory) -> Path:
    """Some sealed segments, all archived and covered by snapshots of both partitions."""
    journal = MadeJournal(tmp_path / "journal", segment_bytes_max=3000)
    journal.add(0, f"o - {ANN} 500 0 USD", f"o - {BOB} - 0 USD")
    journal.add(1, f"o - {account_in(1, 2)} - 0 USD")
    for number in range(60):
        journal.add(0, f"t {txid(number)} @bank {ANN} 100 USD")
    journal.close()
    (tmp_path / "archive" / "j1").mkdir(parents=True)
    for number in numbers_on_disk(journal.directory)[:-1]:
        shutil.copy(segment_path(journal.directory, number), tmp_path / "archive" / "j1")
        note_archived(journal.directory, Archived(number, 0))
    make_snapshots(journal.directory)
    return journal.directory


@pytest.fixture
def flags(tmp_path: Path, made: Path) -> list[str]:
    return ["--map-file", str(tmp_path / "map.json"), "--journal", str(made)]


@pytest.fixture
def restore(tmp_path: Path) -> list[str]:
    return ["--restore-command", f"cp {tmp_path}/archive/%j/%f %p"]


def test_what_may_go_is_shown_and_then_goes(made: Path, flags: list[str], restore: list[str]) -> None:
    before = numbers_on_disk(made)
    whole = answer("balance", ANN, "USD", *flags, "--at", "2026-11-21T10:00:10Z")
    plan = answer("journal", "prune", *flags, "--keep", "0s", "--dry-run")["plan"]
    assert plan["segments"] == [f"{number:08d}.wal" for number in before[:-1]]
    assert plan["held"] is None
    assert numbers_on_disk(made) == before
    size = sum(segment_path(made, number).stat().st_size for number in before[:-1])
    done = answer("journal", "prune", *flags, "--keep", "0s", "--yes")
    assert (done["segments"], done["bytes"]) == (plan["segments"], size)
    assert numbers_on_disk(made) == before[-1:]
    assert answer("journal", "prune", *flags, "--keep", "0s", "--yes")["segments"] == []
    info = answer("journal", "info", *flags)["directory"]
    assert (info["segments"], info["only_archived"]) == (1, len(before) - 1)
    late = refusal(admin("balance", ANN, "USD", *flags, "--at", "2026-11-21T10:00:10Z"))
    assert late.endswith("is only in the archive: give --restore-command")
    assert answer("balance", ANN, "USD", *flags, *restore, "--at", "2026-11-21T10:00:10Z") == whole


def test_what_is_kept_and_what_is_held_back(made: Path, flags: list[str], directory: Directory) -> None:
    assert "is kept by --keep 1GB" in admin("journal", "prune", *flags, "--keep", "1GB", "--yes").stdout
    directory.followers.note("history", {0: 20, 1: 1})
    text = admin("journal", "prune", *flags, "--keep", "0s", "--yes").stdout
    assert "and follower history has taken 20" in text
    assert 1 < numbers_on_disk(made)[0] < len(numbers_on_disk(made))
    directory.replace_members(directory.members(), ("j1", "j2"))
    said = refusal(admin("journal", "prune", *flags, "--keep", "0s", "--yes"))
    assert said.startswith("journal copy j1 does not run, and there are others")


def test_a_damaged_snapshot_counts_for_nothing(made: Path, flags: list[str]) -> None:
    for path in (made / "snapshots").glob("00000-*.snapshot"):
        path.write_bytes(path.read_bytes().replace(b"USD", b"USX"))
    held = answer("journal", "prune", *flags, "--keep", "0s", "--yes")
    assert held["segments"] == []
    assert "there is no good snapshot of the partition: wallet-admin snapshot" in held["held"]


def test_the_whole_chain_is_proved_over_archive_and_disk(
    made: Path, flags: list[str], restore: list[str]
) -> None:
    sealed = len(numbers_on_disk(made)) - 1
    for _ in range(2):
        found = answer("journal", "verify", "--archive", str(made), *restore)
        assert (found["segments"], found["from_archive"], found["entries"]) == (sealed + 1, sealed, 62)
        answer("journal", "prune", *flags, "--keep", "0s", "--yes")


@pytest.mark.parametrize("pruned", [False, True])
def test_an_archive_that_is_not_whole_is_found(
    made: Path, flags: list[str], restore: list[str], tmp_path: Path, pruned: bool
) -> None:
    if pruned:
        answer("journal", "prune", *flags, "--keep", "0s", "--yes")
    archived = tmp_path / "archive" / "j1" / "00000002.wal"
    data = bytearray(archived.read_bytes())
    data[1000] ^= 1
    archived.write_bytes(data)
    said = admin("journal", "verify", "--archive", str(made), *restore)
    assert said.exit_code == 1
    assert (
        "00000002.wal: --restore-command brought something else than segment 2 of journal j1" in said.stderr
    )
    archived.unlink()
    said = admin("journal", "verify", "--archive", str(made), *restore)
    assert "00000002.wal: --restore-command ended with status 1" in said.stderr


def test_verify_of_an_archive_needs_to_know_how_to_read_it(made: Path) -> None:
    said = refusal(admin("journal", "verify", "--archive", made), 2)
    assert said == "--archive reads the archive: give --restore-command"


def test_a_follower_that_is_gone_for_good_is_forgotten(directory: Directory, tmp_path: Path) -> None:
    flags = ["--map-file", str(tmp_path / "map.json")]
    assert "nobody follows" in admin("journal", "followers", *flags).stdout
    directory.followers.note("history", {0: 20, 1: 3})
    directory.followers.note("webhooks", {0: 7})
    assert answer("journal", "followers", *flags)["followers"] == [
        {"name": "history", "entries": 23, "partitions": {"0": 20, "1": 3}},
        {"name": "webhooks", "entries": 7, "partitions": {"0": 7}},
    ]
    said = refusal(admin("journal", "followers", *flags, "--forget", "kafka", "--yes"))
    assert said == "there is no follower kafka: history, webhooks"
    left = answer("journal", "followers", *flags, "--forget", "history", "--yes")["followers"]
    assert [each["name"] for each in left] == ["webhooks"]
