"""What a request has met in the journal: of each partition the newest entry, for its answer's `Wallet-Position`.

What waits for an operation is made deep below the request that wants it, often in tasks of its own; a context reaches
there. A single transfer that goes the short way needs none: it says its last entry itself.
"""

from contextvars import ContextVar
from typing import Final

#: Partition -> `<p>.<seq>`.
Positions = dict[int, str]

#: A header that is longer is refused by many a proxy and client: then nothing is said.
TEXT_BYTES_MAX: Final = 4000

_positions: ContextVar[Positions | None] = ContextVar("positions", default=None)


def note_positions() -> Positions:
    """From now on, what this task and those that it begins wait for is noted in what is returned."""
    positions: Positions = {}
    _positions.set(positions)
    return positions


def positions_noted() -> Positions:
    """Where to note entries; of a task that nobody asks, nowhere that is looked at."""
    positions = _positions.get()
    return {} if positions is None else positions


def text_of(positions: Positions) -> str:
    """`3.17`, or several with commas; empty where nothing was met, or too much."""
    text = ",".join(positions.values())
    return text if len(text) <= TEXT_BYTES_MAX else ""
