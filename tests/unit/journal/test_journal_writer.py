"""The writer: it checks chains before writing, makes groups durable together, and stops for ever after a failure."""

import errno
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.journal.samples import append, entry, holds, nonce, seqs_read, write

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.errors import ConfigError, Corruption, Outage
from wallet_engine.journal import Fork, JournalWriter, Link, Position, verify_directory
from wallet_engine.journal.chains import RECENT_ENTRIES_PER_PARTITION
from wallet_engine.journal.format import GROUP_BYTES_MAX, PAYLOAD_BYTES_MAX


def test_g5_nothing_is_durable_before_sync(tmp_path: Path) -> None:
    """G5: positions and `holds` include only fsynced entries."""
    writer = JournalWriter(tmp_path, "sample")
    append(writer, 3, 2)
    assert writer.position(3) == Position(0, ZERO_NONCE, 0, 0)
    assert writer.positions() == {}
    assert not holds(writer, 3, 1, nonce(3, 1))
    assert seqs_read(tmp_path) == {}
    writer.sync()
    assert writer.positions() == {3: Position(2, nonce(3, 2), 1, 1700000000002)}
    assert holds(writer, 3, 1, nonce(3, 1))
    writer.append(3, *entry(3, 3))
    writer.close()
    assert seqs_read(tmp_path) == {3: [1, 2]}


def test_g5_sync_is_one_write_and_one_fdatasync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """G5: the positions move only after the fdatasync that follows the write."""
    writer = JournalWriter(tmp_path, "sample")
    calls: list[str] = []
    real_write, real_sync = os.write, os.fdatasync

    def spy_write(fd: int, data: bytes) -> int:
        calls.append("write")
        return real_write(fd, data)

    def spy_sync(fd: int) -> None:
        calls.append(f"fdatasync at seq {writer.position(1).seq}")
        real_sync(fd)

    monkeypatch.setattr(os, "write", spy_write)
    monkeypatch.setattr(os, "fdatasync", spy_sync)
    append(writer, 1, 50)
    writer.sync()
    assert calls == ["write", "fdatasync at seq 0"]
    assert writer.position(1).seq == 50
    writer.sync()
    assert len(calls) == 2
    writer.close()


@pytest.mark.parametrize(
    ("case", "args", "found"),
    [
        ("same seq, other nonce", (2, {"branch": "x", "prev": nonce(1, 1)}), Link(2, nonce(1, 1), 5)),
        ("the last entry once more", (2, {}), Link(2, nonce(1, 1), 5)),
        ("a gap", (4, {}), Link(4, nonce(1, 3), 5)),
        ("a gap that names the last entry", (4, {"prev": nonce(1, 2)}), Link(4, nonce(1, 2), 5)),
        ("seq fits, previous nonce does not", (3, {"branch": "x"}), Link(3, nonce(1, 2, "x"), 5)),
        ("stale epoch", (3, {"epoch": 4}), Link(3, nonce(1, 2), 4)),
        ("from the beginning", (1, {}), Link(1, ZERO_NONCE, 5)),
    ],
)
def test_g7_fork_is_refused_and_not_written(
    tmp_path: Path, case: str, args: tuple[int, dict[str, str]], found: Link
) -> None:
    """G7: an entry that does not continue its partition's chain is never journaled. The partition continues."""
    writer = JournalWriter(tmp_path, "sample")
    for seq in (1, 2):
        writer.append(1, *entry(1, seq, epoch=5))
    writer.append(2, *entry(2, 1))
    seq, options = args
    payload, header = entry(1, seq, **{"epoch": 5, **options})  # type: ignore[arg-type]
    with pytest.raises(Fork) as caught:
        writer.append(1, payload, header)
    assert (caught.value.partition, caught.value.expected) == (1, Link(3, nonce(1, 2), 5))
    assert caught.value.found == found, case
    assert isinstance(caught.value, Corruption)
    writer.append(1, *entry(1, 3, epoch=5))
    writer.sync()
    writer.close()
    assert seqs_read(tmp_path) == {1: [1, 2, 3], 2: [1]}
    assert verify_directory(tmp_path).entries == 4


