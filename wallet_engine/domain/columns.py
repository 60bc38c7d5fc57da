"""The operations of an entry in columns: one form for the apply script, the stream and the journal.

Lua reads them from one JSON array, which C code decodes. A string in it costs about as much as reading a
field of a hash. So text that the script does not read is joined into one string, and the rest has the form
the script needs::

    ["dtcs", "USD", "bob", 6,                                    kinds, currency, receivers, number of accounts
     "<txid><payer>", "<txid><payer>", "3.24", "17",             fields, one for each operation
     "alice", "dave", "erin", "-", "frank", "@transit",          accounts
     1234, 5, 700, 0,                                            amounts in minor units, one for each operation
     "bAH",                                                      details
     {"by": "k7", "notes": {"1": {"ref": "rent"}}}]              only if there is a key or a note

    kinds      a letter for each operation
    currency   the currency of all operations that have one; if there are several, an array, one per operation
    receivers  of the debits, separated by spaces; the script does not use them
    fields     where `seen` remembers a transfer, debit, refund or credit (`domain/memory.py`);
               the seq of a settle; the name of the prober; `-`
    accounts   the account of each operation, then the receivers of transfers in order, then `@transit`
    details    in order: `other` of operations that open, refund, set flags or probe; the mark of a credit

    by         the API key that caused them; if they differ, an array, one per operation, empty for none
    notes      idx of an operation -> its note (`domain/notes.py`)

The row of a kind in `domain/kinds.py` says where its words stand; the four common kinds have their own
branches.

The columns hold everything that the lines held. No word of an entry holds a quote, a comma or a backslash;
notes may.
"""

import re
from binascii import b2a_base64
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import repeat
from typing import Any, Final, NamedTuple
from zlib import adler32, crc32

import msgspec
from siphashc import siphash

from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.groups import currencies_of
from wallet_engine.domain.holds import body_of
from wallet_engine.domain.ids import TRANSIT
from wallet_engine.domain.kinds import KINDS, Id, Other, kind_of
from wallet_engine.domain.memory import (
    CREDIT_INDEXES,
    IDX_TEXTS,
    INDEXES,
    PAYER_KEY,
    PAYER_LENGTH,
    credit_field,
    credit_of,
    is_field_of,
    transfer_field,
)
from wallet_engine.domain.notes import canonical
from wallet_engine.domain.operation import Operation, Words

_NO_CURRENCY: Final = "-"
_marks: Final = dict(zip(IDX_TEXTS, CREDIT_INDEXES, strict=True))
_key_match = re.compile(r"[!-~]{0,64}").fullmatch
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Any]).decode
_IDX_BYTES: Final = tuple(idx.to_bytes(2) for idx in range(len(INDEXES)))
_credit_field = lru_cache(maxsize=4096)(credit_field)


class Packed(NamedTuple):
    """Operations as the script takes them."""

    columns: bytes
    #: 8 characters for each transfer and debit: fingerprint and idx, which are the end of its record.
    record_ends: bytes
    currencies: set[str]
    #: Whether it takes the extended text of the script, and the keys of holds and groups (`lua/apply.lua`).
    extended: bool
    #: How many operations read their account in every currency that the call names.
    everywhere: int
    #: Whether an operation may set a maximum balance.
    limits: bool = False


#: Kind -> (which of the sources in `unpack` gives `other`, whether the id is a credit's, whether it is a
#: transaction's, whether the kind has a currency).
_SOURCES: Final = {Other.NONE: 0, Other.RECEIVER: 1, Other.ACCOUNT: 2, Other.DETAIL: 3, Other.MARK: 3}
_FORMS: Final = {
    letter: (_SOURCES[row.other], row.id is Id.CREDIT, row.id is Id.TRANSACTION, row.has_currency)
    for letter, row in KINDS.items()
}
_operation: Final = partial(tuple.__new__, Operation)

#: Makes a `Packed` without its slower constructor: every call of the script needs one.
_packed: Final = partial(tuple.__new__, Packed)


