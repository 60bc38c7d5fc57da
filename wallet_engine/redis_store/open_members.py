"""Reads the members of `open{tag}` in pieces: a receiver that is down leaves any number of entries open.

Pieces are by score, so entries that are settled meanwhile do not shift the others: an entry that is open from
the first piece to the last is in one of them. New entries have higher scores, and may be in the last piece.
"""

from collections.abc import Sequence
from typing import Any, Final

from wallet_engine.domain.errors import Corruption
from wallet_engine.redis_store.connection import Word

#: More than all members with one score: those of one entry, its own and those of its refunds.
MEMBERS_PER_CALL: Final = 1000


class OpenMembers:
    """Send `command`, give its reply to `take`, until `done`."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._from: Word = "-inf"
        #: Member -> score, as Redis writes them.
        self.members: dict[bytes, bytes] = {}
        self.done = False

    @property
    def command(self) -> tuple[Word, ...]:
        limit = ("LIMIT", 0, MEMBERS_PER_CALL)
        return ("ZRANGEBYSCORE", self._key, self._from, "+inf", "WITHSCORES", *limit)

    def take(self, flat: Sequence[Any]) -> None:
        """A reply: members and scores, alternating."""
        self.members |= zip(flat[::2], flat[1::2], strict=True)
        self.done = len(flat) < 2 * MEMBERS_PER_CALL
        if flat:
            self._from = flat[-1]  # the same score again: there may be more members with it

    @property
    def seqs(self) -> list[int]:
        """The entries that are open, ascending. Raises `Corruption` for a member that no script wrote."""
        try:
            return sorted(int(member) for member in self.members if b"." not in member)
        except ValueError as error:
            raise Corruption(f"{self._key}: {error}") from None
