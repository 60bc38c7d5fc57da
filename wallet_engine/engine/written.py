"""Tells the journal of new entries once Redis has answered every call, so they cost one fdatasync."""

import asyncio
from collections.abc import Callable
from typing import Final

from wallet_engine.journal.link_wire import NewEntry

#: The journal is told anyway this long after the first new entry. So a slow node delays the entries of others
#: no longer, and with large batches, when something is always out, the journal is not told more often than
#: needed.
WAIT_S_MAX: Final = 0.003


class Written:
    """Entries that the journal has not been told of. Create and use it on one event loop."""

    __slots__ = ("_entries", "_loop", "_out", "_tell", "_timer")

    def __init__(self, tell: Callable[[list[NewEntry]], None]) -> None:
        """`tell(entries)` tells the journal."""
        self._loop = asyncio.get_running_loop()
        self._tell = tell
        self._entries: list[NewEntry] = []
        #: Calls that were sent and not answered.
        self._out = 0
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Written entries={len(self._entries)} out={self._out}>"

    def sent(self) -> None:
        """A call is on its way to Redis; `answered` follows in every case."""
        self._out += 1

    def add(self, entry: NewEntry) -> None:
        """A batch of the call that is being answered has made this entry."""
        if not self._entries:
            self._timer = self._loop.call_later(WAIT_S_MAX, self._tell_now)
        self._entries.append(entry)

    def answered(self) -> None:
        """A call was answered and its entries were added, or its connection is lost."""
        self._out -= 1
        if self._entries and not self._out:
            self._tell_now()

    def _tell_now(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries, self._entries = self._entries, []
        self._tell(entries)
