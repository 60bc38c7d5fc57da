"""Damaged journals are refused. Torn ones are healed, can be appended to, and are read again."""

import contextlib
import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.journal.samples import append, entry, seqs_read, write

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.journal import Damaged, JournalWriter, read, verify_directory
from wallet_engine.journal.format import (
    FRAME_HEADER_BYTES,
    KIND_ENTRY,
    SEGMENT_HEADER_BYTES,
    frame,
    hash_after,
    hash_at_start,
)
from wallet_engine.journal.scan import Scan


def segment(directory: Path, number: int = 1) -> Path:
    return directory / f"{number:08d}.wal"


def frame_offsets(path: Path) -> list[int]:
    """The offset of each frame of a first segment, and the end of the last frame."""
    scan = Scan(path, SEGMENT_HEADER_BYTES, hash_at_start("sample"))
    return [offset for offset, *_ in scan] + [scan.offset]


def assert_damaged(directory: Path, path: Path, offset: int) -> None:
    """Writer, reader and verify all refuse the journal, name the place, and change nothing."""
    before = {p.name: p.read_bytes() for p in directory.iterdir()}
    for attempt in (
        lambda: JournalWriter(directory, "sample"),
        lambda: list(read(directory)),
        lambda: verify_directory(directory),
    ):
        with pytest.raises(Damaged) as caught:
            attempt()
        assert (caught.value.path, caught.value.offset) == (path, offset)
        assert str(path) in str(caught.value)
        assert str(offset) in str(caught.value)
    after = {p.name: p.read_bytes() for p in directory.iterdir()}
    assert {**before, "head": b""} == {**after, "head": b""}


def test_torn_at_every_byte_of_the_last_frame_is_healed(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    write(whole, {1: 3, 2: 2})
    data = segment(whole).read_bytes()
    last = frame_offsets(segment(whole))[-2]
    for size in range(last, len(data)):
        directory = tmp_path / f"cut-{size}"
        shutil.copytree(whole, directory)
        segment(directory).write_bytes(data[:size])
        assert seqs_read(directory) == {1: [1, 2], 2: [1, 2]}
        assert verify_directory(directory).torn_bytes == size - last

        writer = JournalWriter(directory, "sample")
        copies = list(directory.glob("*.torn-*"))
        if size == last:
            assert writer.torn_copy is None
            assert copies == []
        else:
            assert copies == [writer.torn_copy]
            assert copies[0].name == f"00000001.wal.torn-{last}"
            assert copies[0].read_bytes() == data[last:size]
        append(writer, 1, 2)
        writer.sync()
        writer.close()
        assert seqs_read(directory) == {1: [1, 2, 3, 4], 2: [1, 2]}
        assert verify_directory(directory).torn_bytes == 0
        shutil.rmtree(directory)


def test_flipped_byte_anywhere_in_the_last_segment_is_damage(tmp_path: Path) -> None:
    write(tmp_path, {1: 3, 2: 2})
    path = segment(tmp_path)
    data = path.read_bytes()
    offsets = frame_offsets(path)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        with pytest.raises(Damaged) as caught:
            JournalWriter(tmp_path, "sample")
        at = max((o for o in offsets if o <= position), default=0)
        assert caught.value.path == path
        assert caught.value.offset == at, f"flip at {position}"
    path.write_bytes(data)
    assert verify_directory(tmp_path).entries == 5


@pytest.mark.parametrize("bit", range(32))
def test_flipped_bit_of_any_length_is_damage_not_a_torn_tail(tmp_path: Path, bit: int) -> None:
    write(tmp_path, {1: 3}, filling=5000)
    path = segment(tmp_path)
    data = path.read_bytes()
    for start in frame_offsets(path)[:-1]:
        length = int.from_bytes(data[start : start + 4], "little") ^ (1 << bit)
        path.write_bytes(data[:start] + length.to_bytes(4, "little") + data[start + 4 :])
        assert_damaged(tmp_path, path, start)


def test_flipped_byte_in_a_sealed_segment_is_found_by_verify_and_reader(tmp_path: Path) -> None:
    write(tmp_path, {1: 30}, segment_bytes_max=1000)
    path = segment(tmp_path, 2)
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[position] ^= 0x40
        path.write_bytes(damaged)
        for attempt in (lambda: list(read(tmp_path)), lambda: verify_directory(tmp_path)):
            with pytest.raises(Damaged) as caught:
                attempt()
            assert caught.value.path == path
            assert caught.value.offset <= max(position, 16)


def remove(directory: Path, number: int) -> tuple[Path, int]:
    segment(directory, number).unlink()
    return segment(directory, number), 0


def swap(directory: Path, number: int) -> tuple[Path, int]:
    a, b = segment(directory, number), segment(directory, number + 1)
    a.rename(directory / "aside")
    b.rename(a)
    (directory / "aside").rename(b)
    return a, 12


def truncate(directory: Path, number: int) -> tuple[Path, int]:
    path = segment(directory, number)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 10])
    return path, len(data) - 10 - 44


