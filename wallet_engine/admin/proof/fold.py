"""Computes the state from the journal: the oracle folds its entries, in one pass over all partitions.

A fold can be continued: it keeps the state of each partition, and `run` reads on from there.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from wallet_engine.domain.entry import Entry, EntryHeader, parse_entry, parse_header
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.oracle import apply_entry
from wallet_engine.domain.oracle_state import PartitionState
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.reader import Record, read
from wallet_engine.journal.segments import segment_bytes, segment_numbers

#: Entries between two reports of progress.
_REPORT_ENTRIES: Final = 500

#: Called with (bytes read, total bytes of the journal).
Progress = Callable[[int, int], object]


class JournalFold:
    """States by partition. A partition stops at the first entry that is inconsistent with those before it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.states: dict[int, PartitionState] = {}
        #: partition -> why its next entry cannot be folded
        self.broken: dict[int, str] = {}
        #: Why the files cannot be read any further, with file and offset.
        self.damage: str | None = None
        self._entries: Counter[int] = Counter()

    def __repr__(self) -> str:
        state = f"broken={len(self.broken)}" if self.damage is None else "damaged"
        return f"<JournalFold partitions={len(self.states)} entries={self.entries} {state}>"

    @property
    def sound(self) -> bool:
        """Whether everything read so far is consistent."""
        return self.damage is None and not self.broken

    @property
    def entries(self) -> int:
        """Entries folded so far."""
        return self._entries.total()

    def seq(self, partition: int) -> int:
        """The last entry folded; 0 before the first."""
        return self._entries[partition]

    def run(
        self,
        *,
        partitions: Collection[int] | None = None,
        end: Mapping[int, int] | None = None,
        until_ms: int | None = None,
        on_entry: Callable[[int, PartitionState], object] | None = None,
        on_next: Callable[[int, EntryHeader], object] | None = None,
        on_operations: Callable[[int, Entry], object] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Continue the fold up to the present end of the journal.

        partitions  only these
        end         partition -> last seq wanted; needs every partition read. `on_next` gets the next header, if any
        until_ms    only entries up to this time (Unix milliseconds)
        on_entry    called after each entry, then `on_operations` with the entry itself
        """
        after = {partition: state.seq for partition, state in self.states.items()}
        peeked = None if end is None else {partition: seq + 1 for partition, seq in end.items()}
        over: set[int] = set()
        steps = _Steps(self.directory, progress)
        try:
            for record in read(self.directory, partitions=partitions, after=after, end=peeked):
                partition = record.partition
                steps.take(record)
                if partition in self.broken or partition in over:
                    continue
                state = self.states.get(partition)
                if state is None:
                    state = self.states[partition] = PartitionState()
                try:
                    if end is not None and state.seq >= end[partition]:
                        if on_next is not None:
                            on_next(partition, parse_header(record.payload))
                        continue
                    if until_ms is not None and parse_header(record.payload).time_ms > until_ms:
                        over.add(partition)  # time never goes back within a partition
                        if partitions is not None and over >= set(partitions):
                            return
                        continue
                    entry = parse_entry(record.payload)
                    apply_entry(state, entry)
                except Corruption as error:
                    self.broken[partition] = str(error)
                    continue
                self._entries[partition] += 1
                if on_entry is not None:
                    on_entry(partition, state)
                if on_operations is not None:
                    on_operations(partition, entry)
        except Damaged as error:
            self.damage = str(error)
        steps.finish()


class _Steps:
    """Progress in bytes, computed from the position of each record."""

    def __init__(self, directory: Path, progress: Progress | None) -> None:
        self._progress = progress
        self._count = 0
        self._total = 0
        self._before: dict[int, int] = {}
        if progress is not None:
            for number in _readable_numbers(directory):
                self._before[number] = self._total
                self._total += segment_bytes(directory, number)

    def take(self, record: Record) -> None:
        self._count += 1
        if self._progress is not None and self._count % _REPORT_ENTRIES == 0:
            done = self._before.get(record.segment, self._total) + record.offset
            self._progress(min(done, self._total), self._total)

    def finish(self) -> None:
        if self._progress is not None:
            self._progress(self._total, self._total)


def _readable_numbers(directory: Path) -> list[int]:
    try:
        return segment_numbers(directory)
    except Damaged:
        return []  # reading will report it
