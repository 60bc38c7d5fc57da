"""The state of a partition that the fold needs: balances, holds, and money set aside for groups."""

from typing import Final, NamedTuple

from wallet_engine.domain import holds
from wallet_engine.domain.entry import Entry
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.groups import parse_words
from wallet_engine.domain.kinds import kind_of
from wallet_engine.domain.memory import PAYER_LENGTH, transfer_field
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.history.facts import HoldState

_APPLIED: Final = Outcome.APPLIED.value


class Standing:
    """An account's money in a currency, in minor units; `balance` includes held money."""

    __slots__ = ("balance", "held", "pending")

    def __init__(self, balance: int = 0, held: int = 0, pending: int = 0) -> None:
        self.balance = balance
        self.held = held
        self.pending = pending

    def __repr__(self) -> str:
        return f"<Standing {self.balance} held={self.held} pending={self.pending}>"


AccountKey = tuple[str, str]
HoldKey = tuple[str, str]


class Book:
    """The running state of one partition, as far as entries have needed it."""

    __slots__ = ("holds", "opening", "prepared", "standings")

    def __init__(self) -> None:
        #: By (account, currency); for a system account, its stripe in this partition.
        self.standings: dict[AccountKey, Standing] = {}
        #: Accounts that an entry opens which was looked at and not folded yet: no table has them, and what was declined
        #: before they were opened is not theirs.
        self.opening: set[AccountKey] = set()
        #: By (account, packed id).
        self.holds: dict[HoldKey, HoldState] = {}
        #: Key of a group -> whether its part in this partition is set aside.
        self.prepared: dict[str, bool] = {}

    def __repr__(self) -> str:
        return f"<Book accounts={len(self.standings)} holds={len(self.holds)}>"

    def lacks(self, key: AccountKey) -> bool:
        """Whether only the tables can know the account."""
        return key not in self.standings and key not in self.opening

    def opened(self, account: str, currency: str) -> None:
        self.standings[account, currency] = Standing()
        self.opening.discard((account, currency))

    def standing(self, account: str, currency: str) -> Standing:
        """Raises `Corruption` for an account that was never opened."""
        found = self.standings.get((account, currency))
        if found is None:
            if account[:1] != "@":
                raise Corruption(f"{account} moves {currency}, and was never opened in it")
            found = self.standings[account, currency] = Standing()
        return found


class Wanted(NamedTuple):
    """What an entry needs from a book."""

    accounts: set[AccountKey]
    holds: set[HoldKey]
    groups: set[str]


def wanted(entry: Entry, book: Book, into: Wanted) -> None:
    """Add to `into` what the entry needs and the book lacks. What the tables then lack never existed.

    An account that the entry opens has no money, so nothing looks it up.
    """
    standings = book.standings
    for (kind, id_, account, other, _, currency, _, _), outcome in zip(
        entry.operations, entry.header.outcomes, strict=True
    ):
        if kind in "dcr":
            if (account, currency) not in standings and book.lacks((account, currency)):
                into.accounts.add((account, currency))
        elif kind == "t":
            for key in ((account, currency), (other, currency)):
                if key not in standings and book.lacks(key):
                    into.accounts.add(key)
        elif kind == "o":
            if outcome == _APPLIED:
                book.opening.add((account, currency))
        elif kind not in "sn":
            _wanted_rarely(kind, id_, account, other, currency, book, into)


def _wanted_rarely(
    kind: str, id_: str, account: str, other: str, currency: str, book: Book, into: Wanted
) -> None:
    if kind_of(kind).grouped:
        words = parse_words(other)
        key = transfer_field(account, id_) + words.mark
        if kind in "pyb" and key not in book.prepared:
            into.groups.add(key)
        sides = [(leg.payer, leg.currency) for leg in words.legs if leg.payer_here]
        sides += [(leg.receiver, leg.currency) for leg in words.legs if leg.receiver_here]
    else:
        sides = [(account, currency)]
        if kind in "kx":
            sides.append((holds.receiver_of(other), currency))
        if kind in "ikqulve":
            hold = (account, hold_id_of(kind, id_, other))
            if hold not in book.holds:
                into.holds.add(hold)
    into.accounts.update(side for side in sides if book.lacks(side))


def hold_id_of(kind: str, id_: str, other: str) -> str:
    """The packed id of the hold that an operation on a hold names."""
    if kind in "ve":
        return id_
    return (other if kind == "i" else holds.hold_field_of(other))[:-PAYER_LENGTH]
