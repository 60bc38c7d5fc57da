"""The kinds of operations, one row each. All code about operations in general reads these rows.

Two places decide a kind, and share nothing on purpose: `lua/apply.lua` for Redis and `domain/oracle_rules.py`
for the proof. Everything else about a kind is here. `lua/lib/kinds.lua` names the same letters.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final

from wallet_engine.domain import groups, holds, returns
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.ids import TRANSIT
from wallet_engine.domain.key_names import NOTED, SEEN
from wallet_engine.domain.operation import Operation, Words


class Id(Enum):
    """What `Operation.id` holds, and so what the field in the columns is."""

    NONE = "-"
    TRANSACTION = "a packed transaction id; the field is that of (account, id) in the memory"
    CREDIT = "<p>.<seq> of the debit; the field is that of twenty such entries"
    ENTRY = "the seq of an entry of this partition"
    ASKER = "who asks"


class Other(Enum):
    """What `Operation.other` holds, and which column it is in."""

    NONE = "-"
    RECEIVER = "an account elsewhere, among the receivers"
    ACCOUNT = "an account of this partition, behind the accounts"
    DETAIL = "a text of the kind, among the details"
    MARK = "the idx of the debit, as a mark among the details"


#: (account, whether it pays)
Sides = tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """One row.

    `sides`: which balances in this partition change when it is applied, and in which direction.
    """

    letter: str
    name: str
    id: Id
    other: Other
    has_currency: bool = True
    sides: Callable[[Operation], Sides] = lambda operation: ()
    #: The window in force keeps its outcome: for a transfer under (account, id), for a credit under its
    #: debit.
    remembered: bool = False
    #: It changes an answer that one of the two windows already keeps, if that is the answer of what it undoes.
    rewrites: bool = False
    #: It may write `flags` of its account.
    flags: bool = False
    #: Its entry stays in `open` until everything that follows from it has ended.
    opens: bool = False
    #: It needs the extended text of the script, and the keys of holds and groups.
    extended: bool = False
    #: What it may change besides the balances of `sides`, `flags` and its own answer: (key without tag,
    #: field).
    touches: Callable[[Operation], Iterable[tuple[str, str]]] = lambda operation: ()
    #: The script reads its account in each currency that the call names (`lua/lib/several.lua`), unless it
    #: has its own.
    everywhere: bool = False
    #: It ends what another operation began, so the script accepts it where it refuses new work
    #: (`lua/apply.lua`).
    ends: bool = False
    #: Its detail has the form of `domain/groups.py`: its legs name the currencies that it needs.
    grouped: bool = False
    #: Cost in a call of the script, as a number of transfers; for a group, the cost of each leg.
    weight: int = 1


def _to_other(operation: Operation) -> Sides:
    return (operation.account, True), (operation.other, False)


def _to_transit(operation: Operation) -> Sides:
    return (operation.account, True), (TRANSIT, False)


def _from_transit(operation: Operation) -> Sides:
    return (TRANSIT, True), (operation.account, False)


def _from_here(operation: Operation) -> Sides:
    return ((operation.account, True),)


def _captured(operation: Operation) -> Sides:
    return (holds.receiver_of(operation.other), False), (TRANSIT, False)


def _hold_by_id(operation: Operation) -> list[tuple[str, str]]:
    return holds.touched_of(
        holds.field_of(operation.account, operation.id), operation.account, operation.currency
    )


def _hold_in_words(operation: Operation) -> list[tuple[str, str]]:
    field = operation.other if operation.kind == "i" else holds.hold_field_of(operation.other)
    return holds.touched_of(field, operation.account, operation.currency)


def _given_back(operation: Operation) -> Sides:
    return (operation.account, True), (holds.receiver_of(operation.other), False), (TRANSIT, False)


def _total(operation: Operation) -> list[tuple[str, str]]:
    return [(SEEN, field) for field in returns.total_fields(operation.other)]


def _opened(operation: Operation) -> Sides:
    return ((operation.account, False),)


def _noted(operation: Operation) -> list[tuple[str, str]]:
    return [(NOTED, operation.account)] if operation.note else []


def _group(operation: Operation) -> list[tuple[str, str]]:
    return groups.touched_of(operation.kind, operation.account, operation.id, operation.other)


_Grouped: Final = partial(
    Kind,
    id=Id.TRANSACTION,
    other=Other.DETAIL,
    has_currency=False,
    extended=True,
    grouped=True,
    touches=_group,
    weight=3,
)
_Held: Final = partial(Kind, id=Id.TRANSACTION, other=Other.DETAIL, extended=True, weight=3)

_TABLE: Final = (
    Kind("o", "open_account", Id.NONE, Other.DETAIL, sides=_opened, flags=True, touches=_noted),
    Kind("t", "transfer", Id.TRANSACTION, Other.ACCOUNT, sides=_to_other, remembered=True),
    Kind("d", "debit", Id.TRANSACTION, Other.RECEIVER, sides=_to_transit, remembered=True, opens=True),
    Kind("c", "credit", Id.CREDIT, Other.MARK, sides=_from_transit, remembered=True, ends=True),
    Kind("r", "refund", Id.TRANSACTION, Other.DETAIL, sides=_from_transit, rewrites=True, ends=True),
    Kind("s", "settle", Id.ENTRY, Other.NONE, has_currency=False, ends=True),
    Kind(
        "f",
        "set_flags",
        Id.NONE,
        Other.DETAIL,
        has_currency=False,
        flags=True,
        everywhere=True,
        extended=True,
    ),
    Kind("a", "set_limits", Id.NONE, Other.DETAIL, flags=True, extended=True, touches=_noted),
    Kind("n", "probe", Id.ASKER, Other.DETAIL, has_currency=False, everywhere=True),
    _Held("h", "hold", sides=_from_here, remembered=True, touches=_hold_by_id),
    _Held("i", "increase", sides=_from_here, remembered=True, touches=_hold_in_words),
    _Held("k", "capture", sides=_captured, remembered=True, touches=_hold_in_words),
    _Held("q", "capture_debit", sides=_captured, remembered=True, opens=True, touches=_hold_in_words),
    _Held("u", "uncapture", sides=_from_transit, rewrites=True, ends=True, touches=_hold_in_words),
    _Held("l", "finish_hold", ends=True, touches=_hold_in_words),
    _Held("v", "void", touches=_hold_by_id),
    _Held("e", "expire", touches=_hold_by_id),
    _Held("x", "return", sides=_given_back, remembered=True, touches=_total),
    _Held("z", "return_debit", sides=_given_back, remembered=True, opens=True, touches=_total),
    _Held("j", "unreturn", sides=_from_transit, rewrites=True, ends=True, touches=_total),
    _Grouped("m", "group", remembered=True),
    _Grouped("p", "prepare"),
    _Grouped("g", "decide_group", remembered=True, ends=True),
    _Grouped("y", "commit", ends=True),
    _Grouped("b", "abort", ends=True),
    _Grouped("w", "forget", ends=True),
)

#: Letter -> row, in the order in which one operation of a transfer causes the next.
KINDS: Final = {kind.letter: kind for kind in _TABLE}
#: The letters of kinds that a lookup finds as a transfer and that have one receiver.
_TRANSFERS: Final = frozenset("tdkqxz")
#: The letters of kinds that count as more than one transfer.
HEAVY: Final = frozenset(kind.letter for kind in _TABLE if kind.weight > 1)


def weight_of(operation: Words) -> int:
    """How many transfers an operation counts as, towards the limit of one call of the script."""
    kind = KINDS[operation[0]]
    return kind.weight * max(1, operation[3].count(";")) if kind.grouped else kind.weight


def receiver_of(operation: Operation) -> str:
    """The account that receives the money of a transfer, debit, capture or refund."""
    return holds.receiver_of(operation.other) if operation.kind in "kqxz" else operation.other


def parties_of(operation: Operation) -> tuple[str, ...]:
    """The accounts that a transfer, capture, refund or group touches besides the one it is named by."""
    if kind_of(operation.kind).grouped:
        legs = groups.parse_words(operation.other).legs
        return tuple(party for leg in legs for party in (leg.payer, leg.receiver))
    return (receiver_of(operation),) if operation.kind in _TRANSFERS else ()


def kind_of(letter: str) -> Kind:
    """The row of a letter. Raises `Corruption` for one that this version does not know."""
    kind = KINDS.get(letter)
    if kind is None:
        raise Corruption(f"there is no kind of operation {letter!r}: it is of a newer version, or damaged")
    return kind
