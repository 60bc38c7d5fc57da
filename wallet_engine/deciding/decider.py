"""Decides every entry again, by the oracle's rules, and matches what goes between partitions. No I/O.

An entry is given once, those of a partition in their order. It is right when its operations come out as recorded
(`domain.oracle`), and when its credits, refunds, settles and parts of groups have their other end (`domain.transit`).
The other end may come later, since partitions come in any order: it is missing when all that was durable a while after
is here, and it is not.
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

#: Kept of one partition: the first ones say it all.
DIFFERENCES_MAX: Final = 100
#: How long after an entry its other end may become final. It was durable before, and is known to be soon after.
GRACE_S: Final = 2.5
#: The same while a journal copy does not answer: the others may learn late what a quorum had.
GRACE_ALONE_S: Final = 30.0


class Difference(NamedTuple):
    """An entry that is not what the rules decide. `what` names it, too."""

    partition: int
    seq: int
    what: str


@dataclass(slots=True)
class _Wanted:
    """Something whose other end has not come: since when, and what has to be here before that means anything."""

    since_s: float
    ends: Mapping[int, int] | None = None


class Decider:
    """Give it entries by `take`, time by `look`; both return what is wrong."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        #: Those of which every entry so far came out as recorded.
        self.states = {partition: PartitionState() for partition in range(partitions)}
        self.transit = Transit()
        #: Up to where `transit` has been given the entries.
        self.matched = dict.fromkeys(range(partitions), START)
        #: partition -> what is wrong with it
        self.differences: dict[int, list[Difference]] = {}
        #: Partitions of which entries could not be read: what they lack says nothing.
        self._unread: set[int] = set()
        self._wanted: dict[Fault, _Wanted] = {}
        self.operations = 0

    def __repr__(self) -> str:
        return (
            f"<Decider operations={self.operations} differences={sorted(self.differences)} {self.transit!r}>"
        )

    def positions(self, partitions: Iterable[int]) -> dict[int, FeedPosition]:
        """How far it is with each of these: the next entry to take is behind that."""
        return {partition: min(self._both(partition)) for partition in partitions}

    def _both(self, partition: int) -> Iterator[FeedPosition]:
        yield self.matched[partition]
        state = self.states.get(partition)
        if state is not None:
            yield FeedPosition(state.seq, state.nonce)

    def leave_out(self, partitions: Iterable[int]) -> None:
        """These are not given any more."""
        for partition in partitions:
            self._unread.add(partition)
            self.states.pop(partition, None)

    def take(self, batch: Iterable[FeedEntry]) -> list[Difference]:
        """The next entries."""
        found: list[Difference] = []
        for feed_entry in batch:
            partition, seq = feed_entry.partition, feed_entry.seq
            try:
                entry = feed_entry.entry
            except NewerFormat:  # that says nothing against it
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
        except Exception as error:  # whatever it is: the entry does not come out as recorded
            del self.states[partition]  # it is in pieces
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
        """What has waited for its other end for too long.

        `ends`: partition -> seq of its last durable entry, as found out now; for what is `overdue`.
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
            return True  # its debit's place has been passed
        if wanted.ends is None:
            return False
        others = [debit.partition] if early else self.matched.keys() - self._unread
        return all(self.matched[p].seq >= wanted.ends.get(p, 0) for p in others)

    def _note(self, found: Iterable[Difference]) -> list[Difference]:
        """Those of entries of which nothing was known."""
        new = []
        for difference in found:
            known = self.differences.setdefault(difference.partition, [])
            if difference.seq not in {each.seq for each in known} and len(known) < DIFFERENCES_MAX:
                known.append(difference)
                new.append(difference)
        return new


def _difference(fault: Fault) -> Difference:
    """With the entry, and the operation of the debit that it is about."""
    partition, place, what, seq = fault
    return Difference(partition, seq, f"entry {seq}: for debit {place}: {what}")
