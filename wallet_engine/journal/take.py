"""Take the frames of one segment into the chains, and check each partition's chain."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from wallet_engine.domain.entry import parse_header
from wallet_engine.domain.errors import Corruption
from wallet_engine.journal.chains import Chains
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.format import KIND_BASE, KIND_ENTRY, SEGMENT_HEADER_BYTES, parse_epoch
from wallet_engine.journal.index import MARK_BYTES, Mark, SegmentIndex
from wallet_engine.journal.scan import Scan


@dataclass(slots=True)
class Taken:
    """What an index needs of a segment besides its chains."""

    marks: list[Mark] = field(default_factory=list)
    fences: dict[int, int] = field(default_factory=dict)
    bases: dict[int, int] = field(default_factory=dict)
    entries: int = 0


def take_frames(scan: Scan, chains: Chains, segment: int, *, marks_at: Iterable[int] | None = None) -> Taken:
    """Run the scan to its end. Raises `Damaged` when an entry does not continue its partition's chain.

    Marks are made every `MARK_BYTES`, or at the frame ends `marks_at` (ascending).
    """
    taken = Taken()
    places = _places() if marks_at is None else iter(marks_at)
    place = next(places, None)
    for offset, partition, kind, payload in scan:
        try:
            if kind == KIND_ENTRY:
                header = parse_header(payload)
                chains[partition].follow(header, segment, offset, bound=False)
                taken.entries += 1
            else:
                _take_epoch(chains, taken, partition, kind, payload)
        except Corruption as error:
            raise Damaged(scan.path, offset, str(error)) from error
        if place is not None and scan.offset >= place:
            taken.marks.append(Mark(scan.offset, scan.running_hash.hex(), chains.last_seqs(segment)))
            while place is not None and place <= scan.offset:
                place = next(places, None)
    return taken


def _places() -> Iterator[int]:
    place = SEGMENT_HEADER_BYTES
    while True:
        place += MARK_BYTES
        yield place


def _take_epoch(chains: Chains, taken: Taken, partition: int, kind: int, payload: bytes) -> None:
    epoch = parse_epoch(payload)
    if epoch is None:
        raise Corruption(f"partition {partition}: not a fence or base: {payload[:40]!r}")
    if kind == KIND_BASE:
        chains.mark_base(partition, epoch)
        taken.bases[partition] = max(epoch, taken.bases.get(partition, 0))
    else:
        chains.fence(partition, epoch)
        taken.fences[partition] = max(epoch, taken.fences.get(partition, 0))


def index_of(
    taken: Taken, chains: Chains, journal_id: str, segment: int, seal: tuple[int, bytes]
) -> SegmentIndex:
    """The index of a segment just taken completely. `seal`: (its offset, the running hash behind it)."""
    seal_offset, end_hash = seal
    return SegmentIndex(
        journal_id,
        segment,
        seal_offset,
        end_hash.hex(),
        chains.spans(segment),
        taken.fences,
        taken.marks,
        taken.bases,
    )