def pack(operations: Sequence[Words]) -> Packed:
    """The columns of operations, at least one.

    Raises KeyError for a credit of an idx that no entry has, `Corruption` for an unknown kind.
    """
    kinds, ids, accounts, _, amounts, each, notes, keys = zip(*operations, strict=True)
    fields = list(ids)
    receivers: list[str] = []
    others: list[str] = []
    details: list[str] = []
    ends: list[bytes] = []
    extended = False
    everywhere = 0
    grouped: set[str] | None = None
    limits = False
    idx = 0
    for kind, id_, account, other, amount_minor, currency, note, _ in operations:
        if kind == "c":
            fields[idx], letter = _credit_field(id_)
            details.append(letter + _marks[other])
        elif kind == "d" or kind == "t":
            digest = siphash(PAYER_KEY, id_ + account).to_bytes(8)
            fields[idx] = id_ + b2a_base64(digest)[:PAYER_LENGTH].decode()
            body = f"{other} {amount_minor} {currency}\n{note}".encode()
            ends.append(crc32(body, adler32(account.encode())).to_bytes(4) + _IDX_BYTES[idx])
            (receivers if kind == "d" else others).append(other)
        elif kind != "s":
            row = kind_of(kind)
            extended = extended or row.extended
            everywhere += row.everywhere
            limits = limits or kind == "a" or (kind == "o" and "<" in other)
            details.append(other)
            if row.grouped:
                grouped = (grouped or set()) | currencies_of(other)
            if row.id is Id.TRANSACTION:
                fields[idx] = transfer_field(account, id_)
                if row.remembered:
                    body = f"{body_of(kind, other, amount_minor, currency)}\n{note}".encode()
                    ends.append(crc32(body, adler32(account.encode())).to_bytes(4) + _IDX_BYTES[idx])
        idx += 1
    currencies = set(each)
    currencies.discard(_NO_CURRENCY)
    common = each if len(currencies) > 1 else next(iter(currencies), _NO_CURRENCY)
    if grouped:
        currencies |= grouped
    named = idx + len(others) + 1
    head = ("".join(kinds), common, " ".join(receivers), named)
    said = () if notes.count("") == keys.count("") == idx else _said(notes, keys)
    columns = _encode((*head, *fields, *accounts, *others, TRANSIT, *amounts, *details, *said))
    # An idx is below 4096, so in base64 its two bytes alone determine the last two of the eight characters.
    record_ends = b2a_base64(b"".join(ends), newline=False) if ends else b""
    return _packed((columns, record_ends, currencies, extended or limits, everywhere, limits))


def _said(notes: tuple[str, ...], keys: tuple[str, ...]) -> tuple[dict[str, Any]]:
    said: dict[str, Any] = {}
    if any(keys):
        said["by"] = keys[0] if len(set(keys)) == 1 else keys
    if any(notes):
        said["notes"] = {str(idx): msgspec.Raw(note.encode()) for idx, note in enumerate(notes) if note}
    return (said,)


def _heard(said: dict[str, Any], count: int) -> tuple[Sequence[str], Sequence[str]]:
    """The notes and the keys of each operation. Raises ValueError or `Corruption`."""
    notes = [""] * count
    for idx, note in said.pop("notes", {}).items():
        if not 0 <= (number := int(idx)) < count:
            raise ValueError("notes of other operations")
        notes[number] = canonical(note)
    by = said.pop("by", "")
    keys = [by] * count if isinstance(by, str) else by
    if said or len(keys) != count:
        raise ValueError("notes of other operations")
    if not all(_key_match(key) for key in keys):
        raise ValueError("not keys")
    return notes, keys


def unpack(columns: bytes) -> tuple[Operation, ...]:
    """The operations. Raises `Corruption` for what `pack` does not make."""
    try:
        kinds, common, receivers, named, *rest = _decode(columns)
        count = len(kinds)
        notes, keys = _heard(rest.pop(), count) if isinstance(rest[-1], dict) else ((), ())
        first_amount = count + named
        fields, amounts = rest[:count], rest[first_amount : first_amount + count]
        accounts, details = rest[count:first_amount], rest[first_amount + count :]
        currencies = [common] * count if isinstance(common, str) else common
        payees = [] if receivers == "" else str.split(receivers, " ")
        words = [kinds, *fields, *accounts, *details, *currencies, *payees]
        text = " ".join(words)
        one_each = text.count(" ") == len(words) - 1 and "" not in words
        if not (one_each and text.isascii() and text.isprintable()):
            raise ValueError("not words")
        if set(map(type, amounts)) != {int} or min(amounts) < 0:
            raise ValueError("not amounts")
        silence = [""] * count
        payers, others = accounts[:count], iter(accounts[count:])
        paid, explained = iter(payees), iter(details)
        sources = (repeat("-"), paid, others, explained)
        operations = []
        for kind, field, account, amount, currency, note, by in zip(
            kinds, fields, payers, amounts, currencies, notes or silence, keys or silence, strict=True
        ):
            form = _FORMS.get(kind)
            if form is None:
                kind_of(kind)
                raise ValueError(kind)
            source, of_credit, of_transaction, has_currency = form
            id_, other = field, next(sources[source])
            if of_credit:
                id_, other = credit_of(field, other)
            elif of_transaction:
                id_ = field[:-PAYER_LENGTH]
                if not is_field_of(field, account):
                    raise ValueError(f"{field} is no field of {account}")
            if not has_currency:
                currency = _NO_CURRENCY
            operations.append(_operation((kind, id_, account, other, amount, currency, note, by)))
        if [*others, *paid, *explained] != [TRANSIT]:
            raise ValueError("columns of other lengths")
    except (ValueError, TypeError, StopIteration, msgspec.DecodeError, Corruption) as error:
        raise Corruption(f"not the columns of operations: {columns[:120]!r} ({error})") from None
    return tuple(operations)
