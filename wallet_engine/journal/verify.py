"""Read a whole journal and check everything that its format and its chains promise."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wallet_engine.journal.chains import Chains, Position
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.format import (
    SEAL_FRAME_BYTES,
    SEGMENT_HEADER_BYTES,
    hash_at_start,
    parse_segment_header,
)
from wallet_engine.journal.head import read_head
from wallet_engine.journal.index import SegmentIndex, index_path, read_index
from wallet_engine.journal.scan import Scan
from wallet_engine.journal.segments import (
    read_seal,
    segment_bytes,
    segment_file,
    segment_numbers,
    segment_path,
)
from wallet_engine.journal.take import index_of, take_frames


@dataclass(frozen=True, slots=True)
class Verified:
    """The contents of a whole journal.

    `torn_bytes` follow the last good frame and are no damage (see `torn`).
    """

    journal_id: str
    segments: int
    entries: int
    bytes: int
    running_hash: str
    torn_bytes: int
    positions: dict[int, Position]
    fences: dict[int, int]
    indexes_missing: tuple[int, ...]


def verify_directory(
    directory: Path,
    progress: Callable[[Path, int, int], None] | None = None,
    source: Callable[[Path, int], Path] = segment_file,
) -> Verified:
    """Check every frame, chain, seal, index and name, of every segment. Raises `Damaged` with file and offset.

    `source(directory, number)` returns where to read a segment, like `segment_file`: in the directory, or, if
    it is absent, as restored from the archive. Raises `NotRestored`.

    `progress(segment, bytes_done, bytes_total)` is called after each segment. Other processes may be writing.
    """
    numbers = segment_numbers(directory)
    head = read_head(directory)
    if head > len(numbers) and not segment_path(directory, head).exists():
        raise Damaged(segment_path(directory, len(numbers) + 1), 0, "segment is missing")
    sizes = {number: segment_bytes(directory, number) for number in numbers}
    chains = Chains()
    journal_id, running_hash = "", b""
    entries = bytes_done = torn_bytes = 0
    indexes_missing = []
    for number in numbers:
        path = source(directory, number)
        with open(path, "rb") as file:
            start_hash, found_id = parse_segment_header(path, file.read(SEGMENT_HEADER_BYTES), number)
        if number == 1:
            journal_id, running_hash = found_id, hash_at_start(found_id)
        if found_id != journal_id or start_hash != running_hash:
            raise Damaged(path, 16, "does not continue the segment before it")
        scan = Scan(path, SEGMENT_HEADER_BYTES, running_hash)
        if number < len(numbers):
            taken, indexed = _verify_sealed(scan, chains, journal_id, number, segment_path(directory, number))
            entries += taken
            if not indexed:
                indexes_missing.append(number)
        else:
            entries += _verify_last(scan, chains, number)
            torn_bytes = 0 if scan.problem is None else len(scan.tail())
        running_hash = scan.running_hash
        bytes_done += sizes[number]
        if progress is not None:
            progress(path, bytes_done, sum(sizes.values()))
    for chain in chains.values():
        chain.durable = chain.last
    return Verified(
        journal_id,
        len(numbers),
        entries,
        bytes_done - torn_bytes,
        running_hash.hex(),
        torn_bytes,
        {partition: chain.position() for partition, chain in sorted(chains.items()) if chain.last.seq},
        {partition: chain.epoch_min for partition, chain in sorted(chains.items())},
        tuple(indexes_missing),
    )


def _verify_sealed(
    scan: Scan, chains: Chains, journal_id: str, number: int, segment: Path
) -> tuple[int, bool]:
    """(entries, whether `segment` has an index). An existing index must match the segment."""
    index = _index(scan.path, segment)
    marks_at = None if index is None else [mark.offset for mark in index.marks]
    taken = take_frames(scan, chains, number, marks_at=marks_at)
    if not scan.sealed:
        raise scan.damaged()
    seal = (scan.offset - SEAL_FRAME_BYTES, scan.running_hash)
    if index is not None and index != index_of(taken, chains, journal_id, number, seal):
        raise Damaged(index_path(segment), 0, "index does not say what its segment says")
    return taken.entries, index is not None


def _index(source: Path, segment: Path) -> SegmentIndex | None:
    try:
        return read_index(segment, read_seal(source)[2])
    except Damaged:  # the scan reports it, with the first offset
        return None


def _verify_last(scan: Scan, chains: Chains, number: int) -> int:
    entries = take_frames(scan, chains, number).entries
    while scan.problem is not None and scan.tail_torn() is None:
        before = scan.offset
        entries += take_frames(scan, chains, number).entries  # its writer may have continued meanwhile
        if scan.offset == before:
            raise scan.damaged()
    return entries
