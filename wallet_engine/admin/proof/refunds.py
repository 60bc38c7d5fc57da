"""Checks that every refund agrees with its original's entry, and that refunds do not exceed their original.

A partition's own entries cannot prove that: the original is mostly in another partition. Entries are given in the
order of the journal; their originals are then looked up in the journal, a few hundred at a time.
"""

from collections import Counter
from collections.abc import Container, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from wallet_engine.domain.entry import Entry, parse_entry
from wallet_engine.domain.groups import parse_words
from wallet_engine.domain.kinds import kind_of, receiver_of
from wallet_engine.domain.memory import is_field_of
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.returns import CREDITED, GROUPED, LOCAL, STORED, Evidence, parse_evidence
from wallet_engine.domain.transit import Fault, Place
from wallet_engine.journal.lookup import find_entries

#: Entries of originals held in memory at a time.
LOOKED_UP_AT_ONCE: Final = 500
#: Kinds of operations that can be refunded.
REFUNDABLE: Final = "tdkqmg"

#: A transfer, or a leg of a group.
_Original = tuple[Place, int | None]


class _Refund(NamedTuple):
    place: Place
    receiver: str
    minor: int
    currency: str
    evidence: Evidence

    @property
    def original(self) -> Place:
        return Place(self.evidence.partition, self.evidence.seq, self.evidence.idx)

    @property
    def of(self) -> _Original:
        return self.original, self.evidence.leg


class RefundEvidence:
    """Takes every entry, then lists `faults`."""

    def __init__(self) -> None:
        self._refunds: dict[Place, _Refund] = {}
        #: Original -> minor units refunded.
        self._returned: Counter[_Original] = Counter()
        #: Transfers whose money was returned because the receiver refused it.
        self._undone: set[Place] = set()

    def __repr__(self) -> str:
        return f"<RefundEvidence refunds={len(self._refunds)}>"

    def entry(self, partition: int, entry: Entry) -> None:
        """Take the next entry of the partition."""
        seq = entry.header.seq
        for idx, (operation, outcome) in enumerate(zip(entry.operations, entry.header.outcomes, strict=True)):
            if outcome != Outcome.APPLIED:
                continue
            if operation.kind in "xz":
                words = (operation.account, operation.amount_minor, operation.currency)
                place = Place(partition, seq, idx)
                refund = _Refund(place, *words, parse_evidence(operation.other))
                self._refunds[place] = refund
                self._returned[refund.of] += refund.minor
            elif operation.kind in "ruj":
                of_seq, of_idx, _ = operation.other.partition("|")[0].split(".")
                place = Place(partition, int(of_seq), int(of_idx))
                self._undone.add(place)
                undone = self._refunds.get(place)
                if undone is not None:
                    self._returned[undone.of] -= undone.minor

    def faults(self, directory: Path, unread: Container[int] = ()) -> Iterator[Fault]:
        """The faults; originals in `unread` partitions are not checked. Raises `Damaged` and `Corruption`."""
        asked = (refund for refund in self._refunds.values() if refund.original.partition not in unread)
        while refunds := list(islice(asked, LOOKED_UP_AT_ONCE)):
            entries = find_entries(directory, {refund.original[:2] for refund in refunds})
            for refund in refunds:
                payload = entries.get(refund.original[:2])
                what = self._wrong(refund, None if payload is None else parse_entry(payload))
                if what:
                    yield Fault(refund.place.partition, refund.place, what, refund.place.seq)

    def _wrong(self, refund: _Refund, entry: Entry | None) -> str:
        evidence, original = refund.evidence, refund.original
        if entry is None or original.idx >= len(entry.operations):
            return f"refund of {original}, and there is no such operation"
        found = entry.operations[original.idx]
        if found.kind not in REFUNDABLE or entry.header.outcomes[original.idx] != Outcome.APPLIED:
            return f"refund of {original}, which is no paid transfer: {found.line()}"
        said, is_ = _said(refund), _is(found, evidence.leg)
        # The history cannot say how the original was remembered.
        parts = -1 if evidence.how[0] == STORED else None
        if said[:parts] != is_[:parts] or not is_field_of(evidence.base, found.account):
            return f"refund of {original} as {said}, and it is {is_}"
        if original in self._undone:
            return f"refund of {original}, which its receiver refused"
        if evidence.how in (LOCAL, GROUPED) and original.partition != refund.place.partition:
            return f"refund of {original} as a transfer of its own partition"
        returned, whole = self._returned[refund.of], evidence.amount_minor
        if returned > whole:
            return f"{returned} {refund.currency} have gone back of {original}, which was {whole}"
        return ""


def _said(refund: _Refund) -> tuple[object, ...]:
    evidence = refund.evidence
    of = (evidence.payer, evidence.transaction, refund.receiver, evidence.amount_minor, refund.currency)
    return (*of, evidence.how == CREDITED)


def _is(found: Operation, leg: int | None) -> tuple[object, ...]:
    if kind_of(found.kind).grouped:
        legs = [each for each in parse_words(found.other).legs if each.idx == leg]
        return (legs[0].payer, found.id, *legs[0][3:], False) if legs else ()
    if leg is not None:
        return ()
    of = (found.account, found.id, receiver_of(found), found.amount_minor, found.currency)
    return (*of, kind_of(found.kind).opens)
