"""Segments that are only in the archive: every reader of a journal finds them there, or reports what is wrong."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from unit.journal.samples import append, entry, holds, nonce, seqs_read, write

from wallet_engine.app.archiver import note_archived
from wallet_engine.domain.errors import ConfigError
from wallet_engine.journal import Damaged, JournalWriter, restore, verify_directory
from wallet_engine.journal.archive import Archived
from wallet_engine.journal.errors import NotRestored
from wallet_engine.journal.feed import START, DirectoryFeed
from wallet_engine.journal.feed_server import locate
from wallet_engine.journal.index import index_path
from wallet_engine.journal.lookup import find_entries
from wallet_engine.journal.prune import remove_segment
from wallet_engine.journal.reader import ends_of
from wallet_engine.journal.restore import Restorer, restore_with
from wallet_engine.journal.segments import numbers_on_disk, restore_by, segment_path

SEGMENT_BYTES = 2000
SEQS = {1: 60, 2: 40}


@pytest.fixture(autouse=True)
def _no_restorer() -> Iterator[None]:
    yield
    restore_by(None)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    archive = tmp_path / 'it\'s an "archive" of $HOME'
    archive.mkdir()
    return archive


@pytest.fixture
def journal(tmp_path: Path, archive: Path) -> Path:
    """A journal whose sealed segments, except the last two, are only in the archive."""
    directory = tmp_path / "a journal"
    write(directory, SEQS, segment_bytes_max=SEGMENT_BYTES)
    last = numbers_on_disk(directory)[-1]
    for number in range(1, last):
        shutil.copy(segment_path(directory, number), archive)
    note_archived(directory, Archived(last - 1, 0))
    for number in range(1, last - 2):
        assert remove_segment(directory, number) > SEGMENT_BYTES
    assert numbers_on_disk(directory) == [last - 2, last - 1, last]
    return directory


@pytest.fixture
def restored(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE", str(archive))
    restore_with('cp "$ARCHIVE"/%f %p')


def test_the_journal_starts_and_goes_on_without_the_archive(journal: Path) -> None:
    writer = JournalWriter(journal, "sample", segment_bytes_max=SEGMENT_BYTES)
    append(writer, 1, 30)
    writer.sync()
    assert writer.position(1).seq == 90
    assert writer.position(2).nonce == nonce(2, 40)
    writer.close()
    assert ends_of(journal) == {1: 90, 2: 40}
    assert seqs_read(journal, after={1: 55, 2: 40}) == {1: list(range(56, 91))}


def test_what_is_needed_from_it_is_named(journal: Path) -> None:
    with pytest.raises(
        NotRestored, match=r"00000001\.wal of .* is only in the archive: give --restore-command"
    ):
        seqs_read(journal)


@pytest.mark.usefixtures("restored")
def test_everything_is_read_from_there(journal: Path) -> None:
    assert seqs_read(journal) == {p: list(range(1, last + 1)) for p, last in SEQS.items()}
    assert seqs_read(journal, after={1: 10}, end={1: 12}, verify=False) == {1: [11, 12]}
    assert find_entries(journal, [(1, 3), (2, 5), (1, 59)]) == {
        (1, 3): entry(1, 3)[0],
        (2, 5): entry(2, 5)[0],
        (1, 59): entry(1, 59)[0],
    }
    found = verify_directory(journal)
    assert (found.entries, found.torn_bytes, found.indexes_missing) == (100, 0, ())
    writer = JournalWriter(journal, "sample")
    assert holds(writer, 1, 2, nonce(1, 2))
    assert not holds(writer, 1, 2, nonce(1, 3))
    for after, first in (({1: 0, 2: 0}, 1), ({1: 60, 2: 40}, writer.last_index().segment)):
        behind = {p: seq for p, seq in after.items() if seq < SEQS[p]}
        assert locate(journal, behind, writer.last_index()).segment == first
    writer.close()


@pytest.mark.usefixtures("restored")
def test_the_feed_goes_through_the_archive(journal: Path) -> None:
    async def follow() -> list[int]:
        async with aclosing(DirectoryFeed(journal, ends=True).follow({1: START})) as batches:
            return [each.seq async for batch in batches for each in batch]

    assert asyncio.run(follow()) == list(range(1, 61))


@pytest.mark.usefixtures("restored")
def test_a_lost_index_is_made_from_the_archive(journal: Path) -> None:
    index_path(segment_path(journal, 2)).unlink()
    writer = JournalWriter(journal, "sample")
    assert writer.position(1).seq == 60
    writer.close()
    restore_by(None)
    assert ends_of(journal) == SEQS


def test_only_so_many_are_kept(
    journal: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "RESTORED_SEGMENTS_MAX", 2)
    cache = tmp_path / "cache"
    log = tmp_path / "log"
    monkeypatch.setenv("ARCHIVE", str(archive))
    restore_by(Restorer(f'cp "$ARCHIVE"/%f %p && echo %f of %j >> {log}', cache).restore)
    seqs_read(journal)
    brought = log.read_text().splitlines()
    seqs_read(journal, end={1: 1})
    assert brought[0] == "00000001.wal of sample"
    assert len(brought) == len(set(brought)) == numbers_on_disk(journal)[0] - 1
    assert len(brought) > 2 == len(list(cache.iterdir()))
    assert len(log.read_text().splitlines()) == len(brought) + 1


@pytest.mark.parametrize("left", ["nothing", "a part", "zeros"])
def test_g9_what_a_crash_of_the_machine_left_is_brought_again(
    journal: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """It was handed out unchecked: the copy could not read the segment until somebody deleted the file."""
    monkeypatch.setenv("ARCHIVE", str(archive))
    command = 'cp "$ARCHIVE"/%f %p'
    kept = Restorer(command, tmp_path / "restored").restore(journal, 1)
    whole = kept.read_bytes()
    kept.write_bytes({"nothing": b"", "a part": whole[:1000], "zeros": bytes(len(whole))}[left])
    assert Restorer(command, tmp_path / "restored").restore(journal, 1).read_bytes() == whole


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("exit 3 # %f %p", r"00000001\.wal: --restore-command ended with status 3"),
        ("true %f %p", r"00000001\.wal: --restore-command ended with status 0 and brought no file"),
        ('cp "$ARCHIVE"/00000002.wal %p # %f', "brought something else than segment 1 of journal sample"),
        ('head -c 900 "$ARCHIVE"/%f > %p', "brought something else than segment 1 of journal sample"),
        ('tr a b < "$ARCHIVE"/%f > %p', "brought something else than segment 1 of journal sample"),
    ],
)
def test_what_goes_wrong_is_said(
    journal: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, what: str
) -> None:
    monkeypatch.setenv("ARCHIVE", str(archive))
    told: list[str] = []
    restore_by(Restorer(command, tmp_path / "cache", told.append).restore)
    with pytest.raises(NotRestored, match=what):
        seqs_read(journal)
    assert len(told) == 1
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_text_of_the_segment_is_refused(
    journal: Path, archive: Path, tmp_path: Path, restored: None
) -> None:
    """The text is a segment of another, valid journal."""
    other = tmp_path / "other"
    write(other, SEQS, filling=1, segment_bytes_max=SEGMENT_BYTES)
    shutil.copy(segment_path(other, 1), archive)
    with pytest.raises(NotRestored, match="brought something else"):
        seqs_read(journal)


def test_a_segment_that_is_not_archived_is_never_removed(tmp_path: Path) -> None:
    write(tmp_path, SEQS, segment_bytes_max=SEGMENT_BYTES)
    note_archived(tmp_path, Archived(2, 0))
    with pytest.raises(ConfigError, match=r"00000003\.wal is not archived"):
        remove_segment(tmp_path, 3)
    segment_path(tmp_path, 3).unlink()
    for look in (seqs_read, verify_directory, lambda path: JournalWriter(path, "sample")):
        with pytest.raises(Damaged, match="segment is missing"):
            look(tmp_path)


def test_what_a_process_that_was_killed_brought_goes_with_the_next(
    journal: Path, restored: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, young = (tmp_path / f"wallet-restored-{name}" for name in ("killed", "young"))
    for folder in (killed, young):
        folder.mkdir()
        (folder / "j1-00000001.wal").touch()
    held = Restorer('cp "$ARCHIVE"/%f %p').restore(journal, 1).parent
    for folder in (killed, held):
        os.utime(folder, (0, 0))
    Restorer('cp "$ARCHIVE"/%f %p').restore(journal, 1)
    assert (killed.exists(), young.exists(), held.exists()) == (False, True, True)


def test_a_command_must_name_what_and_where() -> None:
    with pytest.raises(ConfigError, match="--restore-command must say"):
        Restorer("cp /archive/%f /journal")
