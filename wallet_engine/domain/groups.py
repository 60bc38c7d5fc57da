"""A group: transfers that happen together or not at all. The words of its operations and the form of its records.

The payer of the first leg and an id name a group. The partition that remembers that payer's transfers is its
**home**; the other partitions that it reaches are its parts. `Operation.other` holds the words of an
operation::

    <mark>:<attempt>:<word>:<legs>

    mark     hash of the whole body, legs and note: money set aside for one body is never paid for another
    attempt  0, or one more than the last interrupted attempt
    word     only in `g`: `c` commit; `a.<leg>.<code>` a leg was refused elsewhere; `r` interrupted. Else `-`
    legs     `m` and `g`: all; `p`, `y` and `b`: those of the partition; `w`, and `g` with the word `r`: none

    leg      <role><index>|<payer>|<receiver>|<minor>|<CCY>;
    role     `p` its payer is in the partition, `r` its receiver, `b` both, `n` neither

While a group is under way, a partition has its record in `group{tag}`, under <field of (first payer,
id)><mark>::

    <P prepared, C committed: parts are still to be told> <first payer> <seq>.<idx> <words of the operation>

When it has ended, `seen:<window>{tag}` remembers it as long as transfers. The home keeps the answer under the
field, as for a transfer, and under `g<field>`: `<index of the refused leg, or -> <words of the operation>`. A
part keeps under `g<field><mark>`: `C 0` if it paid, or `B <attempt>` if it has nothing set aside for this
attempt and never will.
"""

from binascii import b2a_base64
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.ids import TRANSIT, is_system
from wallet_engine.domain.key_names import BALANCE, GROUP, HELD, PENDING, SEEN
from wallet_engine.domain.memory import transfer_field

PAYER_HERE: Final = "p"
RECEIVER_HERE: Final = "r"
BOTH_HERE: Final = "b"
ELSEWHERE: Final = "n"

PREPARED: Final = "P"
COMMITTED: Final = "C"
#: In the memory of a part: the attempt was aborted.
ABORTED: Final = "B"

COMMIT: Final = "c"
INTERRUPT: Final = "r"
#: Stands for the word of an operation that has none, and for the refused leg of a group that was not refused.
NONE: Final = "-"

#: Prefix of the field of a group, or of a part of one, in `seen`.
REMEMBERED: Final = "g"
LEGS_MAX: Final = 100
PARTITIONS_MAX: Final = 32
#: The kinds of operations that may have legs.
LEGGED: Final = frozenset("mgpyb")
#: Bytes of a mark. It takes about 2^72 bodies to find two with the same mark.
_MARK_BYTES: Final = 18


class Leg(NamedTuple):
    """One transfer of a group, as a partition sees it; minor units."""

    role: str
    idx: int
    payer: str
    receiver: str
    minor: int
    currency: str

    @property
    def payer_here(self) -> bool:
        return self.role in "pb"

    @property
    def receiver_here(self) -> bool:
        return self.role in "rb"

    def text(self) -> str:
        return f"{self.role}{self.idx}|{self.payer}|{self.receiver}|{self.minor}|{self.currency};"


class Words(NamedTuple):
    """The parts of `Operation.other`."""

    mark: str
    attempt: int
    word: str
    legs: tuple[Leg, ...]

    def text(self) -> str:
        return words(*self)


class Record(NamedTuple):
    """A group that is under way in a partition."""

    status: str
    payer: str
    place: str
    words: Words

    @property
    def seq(self) -> int:
        """The entry that has made the record."""
        return int(self.place.partition(".")[0])

    def text(self) -> str:
        return f"{self.status} {self.payer} {self.place} {self.words.text()}"


class Remembered(NamedTuple):
    """What the home remembers about a group besides its answer; `refused_leg` is an index or `-`."""

    refused_leg: str
    words: Words

    def text(self) -> str:
        return f"{self.refused_leg} {self.words.text()}"


def legs_text(legs: Iterable[Leg]) -> str:
    return "".join(leg.text() for leg in legs)


def parse_legs(text: str) -> tuple[Leg, ...]:
    """The inverse of `legs_text`. Raises ValueError."""
    return tuple(_legs(text))


def _legs(text: str) -> Iterator[Leg]:
    *texts, end = text.split(";")
    if end:
        raise ValueError(f"legs without an end: {text[:200]!r}")
    for leg in texts:
        place, payer, receiver, minor, currency = leg.split("|")
        if place[0] not in "prbn" or payer == receiver or TRANSIT in (payer, receiver):
            raise ValueError(f"not a leg: {leg!r}")
        yield Leg(place[0], int(place[1:]), payer, receiver, int(minor), currency)


def words(mark: str, attempt: int, word: str, legs: Iterable[Leg]) -> str:
    """`Operation.other`."""
    return f"{mark}:{attempt}:{word}:{legs_text(legs)}"


def refused_elsewhere(leg: int, code: str) -> str:
    """The word of a `g` that says that a leg was refused in another partition."""
    return f"a.{leg}.{code}"


def parse_words(other: str) -> Words:
    """The inverse of `words`. Raises ValueError."""
    mark, attempt, word, legs = other.split(":", 3)
    return Words(mark, int(attempt), word, parse_legs(legs))


def mark_of(other: str) -> str:
    """The mark in the words: the fingerprint of the operation is computed from it."""
    return other.partition(":")[0]


def mark_for(transfers: Iterable[tuple[str, str, int, str]], note: str) -> str:
    """The mark of a body: (payer, receiver, minor units, currency) of its legs in order, and the note."""
    body = "".join(
        f"{payer}|{receiver}|{minor}|{currency};" for payer, receiver, minor, currency in transfers
    )
    digest = blake2b(f"{body}\n{note}".encode(), digest_size=_MARK_BYTES).digest()
    return b2a_base64(digest, newline=False).decode()


def parse_record(text: str) -> Record:
    """The inverse of `Record.text`. Raises `Corruption`."""
    try:
        status, payer, place, said = text.split(" ")
        return Record(status, payer, place, parse_words(said))
    except ValueError:
        raise Corruption(f"not a group: {text[:200]!r}") from None


def parse_remembered(text: str) -> Remembered:
    """The inverse of `Remembered.text`. Raises `Corruption`."""
    try:
        refused_leg, said = text.split(" ")
        return Remembered(refused_leg, parse_words(said))
    except ValueError:
        raise Corruption(f"not a group: {text[:200]!r}") from None


def currencies_of(other: str) -> set[str]:
    """The currencies of the legs."""
    return {leg.rpartition("|")[2] for leg in other.split(":", 3)[3].split(";") if leg}


def touched_of(kind: str, account: str, id_: str, other: str) -> list[tuple[str, str]]:
    """(key without tag, field) of everything an operation may change; `seen` means the window in force."""
    mark, _, _, legs = parse_words(other)
    field = transfer_field(account, id_)
    touched = [(GROUP, field + mark)]
    if kind != "w":
        touched.append((SEEN, REMEMBERED + field + ("" if kind in "mg" else mark)))
    for leg in legs:
        if leg.role == ELSEWHERE:
            continue
        balance = f"{BALANCE}:{leg.currency}"
        touched.append((balance, TRANSIT))
        touched.append((balance, TRANSIT + "+"))
        for name, here, book in (
            (leg.payer, leg.payer_here, HELD),
            (leg.receiver, leg.receiver_here, PENDING),
        ):
            if here:
                touched.append((balance, name))
                touched.append((balance, name + "+") if is_system(name) else (f"{book}:{leg.currency}", name))
    return touched
