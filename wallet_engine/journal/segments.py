"""The segments of a directory: which there are, and how one is created (whole or, after a crash, absent)."""

import os
import re
import zlib
from pathlib import Path
from typing import NamedTuple

from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.format import (
    FRAME_HEADER_BYTES,
    FRAME_START_BYTES,
    KIND_SEAL,
    SEAL_FRAME_BYTES,
    SEGMENT_HEADER_BYTES,
    frame_header_unpack,
    hash_after,
    parse_seal,
    parse_segment_header,
    segment_header,
)

_name_match = re.compile(r"([0-9]{8})\.wal\Z").match


class SegmentHeader(NamedTuple):
    """What the first bytes of a segment say."""

    number: int
    start_hash: bytes
    journal_id: str


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"{number:08d}.wal"


def segment_numbers(directory: Path) -> list[int]:
    """The numbers of the segments in ascending order. Raises `Damaged` when one is missing from 1, 2, 3 …"""
    matches = (_name_match(name) for name in os.listdir(directory))
    found = {int(match[1]) for match in matches if match}
    numbers = list(range(1, max(found, default=0) + 1))
    for number in numbers:
        path = segment_path(directory, number)
        if number not in found and not path.exists():  # it may have been created while we listed
            raise Damaged(path, 0, "segment is missing")
    return numbers


def read_segment_header(directory: Path, number: int) -> SegmentHeader:
    """The header of a segment. Raises `Damaged`."""
    path = segment_path(directory, number)
    with open(path, "rb") as file:
        start_hash, journal_id = parse_segment_header(path, file.read(SEGMENT_HEADER_BYTES), number)
    return SegmentHeader(number, start_hash, journal_id)


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
    """Create an empty segment, durably: it exists with a whole header, or not at all. Raises `OSError`."""
    path = segment_path(directory, number)
    unfinished = path.with_suffix(".wal.tmp")
    with open(unfinished, "wb") as file:
        file.write(segment_header(number, running_hash, journal_id))
        file.flush()
        os.fsync(file.fileno())
    os.rename(unfinished, path)
    fsync_directory(directory)


def fsync_directory(directory: Path) -> None:
    """Make creations, renames and removals in the directory durable."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
