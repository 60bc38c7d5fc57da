"""The newest entry that a request has seen in each partition, for its answer's `Wallet-Position`.

The objects that wait for operations are made deep below the request, often in other tasks; a context variable reaches
them. A single transfer on the short path does not need it: it reports its last entry itself.
"""

from contextvars import ContextVar
from typing import Final

#: Partition -> `<p>.<seq>`.
Positions = dict[int, str]

#: Many proxies and clients refuse a longer header: then it is left out.
TEXT_BYTES_MAX: Final = 4000

_positions: ContextVar[Positions | None] = ContextVar("positions", default=None)


def note_positions() -> Positions:
    """From now on, the result collects the entries that this task and the tasks it starts wait for."""
    positions: Positions = {}
    _positions.set(positions)
    return positions


def positions_noted() -> Positions:
    """Where to note entries; outside of `note_positions`, a dictionary that nobody reads."""
    positions = _positions.get()
    return {} if positions is None else positions


def text_of(positions: Positions) -> str:
    """`3.17`, or several with commas; empty if there are none or the text is too long."""
    text = ",".join(positions.values())
    return text if len(text) <= TEXT_BYTES_MAX else ""
