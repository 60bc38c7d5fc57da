"""What a partition remembers in `seen`, answers of transfers and credits received: the form of its fields and records.

A transfer (operation `t` or `d`) has a field of its own. Field and record both stay within what the allocator's next
smaller class takes, 30 and 14 characters::

    field   <txid><payer>                       22 and 8 characters
    record  <outcome><fingerprint><seq><idx>    1, 6, 1 to 5 and 2 characters up to 2^30 entries of a partition

    payer        CRC-32 of the account's name, in hex
    fingerprint  CRC-32 of the rest of the operation's line, begun with the Adler-32 of the payer; base64
    seq, idx     where the operation is, in base 64 with the digits `0` to `o`, idx always two of them

Two payers of one CRC-32 share a field where they use the same id. The fingerprint tells them apart, by the Adler-32
because a second CRC-32 would be as blind: the later one is a conflict, which changes nothing. Where the fingerprints of
different requests are equal, one time in 2^32, the later one gets the answer of the first. No money follows from a
fingerprint: a repeat of a debit that is still open is driven on only if its entry holds the very same words
(`lua/apply.lua`). Neither is made against a caller who searches for such requests: one who chooses an id and two bodies
for it can deceive himself.

There is a credit for every transfer that comes in, so twenty entries of a payer's partition share a field::

    field   <p>.<seq>       without the last digit, and the last but one made even: `3.24` for 3.240 to 3.259
    record  <mark><outcome> for each credit decided, 3 and 1 characters

    mark    which of the twenty entries, `a` to `t`, and the operation's idx as above: below 1536, so that its first
            digit is none of the letters that a mark or an outcome can be, and a mark is found only where one is
"""

import struct
from binascii import b2a_base64
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from zlib import adler32, crc32

_DIGIT_ZERO: Final = ord("0")
_DIGITS: Final = 64
_FINGERPRINT_END: Final = 7
_CREDIT_ZERO: Final = ord("a")


class TransferRecord(NamedTuple):
    """What is remembered of a transfer: its outcome, the fingerprint of its body, and where the operation is."""

    outcome: str
    fingerprint: str
    seq: int
    idx: int

    def text(self) -> str:
        """The record as `seen` holds it."""
        outcome, fingerprint, seq, idx = self
        return f"{outcome}{fingerprint}{_number(seq)}{_number(idx).zfill(2)}"

    @classmethod
    def parse(cls, text: str) -> "TransferRecord":
        place = 0
        for character in text[_FINGERPRINT_END:]:
            place = place * _DIGITS + ord(character) - _DIGIT_ZERO
        return cls(text[0], text[1:_FINGERPRINT_END], *divmod(place, _DIGITS**2))


@lru_cache(maxsize=2048)
def _number(n: int) -> str:
    """In base 64; an entry needs its seq and its indexes again and again."""
    digits = chr(_DIGIT_ZERO + n % _DIGITS)
    return digits if n < _DIGITS else _number(n // _DIGITS) + digits


def transfer_field(payer: str, transaction: str) -> str:
    """The field of a transfer; `transaction` is the packed id."""
    return f"{transaction}{crc32(payer.encode()):08x}"


def transfer_fingerprint(payer: str, body: str) -> str:
    """The fingerprint; `body` is what follows the payer in the operation: `<to> <minor> <CCY>`."""
    checksum = crc32(f"{body}\n".encode(), adler32(payer.encode()))
    return b2a_base64(checksum.to_bytes(4, "big"), newline=False)[:6].decode()


def transfers_memory(lines: Sequence[str]) -> list[bytes]:
    """What the apply script is to know of operations, given with their newlines: of each transfer, debit and refund
    among them the fingerprint, all in one string, 8 characters each of which two say nothing; then their fields.

    The same as `transfer_fingerprint` and `transfer_field`, in a fraction of the time. Raises ValueError for a line of
    too few words.
    """
    memory, checksums = [b""], []
    for line in lines:
        if line[0] in "dtr":
            _, transaction, payer, body = line.encode().split(b" ", 3)
            memory.append(b"%b%08x" % (transaction, crc32(payer)))
            checksums.append(crc32(body, adler32(payer)))
    # Two bytes of nothing make whole characters of each.
    padded = struct.pack(">" + "I2x" * len(checksums), *checksums)
    memory[0] = b2a_base64(padded, newline=False)
    return memory


def credit_memory(entry: str, idx: int | str) -> tuple[str, str]:
    """Where a receiver remembers a credit, that of operation `idx` of entry `p.seq`: field of `seen`, mark in it.

    An entry below 10 has a dot for its last digit but one, which is left as it is and counts as even.
    """
    tens, ones = entry[-2], int(entry[-1])
    odd = tens in "13579"
    mark = f"{chr(_CREDIT_ZERO + 10 * odd + ones)}{_number(int(idx)).zfill(2)}"
    return entry[:-2] + (chr(ord(tens) - 1) if odd else tens), mark


def credit_outcome(record: str, mark: str) -> str | None:
    """The outcome behind the mark in what `credit_memory`'s field holds; None when the credit was not decided."""
    at = record.find(mark)
    return record[at + len(mark)] if at >= 0 else None
