"""How the apply script is called, and the form that entries have in the stream: one place for both.

The text of an entry (`domain/entry.py`) is a header and lines of words. Redis gets the operations as strings of a JSON
array instead, which Lua reads in C, faster than it cuts lines into words. As it got them the script puts them into the
stream, beside the header::

    t AAAAAAAAAAAAAAAAAAAAAA alice bob 5 USD\\n    ->    ["t","AAAAAAAAAAAAAAAAAAAAAA","alice","bob","5","USD"]

No word of an entry holds a quote, a comma or a backslash: to change the form is to replace what is between words.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from wallet_engine.domain.entry import Operation, parse_operation
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.memory import transfers_memory
from wallet_engine.redis_store.connection import Word, pack
from wallet_engine.redis_store.keys import PartitionKeys

#: Partitions times sets of currencies, of which the common part of a call is kept: some 600 bytes each.
COMMON_KEPT: Final = 8192

_COMMA_TO_SPACE: Final = bytes.maketrans(b",", b" ")


def json_words(operations: bytes) -> bytes:
    """Lines of operations, at least one, as the script takes them."""
    return b'["%b"]' % operations[:-1].replace(b" ", b'","').replace(b"\n", b'",\n"')


def to_stream(payload: bytes) -> tuple[Word, ...]:
    """Fields and values of an entry as the script would have put it into the stream."""
    header, _, operations = payload.partition(b"\n")
    return ("header", header, "operations", json_words(operations))


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


@lru_cache(maxsize=COMMON_KEPT)
def _common(
    sha: str,
    keys: PartitionKeys,
    currencies: tuple[str, ...],
    window: int,
    window_ms: int,
    stream_entries_max: int,
    issued_age_ms_max: int,
    arguments: int,
) -> tuple[bytes, str]:
    """What calls on one partition have in common: the command packed up to where its arguments begin, so many of them;
    and what the first one has from the window on, before the memory.
    """
    names = (
        *(keys.meta, keys.journal, keys.open, keys.flags),
        *(keys.seen(window), keys.seen(window - 1), keys.seen(window - 2)),
        *(keys.balance(currency) for currency in currencies),
    )
    words: tuple[Word, ...] = ("EVALSHA", sha, len(names), *names)
    _, _, packed = pack(words).partition(b"\r\n")
    return (
        b"*%d\r\n%b" % (len(words) + arguments, packed),
        f'"{window}","{window_ms}","{stream_entries_max}","{issued_age_ms_max}"',
    )


def apply_command(
    sha: str,
    keys: PartitionKeys,
    currencies: tuple[str, ...],
    lines: Sequence[str],
    *,
    epoch: int,
    nonce: str,
    issued_ms: int,
    window: int,
    window_ms: int,
    stream_entries_max: int,
    issued_age_ms_max: int,
    replay: tuple[bytes, ...] = (),
) -> bytes:
    """The EVALSHA for operations, given as their lines with newlines, at least one, in the protocol's form.

    KEYS and ARGV are explained at the top of `lua/apply.lua`, and so is `replay`. Of a call of few operations, naming
    the keys would be most of the work: it is done once.
    """
    packed, settings = _common(
        sha, keys, currencies, window, window_ms, stream_entries_max, issued_age_ms_max, 2 + len(replay)
    )
    head = f'["{epoch}","{nonce}","{issued_ms}",{settings},"'.encode()
    head = b'%b%b"]' % (head, b'","'.join(transfers_memory(lines)))
    operations = json_words("".join(lines).encode())
    command = b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (packed, len(head), head, len(operations), operations)
    for argument in replay:
        command += b"$%d\r\n%b\r\n" % (len(argument), argument)
    return command
