"""Money between two partitions: has every credit a debit and every refund a decline, and is nothing lost?

The entries of one partition alone cannot show that. The caller passes the entries of each partition in
journal order. The cut is the last entry of each partition that was passed to `entry`. A credit may be before
the cut and its debit after it in the other partition; so may a settle and its credit. The caller passes
entries after the cut to `later`, and such a pair counts only when both ends are found. The object keeps open
entries and unmatched ends, not the journal.

A caller that follows the journal passes every entry to `entry`, takes certain faults with `take_faults`, and
checks how long each fault of `early` and `unended` has existed.
"""

from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from wallet_engine.domain.entry import Entry
from wallet_engine.domain.kinds import kind_of, receiver_of
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.transit_groups import Groups, TransitGroups, Where

APPLIED: Final = Outcome.APPLIED.value
CREDIT: Final = "c"
SETTLE: Final = "s"
#: Kinds that give back what a debit took.
REFUNDS: Final = "ruj"


class Place(NamedTuple):
    """Where a debit is in the journal."""

    partition: int
    seq: int
    idx: int

    def __str__(self) -> str:
        return f"{self.partition}.{self.seq}.{self.idx}"


class Fault(NamedTuple):
    """A mismatch; `partition` and `seq` say where it is, `place` is the debit that it is about."""

    partition: int
    place: Place
    what: str
    seq: int


@dataclass(slots=True)
class _Debit:
    payer: str
    to: str
    minor: int
    currency: str
    credited: bool = False
    #: `declined`: the outcome of its credit, if refused. `refunded`: the outcome that its refund names.
    declined: str = ""
    refunded: str = ""

    @property
    def ended(self) -> bool:
        return self.credited or (self.refunded != "" and self.refunded == self.declined)


@dataclass(slots=True)
class _Opened:
    """An entry with outgoing money."""

    debits: dict[int, _Debit] = field(default_factory=dict)
    settled: bool = False


class _Credit(NamedTuple):
    partition: int
    operation: Operation
    outcome: str
    seq: int


class _Image(NamedTuple):
    """Everything that a `Transit` holds about money that is still under way, except the stripes."""

    opened: dict[tuple[int, int], _Opened]
    early: dict[Place, list[_Credit]]
    groups: Groups


def _counter(_: type, counted: dict[str, int]) -> Counter[str]:
    return Counter(counted)


