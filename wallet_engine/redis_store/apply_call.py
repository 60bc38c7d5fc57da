"""How the apply script is called."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from wallet_engine.domain.columns import Packed
from wallet_engine.redis_store.connection import Word, pack
from wallet_engine.redis_store.keys import PartitionKeys

#: Sets of settings, and of currencies, whose text is cached.
TEXTS_KEPT: Final = 1024


@lru_cache(maxsize=TEXTS_KEPT)
def _begin(sha: str, window_ms: int, stream_entries_max: int, issued_age_ms_max: int) -> bytes:
    """The common words of all calls, after the number of words. Declares no key: they are of many slots."""
    settings = f"{window_ms} {stream_entries_max} {issued_age_ms_max}"
    return pack(("EVALSHA", sha, 0, settings)).partition(b"\r\n")[2]


@lru_cache(maxsize=TEXTS_KEPT)
def _listed(own: frozenset[str], more: tuple[str, ...]) -> str:
    return ",".join(sorted(own.union(more)))


def apply_part(
    keys: PartitionKeys,
    currencies: Iterable[str],
    operations: Packed,
    *,
    epoch: int,
    nonce: str,
    issued_ms: int,
    window: int,
) -> bytes:
    """A partition's two packed arguments of a call; the top of `lua/apply.lua` explains them.

    The script may read `currencies` besides those of the operations.
    """
    columns, record_ends, own, extended, _, _ = operations
    more = tuple(currencies)
    listed = _listed(frozenset(own), more) if more or len(own) > 1 else "".join(own)
    head = f"{keys.braced} {epoch} {nonce} {issued_ms} {window} {listed} {extended:d} ".encode()
    return b"$%d\r\n%b%b\r\n$%d\r\n%b\r\n" % (
        *(len(head) + len(record_ends), head, record_ends),
        *(len(columns), columns),
    )


def apply_command(
    sha: str, parts: Sequence[bytes], *, window_ms: int, stream_entries_max: int, issued_age_ms_max: int
) -> bytes:
    """The packed EVALSHA for parts of several partitions of one shard; the reply has one answer per part."""
    return b"*%d\r\n%b%b" % (
        4 + 2 * len(parts),
        _begin(sha, window_ms, stream_entries_max, issued_age_ms_max),
        b"".join(parts),
    )


def replay_command(
    sha: str,
    keys: PartitionKeys,
    currencies: Iterable[str],
    operations: Packed,
    recorded: Sequence[bytes],
    *,
    epoch: int,
    nonce: str,
    window: int,
) -> bytes:
    """The EVALSHA that executes a `recorded` entry again.

    It declares the partition's keys, so a node that does not serve all of them refuses the whole call.
    """
    currencies = sorted(operations.currencies.union(currencies))
    names = (
        *(keys.meta, keys.journal, keys.open, keys.flags, keys.noted),
        *(keys.seen(window), keys.seen(window - 1), keys.seen(window - 2)),
        *map(keys.balance, currencies),
    )
    if operations.extended:
        names += (keys.hold, keys.due, keys.group)
        names += (*map(keys.held, currencies), *map(keys.pending, currencies))
    words: tuple[Word, ...] = ("EVALSHA", sha, len(names), *names, "0 0 0")
    part = apply_part(*(keys, currencies, operations), epoch=epoch, nonce=nonce, issued_ms=0, window=window)
    return b"*%d\r\n%b%b%b" % (
        len(words) + 2 + len(recorded),
        pack(words).partition(b"\r\n")[2],
        part,
        b"".join([b"$%d\r\n%b\r\n" % (len(text), text) for text in recorded]),
    )
