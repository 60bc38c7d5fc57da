"""The segments of a directory: listing, reading and creating them (whole or, after a crash, absent).

A segment in the archive may be absent here, except for its index; reading it restores it (`restore`).
"""

import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from wallet_engine.journal.archive import archived_up_to
from wallet_engine.journal.errors import Damaged, NotRestored
from wallet_engine.journal.format import (
    FRAME_HEADER_BYTES,
    FRAME_START_BYTES,
    KIND_SEAL,
    SEAL_FRAME_BYTES,
    SEGMENT_HEADER_BYTES,
    frame_header_unpack,
    hash_after,
    hash_at_start,
    parse_seal,
    parse_segment_header,
    segment_header,
)
from wallet_engine.journal.index import SegmentIndex, stored_index

#: Brings a segment from the archive and returns its path; see `restore_by`.
Restore = Callable[[Path, int], Path]

_restore: Restore | None = None
_name_match = re.compile(r"([0-9]{8})\.wal\Z").match


class SegmentHeader(NamedTuple):
    """The header at the start of a segment."""

    number: int
    start_hash: bytes
    journal_id: str


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"{number:08d}.wal"


def segment_numbers(directory: Path) -> list[int]:
    """The numbers of the segments in ascending order: 1, 2, 3 …

    Raises `Damaged` when one is missing that is not in the archive.
    """
    found = set(numbers_on_disk(directory))
    numbers = list(range(1, max(found, default=0) + 1))
    absent = [number for number in numbers if number not in found]
    if absent:
        archived = archived_up_to(directory)
        for number in absent:
            path = segment_path(directory, number)
            if number > archived and not path.exists():  # it may have been created after the listing
                raise Damaged(path, 0, "segment is missing")
    return numbers


def numbers_on_disk(directory: Path) -> list[int]:
    """The numbers of the segments that are here, in ascending order."""
    matches = (_name_match(name) for name in os.listdir(directory))
    return sorted(int(match[1]) for match in matches if match)


def restore_by(restore: Restore | None) -> None:
    """Set how this process reads segments that are only in the archive, from now on."""
    global _restore  # any reader of a directory may need it
    _restore = restore


def segment_file(directory: Path, number: int) -> Path:
    """A path where the segment can be read: in the directory, or brought from the archive (blocks meanwhile).

    Raises `Damaged` when the segment is missing, and `NotRestored` when it cannot be brought.
    """
    path = segment_path(directory, number)
    if path.exists():
        return path
    if number > archived_up_to(directory):
        raise Damaged(path, 0, "segment is missing")
    if _restore is None:
        raise NotRestored(f"{path.name} of {directory} is only in the archive: give --restore-command")
    return _restore(directory, number)


def read_segment_header(directory: Path, number: int) -> SegmentHeader:
    """The header of a segment; for an absent one, from the indexes. Raises `Damaged`, `NotRestored`."""
    path = segment_path(directory, number)
    try:
        with open(path, "rb") as file:
            head = file.read(SEGMENT_HEADER_BYTES)
    except FileNotFoundError:
        known = _known_header(directory, number)
        if known is not None:
            return known
        path = segment_file(directory, number)
        head = path.read_bytes()[:SEGMENT_HEADER_BYTES]
    return SegmentHeader(number, *parse_segment_header(path, head, number))


def _known_header(directory: Path, number: int) -> SegmentHeader | None:
    index = absent_index(directory, number)
    if index is None:
        return None
    if number == 1:
        return SegmentHeader(number, hash_at_start(index.journal_id), index.journal_id)
    before = segment_path(directory, number - 1)
    if before.exists():
        return SegmentHeader(number, read_seal(before)[2], index.journal_id)
    previous = absent_index(directory, number - 1)
    return (
        None
        if previous is None
        else SegmentHeader(number, bytes.fromhex(previous.end_hash), index.journal_id)
    )


def absent_index(directory: Path, number: int) -> SegmentIndex | None:
    """The index of an absent segment that is in the archive. Restoring the segment proves it."""
    return stored_index(segment_path(directory, number)) if number <= archived_up_to(directory) else None


def read_seal(path: Path) -> tuple[int, int, bytes]:
    """(frames before the seal, its offset, running hash behind it). Raises `Damaged` when there is none."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        offset = max(SEGMENT_HEADER_BYTES, size - SEAL_FRAME_BYTES)
        file.seek(offset)
        found = file.read(SEAL_FRAME_BYTES)
    if len(found) == SEAL_FRAME_BYTES:
        length, checksum, _, kind, _ = frame_header_unpack(found)
        seal = parse_seal(found[FRAME_HEADER_BYTES:])
        body = found[FRAME_START_BYTES:]
        if kind == KIND_SEAL and len(found) == FRAME_HEADER_BYTES + length and seal and seal[1] == offset:
            if zlib.crc32(body) != checksum:
                raise Damaged(path, offset, "seal does not match its checksum")
            return *seal, hash_after(body)
    raise Damaged(path, offset, "segment does not end with a seal but is not the last")


def create_segment(directory: Path, number: int, running_hash: bytes, journal_id: str) -> None:
    """Create an empty segment durably: with a whole header, or not at all. Raises `OSError`."""
    path = segment_path(directory, number)
    unfinished = path.with_suffix(".wal.tmp")
    with open(unfinished, "wb") as file:
        file.write(segment_header(number, running_hash, journal_id))
        file.flush()
        os.fsync(file.fileno())
    os.rename(unfinished, path)
    fsync_directory(directory)


def segment_bytes(directory: Path, number: int) -> int:
    """The size of the segment in bytes, also if it is only in the archive; 0 when unknown."""
    path = segment_path(directory, number)
    try:
        return path.stat().st_size
    except FileNotFoundError:
        index = stored_index(path)
        return 0 if index is None else index.seal_offset + SEAL_FRAME_BYTES


def fsync_directory(directory: Path) -> None:
    """Make creations, renames and removals in the directory durable."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
