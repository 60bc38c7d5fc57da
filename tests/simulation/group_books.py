"""The auditor's own books of groups: each partition's promises; none pays or gives back before home has decided.

Entries come in the order in which they become durable, so a decision comes before everything that may only follow it.
"""

from collections import Counter
from dataclasses import dataclass, field

from simulation.world import World

from wallet_engine.domain.groups import Leg, Words
from wallet_engine.domain.operation import Operation


@dataclass(slots=True)
class _Books:
    """The books of one body. `needs`: legs and sides (True: the payer's) that partitions other than home must pay.

    A group that all partitions have forgotten may be paid again: `needs` and `paid` are those of the last time.
    """

    decided: str = ""
    times_paid: int = 0
    needs: set[tuple[int, bool]] = field(default_factory=set)
    paid: set[tuple[int, bool]] = field(default_factory=set)
    promised: dict[int, tuple[Leg, ...]] = field(default_factory=dict)


class GroupBooks:
    def __init__(self, world: World) -> None:
        self.world = world
        self._books: dict[tuple[str, str, str], _Books] = {}
        #: (payer, id) -> marks of which home has decided something
        self._decided: dict[tuple[str, str], set[str]] = {}

    def __repr__(self) -> str:
        return f"<GroupBooks {len(self._books)}>"

    def is_paid(self, payer: str, id_: str, mark: str) -> bool:
        """Also if home has forgotten that, and has decided since that an attempt is void."""
        books = self._books[payer, id_, mark]
        return books.decided in ("+", "u") and books.times_paid > 0 and books.paid == books.needs

    def times_paid(self, payer: str, id_: str, mark: str) -> int:
        """How often home has decided to pay it."""
        books = self._books.get((payer, id_, mark))
        return books.times_paid if books else 0

    def took_place(self, partition: int, operation: Operation, said: Words, outcome: str) -> Counter[str]:
        """What the operation has put on `@transit`: currency -> minor units."""
        name, text = (operation.account, operation.id), operation.line()
        books = self._books.setdefault((*name, said.mark), _Books())
        if operation.kind in "mg":
            return self._decide(name, books, said, outcome)
        if outcome != "+":
            return Counter()
        if operation.kind == "p":
            if partition in books.promised:
                self.world.violate(f"G4: promised twice: {text}")
            books.promised[partition] = said.legs
            return _promises(said.legs, -1)
        if operation.kind == "y":
            if books.decided != "+" or books.promised.pop(partition, None) != said.legs:
                self.world.violate(f"G1: paid, and {books} was decided and promised: {text}")
            if books.paid & _sides(said.legs):
                self.world.violate(f"G4: paid twice for one decision: {text}")
            books.paid |= _sides(said.legs)
            return _payments(said.legs, promised=True)
        if operation.kind == "b" and partition in books.promised:
            if books.decided == "+" or name not in self._decided:
                self.world.violate(f"G1: given back, and home decided {books.decided or 'nothing'}: {text}")
            del books.promised[partition]
            return _promises(said.legs, 1)
        if operation.kind == "w" and books.paid != books.needs:
            self.world.violate(f"G9: forgotten, and not paid everywhere: {text}")
        return Counter()

    def _decide(self, name: tuple[str, str], books: _Books, said: Words, outcome: str) -> Counter[str]:
        self._decided.setdefault(name, set()).add(said.mark)
        if books.paid != books.needs:
            self.world.violate(f"G1: decided again ({outcome}), and not paid everywhere: {books}")
        books.decided = outcome
        if outcome != "+":
            return Counter()
        books.times_paid += 1
        books.paid = set()
        books.needs = {(leg.idx, payer) for leg in said.legs for payer in (True, False)} - _sides(said.legs)
        return _payments(said.legs, promised=False)


def _sides(legs: tuple[Leg, ...]) -> set[tuple[int, bool]]:
    payers = {(leg.idx, True) for leg in legs if leg.role in "pb"}
    return payers | {(leg.idx, False) for leg in legs if leg.role in "rb"}


def _promises(legs: tuple[Leg, ...], sign: int) -> Counter[str]:
    total: Counter[str] = Counter()
    for leg in legs:
        if leg.role in "rb" and not leg.receiver.startswith("@"):
            total[leg.currency] += sign * leg.minor
    return total


def _payments(legs: tuple[Leg, ...], *, promised: bool) -> Counter[str]:
    """Payers put money on `@transit`; receivers take it from there, unless they did so when they promised."""
    total: Counter[str] = Counter()
    for leg in legs:
        if leg.role in "pb":
            total[leg.currency] += leg.minor
        if leg.role in "rb" and not (promised and not leg.receiver.startswith("@")):
            total[leg.currency] -= leg.minor
    return total
