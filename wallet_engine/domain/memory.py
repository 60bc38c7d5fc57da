"""The dedupe memory of a partition in `seen`, answers and received credits: the form of its fields and records.

A transfer (operation `t` or `d`) has a field of its own. Field and record, 30 and 14 characters, each just
fit into an allocation class of the allocator::

    field   <txid><payer>                       22 and 8 characters
    record  <outcome><seq><fingerprint><idx>    1, 1 to 5, 6 and 2 characters up to 2^30 entries of a partition

    payer        the first 48 bits of the SipHash of `<txid><account's name>`; base64
    fingerprint  CRC-32 of `<to> <minor> <CCY>\\n<note>`, begun with the Adler-32 of the payer; base64
    seq, idx     where the operation is, numbers in the digits of base64, idx always two of them

The payer is hashed together with the id, so two names may share a field for one id, but not for all ids: a
search for such names finds them only for one id, which nobody else uses. If two payers share a field, the
fingerprint tells them apart: the later one is a conflict, which changes nothing.

The fingerprints of two different requests are equal once in 2^32; then the later one gets the answer
of the first. No money follows from a fingerprint: a repeat of a debit that is still open is driven on only if
its entry has the same words (`lua/apply.lua`). A fingerprint does not protect against a caller who searches
for such requests: a caller who chooses an id and two bodies for it deceives only himself.

`FORM` is the version of all this. A partition whose `meta` names another form is rebuilt from the journal
before it serves. Under rules 1 (`domain/entry.py`) the payer was the CRC-32 of the name alone, in hex.

Every incoming transfer has a credit, so twenty entries of a payer's partition share one field::

    field   <p>.<seq>       without the last digit, and the last but one made even: `3.24` for 3.240 to 3.259
    record  <mark><outcome> for each credit decided, 3 and 1 characters

    mark    which of the twenty entries, `a` to `t`, and the operation's idx as above. The idx is below 1536,
            so its first digit is no letter that starts a mark or is an outcome: a search finds only marks
"""

from binascii import b2a_base64
from functools import lru_cache
from typing import Final, NamedTuple
from zlib import adler32, crc32

from siphashc import siphash

#: Raised with every change of what a field or record is.
FORM: Final = "2"

_DIGITS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_VALUES: Final = {digit: value for value, digit in enumerate(_DIGITS)}
#: The two digits of every idx.
INDEXES: Final = tuple(high + low for high in _DIGITS for low in _DIGITS)
#: The idx values that a mark can hold, as digits and as decimal text.
CREDIT_INDEXES: Final = INDEXES[:1536]
IDX_TEXTS: Final = tuple(map(str, range(1536)))
_IDX_OF: Final = dict(zip(CREDIT_INDEXES, IDX_TEXTS, strict=True))
#: Characters of the payer at the end of a transfer's field.
PAYER_LENGTH: Final = 8
#: Not a secret: only the id cannot be known beforehand.
PAYER_KEY: Final = "wallet-engine/v2"
_FINGERPRINT: Final = slice(-8, -2)
_CREDIT_ZERO: Final = ord("a")


class TransferRecord(NamedTuple):
    """The record of a transfer: its outcome, the fingerprint of its body, and where the operation is."""

    outcome: str
    fingerprint: str
    seq: int
    idx: int

    def text(self) -> str:
        """The record as `seen` holds it."""
        outcome, fingerprint, seq, idx = self
        return f"{outcome}{_number(seq)}{fingerprint}{INDEXES[idx]}"

    @classmethod
    def parse(cls, text: str) -> "TransferRecord":
        return cls(text[0], text[_FINGERPRINT], _value(text[1 : _FINGERPRINT.start]), _value(text[-2:]))


@lru_cache(maxsize=2048)
def _number(n: int) -> str:
    """Cached, because every record of an entry needs its seq."""
    digit = _DIGITS[n % 64]
    return digit if n < 64 else _number(n // 64) + digit


def _value(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * 64 + _VALUES[digit]
    return value


def transfer_field(payer: str, transaction: str) -> str:
    """The field of a transfer; `transaction` is the packed id."""
    digest = siphash(PAYER_KEY, transaction + payer).to_bytes(8)
    return f"{transaction}{b2a_base64(digest)[:PAYER_LENGTH].decode()}"


def is_field_of(field: str, payer: str) -> bool:
    """Whether a transfer of the payer has this field, or had it by rules 1."""
    transaction = field[:-PAYER_LENGTH]
    return field == transfer_field(payer, transaction) or field == f"{transaction}{crc32(payer.encode()):08x}"


def transfer_fingerprint(payer: str, body: str, note: str = "") -> str:
    """The fingerprint; `body` is `<to> <minor> <CCY>`, `note` the note of the operation."""
    checksum = crc32(f"{body}\n{note}".encode(), adler32(payer.encode()))
    return b2a_base64(checksum.to_bytes(4, "big"), newline=False)[:6].decode()


def credit_field(entry: str) -> tuple[str, str]:
    """Where a receiver remembers credits for entry `p.seq`: field of `seen`, and the letter of the entry's marks in it.

    An entry below 10 has a dot in place of the last digit but one; the dot stays and counts as even.
    """
    tens, ones = entry[-2], int(entry[-1])
    odd = tens in "13579"
    return entry[:-2] + (chr(ord(tens) - 1) if odd else tens), chr(_CREDIT_ZERO + 10 * odd + ones)


def credit_memory(entry: str, idx: int | str) -> tuple[str, str]:
    """Field and mark of the credit for operation `idx` of entry `p.seq`."""
    field, letter = credit_field(entry)
    return field, letter + INDEXES[int(idx)]


def credit_of(field: str, mark: str) -> tuple[str, str]:
    """The inverse of `credit_memory`, idx as text.

    Raises ValueError for input that `credit_memory` cannot have made.
    """
    odd, ones = divmod(ord(mark[0]) - _CREDIT_ZERO, 10)
    tens, idx = field[-1], _IDX_OF.get(mark[1:])
    if idx is None or odd not in (0, 1) or tens not in ("02468" if odd else "02468."):
        raise ValueError(f"no mark of a credit: {mark!r} in {field!r}")
    return f"{field[:-1]}{chr(ord(tens) + odd)}{ones}", idx


def credit_outcome(record: str, mark: str) -> str | None:
    """The outcome after the mark in the record; None when the credit was not decided."""
    at = record.find(mark)
    return record[at + len(mark)] if at >= 0 else None