def test_g7_chain_is_checked_across_restart_and_segments(tmp_path: Path) -> None:
    """G7: after opening, the end of each chain is known from the index and the last segment."""
    write(tmp_path, {1: 20, 2: 1, 3: 20}, segment_bytes_max=1000)
    writer = JournalWriter(tmp_path, "sample", segment_bytes_max=1000)
    assert writer.positions() == {
        p: Position(seq, nonce(p, seq), 1, 1700000000000 + seq) for p, seq in ((1, 20), (2, 1), (3, 20))
    }
    with pytest.raises(Fork):
        writer.append(2, *entry(2, 2, branch="x"))
    append(writer, 2, 1)
    writer.sync()
    writer.close()


def test_g7_fence_outlives_restart_and_rotation(tmp_path: Path) -> None:
    """G7: a promise to refuse older epochs holds, also for a partition without entries."""
    writer = JournalWriter(tmp_path, "sample", segment_bytes_max=300)
    writer.fence(1, 7)
    writer.fence(2, 3)
    writer.fence(1, 6)
    writer.sync()
    append(writer, 4, 2)
    writer.sync()
    for _ in range(2):
        with pytest.raises(Fork) as caught:
            writer.append(1, *entry(1, 1, epoch=6))
        assert caught.value.expected == Link(1, ZERO_NONCE, 7)
        assert (writer.epoch_min(1), writer.epoch_min(2), writer.epoch_min(9)) == (7, 3, 0)
        writer.close()
        writer = JournalWriter(tmp_path, "sample", segment_bytes_max=300)
    writer.append(1, *entry(1, 1, epoch=7))
    writer.sync()
    assert writer.positions().keys() == {1, 4}
    writer.close()
    assert verify_directory(tmp_path).fences == {1: 7, 2: 3, 4: 1}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda h: {"nonce": "not-hex"}, "is not 16 hex digits"),
        (lambda h: {"nonce": "f" * 17}, "is not 16 hex digits"),
    ],
)
def test_nonce_must_be_hex(tmp_path: Path, change: Callable[[object], dict[str, str]], text: str) -> None:
    writer = JournalWriter(tmp_path, "sample")
    payload, header = entry(1, 1)
    with pytest.raises(Corruption, match=text):
        writer.append(1, payload, header._replace(**change(header)))  # type: ignore[arg-type]
    writer.append(1, payload, header)
    writer.sync()
    assert writer.position(1).seq == 1
    writer.close()


def test_g10_group_and_entry_are_bounded(tmp_path: Path) -> None:
    """G10: a group that would grow past its limit is synced first; an entry past its limit is refused."""
    writer = JournalWriter(tmp_path, "sample")
    with pytest.raises(Corruption, match="at most"):
        writer.append(1, *entry(1, 1, filling=PAYLOAD_BYTES_MAX))
    count = GROUP_BYTES_MAX // 1_000_000 + 1
    append(writer, 1, count, filling=1_000_000)
    assert writer.group_bytes < GROUP_BYTES_MAX
    assert 0 < writer.position(1).seq < count
    writer.sync()
    assert (writer.position(1).seq, writer.group_bytes) == (count, 0)
    writer.close()


def test_rotation_seals_calls_the_hook_and_writes_an_index(tmp_path: Path) -> None:
    sealed: list[str] = []

    def on_sealed(path: Path) -> None:
        assert path.with_suffix(".idx").exists()
        sealed.append(path.name)

    writer = JournalWriter(tmp_path, "sample", segment_bytes_max=1000, on_sealed=on_sealed)
    for _ in range(20):
        append(writer, 1, 1)
        append(writer, 2, 1)
        writer.sync()
    assert sealed == ["00000001.wal", "00000002.wal", "00000003.wal", "00000004.wal", "00000005.wal"]
    assert "segment=6" in repr(writer)
    writer.close()
    assert (tmp_path / "head").read_bytes() == b"00000006\n"
    found = verify_directory(tmp_path)
    assert (found.segments, found.entries, found.indexes_missing) == (6, 40, ())


