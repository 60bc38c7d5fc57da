"""The index of a sealed segment, `00000001.idx`: which partitions are in it, and where reading can start.

The file is the CRC-32 of the rest as 8 hex digits, a newline, and one JSON document (`SegmentIndex`). It
holds nothing that the segment does not hold: an index that is absent, broken or of another segment is
rebuilt. The running hash behind the seal binds it to its segment.
"""

import os
import zlib
from pathlib import Path
from typing import Final

import msgspec

#: Distance between marks: the bytes to read, at most, before a wanted seq (besides the rest of a group).
MARK_BYTES: Final = 4 * 1024 * 1024


class PartitionSpan(msgspec.Struct, frozen=True):
    """The entries of one partition in one segment; the frame of `first_seq` starts at `first_offset`."""

    first_seq: int
    last_seq: int
    first_offset: int
    last_nonce: str
    last_epoch: int
    last_time_ms: int

    @property
    def count(self) -> int:
        return self.last_seq - self.first_seq + 1


class Mark(msgspec.Struct, frozen=True):
    """A place where reading can start: the running hash there, and the last seq of each partition before it.

    `last_seqs` names only partitions with entries in this segment before the mark.
    """

    offset: int
    running_hash: str
    last_seqs: dict[int, int]


class SegmentIndex(msgspec.Struct, frozen=True):
    """`end_hash` is the running hash behind the seal, in hex; `seal_offset` where the seal's frame starts."""

    journal_id: str
    segment: int
    seal_offset: int
    end_hash: str
    partitions: dict[int, PartitionSpan]
    fences: dict[int, int]
    marks: list[Mark]
    bases: dict[int, int] = {}


_decode = msgspec.json.Decoder(SegmentIndex).decode


def index_path(segment: Path) -> Path:
    return segment.with_suffix(".idx")


def write_index(segment: Path, index: SegmentIndex) -> None:
    """Write it whole or not at all. Not fsynced: it can be rebuilt. Raises `OSError`."""
    text = msgspec.json.encode(index)
    path = index_path(segment)
    unfinished = path.with_suffix(".idx.tmp")
    unfinished.write_bytes(b"%08x\n" % zlib.crc32(text) + text)
    os.replace(unfinished, path)


def read_index(segment: Path, end_hash: bytes) -> SegmentIndex | None:
    """The index, bound to the running hash behind the seal; None when there is no good one."""
    index = stored_index(segment)
    return index if index is not None and index.end_hash == end_hash.hex() else None


def stored_index(segment: Path) -> SegmentIndex | None:
    """The index on disk, unchecked against its segment; None when there is no good one."""
    try:
        checksum, _, text = index_path(segment).read_bytes().partition(b"\n")
        if int(checksum, 16) != zlib.crc32(text):
            return None
        return _decode(text)
    except (FileNotFoundError, ValueError, msgspec.MsgspecError):
        return None


def start_mark(index: SegmentIndex, after: dict[int, int]) -> Mark | None:
    """The last mark with no wanted entry before it; None to start at the first frame.

    `after`: partition -> seq already known, for every partition of interest that is in the segment.
    """
    best = None
    for mark in index.marks:
        if any(mark.last_seqs.get(partition, 0) > seq for partition, seq in after.items()):
            break
        best = mark
    return best
