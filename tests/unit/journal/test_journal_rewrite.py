"""Orphaned entries are moved from a journal into a file. A crash at any point leaves the old journal or the new one."""

import os
import shutil
from pathlib import Path

import pytest

from wallet_engine.domain.entry import ZERO_NONCE, parse_header
from wallet_engine.journal import JournalWriter, read, verify_directory
from wallet_engine.journal.archive import read_rewrites
from wallet_engine.journal.rewrite import set_aside
from wallet_engine.journal.segments import segment_numbers, segment_path
from wallet_engine.journal.snapshots import snapshot_path


def append(writer: JournalWriter, partition: int, seq: int, *, epoch: int = 1, fork: int = 0) -> None:
    last = writer.nonce_in_memory(partition, seq - 1) or ZERO_NONCE
    text = f"{seq} {last} {seq * 16 + fork:016x} {epoch} 1700000000000 1 +\ns 1 - - 0 -\n".encode()
    writer.append(partition, text, parse_header(text), bound=False)
    writer.sync()


def made(directory: Path) -> Path:
    """A journal with many segments: partition 0 has 30 entries, the last ten of epoch 2; partition 1 has 30."""
    writer = JournalWriter(directory, "j1", segment_bytes_max=700)
    for seq in range(1, 31):
        append(writer, 0, seq, epoch=1 if seq <= 20 else 2)
        append(writer, 1, seq)
    writer.mark_base(0, 3)
    writer.sync()
    writer.close()
    return directory


def texts(directory: Path, partition: int) -> list[bytes]:
    return [record.payload for record in read(directory, partitions={partition})]


def test_orphans_go_into_a_file_and_everything_else_stays(tmp_path: Path) -> None:
    made(tmp_path / "j")
    before = {partition: texts(tmp_path / "j", partition) for partition in (0, 1)}
    writer = JournalWriter(tmp_path / "j", "j1", segment_bytes_max=700)
    writer.begin_rewrite()
    kept = writer.rewrite({0: 20})[0]
    assert kept.name == "orphaned-p0-21-30"
    assert kept.read_bytes() == b"".join(before[0][20:])
    assert (writer.position(0).seq, writer.position(1).seq) == (20, 30)
    # The mark of epoch 3 was for a chain with the orphans. The remaining chain is the one that epoch 2 began with.
    assert writer.view(0) == 2
    append(writer, 0, 21, epoch=4, fork=1)
    assert writer.view(0) == 4
    writer.close()
    assert verify_directory(tmp_path / "j").positions[0].seq == 21
    assert texts(tmp_path / "j", 0)[:20] == before[0][:20]
    assert texts(tmp_path / "j", 1) == before[1]


@pytest.mark.parametrize("text", [b"", b"wallet snapshot 5\n{", b"wallet snapshot 99\n"])
def test_a_snapshot_that_cannot_be_read_stops_no_rewrite(tmp_path: Path, text: bytes) -> None:
    """The copy could neither finish the rewrite nor start again."""
    path = snapshot_path(made(tmp_path / "j"), 1, 25)
    path.parent.mkdir()
    path.write_bytes(text)
    writer = JournalWriter(tmp_path / "j", "j1", segment_bytes_max=700)
    writer.begin_rewrite()
    assert list(writer.rewrite({0: 20})) == [0]
    assert (writer.position(0).seq, writer.position(1).seq) == (20, 30)
    writer.close()


def test_nothing_to_set_aside_changes_nothing(tmp_path: Path) -> None:
    writer = JournalWriter(made(tmp_path / "j"), "j1")
    writer.begin_rewrite()
    assert writer.rewrite({0: 30}) == {}
    assert writer.view(0) == 3
    writer.close()


def exchanged(before: Path, now: Path) -> list[int]:
    """The numbers of old segments whose bytes are not the beginning of the present segment."""
    return [
        number
        for number in segment_numbers(before)
        if not segment_path(now, number).read_bytes().startswith(segment_path(before, number).read_bytes())
    ]


class Crash(BaseException):
    pass


def test_a_crash_at_any_rename_leaves_a_whole_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the decision there is the old journal, after it the new one. Both are valid and can be continued."""
    made(tmp_path / "made")
    rename, found = os.rename, []
    for crash_at in range(1, 100):
        directory = tmp_path / f"crash-{crash_at}"
        shutil.copytree(tmp_path / "made", directory)
        calls = 0

        def counted(*names: Path, at: int = crash_at) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Crash
            rename(*names)

        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", counted)
            try:
                set_aside(directory, "j1", {0: 20})
            except Crash:
                pass
            else:
                break
        writer = JournalWriter(directory, "j1", segment_bytes_max=700)
        found.append(writer.position(0).seq)
        append(writer, 0, writer.position(0).seq + 1, epoch=5, fork=2)
        writer.close()
        verify_directory(directory)
        assert len(texts(directory, 1)) == 30
        assert not list(directory.glob("*.redo"))
        # The archive is told whenever segments were replaced (twice at worst), and only then.
        assert set(read_rewrites(directory)) == set(exchanged(tmp_path / "made", directory)[:1])
    assert found[0] == 30
    assert set(found[1:]) == {20}
    assert len(found) > 4