class Transit:
    """Pass all entries up to the cut, then entries after it until `wanted` is false; then read `faults`."""

    def __init__(self) -> None:
        self._opened: dict[tuple[int, int], _Opened] = {}
        #: Credits whose debit was not passed yet.
        self._early: dict[Place, list[_Credit]] = {}
        #: Correction if both ends of a pair count as before the cut: currency -> minor units.
        self._crossing: Counter[str] = Counter()
        self._faults: list[Fault] = []
        self._groups = TransitGroups()
        #: (partition, currency) -> balance of `@transit` by the entries
        self.stripes: Counter[tuple[int, str]] = Counter()

    def __repr__(self) -> str:
        return f"<Transit open={len(self._opened)} early={len(self._early)} faults={len(self._faults)}>"

    def dump(self) -> bytes:
        """The object as bytes for `load`, without the balances of `@transit`."""
        return msgspec.msgpack.encode(_Image(self._opened, self._early, self._groups.groups))

    @classmethod
    def load(cls, dumped: bytes) -> "Transit":
        """The inverse of `dump`. Raises `msgspec.MsgspecError`."""
        transit = cls()
        image = msgspec.msgpack.decode(dumped, type=_Image, dec_hook=_counter)
        transit._opened, transit._early, transit._groups.groups = image
        return transit

    def entry(self, partition: int, entry: Entry) -> None:
        """Take the next entry of the partition."""
        seq = entry.header.seq
        opened = _Opened()
        for idx, (operation, outcome) in enumerate(zip(entry.operations, entry.header.outcomes, strict=True)):
            kind, moved = operation.kind, 0
            if kind_of(kind).grouped:
                for currency, minor in self._groups.operation(
                    Where(partition, seq, idx), operation, outcome
                ).items():
                    self.stripes[partition, currency] += minor
            elif kind == CREDIT:
                if outcome == APPLIED:
                    moved = -operation.amount_minor
                if outcome != Outcome.REPEATED:
                    self._credit(_Credit(partition, operation, outcome, seq))
            elif outcome == APPLIED:
                if kind == SETTLE:
                    self._settle(partition, seq, int(operation.id))
                elif kind in REFUNDS:
                    moved = -operation.amount_minor
                    self._refund(partition, seq, operation)
                elif kind_of(kind).opens:
                    moved = operation.amount_minor
                    opened.debits[idx] = _debit_of(operation)
            if moved:
                self.stripes[partition, operation.currency] += moved
        if opened.debits:
            self._opened[partition, seq] = opened
            for idx in opened.debits:
                for credit in self._early.pop(Place(partition, seq, idx), ()):
                    self._credit(credit)

    def later(self, partition: int, entry: Entry) -> None:
        """Take an entry after the cut. It only completes pairs that began before the cut."""
        seq = entry.header.seq
        for idx, (operation, outcome) in enumerate(zip(entry.operations, entry.header.outcomes, strict=True)):
            if kind_of(operation.kind).grouped:
                self._groups.later(Where(partition, seq, idx), operation, outcome)
            elif operation.kind == CREDIT and outcome != Outcome.REPEATED:
                place = _place_of(operation)
                opened = self._opened.get((place.partition, place.seq))
                debit = None if opened is None else opened.debits.get(place.idx)
                if opened is not None and debit is not None and (opened.settled or debit.refunded):
                    if outcome == APPLIED and not debit.credited:
                        self._crossing[debit.currency] -= debit.minor
                    self._credit(_Credit(partition, operation, outcome, seq))
            elif kind_of(operation.kind).opens and outcome == APPLIED:
                for credit in self._early.pop(Place(partition, seq, idx), ()):
                    debit = _debit_of(operation)
                    self._meet(Place(partition, seq, idx), debit, credit)
                    if credit.outcome == APPLIED:
                        self._crossing[debit.currency] += debit.minor

    def wanted(self) -> bool:
        """Whether something before the cut still lacks its other end."""
        return bool(self._early) or any(self._unended()) or self._groups.wanted()

    def open_entries(self, partition: int) -> set[int]:
        """The entries of the partition that are not settled."""
        return {seq for (p, seq), opened in self._opened.items() if p == partition and not opened.settled}

    def in_transit(self) -> Counter[str]:
        """Currency -> minor units on `@transit` of all partitions.

        A pair that the cut divides counts as before it.
        """
        total = Counter(self._crossing)
        for (_, currency), minor in self.stripes.items():
            total[currency] += minor
        return total

    def open_minor(self) -> Counter[str]:
        """Currency -> minor units of debits neither credited nor refunded, and of open groups.

        Equals `in_transit`.
        """
        total = self._groups.open_minor()
        for opened in self._opened.values():
            for debit in opened.debits.values():
                if not debit.credited and not debit.refunded:
                    total[debit.currency] += debit.minor
        return total

    def faults(self, unread: Container[int] = ()) -> Iterator[Fault]:
        """All mismatches, except of `unread` partitions, whose entries could not be passed."""
        yield from self._faults
        for where, what in self._groups.said:
            if not unread:
                yield _of_group(where, what)
        yield from self.unmet(unread)

    def take_faults(self) -> list[Fault]:
        """The faults that no later entry can explain, and that were not taken yet."""
        groups, self._groups.said = self._groups.said, []
        faults, self._faults = self._faults, []
        return faults + [_of_group(*said) for said in groups]

    def unmet(self, unread: Container[int] = ()) -> Iterator[Fault]:
        """What is a fault if no more entries come, except of `unread` partitions."""
        yield from self.early(unread)
        yield from self.unended(unread)

    def early(self, unread: Container[int] = ()) -> Iterator[Fault]:
        """Credits whose debit was not passed, or ended long ago."""
        for place, credits in self._early.items():
            if place.partition not in unread:
                for credit in credits:
                    what = f"{_text(credit.operation)}, and there is no such debit"
                    yield Fault(credit.partition, place, what, credit.seq)

    def unended(self, unread: Container[int] = ()) -> Iterator[Fault]:
        """Debits and groups that one side has ended while the other end is missing."""
        for where, what in self._groups.unmet():
            if not unread:
                yield _of_group(where, what)
        for place, debit in self._unended():
            if debit.refunded:
                said = f"was refused ({debit.declined})" if debit.declined else "was never refused"
                what = f"{_money(debit)} went back to {debit.payer} ({debit.refunded}), and the credit {said}"
            else:
                what = f"{_money(debit)} of {debit.payer} is settled, and did neither arrive nor come back"
            yield Fault(place.partition, place, what, place.seq)

    def _unended(self) -> Iterator[tuple[Place, _Debit]]:
        for (partition, seq), opened in self._opened.items():
            for idx, debit in opened.debits.items():
                if not debit.ended and (opened.settled or debit.refunded):
                    yield Place(partition, seq, idx), debit

    def _credit(self, credit: _Credit) -> None:
        place = _place_of(credit.operation)
        opened = self._opened.get((place.partition, place.seq))
        debit = None if opened is None else opened.debits.get(place.idx)
        if opened is None or debit is None:
            self._early.setdefault(place, []).append(credit)
            return
        self._meet(place, debit, credit)
        self._drop(place, opened)

    def _meet(self, place: Place, debit: _Debit, credit: _Credit) -> None:
        o = credit.operation
        if (o.account, o.amount_minor, o.currency) != (debit.to, debit.minor, debit.currency):
            what = f"{_text(o)}, and the debit is {_money(debit)} for {debit.to}"
        elif debit.credited or debit.declined:
            what = f"{_text(o)} is decided a second time"
        elif credit.outcome == APPLIED and debit.refunded:
            what = f"{_text(o)}, and the debit is refunded"
        else:
            what = ""
        if what:
            self._faults.append(Fault(credit.partition, place, what, credit.seq))
        if credit.outcome == APPLIED:
            debit.credited = True
        else:
            debit.declined = credit.outcome

    def _refund(self, partition: int, at: int, operation: Operation) -> None:
        seq, idx, decline = operation.other.partition("|")[0].split(".")
        place = Place(partition, int(seq), int(idx))
        opened = self._opened.get((partition, place.seq))
        debit = None if opened is None else opened.debits.get(place.idx)
        if opened is None or debit is None or opened.settled:
            what = f"{_text(operation)}, and no such debit is open"
            self._faults.append(Fault(partition, place, what, at))
            return
        same = (operation.account, operation.amount_minor, operation.currency)
        if same != (debit.payer, debit.minor, debit.currency) or debit.refunded or debit.credited:
            what = f"{_text(operation)}, and the debit is {_money(debit)} of {debit.payer}"
            what += ", paid" if debit.credited else ", refunded" if debit.refunded else ""
            self._faults.append(Fault(partition, place, what, at))
        debit.refunded = decline
        self._drop(place, opened)

    def _settle(self, partition: int, at: int, seq: int) -> None:
        opened = self._opened.get((partition, seq))
        if opened is None or opened.settled:
            what = "it is settled, and was not open"
            self._faults.append(Fault(partition, Place(partition, seq, 0), what, at))
            return
        opened.settled = True
        self._drop(Place(partition, seq, 0), opened)

    def _drop(self, place: Place, opened: _Opened) -> None:
        if opened.settled and all(debit.ended for debit in opened.debits.values()):
            del self._opened[place.partition, place.seq]


def _of_group(where: Where, what: str) -> Fault:
    return Fault(where.partition, Place(*where), what, where.seq)


def _debit_of(operation: Operation) -> _Debit:
    return _Debit(operation.account, receiver_of(operation), operation.amount_minor, operation.currency)


def _place_of(credit: Operation) -> Place:
    partition, _, seq = credit.id.partition(".")
    return Place(int(partition), int(seq), int(credit.other))


def _money(debit: _Debit) -> str:
    return f"{debit.minor} {debit.currency}"


def _text(operation: Operation) -> str:
    verb = "credit to" if operation.kind == CREDIT else "refund to"
    return f"{verb} {operation.account} of {operation.amount_minor} {operation.currency}"
