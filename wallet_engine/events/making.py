"""Entries to events. The caller passes what an entry does not contain: facts with balances, and debits
elsewhere.

The event of a transfer across partitions comes from the entry that decides it: the one that receives the
credit, or the one that returns the money. Neither repeats the debit's fields, so the caller looks up the
debit by its place (`wanted_of`). Exactly one entry decides, so there is exactly one event.
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, Final

from wallet_engine.domain import groups
from wallet_engine.domain.entry import Entry
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.holds import receiver_in
from wallet_engine.domain.ids import is_system
from wallet_engine.domain.ids import unpack_transaction_id as _unpacked
from wallet_engine.domain.kinds import receiver_of
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX
from wallet_engine.domain.memory import PAYER_LENGTH
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.notes import LEG_REFERENCES, METADATA, REFERENCE, said_in
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import WIRE_CODES
from wallet_engine.domain.returns import parse_evidence
from wallet_engine.domain.times import time_text
from wallet_engine.events import event as types
from wallet_engine.events.event import Event, event_id
from wallet_engine.history.facts import DECLINED, OPENED, REVERSAL, Facts, Posting
from wallet_engine.history.step import APPLIED, DECLINES

#: Place of a debit: (partition, seq of the entry, idx of the operation).
Place = tuple[int, int, int]
Data = dict[str, Any]
#: (type, subject, data, accounts)
_Told = tuple[str, str, Data, tuple[str, ...]]

_FLAGGED: Final = {
    "freeze": types.ACCOUNT_FROZEN,
    "unfreeze": types.ACCOUNT_UNFROZEN,
    "close": types.ACCOUNT_CLOSED,
}
#: Cached, because three events of a transfer contain its id.
unpack_transaction_id: Final = lru_cache(maxsize=65_536)(_unpacked)
_zero: Final = lru_cache(maxsize=None)(partial(format_amount, 0))
#: The maximum balance that stands for none.
_NO_MOST: Final = str(AMOUNT_MINOR_MAX)
#: Like the class's constructor, without its call in Python.
_event: Final = partial(tuple.__new__, Event)


def wanted_of(partition: int, entry: Entry) -> list[tuple[int, Place]]:
    """The operations of which `events_of` needs to know the debit: their idx, and its place."""
    return [
        (idx, _debit_of(partition, operation))
        for idx, (operation, outcome) in enumerate(zip(entry.operations, entry.header.outcomes, strict=True))
        if operation[0] in "cr" and outcome == APPLIED
    ]


def events_of(partition: int, entry: Entry, facts: Facts, debits: Mapping[int, Operation]) -> list[Event]:
    """The events of an entry, in order: for each operation its result, then a posting for each account.

    `facts` are those of this entry only; `debits` are by the idx of the operations that want them. Raises
    `Corruption` for a missing debit.
    """
    seq, time_ms = entry.header.seq, entry.header.time_ms
    postings: dict[int, list[Posting]] = {}
    for posting in facts.postings:
        type_ = posting.type
        # Opened accounts and declined transfers have events of their own.
        if type_ != OPENED and (posting.status != DECLINED or type_ == REVERSAL):
            postings.setdefault(posting.idx, []).append(posting)
    expired = {change.idx for change in facts.holds if change.what == "expired"} if facts.holds else ()
    made = []
    for idx, (operation, outcome) in enumerate(zip(entry.operations, entry.header.outcomes, strict=True)):
        kind, by = operation[0], operation[7]
        if kind == "s":
            continue
        debit = told = None
        if outcome != APPLIED or kind != "d":  # an applied debit is decided elsewhere
            if kind in "cr" and outcome == APPLIED:
                debit = debits.get(idx)
                if debit is None or debit.kind not in "dqz":
                    raise _no_debit(partition, operation)
            told = _told(time_ms, operation, outcome, debit)
            if told is not None and idx in expired:
                told = (types.HOLD_EXPIRED, *told[1:])
        all_told = [] if told is None else [told]
        if idx in postings:
            all_told += [_posting(posting, operation, debit) for posting in postings[idx]]
        for nth, (type_, subject, data, accounts) in enumerate(all_told):
            if by:
                data["key"] = by
            made.append(_event((event_id(partition, seq, idx, nth), type_, subject, time_ms, data, accounts)))
    return made


def _told(time_ms: int, o: Operation, outcome: str, debit: Operation | None) -> _Told | None:
    """The event of the operation's result; None if it is no event, or is decided elsewhere."""
    if debit is not None:
        if o.kind == "c":
            return _received(o, debit)
        code = WIRE_CODES[o.other.split(".")[2]]
        return _transfer(types.TRANSFER_DECLINED, debit, o.account, code=code)
    if outcome != APPLIED:
        if outcome not in DECLINES:
            return None
        if o.kind in "td":
            return _transfer(types.TRANSFER_DECLINED, o, o.account, code=WIRE_CODES[outcome])
        return _group(types.GROUP_DECLINED, o, outcome) if o.kind in "mg" else None
    match o.kind:
        case "o" | "a":
            return _limits(o)
        case "f":
            return _flags(o)
        case "t":
            subject = o.other if is_system(o.account) and not is_system(o.other) else o.account
            return _transfer(types.TRANSFER_SUCCEEDED, o, subject)
        case "h" | "i" | "v" | "e":
            return _hold(o, time_ms)
        case "k":
            return _capture(o, o.account)
        case "x":
            return _refund(o, o.account)
        case "m" | "g":
            return _group(types.GROUP_SUCCEEDED, o, outcome)
        case _:
            return None


