"""How the apply script is called."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from wallet_engine.domain.columns import Packed
from wallet_engine.redis_store.connection import Word, pack
from wallet_engine.redis_store.keys import PartitionKeys

#: Partitions times sets of currencies, of which the common part of a call is kept: some 600 bytes each.
COMMON_KEPT: Final = 8192


@lru_cache(maxsize=COMMON_KEPT)
def _common(
    sha: str,
    keys: PartitionKeys,
    currencies: tuple[str, ...],
    window: int,
    window_ms: int,
    stream_entries_max: int,
    issued_age_ms_max: int,
    extended: bool,
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
    if extended:
        names += (keys.hold, keys.due, keys.group, keys.returned)
        names += tuple(
            name for currency in currencies for name in (keys.held(currency), keys.pending(currency))
        )
    words: tuple[Word, ...] = ("EVALSHA", sha, len(names), *names)
    _, _, packed = pack(words).partition(b"\r\n")
    return (
        b"*%d\r\n%b" % (len(words) + arguments, packed),
        f"{window} {window_ms} {stream_entries_max} {issued_age_ms_max}",
    )


def apply_command(
    sha: str,
    keys: PartitionKeys,
    currencies: Iterable[str],
    operations: Packed,
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
    """The EVALSHA for operations, in the protocol's form. It may read the `currencies` besides those of the operations.

    KEYS and ARGV are explained at the top of `lua/apply.lua`, and so is `replay`. Of a call of few operations, naming
    the keys would be most of the work: it is done once.
    """
    columns, record_ends, own, extended, _, _ = operations
    names = tuple(sorted(own.union(currencies)))
    packed, settings = _common(
        *(sha, keys, names, window, window_ms, stream_entries_max, issued_age_ms_max),
        *(extended, 2 + len(replay)),
    )
    head = b"%b %b" % (f"{epoch} {nonce} {issued_ms} {settings}".encode(), record_ends)
    command = b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (packed, len(head), head, len(columns), columns)
    for argument in replay:
        command += b"$%d\r\n%b\r\n" % (len(argument), argument)
    return command