def test_index_is_rebuilt_when_absent_or_broken(tmp_path: Path) -> None:
    write(tmp_path, {1: 20, 2: 20}, segment_bytes_max=1000)
    before = {p.name: p.read_bytes() for p in tmp_path.glob("*.idx")}
    (tmp_path / "00000001.idx").unlink()
    (tmp_path / "00000002.idx").write_bytes(before["00000002.idx"].replace(b'"last_seq":', b'"last_seq":1'))
    (tmp_path / "00000003.idx").write_bytes(before["00000001.idx"])
    (tmp_path / "00000004.idx").write_bytes(b"")
    assert verify_directory(tmp_path).indexes_missing == (1, 2, 3, 4)
    JournalWriter(tmp_path, "sample").close()
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.idx")} == before
    assert verify_directory(tmp_path).indexes_missing == ()


@pytest.mark.parametrize("step", ["before the seal's successor", "half a successor"])
def test_crash_between_seal_and_next_segment(tmp_path: Path, step: str) -> None:
    write(tmp_path, {1: 20}, segment_bytes_max=1000)
    last = sorted(tmp_path.glob("*.wal"))[-1]
    number = int(last.stem)
    if last.stat().st_size > 128:
        writer = JournalWriter(tmp_path, "sample", segment_bytes_max=1)
        append(writer, 1, 1)
        writer.sync()
        writer.close()
        number += 1
        last = tmp_path / f"{number:08d}.wal"
    (tmp_path / "head").write_bytes(b"%08d\n" % (number - 1))
    if step == "half a successor":
        last.rename(last.with_suffix(".wal.tmp"))
        os.truncate(last.with_suffix(".wal.tmp"), 50)
    else:
        last.unlink()
    (tmp_path / f"{number - 1:08d}.idx").unlink()
    writer = JournalWriter(tmp_path, "sample")
    append(writer, 1, 1)
    writer.sync()
    writer.close()
    assert not list(tmp_path.glob("*.tmp"))
    assert verify_directory(tmp_path).segments == number


def test_second_writer_is_refused_in_one_line(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "sample")
    with pytest.raises(ConfigError, match="is in use by another journal process") as caught:
        JournalWriter(tmp_path, "sample")
    assert "\n" not in str(caught.value)
    writer.close()
    writer.close()
    JournalWriter(tmp_path, "sample").close()


@pytest.mark.parametrize("journal_id", ["", "x" * 65, "a b", "é"])
def test_journal_id_must_fit(tmp_path: Path, journal_id: str) -> None:
    with pytest.raises(ConfigError, match="journal id"):
        JournalWriter(tmp_path, journal_id)


def test_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Not a directory: mend that"):
        JournalWriter(tmp_path / "file" / "journal", "sample")
    real_open = os.open

    def read_only(path: object, flags: int, *args: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real_open(path, flags, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(ConfigError, match="Read-only file system: mount it writable"):
        JournalWriter(tmp_path / "journal", "sample")


def calls_of(writer: JournalWriter) -> list[Callable[[], object]]:
    return [
        lambda: append(writer, 1, 1, first=2),
        lambda: writer.fence(1, 9),
        writer.sync,
        writer.cut,
        lambda: writer.position(1),
        writer.positions,
        lambda: holds(writer, 1, 1, nonce(1, 1)),
    ]


@pytest.mark.parametrize(
    ("function", "code"),
    [("write", errno.ENOSPC), ("write", errno.EIO), ("fdatasync", errno.EIO), ("fdatasync", errno.ENOSPC)],
)
def test_failed_write_or_fsync_stops_the_writer_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int
) -> None:
    writer = JournalWriter(tmp_path, "sample")
    append(writer, 1, 1)
    writer.sync()
    writer.append(1, *entry(1, 2))

    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, function, fail)
        with pytest.raises(Outage, match=os.strerror(code)):
            writer.sync()
    for call in calls_of(writer):
        with pytest.raises(Outage) as caught:
            call()
        assert caught.value.code == "journal_unavailable"
    assert f"stopped by {os.strerror(code)}" in repr(writer)
    writer.close()
    writer = JournalWriter(tmp_path, "sample")
    # An entry that was written but not receipted may be there or not. Either way the chain continues.
    append(writer, 1, 1)
    writer.sync()
    assert verify_directory(tmp_path).positions[1] == writer.position(1)
    writer.close()


