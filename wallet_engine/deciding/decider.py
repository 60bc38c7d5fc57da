"""Decides every entry again, by the oracle's rules, and matches money between partitions. No I/O.

The caller passes each entry once, and those of a partition in order. An entry is right when its operations
have the recorded outcomes (`domain.oracle`), and its credits, refunds, settles and parts of groups have their
other end (`domain.transit`). The other end may come later, because partitions come in any order. It is
missing if it is still not there after all entries that were durable a while later were taken.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from wallet_engine.domain.entry import Entry
from wallet_engine.domain.errors import NewerFormat, text_of
from wallet_engine.domain.oracle import apply_entry
from wallet_engine.domain.oracle_state import PartitionState
from wallet_engine.domain.transit import Fault, Transit
from wallet_engine.journal.feed import START, FeedEntry, FeedPosition

#: Differences kept per partition: the first ones are enough.
DIFFERENCES_MAX: Final = 100
#: How long after an entry its other end may become final. It was durable before, and this is known soon
#: after.
GRACE_S: Final = 2.5
#: The same while a journal copy does not answer: the others may learn late what a quorum had.
GRACE_ALONE_S: Final = 30.0


class Difference(NamedTuple):
    """An entry that differs from what the rules decide. `what` also names the entry."""

    partition: int
    seq: int
    what: str


@dataclass(slots=True)
class _Wanted:
    """Something whose other end is missing: since when, and which entries must come before it is a fault."""

    since_s: float
    ends: Mapping[int, int] | None = None


class Decider:
    """Pass entries to `take` and the time to `look`; both return new differences."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        #: States of the partitions whose entries all had the recorded outcomes so far.
        self.states = {partition: PartitionState() for partition in range(partitions)}
        self.transit = Transit()
        #: Up to which entries `transit` has been passed.
        self.matched = dict.fromkeys(range(partitions), START)
        #: partition -> what is wrong with it
        self.differences: dict[int, list[Difference]] = {}
        #: Partitions with unreadable entries: missing ends there are no fault.
        self._unread: set[int] = set()
        self._wanted: dict[Fault, _Wanted] = {}
        self.operations = 0

    def __repr__(self) -> str:
        return (
            f"<Decider operations={self.operations} differences={sorted(self.differences)} {self.transit!r}>"
        )

    def positions(self, partitions: Iterable[int]) -> dict[int, FeedPosition]:
        """The position of each partition; the next entry to take comes after it."""
        return {partition: min(self._both(partition)) for partition in partitions}

    def _both(self, partition: int) -> Iterator[FeedPosition]:
        yield self.matched[partition]
        state = self.states.get(partition)
        if state is not None:
            yield FeedPosition(state.seq, state.nonce)

    def leave_out(self, partitions: Iterable[int]) -> None:
        """Entries of these partitions are no longer passed."""
        for partition in partitions:
            self._unread.add(partition)
            self.states.pop(partition, None)

    def take(self, batch: Iterable[FeedEntry]) -> list[Difference]:
        """Take the next entries. Returns new differences."""
        found: list[Difference] = []
        for feed_entry in batch:
            partition, seq = feed_entry.partition, feed_entry.seq
            try:
                entry = feed_entry.entry
            except NewerFormat:  # not a fault of the entry
                raise
            except Exception as error:
                found.append(Difference(partition, seq, f"entry {seq} cannot be read: {text_of(error)}"))
                self.states.pop(partition, None)
                self._unread.add(partition)
                continue
            found += self._decide(partition, entry)
            if seq > self.matched[partition].seq:
                found += self._match(partition, entry)
                self.matched[partition] = feed_entry.position
        found += map(_difference, self.transit.take_faults())
        return self._note(found)

    def _decide(self, partition: int, entry: Entry) -> list[Difference]:
        state = self.states.get(partition)
        if state is None or entry.header.seq <= state.seq:
            return []
        try:
            apply_entry(state, entry)
        except Exception as error:  # any error: the entry does not have the recorded outcomes
            del self.states[partition]  # it is inconsistent now
            text = text_of(error)
            what = text if f"entry {entry.header.seq}" in text else f"entry {entry.header.seq}: {text}"
            return [Difference(partition, entry.header.seq, what)]
        self.operations += len(entry.operations)
        return []

    def _match(self, partition: int, entry: Entry) -> list[Difference]:
        if partition in self._unread:
            return []
        try:
            self.transit.entry(partition, entry)
        except Exception as error:
            self._unread.add(partition)
            seq = entry.header.seq
            return [Difference(partition, seq, f"entry {seq} cannot be matched: {text_of(error)}")]
        return []

    def overdue(self, now_s: float, *, alone: bool) -> bool:
        """Whether `look` needs to know the ends. `alone`: a journal copy does not answer."""
        grace_s = GRACE_ALONE_S if alone else GRACE_S
        return any(
            wanted.ends is None and now_s - wanted.since_s >= grace_s for wanted in self._wanted.values()
        )

    def look(self, now_s: float, ends: Mapping[int, int] | None = None) -> list[Difference]:
        """New differences: entries that have waited too long for their other end.

        `ends`: partition -> seq of its last durable entry, read now; needed for what is `overdue`.
        """
        early = set(self.transit.early(self._unread))
        unmet = early.union(self.transit.unended(self._unread))
        known = {(each.partition, each.seq) for some in self.differences.values() for each in some}
        self._wanted = {
            fault: self._wanted.get(fault) or _Wanted(now_s)
            for fault in unmet
            if (fault.partition, fault.seq) not in known
        }
        found = []
        for fault, wanted in self._wanted.items():
            if ends is not None and wanted.ends is None and now_s - wanted.since_s >= GRACE_S:
                wanted.ends = ends
            if self._is_missing(fault, wanted, early=fault in early):
                found.append(_difference(fault))
        return self._note(found)

    def _is_missing(self, fault: Fault, wanted: _Wanted, *, early: bool) -> bool:
        debit = fault.place
        if early and (debit.partition not in self.matched or self.matched[debit.partition].seq >= debit.seq):
            return True  # the place of its debit was already read
        if wanted.ends is None:
            return False
        others = [debit.partition] if early else self.matched.keys() - self._unread
        return all(self.matched[p].seq >= wanted.ends.get(p, 0) for p in others)

    def _note(self, found: Iterable[Difference]) -> list[Difference]:
        """Keep the differences of entries that had none yet, and return them."""
        new = []
        for difference in found:
            known = self.differences.setdefault(difference.partition, [])
            if difference.seq not in {each.seq for each in known} and len(known) < DIFFERENCES_MAX:
                known.append(difference)
                new.append(difference)
        return new


def _difference(fault: Fault) -> Difference:
    """The difference for a fault, naming the entry and the debit that it is about."""
    partition, place, what, seq = fault
    return Difference(partition, seq, f"entry {seq}: for debit {place}: {what}")
