"""What the oracle expects a partition to remember: a second implementation of the form in `domain/memory.py`.

The packer uses `domain/memory.py` for the script. This file shares no code and no table with it, so a wrong
field, mark or fingerprint there shows as a difference between Redis and the fold of the journal.
"""

from base64 import b64encode
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Final
from zlib import adler32, crc32

from siphashc import siphash

#: Numbers are written with these, the highest digit first.
_ALPHABET: Final = f"{ascii_uppercase}{ascii_lowercase}{digits}+/"
#: The two digits of each operation's place in an entry.
_PLACES: Final = [f"{_ALPHABET[place >> 6]}{_ALPHABET[place & 63]}" for place in range(4096)]
#: Characters of the payer at the end of a field, of the fingerprint and of the place at the end of an answer.
PAYER_WIDTH: Final = 8
_FINGERPRINT_WIDTH: Final = 6
_PLACE_WIDTH: Final = 2
_ENTRIES_PER_FIELD: Final = 20


def field_of_transfer(payer: str, transaction: str) -> str:
    """The field that remembers the answer of a transfer; `transaction` is the packed id."""
    hashed = siphash("wallet-engine/v2", f"{transaction}{payer}")
    return transaction + b64encode((hashed >> 16).to_bytes(6, "big")).decode("ascii")


def fingerprint_of(payer: str, body: str, note: str = "") -> str:
    """Six characters for `<to> <minor> <CCY>` and the note."""
    checksum = crc32(b"\n".join((body.encode(), note.encode())), adler32(payer.encode()))
    return b64encode(checksum.to_bytes(4, "big")).decode("ascii").rstrip("=")


def answer_text(outcome: str, seq: int, fingerprint: str, place: int) -> str:
    """The record of a transfer that operation `place` of entry `seq` decided."""
    return f"{outcome}{_written(seq)}{fingerprint}{_PLACES[place]}"


def fingerprint_in(remembered: str) -> str:
    """The fingerprint in what `answer_text` made."""
    return remembered[-_PLACE_WIDTH - _FINGERPRINT_WIDTH : -_PLACE_WIDTH]


@lru_cache(maxsize=64)
def _written(number: int) -> str:
    text = ""
    while number or not text:
        number, digit = number >> 6, number & 63
        text = _ALPHABET[digit] + text
    return text


def place_of_credit(entry: str, place: int | str) -> tuple[str, str]:
    """Field and mark of the credit for operation `place` of entry `<p>.<seq>` of the payer's partition.

    Twenty entries share a field, which ends in their tens; the field of entries below ten has no tens.
    """
    partition, _, seq_text = entry.partition(".")
    seq = int(seq_text)
    twenty, one_of = divmod(seq, _ENTRIES_PER_FIELD)
    tens = "" if seq < 10 else str(2 * twenty)
    return f"{partition}.{tens}", ascii_lowercase[one_of] + _PLACES[int(place)]


def credit_in(remembered: str, mark: str) -> str | None:
    """How the credit with this mark was decided; None if it was not."""
    _, found, behind = remembered.partition(mark)
    return behind[0] if found else None