def extend(directory: Path, number: int) -> tuple[Path, int]:
    path = segment(directory, number)
    data = path.read_bytes()
    path.write_bytes(data + bytes(28))
    return path, len(data) - 44 + 28


@pytest.mark.parametrize(
    ("damage", "number"),
    [(remove, 1), (remove, 2), (remove, 4), (swap, 1), (swap, 2), (truncate, 1), (truncate, 3), (extend, 2)],
)
def test_segments_missing_swapped_cut_or_extended(
    tmp_path: Path, damage: Callable[[Path, int], tuple[Path, int]], number: int
) -> None:
    write(tmp_path, {1: 20}, segment_bytes_max=800)
    assert len(list(tmp_path.glob("*.wal"))) == 4
    path, offset = damage(tmp_path, number)
    for attempt in (
        lambda: JournalWriter(tmp_path, "sample"),
        lambda: list(read(tmp_path)),
        lambda: verify_directory(tmp_path),
    ):
        with pytest.raises(Damaged) as caught:
            attempt()
        assert caught.value.path == path
        if damage in (remove, swap):
            assert caught.value.offset == offset
        else:  # the seal is missing at its place; reading from the start finds the first bad frame
            assert 0 < caught.value.offset <= path.stat().st_size


def test_segment_of_another_journal(tmp_path: Path) -> None:
    write(tmp_path / "a", {1: 16}, segment_bytes_max=800)
    write(tmp_path / "b", {1: 9, 2: 7}, segment_bytes_max=800)
    shutil.copy(segment(tmp_path / "b", 3), segment(tmp_path / "a", 3))
    assert_damaged(tmp_path / "a", segment(tmp_path / "a", 3), 16)
    with pytest.raises(ConfigError, match="belongs to journal 'sample', not to 'other'"):
        JournalWriter(tmp_path / "b", "other")


def test_frame_removed_from_the_middle(tmp_path: Path) -> None:
    write(tmp_path, {1: 4, 2: 4})
    path = segment(tmp_path)
    data = path.read_bytes()
    offsets = frame_offsets(path)
    path.write_bytes(data[: offsets[2]] + data[offsets[3] :])
    assert_damaged(tmp_path, path, offsets[2])


def test_two_frames_exchanged(tmp_path: Path) -> None:
    write(tmp_path, {1: 4, 2: 4})
    path = segment(tmp_path)
    data = path.read_bytes()
    a, b, c = frame_offsets(path)[3:6]
    path.write_bytes(data[:a] + data[b:c] + data[a:b] + data[c:])
    assert_damaged(tmp_path, path, a)


def test_payload_edited_with_a_new_checksum(tmp_path: Path) -> None:
    """The checksum is right, but the running hash of the next frame is not."""
    write(tmp_path, {1: 4})
    path = segment(tmp_path)
    data = path.read_bytes()
    offsets = frame_offsets(path)
    body = data[offsets[1] + 8 : offsets[2]]
    edited = body[FRAME_HEADER_BYTES - 8 :].replace(b"bob", b"eve")
    start, whole = frame(1, KIND_ENTRY, body[4:20], edited)
    path.write_bytes(data[: offsets[1]] + start + whole + data[offsets[2] :])
    assert_damaged(tmp_path, path, offsets[2])


def test_g7_a_fork_in_the_file_is_damage(tmp_path: Path) -> None:
    """G7: valid frames that are no chain are refused."""
    write(tmp_path, {1: 2})
    path = segment(tmp_path)
    data = path.read_bytes()
    running_hash = hash_after(data[frame_offsets(path)[-2] + 8 :])
    fork = entry(1, 3, prev=ZERO_NONCE)[0]
    path.write_bytes(data + b"".join(frame(1, KIND_ENTRY, running_hash, fork)))
    for attempt in (lambda: JournalWriter(tmp_path, "sample"), lambda: verify_directory(tmp_path)):
        with pytest.raises(Damaged, match="partition 1 forks: expected seq 3") as caught:
            attempt()
        assert caught.value.offset == len(data)


def zero(data: bytes, start: int, stop: int) -> bytes:
    return data[:start] + bytes(stop - start) + data[stop:]


