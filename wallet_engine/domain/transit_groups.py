"""Groups between partitions: did the home decide all that was paid, and did every part pay what it had to?

A part of `transit.py`, with the same cut: the home's decision, or a part's payment, may be after it.

A group may be repeated after it was forgotten, and is then another one of the same name. Partitions come in any
order, so the n-th group of a name in one partition belongs to the n-th in the others.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from wallet_engine.domain.groups import Leg, Words, parse_words
from wallet_engine.domain.ids import is_system
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import Outcome

APPLIED: Final = Outcome.APPLIED.value

#: Payer, id and mark: one body. For later groups of that name, ` <n>` follows the mark.
_Key = tuple[str, str, str]
#: (index of a leg, True for the payer's side and False for the receiver's).
_Sides = set[tuple[int, bool]]


class Where(NamedTuple):
    """Where an operation is in the journal."""

    partition: int
    seq: int
    idx: int


@dataclass(slots=True)
class _Group:
    #: Where the home decided it (None before that), in which attempt, its legs, and the sides that parts have
    #: to pay.
    decided: Where | None = None
    attempt: int = 0
    legs: dict[int, tuple[str, str, int, str]] = field(default_factory=dict)
    needs: _Sides = field(default_factory=set)
    paid: _Sides = field(default_factory=set)
    #: A payment whose decision was not passed yet, and the legs of all such payments.
    early: Where | None = None
    early_legs: tuple[Leg, ...] = ()
    forgotten: Where | None = None
    #: Partition -> attempt, and the legs whose money is set aside there.
    prepared: dict[int, tuple[int, tuple[Leg, ...]]] = field(default_factory=dict)
    #: Attempt that was given back, and where.
    given_back: dict[int, Where] = field(default_factory=dict)
    #: Partitions that have done all they do for it: a part that has paid, and a home that has forgotten it.
    ended: set[int] = field(default_factory=set)
    #: Currency -> minor units on `@transit` because of it.
    transit: Counter[str] = field(default_factory=Counter)

    def differs(self, legs: tuple[Leg, ...]) -> bool:
        """Whether one of these legs is not as home decided it."""
        return any(leg[2:] != self.legs.get(leg.idx) for leg in legs)

    @property
    def over(self) -> bool:
        if self.prepared or self.early:
            return False
        return self.decided is None or (self.forgotten is not None and self.paid == self.needs)


Groups = dict[_Key, _Group]


class TransitGroups:
    """Pass the operations on groups up to the cut, then those after it while `wanted` is true."""

    def __init__(self) -> None:
        self.groups: Groups = {}
        #: The faults that no later entry can explain.
        self.said: list[tuple[Where, str]] = []

    def __repr__(self) -> str:
        return f"<TransitGroups open={len(self.groups)} faults={len(self.said)}>"

    def operation(self, where: Where, operation: Operation, outcome: str) -> Counter[str]:
        """Take an operation before the cut. Returns currency -> minor units that it moves to `@transit`."""
        moved: Counter[str] = Counter()
        if operation.kind == "m" or outcome in (Outcome.REPEATED, Outcome.CONFLICT):
            return moved
        if outcome != APPLIED and operation.kind != "g":
            return moved
        said = parse_words(operation.other)
        key = self._key(operation, where.partition)
        group = self.groups.setdefault(key, _Group())
        match operation.kind:
            case "g" if outcome == APPLIED:
                self._decide(group, where, said)
                moved = _paid(said.legs, set_aside=False)
            case "p":
                group.prepared[where.partition] = (said.attempt, said.legs)
                before = group.given_back.get(said.attempt)
                if before is not None and before.partition == where.partition:
                    # An earlier use of the id, which home and part have forgotten.
                    del group.given_back[said.attempt]
                moved = _promised(said.legs, -1)
            case "y":
                self._pay(group, where, said)
                group.ended.add(where.partition)
                moved = _paid(said.legs, set_aside=True)
            case "b":
                if group.prepared.pop(where.partition, None) is not None:
                    moved = _promised(said.legs, 1)
                    group.given_back[said.attempt] = where
                    self._check_given_back(group)
            case "w":
                group.forgotten = where
                group.ended.add(where.partition)
        group.transit.update(moved)
        if group.over:
            if any(group.transit.values()):
                self.said.append((where, f"{_text(key)} is over, and left {dict(group.transit)} on @transit"))
            self._end(key)
        return moved

    def _key(self, operation: Operation, partition: int) -> _Key:
        """The key of the first group of the operation's name that the partition has not ended."""
        key = _key_of(operation)
        while key in self.groups and partition in self.groups[key].ended:
            key = _key_after(key)
        return key

    def _end(self, key: _Key) -> None:
        """Drop the group, and move up those after it."""
        while (after := self.groups.get(_key_after(key))) is not None:
            self.groups[key] = after
            key = _key_after(key)
        del self.groups[key]

    def later(self, where: Where, operation: Operation, outcome: str) -> None:
        """Take an operation after the cut. It only explains what is before the cut."""
        if outcome != APPLIED or operation.kind not in "gy":
            return
        group = self.groups.get(self._key(operation, where.partition))
        if group is None:
            return
        said = parse_words(operation.other)
        if operation.kind == "y":
            group.ended.add(where.partition)
        if operation.kind == "g" and group.decided is None:
            self._decide(group, where, said)
        elif operation.kind == "y" and group.forgotten is not None:
            group.paid |= _sides(said.legs)

    def wanted(self) -> bool:
        """Whether the other end of something was not passed yet."""
        return any(
            group.early or (group.forgotten and group.paid != group.needs) for group in self.groups.values()
        )

    def open_minor(self) -> Counter[str]:
        """Currency -> minor units on `@transit` because of groups that are under way."""
        total: Counter[str] = Counter()
        for group in self.groups.values():
            total.update(group.transit)
        return total

    def unmet(self) -> Iterator[tuple[Where, str]]:
        """What is a fault if no more entries come."""
        for key, group in self.groups.items():
            if group.early:
                yield group.early, f"{_text(key)} is paid, and home has not decided it"
            elif group.forgotten and group.paid != group.needs:
                missing = ", ".join(
                    f"the {'payer' if payer else 'receiver'} of leg {idx}"
                    for idx, payer in sorted(group.needs - group.paid)
                )
                yield group.forgotten, f"{_text(key)} is forgotten, and not paid everywhere: {missing}"

    def _decide(self, group: _Group, where: Where, said: Words) -> None:
        if group.decided is not None:
            self.said.append((where, "a group is decided a second time"))
        group.decided, group.attempt, group.early = where, said.attempt, None
        group.legs = {leg.idx: leg[2:] for leg in said.legs}
        here = _sides(said.legs)
        group.needs = {(leg.idx, payer) for leg in said.legs for payer in (True, False)} - here
        if group.paid - group.needs or group.differs(group.early_legs):
            self.said.append((where, "parts of a group have paid what home did not decide"))
        group.early_legs = ()
        self._check_given_back(group)

    def _pay(self, group: _Group, where: Where, said: Words) -> None:
        attempt, legs = group.prepared.pop(where.partition, (None, ()))
        if (attempt, legs) != (said.attempt, said.legs):
            self.said.append((where, "a part of a group is paid that was not prepared so"))
        group.paid |= _sides(said.legs)
        if group.decided is None:
            group.early = where
            group.early_legs += said.legs
        elif not _sides(said.legs) <= group.needs or group.differs(said.legs):
            self.said.append((where, "a part of a group is paid otherwise than home has decided"))

    def _check_given_back(self, group: _Group) -> None:
        where = group.given_back.get(group.attempt)
        if group.decided is not None and where is not None:
            self.said.append((where, "a part of a group is given back, and home has decided to pay it"))


def _key_of(operation: Operation) -> _Key:
    return operation.account, operation.id, operation.other.partition(":")[0]


def _key_after(key: _Key) -> _Key:
    payer, id_, mark = key
    mark, _, number = mark.partition(" ")
    return payer, id_, f"{mark} {int(number or 0) + 1}"


def _text(key: _Key) -> str:
    return f"group of {key[0]}, id {key[1]},"


def _sides(legs: tuple[Leg, ...]) -> _Sides:
    payers = {(leg.idx, True) for leg in legs if leg.payer_here}
    return payers | {(leg.idx, False) for leg in legs if leg.receiver_here}


def _promised(legs: tuple[Leg, ...], sign: int) -> Counter[str]:
    moved: Counter[str] = Counter()
    for leg in legs:
        if leg.receiver_here and not is_system(leg.receiver):
            moved[leg.currency] += sign * leg.minor
    return moved


def _paid(legs: tuple[Leg, ...], set_aside: bool) -> Counter[str]:
    moved: Counter[str] = Counter()
    for leg in legs:
        if leg.payer_here:
            moved[leg.currency] += leg.minor
        if leg.receiver_here and (not set_aside or is_system(leg.receiver)):
            moved[leg.currency] -= leg.minor
    return moved
