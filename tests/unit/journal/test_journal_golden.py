"""The format on disk never changes: the golden segment is written again byte for byte."""

import shutil
from pathlib import Path

import pytest

from wallet_engine.domain.entry import parse_header
from wallet_engine.journal import Damaged, JournalWriter, Position, read, verify_directory
from wallet_engine.journal import format as format_module

GOLDEN = Path(__file__).parents[2] / "golden" / "journal"
SEGMENT = GOLDEN / "00000001.wal"

ZERO = "0" * 16
ENTRIES = [
    (
        0,
        f"1 {ZERO} 00000000000000a1 1 1700000000000 1 ++\n"
        "o - alice - 0 USD\n"
        "t AAAAAAAAAAAAAAAAAAAAAA @bank alice 1234 USD\n",
    ),
    (7, f"1 {ZERO} 00000000000000b1 1 1700000000001 1 a\nd AAAAAAAAAAAAAAAAAAAAAQ bob alice 5 EUR\n"),
    (0, "2 00000000000000a1 00000000000000a2 3 1700000000002 1 +\ns 1 - - 0 -\n"),
]


def test_golden_segment_is_read() -> None:
    assert [(r.partition, r.payload.decode()) for r in read(GOLDEN)] == ENTRIES
    found = verify_directory(GOLDEN)
    assert (found.journal_id, found.segments, found.entries, found.torn_bytes) == ("golden", 1, 3, 0)
    assert found.positions == {
        0: Position(2, "00000000000000a2", 3, 1700000000002),
        7: Position(1, "00000000000000b1", 1, 1700000000001),
    }
    assert found.fences == {0: 3, 7: 2}


def test_golden_segment_is_written_again_byte_for_byte(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "golden", segment_bytes_max=1)
    for partition, text in ENTRIES:
        payload = text.encode()
        writer.append(partition, payload, parse_header(payload))
    writer.fence(7, 2)
    writer.sync()
    writer.close()
    assert (tmp_path / SEGMENT.name).read_bytes() == SEGMENT.read_bytes()


def test_golden_journal_is_continued(tmp_path: Path) -> None:
    shutil.copy(SEGMENT, tmp_path)
    writer = JournalWriter(tmp_path, "golden")
    payload = b"2 00000000000000b1 00000000000000b2 2 1700000000003 1 +\ns 1 - - 0 -\n"
    writer.append(7, payload, parse_header(payload))
    writer.sync()
    writer.close()
    assert verify_directory(tmp_path).positions[7].seq == 2
    assert [r.segment for r in read(tmp_path)] == [1, 1, 1, 2]


def test_specification_shows_the_golden_bytes() -> None:
    text = format_module.__doc__ or ""
    example = text.partition("Worked example")[2].partition("Rotation")[0]
    data = SEGMENT.read_bytes()
    rows = [line for line in example.splitlines() if line.startswith("    0")]
    assert len(rows) >= 12
    for row in rows:
        offset, shown = int(row[4:8], 16), bytes.fromhex(row[10:57])
        assert shown == data[offset : offset + len(shown)], f"offset {offset:#x}"


@pytest.mark.parametrize("offset", [0, 7, 8, 12, 31, 32, 95, 100, 127])
def test_segment_header_flip_is_damage(tmp_path: Path, offset: int) -> None:
    data = bytearray(SEGMENT.read_bytes())
    data[offset] ^= 1
    (tmp_path / SEGMENT.name).write_bytes(data)
    with pytest.raises(Damaged) as caught:
        JournalWriter(tmp_path, "golden")
    assert caught.value.path == tmp_path / SEGMENT.name
    assert caught.value.offset == 0
