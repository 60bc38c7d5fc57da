"""The auditor's own books of holds: what each still holds, which receiver it is for, and when it has ended.

Entries come in the order in which they become durable. The times that entries record decide what was in time.
"""

from dataclasses import dataclass
from typing import Final

from simulation.world import World

from wallet_engine.domain import holds
from wallet_engine.domain.operation import Operation

_OPEN: Final = "open"


@dataclass(slots=True)
class HoldBook:
    """One hold; minor units. `busy`: (seq, idx) of the final capture that is on its way to another partition."""

    account: str
    to: str
    currency: str
    amount: int
    expires_ms: int
    captured: int = 0
    released: int = 0
    status: str = _OPEN
    busy: tuple[int, int] | None = None

    @property
    def remaining(self) -> int:
        return self.amount - self.captured - self.released

    def figures(self) -> tuple[str, int, int, int]:
        return self.status, self.amount, self.captured, self.released


class HoldBooks:
    """`books[field]` of (account, id) is a hold, for as long as the simulation lasts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.books: dict[str, HoldBook] = {}

    def __repr__(self) -> str:
        return f"<HoldBooks {len(self.books)}>"

    def find(self, account: str, hold_id: str) -> HoldBook | None:
        return self.books.get(holds.field_of(account, hold_id))

    def held(self, account: str, currency: str) -> int:
        """The sum of an account's open holds."""
        mine = (book for book in self.books.values() if (book.account, book.currency) == (account, currency))
        return sum(book.remaining for book in mine)

    def took_place(self, operation: Operation, seq: int, idx: int, time_ms: int, *, credited: bool) -> None:
        """An operation on a hold was applied. `credited`: whether the capture that ends it was received."""
        kind, account, other = operation.kind, operation.account, operation.other
        if kind == "h":
            to, expires_in_ms = other.split("|")
            field = holds.field_of(account, operation.id)
            if field in self.books:
                self._wrong("G4: placed twice", operation)
            expires_ms = time_ms + int(expires_in_ms)
            self.books[field] = HoldBook(account, to, operation.currency, operation.amount_minor, expires_ms)
            return
        field = (
            holds.field_of(account, operation.id)
            if kind in "ve"
            else other
            if kind == "i"
            else holds.hold_field_of(other)
        )
        book = self.books.get(field)
        if book is None or (book.account, book.currency) != (account, operation.currency):
            self._wrong(f"G1: it is not a hold of the account: {book}", operation)
            return
        if kind == "u":
            self._undone(book, operation)
        elif kind == "l":
            self._finished(book, operation, credited=credited)
        else:
            self._used(book, operation, (seq, idx), time_ms)
        if book.remaining < 0 or min(book.captured, book.released) < 0:
            self._wrong(f"G3: it takes more than there is: {book}", operation)

    def _used(self, book: HoldBook, operation: Operation, at: tuple[int, int], time_ms: int) -> None:
        """A use of a hold, which must be open, and which no operation may be about to end."""
        kind, minor = operation.kind, operation.amount_minor
        if book.status != _OPEN or book.busy is not None:
            self._wrong(f"G4: of a hold that has ended, or is about to: {book}", operation)
        elif (kind == "e") != (time_ms >= book.expires_ms) and kind != "v":
            self._wrong(f"G4: at {time_ms}, and it expires at {book.expires_ms}", operation)
        if kind == "i":
            book.amount += minor
        elif kind in "ve":
            book.released += book.remaining
            book.status = "expired" if time_ms >= book.expires_ms else "voided"
        else:
            to, _, share, _ = operation.other.split("|")
            if book.to not in (holds.NOBODY, to):
                self._wrong(f"G1: money of a hold for {book.to} goes to {to}", operation)
            ends = share == "f" or minor == book.remaining
            book.captured += minor
            if ends and kind == "q":
                book.busy = at
            elif ends:
                self._captured(book)

    def _captured(self, book: HoldBook) -> None:
        book.released += book.remaining
        book.status, book.busy = "captured", None

    def _undone(self, book: HoldBook, operation: Operation) -> None:
        """The receiver has refused: the hold is as before, or, if it has ended, the money is available."""
        seq, idx, _ = operation.other.partition("|")[0].split(".")
        book.captured -= operation.amount_minor
        if book.status != _OPEN:
            book.released += operation.amount_minor
        elif book.busy == (int(seq), int(idx)):
            book.busy = None

    def _finished(self, book: HoldBook, operation: Operation, *, credited: bool) -> None:
        seq, idx = operation.other.partition("|")[0].split(".")
        if book.busy != (int(seq), int(idx)) or not credited:
            self._wrong(f"G1: released, and its capture was not received: {book}", operation)
        self._captured(book)

    def _wrong(self, text: str, operation: Operation) -> None:
        self.world.violate(f"{text}: {operation.line()}")

    def restless(self, now_ms: int) -> str:
        """A hold that must end by itself and has not; empty when there is none."""
        for field, book in self.books.items():
            if book.busy is not None:
                return f"the final capture of {field} is under way: {book}"
            if book.status == _OPEN and book.expires_ms <= now_ms:
                return f"hold {field} has expired: {book}"
        return ""
