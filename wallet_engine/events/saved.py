"""A fold's book as bytes, to continue from later. Only the same form can be read."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from wallet_engine.domain.errors import Corruption, NewerFormat
from wallet_engine.domain.holds import OPEN
from wallet_engine.history.book import Book, Standing
from wallet_engine.history.facts import HoldState

#: Incremented with every change of the form.
FORM: Final = 2
#: How long after its expiry an ended hold is kept: a capture in transit may still return to it.
ENDED_MS_KEPT: Final = 7 * 86_400_000
#: Minimum time between saves of the folds, and the maximum share of a sink's time for saving.
SAVE_S_MIN: Final = 30.0
SAVE_SHARE_MAX: Final = 0.02

_encode: Final = msgspec.msgpack.Encoder().encode
_parts: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode: Final = msgspec.msgpack.Decoder(
    tuple[int, list[tuple[str, str, int, int, int]], list[HoldState], dict[str, bool]]
).decode


class Pace:
    """Decides when to save the folds of a sink."""

    def __init__(self) -> None:
        self._saved_s = time.monotonic()
        self._wait_s = SAVE_S_MIN

    def __repr__(self) -> str:
        return f"<Pace every {self._wait_s:.0f} s>"

    def due(self) -> bool:
        return time.monotonic() - self._saved_s >= self._wait_s

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Use it around a save. After a failed save, `due` stays true."""
        began_s = time.monotonic()
        yield
        self._saved_s = time.monotonic()
        self._wait_s = max(SAVE_S_MIN, (self._saved_s - began_s) / SAVE_SHARE_MAX)


def save_book(book: Book, clock_ms: int) -> bytes:
    """The book as bytes. First removes holds that ended long before `clock_ms`."""
    ended = [
        key
        for key, hold in book.holds.items()
        if hold.status != OPEN and hold.expires_ms + ENDED_MS_KEPT < clock_ms
    ]
    for key in ended:
        del book.holds[key]
    book.prepared = {part: True for part, there in book.prepared.items() if there}
    standings = [
        (*key, standing.balance, standing.held, standing.pending) for key, standing in book.standings.items()
    ]
    saved: tuple[Any, ...] = (FORM, standings, list(book.holds.values()), book.prepared)
    return _encode(saved)


def load_book(data: bytes) -> Book:
    """The inverse of `save_book`. Raises `Corruption`, `NewerFormat`."""
    try:
        form = msgspec.msgpack.decode(next(iter(_parts(data)), b""), type=int)
        if form > FORM:  # first, because the rest may have other fields
            raise NewerFormat("what the sink kept of a partition has form", form, FORM)
        if form != FORM:
            raise ValueError(f"form {form}")
        _, standings, holds, prepared = _decode(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise Corruption(f"not a saved fold: {error}") from None
    book = Book()
    book.standings = {(account, currency): Standing(*minor) for account, currency, *minor in standings}
    book.holds = {(hold.account, hold.hold): hold for hold in holds}
    book.prepared = prepared
    return book
