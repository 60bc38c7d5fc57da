"""The journal's state of each partition: where its chain ends, and its recent nonces."""

from array import array
from collections.abc import Iterable
from typing import Final, NamedTuple

from wallet_engine.domain.entry import ZERO_NONCE, EntryHeader
from wallet_engine.domain.errors import Corruption
from wallet_engine.journal.errors import Fenced, Fork, Link
from wallet_engine.journal.index import PartitionSpan, SegmentIndex

#: Nonces kept in memory per partition: 32 KiB each, so 2 MiB for 64 partitions and 128 MiB for 4096.
RECENT_ENTRIES_PER_PARTITION: Final = 4096
_RING_MASK: Final = RECENT_ENTRIES_PER_PARTITION - 1

_NOTHING: Final = EntryHeader(0, "", ZERO_NONCE, 0, 0, 0, "")


class Position(NamedTuple):
    """The last durable entry of a partition; seq 0 with `ZERO_NONCE` before the first."""

    seq: int
    nonce: str
    epoch: int
    time_ms: int


class Chain:
    """One partition. `last` is the last entry appended, `durable` the last one fsynced."""

    __slots__ = (
        "_recent",
        "_recent_from",
        "base",
        "durable",
        "epoch_min",
        "first_offset",
        "first_seq",
        "last",
        "partition",
        "segment",
    )

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.last = _NOTHING
        self.durable = _NOTHING
        #: Epochs below it are refused. It is the epoch of the last entry, or of a fence.
        self.epoch_min = 0
        #: The newest epoch for which a base mark says that the chain holds what the epoch began with.
        self.base = 0
        #: The segment with `last`, and seq and offset of the partition's first entry there.
        self.segment = 0
        self.first_seq = 0
        self.first_offset = 0
        #: Ring of nonces as integers, by seq; it has none of seq < `_recent_from`.
        self._recent = array("Q", bytes(8 * RECENT_ENTRIES_PER_PARTITION))
        self._recent_from = 1

    def __repr__(self) -> str:
        seqs = f"seq={self.last.seq} durable={self.durable.seq}"
        return f"<Chain p={self.partition} {seqs} epoch_min={self.epoch_min}>"

    @property
    def view(self) -> int:
        """The newest epoch for which the chain holds at least what the epoch began with."""
        return max(self.last.epoch, self.base)

    def follow(self, header: EntryHeader, segment: int, offset: int, *, bound: bool = True) -> None:
        """Take the next entry, which will be at `offset` of `segment`.

        `bound`: keep the promise to refuse older epochs; False for entries taken over from another copy.
        Raises `Fork`; `Fenced` when only the promise forbids the entry; `Corruption` for a bad nonce.
        """
        last = self.last
        epoch_min = self.epoch_min if bound else last.epoch
        if header.seq != last.seq + 1 or header.prev_nonce != last.nonce or header.epoch < epoch_min:
            continues = header.seq == last.seq + 1 and header.prev_nonce == last.nonce
            raise (Fenced if continues and bound else Fork)(
                self.partition,
                Link(last.seq + 1, last.nonce, epoch_min),
                Link(header.seq, header.prev_nonce, header.epoch),
            )
        try:
            self._recent[header.seq & _RING_MASK] = int(header.nonce, 16)
        except (ValueError, OverflowError):
            raise Corruption(
                f"partition {self.partition}: nonce {header.nonce[:40]!r} is not 16 hex digits"
            ) from None
        if self.segment != segment:
            self.segment = segment
            self.first_seq = header.seq
            self.first_offset = offset
        self.last = header
        if header.epoch > self.epoch_min:
            self.epoch_min = header.epoch

    def adopt(self, span: PartitionSpan, segment: int) -> None:
        """Take a whole sealed segment from its index. Raises `Corruption` when it does not continue."""
        if span.first_seq != self.last.seq + 1:
            raise Corruption(
                f"partition {self.partition}: segment {segment} goes on with seq {span.first_seq} "
                f"after seq {self.last.seq}"
            )
        self.last = EntryHeader(span.last_seq, "", span.last_nonce, span.last_epoch, span.last_time_ms, 0, "")
        self.epoch_min = max(self.epoch_min, span.last_epoch)
        self.segment = segment
        self.first_seq = span.first_seq
        self.first_offset = span.first_offset
        self._recent_from = span.last_seq + 1

    def recent_nonce(self, seq: int) -> str | None:
        """The nonce appended at this seq, durable or not; None if there is none, or only a segment has it."""
        last = self.last
        if seq == last.seq:
            return last.nonce
        if not self._recent_from <= seq < last.seq or seq <= last.seq - RECENT_ENTRIES_PER_PARTITION:
            return None
        return f"{self._recent[seq & _RING_MASK]:016x}"

    def position(self) -> Position:
        durable = self.durable
        return Position(durable.seq, durable.nonce, durable.epoch, durable.time_ms)

    def span(self) -> PartitionSpan:
        """The partition's entry for the index of segment `self.segment`."""
        last = self.last
        return PartitionSpan(
            self.first_seq, last.seq, self.first_offset, last.nonce, last.epoch, last.time_ms
        )


class Chains(dict[int, Chain]):
    """The chains by partition; a partition's first use creates an empty one."""

    def __missing__(self, partition: int) -> Chain:
        chain = self[partition] = Chain(partition)
        return chain

    def fence(self, partition: int, epoch: int) -> None:
        chain = self[partition]
        chain.epoch_min = max(chain.epoch_min, epoch)

    def mark_base(self, partition: int, epoch: int) -> None:
        chain = self[partition]
        chain.base = max(chain.base, epoch)

    def adopt(self, index: SegmentIndex) -> None:
        """Take a whole sealed segment from its index. Raises `Corruption`."""
        for partition, span in index.partitions.items():
            self[partition].adopt(span, index.segment)
        for partition, epoch in index.fences.items():
            self.fence(partition, epoch)
        for partition, epoch in index.bases.items():
            self.mark_base(partition, epoch)

    def in_segment(self, segment: int) -> Iterable[Chain]:
        return (chain for chain in self.values() if chain.segment == segment)

    def last_seqs(self, segment: int) -> dict[int, int]:
        """partition -> last seq so far, of the partitions with entries in this segment."""
        return {chain.partition: chain.last.seq for chain in self.in_segment(segment)}

    def spans(self, segment: int) -> dict[int, PartitionSpan]:
        return {chain.partition: chain.span() for chain in self.in_segment(segment)}
