"""Reads the entries of a journal in order, from any process, whether or not it is being written.

A reader may see entries that are written but not yet fsynced: they are correct, but only a receipt says that
they are durable.
"""

from collections.abc import AsyncIterator, Container, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from wallet_engine.domain.entry import parse_header
from wallet_engine.journal.archive import archived_up_to
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.format import KIND_ENTRY, SEGMENT_HEADER_BYTES, hash_at_start
from wallet_engine.journal.head import read_head
from wallet_engine.journal.index import SegmentIndex, read_index, start_mark
from wallet_engine.journal.scan import Scan
from wallet_engine.journal.segments import (
    absent_index,
    read_seal,
    read_segment_header,
    segment_file,
    segment_numbers,
    segment_path,
)
from wallet_engine.journal.threads import in_thread

#: Maximum entries in one page, and bytes of their texts; the last entry may exceed the bytes.
PAGE_ENTRIES_MAX: Final = 2000
PAGE_BYTES_MAX: Final = 1024 * 1024


class Record(NamedTuple):
    """One entry: its text, and the segment number and offset of its frame."""

    partition: int
    payload: bytes
    segment: int
    offset: int


def read(
    directory: Path,
    *,
    partitions: Container[int] | None = None,
    after: Mapping[int, int] | None = None,
    end: Mapping[int, int] | None = None,
    last: SegmentIndex | None = None,
    verify: bool = True,
) -> Iterator[Record]:
    """The entries in journal order, up to the current end. Raises `Damaged`, `NotRestored`.

    partitions  only these (default: all)
    after       partition -> seq already known: starts behind it (default 0)
    end         partition -> last seq wanted: only the partitions named here, and no further
    last        with `end`: the index, as it would be now, of the segment being written
    verify      compute checksums and running hashes (False: trust them)

    Segments without wanted entries are skipped by their index. An incomplete frame at the very end, either a
    write in progress or a torn tail, ends the reading. A partition's chain (seq, previous nonce) is not
    checked here: consumers of the entries and `verify_directory` check it.
    """
    wanted = _Wanted(partitions, after or {}, end)
    number = 1
    running_hash: bytes | None = None
    while not wanted.done and _exists(directory, number):
        header = read_segment_header(directory, number)
        if running_hash is None:
            running_hash = hash_at_start(header.journal_id)
        if header.start_hash != running_hash:
            raise Damaged(segment_path(directory, number), 16, "does not continue the segment before it")
        index = index_of_segment(directory, number, last)
        if index is not None and not wanted.seqs_after(index):
            if index is last:
                return
            running_hash = bytes.fromhex(index.end_hash)
        else:
            scan = _start(segment_file(directory, number), running_hash, index, wanted, verify)
            yield from _records(directory, number, scan, wanted)
            if wanted.done or not scan.sealed:
                return
            running_hash = scan.running_hash
        number += 1


def take_page(records: Iterator[Record]) -> list[Record]:
    """The next page of the records; empty at the end."""
    page: list[Record] = []
    size = 0
    while len(page) < PAGE_ENTRIES_MAX and size < PAGE_BYTES_MAX:
        record = next(records, None)
        if record is None:
            break
        page.append(record)
        size += len(record.payload)
    return page


async def in_pages(records: Iterator[Record]) -> AsyncIterator[list[Record]]:
    """The records page by page, each read in a thread, because skipping unwanted entries takes time too."""
    while page := await in_thread(take_page, records):
        yield page


def ends_of(directory: Path) -> dict[int, int]:
    """partition -> seq of its last entry. Trusts the indexes of sealed segments. Raises `Damaged`."""
    ends: dict[int, int] = {}
    for number in segment_numbers(directory):
        index = index_of_segment(directory, number)
        if index is None:
            break
        ends |= {partition: span.last_seq for partition, span in index.partitions.items()}
    for record in read(directory, after=dict(ends), verify=False):
        ends[record.partition] = parse_header(record.payload).seq
    return ends