@pytest.mark.parametrize(
    ("case", "healed"),
    [
        ("a whole sector of the last frame", True),
        ("from the middle of the last frame to the end", True),
        ("the last two frames", True),
        ("the header of the last frame only", False),
        ("a sector of a frame that is not the last", False),
        ("fifteen zeros in the last frame", False),
        ("zeros behind the last frame", True),
        ("garbage behind the last frame", False),
    ],
)
def test_lost_sectors(tmp_path: Path, case: str, healed: bool) -> None:
    write(tmp_path, {1: 3}, filling=2000)
    path = segment(tmp_path)
    data = path.read_bytes()
    first, second, third, end = frame_offsets(path)
    sector = (third // 512 + 2) * 512
    changed, at = {
        "a whole sector of the last frame": (zero(data, sector, sector + 512), third),
        "from the middle of the last frame to the end": (zero(data, third + 700, end), third),
        "the last two frames": (zero(data, second + 700, end), second),
        "the header of the last frame only": (zero(data, third, third + 28), third),
        "a sector of a frame that is not the last": (zero(data, first + 512, first + 1536), first),
        "fifteen zeros in the last frame": (zero(data, sector, sector + 15), third),
        "zeros behind the last frame": (data + bytes(100), end),
        "garbage behind the last frame": (data + b"\xa5" * 100, end),
    }[case]
    path.write_bytes(changed)
    if not healed:
        assert_damaged(tmp_path, path, at)
        return
    seqs = {first: [], second: [1], third: [1, 2], end: [1, 2, 3]}[at]
    assert seqs_read(tmp_path) == {1: seqs}
    writer = JournalWriter(tmp_path, "sample")
    assert writer.torn_copy is not None
    assert writer.torn_copy.read_bytes() == changed[at:]
    append(writer, 1, 2)
    writer.sync()
    writer.close()
    assert verify_directory(tmp_path).positions[1].seq == len(seqs) + 2


def test_torn_twice_at_the_same_offset_keeps_both_copies(tmp_path: Path) -> None:
    write(tmp_path, {1: 2})
    path = segment(tmp_path)
    whole = path.read_bytes()
    for cut in (5, 9):
        path.write_bytes(whole[:-cut])
        JournalWriter(tmp_path, "sample").close()
    copies = sorted(tmp_path.glob("*.torn-*"))
    assert [len(copy.read_bytes()) for copy in copies] == [
        len(whole) - frame_offsets(path)[-1] - cut for cut in (5, 9)
    ]


def test_a_torn_tail_that_cannot_be_copied_leaves_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor starts a journal on a full disk again and again: each start left an empty copy."""
    write(tmp_path, {1: 2})
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    torn, sync = path.read_bytes(), os.fsync

    def full(descriptor: int) -> None:
        if ".torn-" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    for _ in range(2):
        with pytest.raises(ConfigError, match="No space left on device"):
            JournalWriter(tmp_path, "sample")
    assert not list(tmp_path.glob("*.torn-*"))
    assert path.read_bytes() == torn
    monkeypatch.undo()
    JournalWriter(tmp_path, "sample").close()
    (copy,) = tmp_path.glob("*.torn-*")
    assert copy.name == f"00000001.wal.torn-{frame_offsets(path)[-1]}"


def test_damaged_head_and_head_of_a_lost_journal(tmp_path: Path) -> None:
    write(tmp_path, {1: 2})
    (tmp_path / "head").write_bytes(b"0000000x\n")
    with pytest.raises(Corruption, match="not a segment number"):
        JournalWriter(tmp_path, "sample")
    (tmp_path / "head").write_bytes(b"00000001\n")
    segment(tmp_path).unlink()
    with pytest.raises(Damaged, match="segment is missing"):
        JournalWriter(tmp_path, "sample")


def test_random_damage_is_never_read_as_something_else(tmp_path: Path) -> None:
    """With any change of the bytes, reading gives a prefix of the written entries, or reports damage."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    write(tmp_path, {1: 12, 2: 5}, filling=300)
    written = [(r.partition, r.payload) for r in read(tmp_path)]
    path = segment(tmp_path)
    data = path.read_bytes()
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            start = rng.randrange(len(changed))
            size = rng.choice((1, 8, 512, 1024))
            if rng.random() < 0.3:
                changed[start : start + size] = bytes(len(changed[start : start + size]))
            elif rng.random() < 0.5:
                changed[start : start + size] = rng.randbytes(len(changed[start : start + size]))
            elif rng.random() < 0.5:
                del changed[start : start + size]
            else:
                del changed[start:]
                break
        path.write_bytes(changed)
        found: list[tuple[int, bytes]] = []
        with contextlib.suppress(Damaged):
            found.extend((record.partition, record.payload) for record in read(tmp_path))
        assert found == written[: len(found)]
