"""The newest entry of each partition that a request has met, for its answer's `Wallet-Position`.

The objects that wait for operations are made deep below the request, often in other tasks; a context variable reaches
there. A single transfer on the short way needs none: it reports its last entry itself.
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
