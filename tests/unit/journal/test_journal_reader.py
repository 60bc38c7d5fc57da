"""The reader: which entries it selects, what it skips, and reading while another process writes."""

import multiprocessing
import os
from pathlib import Path

import pytest
from unit.journal.samples import append, entry, seqs_read, write

from wallet_engine.journal import JournalWriter, Record, read, verify_directory
from wallet_engine.journal import index as index_module
from wallet_engine.journal.index import read_index
from wallet_engine.journal.scan import Scan


def test_records_come_in_journal_order(tmp_path: Path) -> None:
    write(tmp_path, {1: 3, 2: 2})
    records = list(read(tmp_path))
    assert records[0] == Record(1, entry(1, 1)[0], 1, 128)
    assert [r.partition for r in records] == [1, 2, 1, 2, 1]
    assert [r.payload for r in records if r.partition == 2] == [entry(2, s)[0] for s in (1, 2)]
    assert sorted(r.offset for r in records) == [r.offset for r in records]


def test_empty_directory_has_no_records(tmp_path: Path) -> None:
    assert list(read(tmp_path)) == []
    JournalWriter(tmp_path, "sample").close()
    assert list(read(tmp_path)) == []
    assert verify_directory(tmp_path).entries == 0


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("segment_bytes_max", [1 << 28, 3000])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {1: (1, 40), 2: (1, 30), 3: (1, 5)}),
        ({"partitions": {2, 3}}, {2: (1, 30), 3: (1, 5)}),
        ({"partitions": set()}, {}),
        ({"after": {1: 35, 2: 30}}, {1: (36, 40), 3: (1, 5)}),
        ({"after": {1: 35}, "partitions": {1}}, {1: (36, 40)}),
        ({"after": {1: 99}, "partitions": {1}}, {}),
        ({"end": {1: 7, 3: 2}}, {1: (1, 7), 3: (1, 2)}),
        ({"end": {1: 20}, "after": {1: 18, 2: 5}}, {1: (19, 20)}),
        ({"end": {1: 5}, "after": {1: 5}}, {}),
        ({"end": {1: 20, 2: 10}, "partitions": {2}}, {2: (1, 10)}),
        ({"end": {1: 1000}}, {1: (1, 40)}),
    ],
)
def test_selection(
    tmp_path: Path,
    options: dict[str, object],
    expected: dict[int, tuple[int, int]],
    segment_bytes_max: int,
    verify: bool,
) -> None:
    write(tmp_path, {1: 40, 2: 30, 3: 5}, segment_bytes_max=segment_bytes_max)
    found = seqs_read(tmp_path, verify=verify, **options)
    assert found == {p: list(range(first, last + 1)) for p, (first, last) in expected.items()}


def test_index_spares_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments without wanted entries are not scanned, and others only from a mark on."""
    monkeypatch.setattr("wallet_engine.journal.writer.MARK_BYTES", 1000)
    writer = JournalWriter(tmp_path, "sample", segment_bytes_max=10_000)
    for seq in range(1, 301):
        writer.append(seq // 100, *entry(seq // 100, seq if seq < 100 else seq % 100 + 1))
        writer.sync()
    writer.close()
    segments = len(list(tmp_path.glob("*.wal")))
    starts: list[tuple[str, int]] = []
    real = Scan.__init__

    def spy(scan: Scan, path: Path, offset: int, running_hash: bytes, **options: object) -> None:
        starts.append((path.name, offset))
        real(scan, path, offset, running_hash, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Scan, "__init__", spy)
    assert seqs_read(tmp_path, after={0: 95}, end={0: 98}) == {0: [96, 97, 98]}
    assert len(starts) == 1
    assert starts[0][1] > 1000
    starts.clear()
    assert seqs_read(tmp_path, partitions={3}) == {3: [1]}
    assert [name for name, _ in starts] == [f"{segments:08d}.wal"]


def test_marks_of_writer_and_of_rebuilding_lead_to_the_same_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("writer", "take"):
        monkeypatch.setattr(f"wallet_engine.journal.{module}.MARK_BYTES", 700)
    write(tmp_path, {1: 60, 2: 60}, segment_bytes_max=8000)
    for _ in ("written", "rebuilt"):
        for after in range(0, 60, 7):
            assert seqs_read(tmp_path, after={1: after, 2: 60}) == {1: list(range(after + 1, 61))}
        assert verify_directory(tmp_path).indexes_missing == ()
        for path in tmp_path.glob("*.idx"):
            path.unlink()
        JournalWriter(tmp_path, "sample").close()


def test_index_contents(tmp_path: Path) -> None:
    write(tmp_path, {1: 8, 2: 3}, segment_bytes_max=1000)
    first = verify_directory(tmp_path)
    assert first.segments == 2
    header = (tmp_path / "00000002.wal").read_bytes()[16:32]
    index = read_index(tmp_path / "00000001.wal", header)
    assert index is not None
    assert index_module.index_path(tmp_path / "00000001.wal").name == "00000001.idx"
    assert (index.segment, index.journal_id) == (1, "sample")
    assert {p: (s.first_seq, s.last_seq, s.count) for p, s in index.partitions.items()} == {
        1: (1, 4, 4),
        2: (1, 3, 3),
    }
    assert index.partitions[1].first_offset == 128
    assert read_index(tmp_path / "00000001.wal", bytes(16)) is None


def test_half_written_tail_is_the_end_not_damage(tmp_path: Path) -> None:
    write(tmp_path, {1: 5})
    path = tmp_path / "00000001.wal"
    data = path.read_bytes()
    for size in range(len(data) - 100, len(data)):
        path.write_bytes(data[:size])
        assert seqs_read(tmp_path) == {1: [1, 2, 3, 4]}


def write_while_read(directory: Path, count: int) -> None:
    """The writing process. Its segments are small, so that reading meets every moment of a rotation."""
    real = os.write
    os.write = lambda fd, data: real(fd, data[:777])  # groups arrive in pieces
    writer = JournalWriter(directory, "sample", segment_bytes_max=40_000)
    for _ in range(count):
        append(writer, 1, 10)
        append(writer, 2, 10)
        writer.sync()
    writer.close()


def test_reading_while_another_process_writes(tmp_path: Path) -> None:
    count = 150
    process = multiprocessing.get_context("fork").Process(target=write_while_read, args=(tmp_path, count))
    process.start()
    passes = 0
    after = {1: 0, 2: 0}
    while process.is_alive() or not passes:
        found = seqs_read(tmp_path, after=dict(after))
        for partition, seqs in found.items():
            assert seqs == list(range(after[partition] + 1, seqs[-1] + 1))
            after[partition] = seqs[-1]
        verify_directory(tmp_path)
        passes += 1
    process.join()
    assert process.exitcode == 0
    print(f"{passes} passes while writing")
    assert seqs_read(tmp_path) == {p: list(range(1, 10 * count + 1)) for p in (1, 2)}


def test_verify_reports_progress_and_summary(tmp_path: Path) -> None:
    write(tmp_path, {1: 20, 2: 4}, segment_bytes_max=1000)
    seen: list[tuple[str, int, int]] = []
    found = verify_directory(tmp_path, lambda path, done, total: seen.append((path.name, done, total)))
    total = sum(path.stat().st_size for path in tmp_path.glob("*.wal"))
    assert [name for name, _, _ in seen] == sorted(path.name for path in tmp_path.glob("*.wal"))
    assert seen[-1][1:] == (total, total)
    assert (found.journal_id, found.entries, found.bytes) == ("sample", 24, total)
    assert {p: position.seq for p, position in found.positions.items()} == {1: 20, 2: 4}
