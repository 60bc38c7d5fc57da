"""Appends entries, makes them durable in groups, and reports which are durable.

    writer.append(partition, payload, header)   any number of times; checks the chain, touches no disk
    writer.sync()                               one write, one fdatasync: all of them are durable

`sync()` is `commit(cut())`. A process that wants to go on appending while the disk works calls `cut()`
itself and runs `commit(group)` in a thread: `append` and `cut` belong to one thread, one `commit` runs at a
time, in order.
"""

import hashlib
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wallet_engine.domain.entry import ZERO_NONCE, EntryHeader
from wallet_engine.domain.errors import ConfigError, Corruption, Outage
from wallet_engine.journal.chains import Chain, Chains, Position
from wallet_engine.journal.errors import disk_failure
from wallet_engine.journal.format import (
    FRAME_HEADER_BYTES,
    GROUP_BYTES_MAX,
    KIND_BASE,
    KIND_ENTRY,
    KIND_FENCE,
    KIND_SEAL,
    PAYLOAD_BYTES_MAX,
    SEAL_FRAME_BYTES,
    SEGMENT_BYTES_MAX,
    SEGMENT_HEADER_BYTES,
    body_start_pack,
    check_journal_id,
    epoch_payload,
    frame,
    frame_start_pack,
    hash_after,
    hash_at_start,
    seal_payload,
)
from wallet_engine.journal.head import Head, read_head
from wallet_engine.journal.index import MARK_BYTES, Mark, SegmentIndex, write_index
from wallet_engine.journal.opening import LastSegment, open_segments
from wallet_engine.journal.rewrite import finish_rewrite, set_aside
from wallet_engine.journal.segments import create_segment, fsync_directory, segment_path

_sha256 = hashlib.sha256
_crc32 = zlib.crc32

#: Maximum bytes of the frames of one group, so that a seal still fits.
_GROUP_FRAMES_BYTES_MAX = GROUP_BYTES_MAX - SEAL_FRAME_BYTES
_FRAME_BYTES_MAX = FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Group:
    """Frames that become durable together. `sealed` is the index of the segment when the group ends it."""

    ordinal: int
    data: bytes
    last: list[tuple[Chain, EntryHeader]]
    end_hash: bytes
    sealed: SegmentIndex | None


