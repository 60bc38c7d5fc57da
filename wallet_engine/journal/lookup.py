"""Looks up entries that a copy no longer remembers in its segments. It blocks, so call it in a thread.

It reads only what it needs: for each entry, its segment from the mark before it (`index`); neighbours share
one read.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from wallet_engine.domain.entry import parse_header
from wallet_engine.journal.format import KIND_ENTRY, SEGMENT_HEADER_BYTES
from wallet_engine.journal.index import Mark, SegmentIndex, start_mark
from wallet_engine.journal.reader import index_of_segment
from wallet_engine.journal.scan import Scan
from wallet_engine.journal.segments import read_segment_header, segment_file, segment_numbers

#: (partition, seq)
Place = tuple[int, int]


def find_nonces(
    directory: Path, places: Iterable[Place], last: SegmentIndex | None = None
) -> dict[Place, str]:
    """The nonces of the entries at these places; otherwise like `find_entries`."""
    found = find_entries(directory, places, last)
    return {place: parse_header(payload).nonce for place, payload in found.items()}


def find_entries(
    directory: Path, places: Iterable[Place], last: SegmentIndex | None = None
) -> dict[Place, bytes]:
    """The texts of the entries at these places; absent entries are left out.

    `last`: the index, as it would be now, of the segment being written. Raises `Damaged`, `NotRestored`,
    `OSError`.
    """
    missing: defaultdict[int, set[int]] = defaultdict(set)
    for partition, seq in places:
        missing[partition].add(seq)
    found: dict[Place, bytes] = {}
    for number in reversed(segment_numbers(directory)):  # most wanted entries are young
        if not missing:
            break
        index = index_of_segment(directory, number, last)
        for mark, wanted in _pieces(index, missing):
            for place, payload in _read(directory, number, mark, wanted):
                found[place] = payload
                missing[place[0]].discard(place[1])
        missing = defaultdict(set, {partition: seqs for partition, seqs in missing.items() if seqs})
    return found


def _pieces(
    index: SegmentIndex | None, missing: Mapping[int, set[int]]
) -> Iterator[tuple[Mark | None, set[Place]]]:
    """Where to start reading in a segment, and the wanted entries from there on.

    Without an index: its start.
    """
    if index is None:
        yield None, {(partition, seq) for partition, seqs in missing.items() for seq in seqs}
        return
    pieces: dict[int, tuple[Mark | None, set[Place]]] = {}
    for partition, span in index.partitions.items():
        for seq in missing.get(partition, ()):
            if span.first_seq <= seq <= span.last_seq:
                mark = start_mark(index, {partition: seq - 1})
                pieces.setdefault(0 if mark is None else mark.offset, (mark, set()))[1].add((partition, seq))
    yield from pieces.values()


def _read(
    directory: Path, number: int, mark: Mark | None, wanted: set[Place]
) -> Iterator[tuple[Place, bytes]]:
    path = segment_file(directory, number)
    if mark is None:
        scan = Scan(path, SEGMENT_HEADER_BYTES, read_segment_header(directory, number).start_hash)
    else:
        scan = Scan(path, mark.offset, bytes.fromhex(mark.running_hash), frames=None)
    wanted = set(wanted)
    partitions = {partition for partition, _ in wanted}
    for _, partition, kind, payload in scan:
        if kind == KIND_ENTRY and partition in partitions:
            place = (partition, parse_header(payload).seq)
            if place in wanted:
                yield place, payload
                wanted.discard(place)
                if not wanted:
                    return
