"""Records which service brought a copy its newest entries, for the case that one of them is wrong."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from wallet_engine.journal.link_wire import NewEntry

#: Entries remembered: some seconds of a busy cluster; with headers some megabytes.
ENTRIES_MAX: Final = 20_000


class Brought:
    """The newest entries that came over this copy's link. Entries that the copy fetched are not here."""

    def __init__(self) -> None:
        #: For each message: the service, and (partition, header) of its entries.
        self._messages: deque[tuple[str, list[tuple[int, bytes]]]] = deque()
        self._entries = 0

    def __repr__(self) -> str:
        return f"<Brought entries={self._entries}>"

    def note(self, who: str, entries: Sequence[NewEntry]) -> None:
        """Note the entries of a message; called for every message."""
        self._messages.append((who, [entry[:2] for entry in entries]))
        self._entries += len(entries)
        while self._entries > ENTRIES_MAX:
            self._entries -= len(self._messages.popleft()[1])

    def by_whom(self, partition: int, nonce: str) -> list[str]:
        """All services that brought that entry; none when it is older, or was fetched."""
        wanted = nonce.encode()
        return sorted(
            {
                who
                for who, entries in self._messages
                if any(of == partition and _nonce(header) == wanted for of, header in entries)
            }
        )


def _nonce(header: bytes) -> bytes | None:
    """The nonce, the header's third word; the second is that of the previous entry."""
    words = header.split(b" ", 3)
    return words[2] if len(words) > 3 else None
