"""A hold: money of one account that is set aside for later. The form of its record, and of the words about it.

The record of an open hold is in `hold{tag}`, under the field of (account, id) as `domain/memory.py` makes it.
The same field is a member of `due{tag}`; its score is the expiry. When the hold has ended,
`seen:<window>{tag}` remembers it under `h<field>` as long as transfers. The record is words separated by
spaces::

    status account to currency amount captured released captures expires_ms mark place busy[ reference]

    to        the only account that captures may go to; `-`: each capture names its own; `=-`: the account named `-`
    captures  number of captures
    mark      fingerprint of the body with which it was placed
    place     <seq>.<idx> of the operation that placed it
    busy      <seq>.<idx> of a final capture that is under way to another partition; `-`
"""

from dataclasses import dataclass
from typing import Final

from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.groups import mark_of
from wallet_engine.domain.key_names import BALANCE, DUE, HELD, HOLD, SEEN
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.outcomes import Outcome

OPEN: Final = "O"
CAPTURED: Final = "C"
VOIDED: Final = "V"
EXPIRED: Final = "X"
#: Status in a record of a hold that has ended -> the refusal of what needs an open one.
REFUSALS: Final = {
    CAPTURED: Outcome.HOLD_NOT_OPEN,
    VOIDED: Outcome.HOLD_NOT_OPEN,
    EXPIRED: Outcome.HOLD_EXPIRED,
}
#: Status in a record -> as callers see it.
STATUS_WORDS: Final = {OPEN: "open", CAPTURED: "captured", VOIDED: "voided", EXPIRED: "expired"}

EXPIRES_IN_S_MAX: Final = 2_592_000
EXPIRES_IN_S_DEFAULT: Final = 604_800
#: Open holds of one account, and captures of one hold.
OPEN_HOLDS_MAX: Final = 1_000
CAPTURES_MAX: Final = 50

#: Prefix of the field of an ended hold in `seen`.
ENDED: Final = "h"
#: Prefix of an account's name in `hold`; the field is the number of its open holds.
COUNT: Final = "#"
#: Stands for the outcome in the dedupe memory when a hold was placed or increased, because that is not a
#: transfer.
HOLD_RECORD: Final = "H"
NOBODY: Final = "-"
#: Stands before the name of the account that reads as `NOBODY`; no name has this character.
_NAMED: Final = "="


@dataclass(slots=True)
class Hold:
    """One hold; amounts in minor units."""

    status: str
    account: str
    to: str
    currency: str
    amount: int
    captured: int
    released: int
    captures: int
    expires_ms: int
    mark: str
    place: str
    busy: str = NOBODY
    reference: str = ""

    @property
    def receiver(self) -> str | None:
        """The only account that captures may go to."""
        return receiver_in(self.to)

    @property
    def remaining(self) -> int:
        return self.amount - self.captured - self.released

    def text(self) -> str:
        """The record."""
        words: tuple[str | int, ...] = (self.status, self.account, self.to, self.currency)
        words += (self.amount, self.captured, self.released)
        words += (self.captures, self.expires_ms, self.mark, self.place, self.busy)
        return " ".join(map(str, (*words, self.reference) if self.reference else words))


def parse_hold(text: str) -> Hold:
    """The inverse of `Hold.text`. Raises `Corruption`."""
    try:
        status, account, to, currency, *numbers, mark, place, busy = text.split(" ", 12)[:12]
        reference = "".join(text.split(" ", 12)[12:])
        amount, captured, released, captures, expires_ms = map(int, numbers)
    except ValueError:
        raise Corruption(f"not a hold: {text[:200]!r}") from None
    return Hold(
        *(status, account, to, currency, amount, captured, released),
        *(captures, expires_ms, mark, place, busy, reference),
    )


def told_hold(words: list[str]) -> Hold | None:
    """The hold that the script returned after an operation, or None if it returned none."""
    return parse_hold(" ".join(words)) if words else None


# What stands in `Operation.other`.


def placing(to: str | None, expires_in_s: int) -> str:
    """For placing a hold."""
    word = NOBODY if to is None else _NAMED + to if to == NOBODY else to
    return f"{word}|{expires_in_s * 1000}"


def receiver_in(word: str) -> str | None:
    """The receiver that a hold's word for it names."""
    return None if word == NOBODY else word.removeprefix(_NAMED)


def capturing(to: str, hold_field: str, final: bool, asked_minor: int | None) -> str:
    """For a capture; `asked_minor` is None when the caller wants all that remains."""
    asked = "-" if asked_minor is None else str(asked_minor)
    return f"{to}|{hold_field}|{'f' if final else 'p'}|{asked}"


def receiver_of(other: str) -> str:
    """The receiver of a capture."""
    return other.partition("|")[0]


def hold_field_of(other: str) -> str:
    """The field of the hold that a capture takes from, or that an operation ends or undoes."""
    return other.split("|")[1]


def uncapturing(seq: int, idx: int, decline: str, hold_field: str) -> str:
    """For undoing a capture."""
    return f"{seq}.{idx}.{decline}|{hold_field}"


def finishing(seq: int, idx: int, hold_field: str) -> str:
    """For ending a hold after its final capture."""
    return f"{seq}.{idx}|{hold_field}"


def body_of(kind: str, other: str, amount_minor: int, currency: str) -> str:
    """The words that a fingerprint is made of.

    For captures and refunds the requested amount counts, not the paid one.
    """
    if kind in "mg":
        return mark_of(other)
    return f"{other} {currency}" if kind in "kqxz" else f"{kind} {other} {amount_minor} {currency}"


def touched_of(hold_field: str, account: str, currency: str) -> list[tuple[str, str]]:
    """(key without tag, field) of all that an operation on a hold may change; `seen`: the current window."""
    return [
        *((HOLD, hold_field), (HOLD, COUNT + account), (DUE, hold_field), (SEEN, ENDED + hold_field)),
        *((f"{HELD}:{currency}", account), (f"{BALANCE}:{currency}", account)),
    ]


def field_of(account: str, hold_id: str) -> str:
    """Where a hold's record is; `hold_id` is packed."""
    return transfer_field(account, hold_id)
