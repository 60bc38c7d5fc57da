"""Open a journal for writing: prove that it is whole, heal a torn tail, and learn where every chain ends.

Of a sealed segment it checks header, seal and continuity, and trusts the index; of one that is only in the
archive, it needs only the index. It reads the last segment completely. `verify` reads everything.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.journal.chains import Chains
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.format import GROUP_BYTES_MAX, SEGMENT_HEADER_BYTES, hash_at_start
from wallet_engine.journal.index import read_index, write_index
from wallet_engine.journal.scan import Scan
from wallet_engine.journal.segments import (
    absent_index,
    read_seal,
    read_segment_header,
    segment_file,
    segment_numbers,
    segment_path,
)
from wallet_engine.journal.take import Taken, index_of, take_frames
from wallet_engine.journal.torn import cut_tail


@dataclass(slots=True)
class LastSegment:
    """Where writing continues. `taken` holds the marks and fences of the segment so far."""

    number: int
    offset: int
    running_hash: bytes
    frames: int
    sealed: bool
    taken: Taken
    torn_copy: Path | None


def open_segments(directory: Path, journal_id: str, head: int, chains: Chains) -> LastSegment | None:
    """Check and heal the segments, and fill `chains`. None for a journal without segments.

    `head` is the highest segment number ever created. Raises `Damaged`, `ConfigError` when the directory
    belongs to another journal, and `OSError`.
    """
    numbers = segment_numbers(directory)
    if head > len(numbers):
        raise Damaged(segment_path(directory, len(numbers) + 1), 0, "segment is missing")
    running_hash = hash_at_start(journal_id)
    for number in numbers:
        header = read_segment_header(directory, number)
        path = segment_path(directory, number)
        if header.journal_id != journal_id:
            raise ConfigError(f"{path} belongs to journal {header.journal_id!r}, not to {journal_id!r}")
        if header.start_hash != running_hash:
            raise Damaged(path, 16, "does not continue the segment before it")
        if number == len(numbers):
            return _take_last(path, number, running_hash, chains)
        running_hash = _take_sealed(path, number, running_hash, journal_id, chains)
    return None


def _take_sealed(path: Path, number: int, start_hash: bytes, journal_id: str, chains: Chains) -> bytes:
    """Trust the index, or read the segment and rebuild the index. Returns the running hash behind it."""
    if path.exists():
        source = path
        _, seal_offset, end_hash = read_seal(path)
        index = read_index(path, end_hash)
    elif (index := absent_index(path.parent, number)) is not None:
        end_hash = bytes.fromhex(index.end_hash)
    else:
        source = segment_file(path.parent, number)
        _, seal_offset, end_hash = read_seal(source)
    if index is not None:
        try:
            chains.adopt(index)
        except Corruption as error:
            raise Damaged(path, 0, str(error)) from error
        return end_hash
    scan = Scan(source, SEGMENT_HEADER_BYTES, start_hash)
    taken = take_frames(scan, chains, number)
    if not scan.sealed:
        raise scan.damaged()
    write_index(path, index_of(taken, chains, journal_id, number, (seal_offset, end_hash)))
    return scan.running_hash


def _take_last(path: Path, number: int, start_hash: bytes, chains: Chains) -> LastSegment:
    scan = Scan(path, SEGMENT_HEADER_BYTES, start_hash)
    taken = take_frames(scan, chains, number)
    torn_copy = None
    if scan.problem is not None:
        if not scan.tail_torn():
            raise scan.damaged()
        torn_copy = cut_tail(path, scan.offset)
    write_last_group_again(path)
    return LastSegment(
        number, scan.offset, scan.running_hash, scan.frames or 0, scan.sealed, taken, torn_copy
    )


def write_last_group_again(path: Path) -> None:
    """Make the last group durable without trusting the page cache.

    The previous writer may have died before its fsync, or because its fsync failed. After a failed fsync
    Linux keeps the pages but marks them clean, so another fsync alone would succeed and write nothing.
    """
    with open(path, "r+b", buffering=0) as file:
        start = max(0, file.seek(0, os.SEEK_END) - GROUP_BYTES_MAX)
        tail = os.pread(file.fileno(), GROUP_BYTES_MAX, start)
        while tail:
            written = os.pwrite(file.fileno(), tail, start)
            start += written
            tail = tail[written:]
        os.fsync(file.fileno())
