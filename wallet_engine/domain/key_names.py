"""Bare names of a partition's keys, without suffix and hash tag. What each holds: `redis_store/layout.py`."""

from typing import Final

META: Final = "meta"
JOURNAL: Final = "journal"
OPEN: Final = "open"
FLAGS: Final = "flags"
SEEN: Final = "seen"
BALANCE: Final = "balance"
HOLD: Final = "hold"
DUE: Final = "due"
HELD: Final = "held"
PENDING: Final = "pending"
GROUP: Final = "group"
NOTED: Final = "noted"

#: Fields of `meta` that the journal determines. The others describe the serving node (epoch, owner, state,
#: move) or the form of `seen` (form).
META_FOLDED: Final = ("seq", "nonce", "clock", "window", "currencies", "flagged")