class JournalWriter:
    """The one writer of a journal directory."""

    def __init__(
        self,
        directory: Path,
        journal_id: str,
        *,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        on_sealed: Callable[[Path], None] | None = None,
    ) -> None:
        """Open or create the journal; a torn tail is cut off, `torn_copy` is then the copy of what was cut.

        `on_sealed(path)` is called after a segment was sealed and is durable, in the thread that runs
        `commit`; it must not raise. Raises `Damaged` with file and offset, and `ConfigError` when the
        directory is in use, cannot be written or belongs to another journal.
        """
        self.directory = directory
        self.journal_id = check_journal_id(journal_id)
        self.torn_copy: Path | None = None
        self._segment_bytes_max = segment_bytes_max
        self._on_sealed = on_sealed
        self._chains = Chains()
        self._pieces: list[bytes] = []
        self._group_bytes = 0
        self._touched: set[Chain] = set()
        self._cut = self._committed = 0
        #: Bytes committed since this writer was opened.
        self.committed_bytes = 0
        #: `_refusing`: why nothing can be written. `_stopped`: why nothing can be read either.
        self._refusing: str | None = None
        self._stopped: str | None = None
        self._fd = -1
        self._head = Head(directory)
        try:
            self._open()
        except OSError as error:
            self.close()
            raise ConfigError(disk_failure(directory, error)) from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        finish_rewrite(self.directory)
        for unfinished in self.directory.glob("*.tmp"):
            unfinished.unlink()
        head = read_head(self.directory)
        chains = Chains()
        last = open_segments(self.directory, self.journal_id, head, chains)
        if last is None:
            fsync_directory(self.directory.parent)
            self._create(1, hash_at_start(self.journal_id))
        elif last.sealed:
            self._go_on(last)
            self._create(last.number + 1, last.running_hash)
        else:
            self._go_on(last)
            self._head.note(last.number)
        for chain in chains.values():
            chain.durable = chain.last
        self._open_segment()
        self._chains = chains

    def _go_on(self, last: LastSegment) -> None:
        self._segment = last.number
        self._offset = last.offset
        self._hash = last.running_hash
        self._frames = last.frames
        self._marks = last.taken.marks
        self._fences = last.taken.fences
        self._bases = last.taken.bases
        self.torn_copy = last.torn_copy

    def _create(self, number: int, running_hash: bytes) -> None:
        create_segment(self.directory, number, running_hash, self.journal_id)
        self._head.note(number)
        self._hash = running_hash
        self._begin_segment(number)

    def _begin_segment(self, number: int) -> None:
        self._segment = number
        self._offset = SEGMENT_HEADER_BYTES
        self._frames = 0
        self._marks = []
        self._fences = {}
        self._bases = {}

    def _open_segment(self) -> None:
        path = segment_path(self.directory, self._segment)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def __repr__(self) -> str:
        durable = sum(chain.durable.seq for chain in self._chains.values())
        return (
            f"<JournalWriter {self.journal_id} segment={self._segment} offset={self._offset} "
            f"partitions={len(self._chains)} durable={durable} group_bytes={self._group_bytes} "
            f"{self._refusing or 'open'}>"
        )

    @property
    def group_bytes(self) -> int:
        """Bytes appended and not yet cut; at most `GROUP_BYTES_MAX`."""
        return self._group_bytes

    @property
    def durable_place(self) -> tuple[int, int]:
        """Segment and offset after the last frame on disk, for callers that append and sync in one turn."""
        if self._stopped is not None:
            self._refuse()
        return self._segment, self._offset - self._group_bytes

    def append(self, partition: int, payload: bytes, header: EntryHeader, *, bound: bool = True) -> None:
        """Take the next entry of a partition; `header` is the parsed first line of `payload`.

        `bound`: whether promises apply (see `fence`); they do not for entries taken over from another copy.
        Not durable before `sync`. A group that would grow past `GROUP_BYTES_MAX` is synced first. Raises
        `Fork` when it does not continue the partition's chain and `Corruption` when it is not an entry
        (nothing is written), `Outage` when the writer has stopped.
        """
        if self._refusing is not None:
            self._refuse()
        size = FRAME_HEADER_BYTES + len(payload)
        if size > _FRAME_BYTES_MAX:
            raise Corruption(
                f"partition {partition}: entry of {len(payload)} bytes, at most {PAYLOAD_BYTES_MAX}"
            )
        if self._group_bytes + size > _GROUP_FRAMES_BYTES_MAX:
            self._make_room()
        chain = self._chains[partition]
        chain.follow(header, self._segment, self._offset, bound=bound)
        body = body_start_pack(partition, KIND_ENTRY, self._hash) + payload
        self._pieces += (frame_start_pack(len(payload), _crc32(body)), body)
        self._hash = _sha256(body).digest()[:16]
        self._touched.add(chain)
        self._group_bytes += size
        self._offset += size
        self._frames += 1

    def fence(self, partition: int, epoch: int) -> None:
        """Promise to refuse entries of the partition from older epochs; the promise holds after `sync`."""
        if self._refusing is not None:
            self._refuse()
        if self._group_bytes + _FRAME_BYTES_MAX > _GROUP_FRAMES_BYTES_MAX:
            self._make_room()
        self._chains.fence(partition, epoch)
        self._fences[partition] = max(epoch, self._fences.get(partition, 0))
        self._add(*frame(partition, KIND_FENCE, self._hash, epoch_payload(epoch)))

    def mark_base(self, partition: int, epoch: int) -> None:
        """Record that the chain, as appended so far, is the start of the epoch; holds after `sync`."""
        if self._refusing is not None:
            self._refuse()
        if self._group_bytes + _FRAME_BYTES_MAX > _GROUP_FRAMES_BYTES_MAX:
            self._make_room()
        self._chains.mark_base(partition, epoch)
        self._bases[partition] = max(epoch, self._bases.get(partition, 0))
        self._add(*frame(partition, KIND_BASE, self._hash, epoch_payload(epoch)))

    def partitions(self) -> list[int]:
        """The partitions with any record in this journal, ascending."""
        return sorted(self._chains)

    def view(self, partition: int) -> int:
        """The newest epoch whose start the chain is known to hold completely; 0 when none is known."""
        chain = self._chains.get(partition)
        return 0 if chain is None else chain.view

    @property
    def empty(self) -> bool:
        """Whether nothing was ever written here, neither an entry nor a promise."""
        return not self._chains

    def epoch_min(self, partition: int) -> int:
        """The lowest epoch whose entries `append` accepts."""
        chain = self._chains.get(partition)
        return 0 if chain is None else chain.epoch_min

    def _make_room(self) -> None:
        if self._cut != self._committed:
            raise Outage("overloaded", "the group is full and the one before it is not yet on disk")
        self.sync()

    def _add(self, start: bytes, body: bytes) -> None:
        self._pieces += (start, body)
        self._hash = hash_after(body)
        self._group_bytes += len(start) + len(body)
        self._offset += len(start) + len(body)
        self._frames += 1

    def sync(self) -> None:
        """Make everything appended durable. Raises `Outage` on any failure, and always after it."""
        group = self.cut()
        if group is not None:
            self.commit(group)

    def cut(self) -> Group | None:
        """Take what was appended as one group for `commit`; None when there is nothing."""
        if self._refusing is not None:
            self._refuse()
        if not self._pieces:
            return None
        sealed = None
        if self._offset >= self._segment_bytes_max:
            sealed = self._seal()
        elif self._offset - (self._marks[-1].offset if self._marks else SEGMENT_HEADER_BYTES) >= MARK_BYTES:
            self._marks.append(Mark(self._offset, self._hash.hex(), self._chains.last_seqs(self._segment)))
        self._cut += 1
        last = [(chain, chain.last) for chain in self._touched]
        group = Group(self._cut, b"".join(self._pieces), last, self._hash, sealed)
        self._pieces = []
        self._group_bytes = 0
        self._touched = set()
        return group

    def _seal(self) -> SegmentIndex:
        """End the segment with the present group; later entries belong to the next segment."""
        number, offset, marks = self._segment, self._offset, self._marks
        fences, bases = self._fences, self._bases
        self._add(*frame(0, KIND_SEAL, self._hash, seal_payload(self._frames, offset)))
        spans = self._chains.spans(number)
        self._begin_segment(number + 1)
        return SegmentIndex(self.journal_id, number, offset, self._hash.hex(), spans, fences, marks, bases)

    def commit(self, group: Group) -> None:
        """Write the group and wait until it is on disk. Raises `Outage` on any failure, as `sync` does."""
        if self._refusing is not None:
            self._refuse()
        if group.ordinal != self._committed + 1:
            raise Corruption(f"group {group.ordinal} committed after group {self._committed}")
        try:
            rest = memoryview(group.data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            os.fdatasync(self._fd)
            if group.sealed is not None:
                self._rotate(group.sealed, group.end_hash)
        except OSError as error:
            # After a failed fsync the kernel may have dropped the pages: later writes cannot be trusted.
            self._stop(f"stopped by {error.strerror or error}")
            raise Outage("journal_unavailable", disk_failure(self.directory, error)) from error
        for chain, header in group.last:
            chain.durable = header
        self._committed = group.ordinal
        self.committed_bytes += len(group.data)
        if group.sealed is not None and self._on_sealed is not None:
            self._on_sealed(segment_path(self.directory, group.sealed.segment))

    def _rotate(self, sealed: SegmentIndex, running_hash: bytes) -> None:
        write_index(segment_path(self.directory, sealed.segment), sealed)
        create_segment(self.directory, sealed.segment + 1, running_hash, self.journal_id)
        self._head.note(sealed.segment + 1)
        os.close(self._fd)
        self._fd = -1
        self._open_segment()

    def position(self, partition: int) -> Position:
        """The last durable entry of the partition."""
        if self._stopped is not None:
            self._refuse()
        chain = self._chains.get(partition)
        return Position(0, ZERO_NONCE, 0, 0) if chain is None else chain.position()

    def durable_seq(self, partition: int) -> int:
        """The seq of `position`, cheap enough to read thousands of times a second."""
        if self._stopped is not None:
            self._refuse()
        chain = self._chains.get(partition)
        return 0 if chain is None else chain.durable.seq

    def appended_seq(self, partition: int) -> int:
        """The seq of the last entry that was appended, durable or not."""
        chain = self._chains.get(partition)
        return 0 if chain is None else chain.last.seq

    def positions(self) -> dict[int, Position]:
        """partition -> last durable entry, of every partition that has one."""
        if self._stopped is not None:
            self._refuse()
        return {partition: chain.position() for partition, chain in self._chains.items() if chain.durable.seq}

    def nonce_in_memory(self, partition: int, seq: int) -> str | None:
        """The nonce of a durable entry, `ZERO_NONCE` before the first.

        None when there is none, or when it is older than the last `RECENT_ENTRIES_PER_PARTITION` of its partition and
        only the segments know it (`lookup`).
        """
        if self._stopped is not None:
            self._refuse()
        if seq == 0:
            return ZERO_NONCE
        chain = self._chains.get(partition)
        return chain.recent_nonce(seq) if chain is not None and 0 < seq <= chain.durable.seq else None

    def contains(self, partition: int, header: EntryHeader) -> bool:
        """Whether the entry was appended before, durable or not; assumed if it is too old to be known."""
        chain = self._chains.get(partition)
        if chain is None or header.seq > chain.last.seq:
            return False
        return chain.recent_nonce(header.seq) in (header.nonce, None)

    def last_index(self) -> SegmentIndex:
        """The index of the segment that is being written, so far."""
        if self._refusing is not None:
            self._refuse()
        number = self._segment
        spans = self._chains.spans(number)
        fences, bases, marks = dict(self._fences), dict(self._bases), list(self._marks)
        return SegmentIndex(
            self.journal_id, number, self._offset, self._hash.hex(), spans, fences, marks, bases
        )

    def begin_rewrite(self) -> None:
        """Make everything durable, and refuse writes until `rewrite` is done; reads go on."""
        self.sync()
        self._refusing = "being rewritten"

    def rewrite(self, after: Mapping[int, int]) -> dict[int, Path]:
        """Move entries of these partitions after these seqs out of the journal, to files (`journal.rewrite`).

        This is for entries that are not in the chain of any epoch in force, so no caller got an answer for
        them. It blocks while the segments from the first such entry on are rewritten, so it may run in a
        thread, after `begin_rewrite`. Returns the files by partition, without partitions that had no such
        entries.
        """
        os.close(self._fd)
        self._fd = -1
        try:
            kept = set_aside(self.directory, self.journal_id, after)
            self._open()
        except OSError as error:
            self._stop(f"stopped by {error.strerror or error}")
            raise Outage("journal_unavailable", f"{self!r}") from error
        except BaseException:
            self._stop("stopped by damage")
            raise
        self._refusing = None
        return kept

    def _stop(self, why: str) -> None:
        self._stopped = self._refusing = why

    def _refuse(self) -> None:
        raise Outage("journal_unavailable", f"{self!r}")

    def close(self) -> None:
        """Release the directory. Appended entries that are not synced are dropped: they were never receipted."""
        if self._stopped != "closed":
            self._stop("closed")
            if self._fd >= 0:
                os.close(self._fd)
            self._head.close()