def test_closed_writer_refuses(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "sample")
    writer.close()
    for call in calls_of(writer):
        with pytest.raises(Outage, match="closed"):
            call()


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JournalWriter(tmp_path, "sample")
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[:100]))
    append(writer, 1, 10)
    writer.sync()
    writer.close()
    assert seqs_read(tmp_path) == {1: list(range(1, 11))}


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from wallet_engine.domain.errors import Outage
from wallet_engine.domain.entry import parse_header
from wallet_engine.journal import JournalWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
writer = JournalWriter(Path(sys.argv[1]), "sample")
prev, seq = "0" * 16, 0
try:
    while True:
        seq += 1
        payload = f"{seq} {prev} {seq:016x} 1 1 1 +\\ns 1 - - 0 -\\n".encode()
        prev = f"{seq:016x}"
        writer.append(1, payload, parse_header(payload))
        if seq % 7 == 0:
            writer.sync()
            print(seq, flush=True)
except Outage as error:
    print(error.code)
"""


def test_g5_full_disk_keeps_what_was_durable(tmp_path: Path) -> None:
    """G5: a real short write at a file size limit. Entries that were synced before are read again."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    *synced, code = run.stdout.split()
    assert code == "journal_unavailable"
    writer = JournalWriter(tmp_path, "sample")
    assert writer.torn_copy is not None
    assert writer.position(1).seq >= int(synced[-1])
    assert holds(writer, 1, int(synced[-1]), f"{int(synced[-1]):016x}")
    writer.close()
    assert verify_directory(tmp_path).torn_bytes == 0


def test_cut_and_commit_in_a_thread(tmp_path: Path) -> None:
    """Entries that are appended while a group is being written belong to the next group."""
    writer = JournalWriter(tmp_path, "sample", segment_bytes_max=2000)
    for round_ in range(30):
        first = 1 + 4 * round_
        append(writer, 1, 2, first=first)
        group = writer.cut()
        assert group is not None
        thread = threading.Thread(target=writer.commit, args=(group,))
        thread.start()
        append(writer, 1, 2, first=first + 2)
        thread.join()
        assert writer.position(1).seq == first + 1
        assert not holds(writer, 1, first + 2, nonce(1, first + 2))
        writer.sync()
    with pytest.raises(Corruption, match="committed after group"):
        writer.commit(group)
    writer.close()
    found = verify_directory(tmp_path)
    assert (found.entries, found.indexes_missing) == (120, ())
    assert found.segments > 3


@pytest.mark.parametrize("restarted", [False, True])
def test_g5_g7_holds_exactly_this_nonce_at_this_seq(tmp_path: Path, restarted: bool) -> None:
    """G5, G7: at any age of an entry, `holds` compares the nonce, not only the seq."""
    last = RECENT_ENTRIES_PER_PARTITION + 2000
    writer = JournalWriter(tmp_path, "sample", segment_bytes_max=300_000)
    for first in range(1, last + 1, 500):
        append(writer, 1, min(500, last + 1 - first), first=first)
        append(writer, 2, 1)
        writer.sync()
    if restarted:
        writer.close()
        writer = JournalWriter(tmp_path, "sample", segment_bytes_max=300_000)
    assert "segment=3" in repr(writer)
    for seq in (1, 500, 1999, 2000, 2001, 2500, 4000, 5999, last - 1, last):
        assert holds(writer, 1, seq, nonce(1, seq)), seq
        assert not holds(writer, 1, seq, nonce(1, seq, "fork")), seq
    for partition, seq, text in ((1, 0, ZERO_NONCE), (1, last + 1, nonce(1, last + 1)), (9, 1, nonce(9, 1))):
        assert not holds(writer, partition, seq, text)
    assert holds(writer, 2, 1, nonce(2, 1))
    assert not holds(writer, 1, 2000, "no nonce")
    writer.close()


def test_repr_shows_state(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "sample")
    append(writer, 1, 3)
    assert "group_bytes=0" not in repr(writer)
    writer.sync()
    assert repr(writer) == (
        f"<JournalWriter sample segment=1 offset={(tmp_path / '00000001.wal').stat().st_size} "
        "partitions=1 durable=3 group_bytes=0 open>"
    )
    writer.close()
    assert repr(writer).endswith("closed>")
