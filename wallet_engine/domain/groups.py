"""A group: transfers that happen together or not at all. The words of its operations and the form of its records.

A group is named by the payer of its first leg and an id; the partition that remembers that payer's transfers is its
**home**, the others that it reaches are its parts. What an operation says stands in `Operation.other`::

    <mark>:<attempt>:<word>:<legs>

    mark     hash of the whole body, legs and note: what is set aside for one body is never paid for another
    attempt  0; one more than the last attempt that was interrupted
    word     of `g` alone: `c` commit; `a.<leg>.<code>` a leg was refused elsewhere; `r` it was interrupted. Else `-`
    legs     of `m` and `g` all, of `p`, `y` and `b` those of the partition; of `w` and of a `g` that says `r` none

    leg      <role><index>|<payer>|<receiver>|<minor>|<CCY>;
    role     `p` its payer is in the partition, `r` its receiver, `b` both, `n` neither

While it is under way a partition has its record in `group{tag}`, under <field of (first payer, id)><mark>::

    <P prepared, C committed: parts are still to be told> <first payer> <seq>.<idx> <words of the operation>

What has ended is remembered in `seen:<window>{tag}`, as long as transfers are. At home: the answer under the field, as
of a transfer, and under `g<field>` `<index of the leg that was refused, or -> <words of the operation>`. In a part,
under `g<field><mark>`: `C 0`, or `B <attempt>` of an attempt that has set nothing aside, and never will.
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
#: Of what a part remembers.
ABORTED: Final = "B"

COMMIT: Final = "c"
INTERRUPT: Final = "r"
#: The word of operations that have none, and the leg of a group that was not refused.
NONE: Final = "-"

#: Before the field of a group, or of a part of one, in `seen`.
REMEMBERED: Final = "g"
LEGS_MAX: Final = 100
PARTITIONS_MAX: Final = 32
#: The kinds of operations that may have legs.
LEGGED: Final = frozenset("mgpyb")
#: Bytes of a mark. It takes 2^72 bodies to find two that are alike.
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
    """What stands in `Operation.other`."""

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
    """What the home remembers of a group beside its answer; `refused_leg` is an index or `-`."""

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
    """The word of a `g` that says so."""
    return f"a.{leg}.{code}"


def parse_words(other: str) -> Words:
    """The inverse of `words`. Raises ValueError."""
    mark, attempt, word, legs = other.split(":", 3)
    return Words(mark, int(attempt), word, parse_legs(legs))


def mark_of(other: str) -> str:
    """What the fingerprint of an operation is made of."""
    return other.partition(":")[0]


def mark_for(transfers: Iterable[tuple[str, str, int, str]], note: str) -> str:
    """The mark of a body: (payer, receiver, minor units, currency) of its legs in their order, and what is noted."""
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
    """(key without tag, field) of all that an operation may change; `seen` stands for that in force."""
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