def _debit_of(partition: int, o: Operation) -> Place:
    if o.kind == "c":
        payers, _, seq = o.id.partition(".")
        return int(payers), int(seq), int(o.other)
    seq, idx, _ = o.other.split(".")
    return partition, int(seq), int(idx)


def _no_debit(partition: int, o: Operation) -> Corruption:
    where = "operation {2} of entry {1} of partition {0}".format(*_debit_of(partition, o))
    return Corruption(f"{o.line()[:200]!r} is for {where}, which is no debit")


def _received(o: Operation, debit: Operation) -> _Told:
    """A credit arrived, so what its debit began has succeeded. The operation's account is the receiver."""
    if debit.kind == "q":
        return _capture(debit, o.account)
    if debit.kind == "z":
        return _refund(debit, o.account)
    return _transfer(types.TRANSFER_SUCCEEDED, debit, o.account)


def _transfer(type_: str, o: Operation, subject: str, code: str | None = None) -> _Told:
    _, id_, payer, receiver, minor, currency, note, _ = o
    data: Data = {
        "transaction_id": unpack_transaction_id(id_),
        "from_account": payer,
        "to_account": receiver,
        "amount": format_amount(minor, currency),
        "currency": currency,
    }
    if note:
        data.update(_noted(o))
    if code is not None:
        data["code"] = code
    return type_, subject, data, (payer, receiver)


def _money(o: Operation) -> Data:
    return {"amount": format_amount(o.amount_minor, o.currency), "currency": o.currency}


def _noted(o: Operation) -> Data:
    said = said_in(o.note)
    return {
        name: said[key] for key, name in ((REFERENCE, "reference"), (METADATA, "metadata")) if key in said
    }


def _limits(o: Operation) -> _Told:
    type_, sign = (types.ACCOUNT_OPENED, "<") if o.kind == "o" else (types.ACCOUNT_UPDATED, "|")
    overdraft, _, most = o.other.partition(sign)
    data: Data = {"account_id": o.account, "currency": o.currency}
    for name, text in (("overdraft_limit", overdraft), ("max_balance", most)):
        if text == _NO_MOST:
            data[name] = None
        elif text not in ("", "-"):
            data[name] = format_amount(int(text), o.currency)
    data.update(_noted(o))
    return type_, o.account, data, (o.account,)


def _flags(o: Operation) -> _Told | None:
    """A waiting close freezes the account and may undo that: neither is an event, as no caller asked."""
    type_ = _FLAGGED.get(o.other.partition(".")[0])
    return None if type_ is None else (type_, o.account, {"account_id": o.account}, (o.account,))