class _Wanted:
    """The entries that the caller wants, and how far it got."""

    def __init__(
        self, partitions: Container[int] | None, after: Mapping[int, int], end: Mapping[int, int] | None
    ) -> None:
        self._partitions = partitions
        self._after = after
        self._end = end
        self._unfinished = None
        if end is not None:
            known = (p for p in end if partitions is None or p in partitions)
            self._unfinished = {p for p in known if end[p] > after.get(p, 0)}
        self.everything = partitions is None and not after and end is None

    @property
    def done(self) -> bool:
        return self._unfinished is not None and not self._unfinished

    def has(self, partition: int, seq: int) -> bool:
        if self._partitions is not None and partition not in self._partitions:
            return False
        if self._end is not None and self._unfinished is not None:
            last = self._end.get(partition, 0)
            if seq >= last:
                self._unfinished.discard(partition)
                if seq > last:
                    return False
        return seq > self._after.get(partition, 0)

    def seqs_after(self, index: SegmentIndex) -> dict[int, int]:
        """partition -> seq already known, of the partitions with wanted entries in the segment."""
        return {
            partition: self._after.get(partition, 0)
            for partition, span in index.partitions.items()
            if (self._partitions is None or partition in self._partitions)
            and span.last_seq > self._after.get(partition, 0)
            and (self._end is None or span.first_seq <= self._end.get(partition, 0))
        }


def _exists(directory: Path, number: int) -> bool:
    """Whether the segment exists. Raises `Damaged` when it should and does not."""
    head = read_head(directory)  # first: what it counts exists already
    path = segment_path(directory, number)
    if path.exists() or number <= archived_up_to(directory):
        return True
    if head >= number:
        raise Damaged(path, 0, "segment is missing")
    return number <= len(segment_numbers(directory))


def index_of_segment(directory: Path, number: int, last: SegmentIndex | None = None) -> SegmentIndex | None:
    """The index of a segment, or None; `last` for the segment that is being written."""
    path = segment_path(directory, number)
    if not path.exists():
        return absent_index(directory, number)
    if not segment_path(directory, number + 1).exists() and number > archived_up_to(directory):
        return last if last is not None and last.segment == number else None
    try:
        _, _, end_hash = read_seal(path)
    except FileNotFoundError:  # it was pruned meanwhile
        return absent_index(directory, number)
    return read_index(path, end_hash)


def _start(
    path: Path, running_hash: bytes, index: SegmentIndex | None, wanted: _Wanted, verify: bool
) -> Scan:
    mark = None if index is None else start_mark(index, wanted.seqs_after(index))
    if mark is None:
        return Scan(path, SEGMENT_HEADER_BYTES, running_hash, verify=verify)
    return Scan(path, mark.offset, bytes.fromhex(mark.running_hash), frames=None, verify=verify)


def _records(directory: Path, number: int, scan: Scan, wanted: _Wanted) -> Iterator[Record]:
    """The wanted entries of one segment, up to its seal or to the end of the journal."""
    passes_in_vain = 0
    while passes_in_vain < 2:
        before = scan.offset
        for offset, partition, kind, payload in scan:
            if kind != KIND_ENTRY:
                continue
            if wanted.everything:
                yield Record(partition, payload, number, offset)
                continue
            try:
                seq = int(payload[: payload.find(b" ")])
            except ValueError:
                raise Damaged(scan.path, offset, f"not a journal entry: {payload[:120]!r}") from None
            if wanted.has(partition, seq):
                yield Record(partition, payload, number, offset)
            if wanted.done:
                return
        if scan.sealed:
            return
        at_the_end = scan.problem is None or scan.tail_torn() is not None
        if at_the_end and not _exists(directory, number + 1):
            return
        # Either the writer continued meanwhile, and another pass finds good frames or the seal; or it is
        # damage.
        passes_in_vain = passes_in_vain + 1 if scan.offset == before else 0
    raise scan.damaged()
