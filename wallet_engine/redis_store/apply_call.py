"""How the apply script is called, and the form that entries have in the stream: one place for both.

The text of an entry (`domain/entry.py`) is a header and lines of words. Redis gets the operations as strings of a JSON
array instead, which Lua reads in C, faster than it cuts lines into words. As it got them the script puts them into the
stream, beside the header::

    t AAAAAAAAAAAAAAAAAAAAAA alice bob 5 USD\\n    ->    ["t","AAAAAAAAAAAAAAAAAAAAAA","alice","bob","5","USD"]

No word of an entry holds a quote, a comma or a backslash: to change the form is to replace what is between words.
"""

from collections.abc import Sequence
from typing import Final

from wallet_engine.domain.entry import Operation, parse_operation
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.memory import transfers_memory
from wallet_engine.redis_store.connection import Word
from wallet_engine.redis_store.keys import PartitionKeys

_COMMA_TO_SPACE: Final = bytes.maketrans(b",", b" ")


def json_words(operations: str) -> str:
    """Lines of operations, at least one, as the script takes them."""
    return '["' + operations[:-1].replace(" ", '","').replace("\n", '",\n"') + '"]'


def to_stream(payload: bytes) -> tuple[Word, ...]:
    """Fields and values of an entry as the script would have put it into the stream."""
    header, _, operations = payload.partition(b"\n")
    return ("header", header, "operations", json_words(operations.decode()))


def from_stream(header: bytes, operations: bytes) -> bytes:
    """An entry of the stream as it is written to the journal. Raises `Corruption` for what no script has put there."""
    if not (operations.startswith(b'["') and operations.endswith(b'"]')):
        raise Corruption(f"not an entry of a stream: {header[:80]!r} {operations[:80]!r}")
    # A comma before a newline becomes a quote, which goes with the others: what keeps its length is replaced in place.
    words = operations[1:-1].replace(b",\n", b'"\n').translate(_COMMA_TO_SPACE, b'"')
    return b"%b\n%b\n" % (header, words)


def operation_of_stream(text: bytes) -> Operation:
    """One operation of an entry of the stream. Raises `Corruption`."""
    return parse_operation(text.decode().replace('","', " ").strip('"'))


def apply_words(
    sha: str,
    keys: PartitionKeys,
    currencies: Sequence[str],
    lines: Sequence[str],
    *,
    epoch: int,
    nonce: str,
    issued_ms: int,
    window: int,
    window_ms: int,
    stream_entries_max: int,
    issued_age_ms_max: int,
    replay: tuple[Word, ...] = (),
) -> tuple[Word, ...]:
    """The EVALSHA for operations, given as their lines with newlines, at least one.

    KEYS and ARGV are explained at the top of `lua/apply.lua`, and so is `replay`.
    """
    return (
        "EVALSHA",
        sha,
        7 + len(currencies),
        keys.meta,
        keys.journal,
        keys.open,
        keys.flags,
        keys.seen(window),
        keys.seen(window - 1),
        keys.seen(window - 2),
        *[keys.balance(currency) for currency in currencies],
        f'["{epoch}","{nonce}","{issued_ms}","{window}","{",".join(currencies)}","{window_ms}",'
        f'"{stream_entries_max}","{issued_age_ms_max}"]',
        json_words("".join(lines)),
        '["' + '","'.join(transfers_memory(lines)) + '"]',
        *replay,
    )