def _hold(o: Operation, time_ms: int) -> _Told:
    data: Data = {"account_id": o.account}
    accounts: tuple[str, ...] = (o.account,)
    match o.kind:
        case "h":
            word, _, expires_in_ms = o.other.partition("|")
            to = receiver_in(word)
            data |= {"hold_id": unpack_transaction_id(o.id), **_money(o), **_noted(o)}
            data["expires_at"] = time_text(time_ms + int(expires_in_ms))
            if to is not None:
                data["to_account"] = to
                accounts += (to,)
            type_ = types.HOLD_PLACED
        case "i":
            data |= {"hold_id": _id_in(o.other), "transaction_id": unpack_transaction_id(o.id)}
            data |= {**_money(o), **_noted(o)}
            type_ = types.HOLD_INCREASED
        case _:
            data |= {"hold_id": unpack_transaction_id(o.id), "currency": o.currency}
            type_ = types.HOLD_VOIDED if o.kind == "v" else types.HOLD_EXPIRED
    return type_, o.account, data, accounts


def _id_in(field: str) -> str:
    """The id in a field of the partition's memory."""
    return unpack_transaction_id(field[:-PAYER_LENGTH])


def _capture(o: Operation, subject: str) -> _Told:
    to, field, share, _ = o.other.split("|")
    data = {
        "hold_id": _id_in(field),
        "transaction_id": unpack_transaction_id(o.id),
        "account_id": o.account,
        "to_account": to,
        **_money(o),
        "final": share == "f",
        **_noted(o),
    }
    return types.HOLD_CAPTURED, subject, data, (o.account, to)


def _refund(o: Operation, subject: str) -> _Told:
    original = parse_evidence(o.other)
    data: Data = {
        "transaction_id": unpack_transaction_id(o.id),
        "refund_of": unpack_transaction_id(original.transaction),
        "from_account": o.account,
        "to_account": original.payer,
        **_money(o),
        **_noted(o),
    }
    if original.leg is not None:
        data["leg"] = original.leg
    return types.REFUND_SUCCEEDED, subject, data, (o.account, original.payer)


def _group(type_: str, o: Operation, outcome: str) -> _Told | None:
    said = groups.parse_words(o.other)
    if said.word == groups.INTERRUPT:
        return None
    references = said_in(o.note).get(LEG_REFERENCES, {})
    legs = []
    for leg in said.legs:
        told = {
            "from_account": leg.payer,
            "to_account": leg.receiver,
            "amount": format_amount(leg.minor, leg.currency),
            "currency": leg.currency,
        }
        if str(leg.idx) in references:
            told["reference"] = references[str(leg.idx)]
        legs.append(told)
    data: Data = {"transaction_id": unpack_transaction_id(o.id), "from_account": o.account, "legs": legs}
    data.update(_noted(o))
    if type_ == types.GROUP_DECLINED:
        data["code"] = WIRE_CODES[outcome]
    sides = (side for leg in said.legs for side in (leg.payer, leg.receiver))
    return type_, o.account, data, tuple(dict.fromkeys((o.account, *sides)))


def _posting(posting: Posting, o: Operation, debit: Operation | None) -> _Told:
    currency, account = posting.currency, posting.account
    if account[0] == "@":  # this partition has only a part of a system account
        data: Data = {
            "account_id": account,
            "currency": currency,
            "delta": format_amount(posting.delta, currency),
        }
    else:
        held, pending = posting.held, posting.pending
        balance, zero = format_amount(posting.balance, currency), _zero(currency)
        data = {
            "account_id": account,
            "currency": currency,
            "delta": format_amount(posting.delta, currency),
            "balance": balance,
            "available": format_amount(posting.available, currency) if held else balance,
            "held": format_amount(held, currency) if held else zero,
            "pending": format_amount(pending, currency) if pending else zero,
        }
    transaction, counterparty = posting.transaction, posting.counterparty
    if debit is not None:
        transaction = debit.id
        counterparty = debit.account if o.kind == "c" else receiver_of(debit)
    if transaction:
        name = "hold_id" if o.kind in "hilve" else "transaction_id"
        data[name] = unpack_transaction_id(transaction)
    if counterparty:
        data["counterparty"] = counterparty
    return types.POSTING, account, data, (account,)
