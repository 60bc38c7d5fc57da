"""The validated request for a group, and the answer to it."""

from typing import NamedTuple

from wallet_engine.domain.groups import Leg, mark_for
from wallet_engine.domain.transfer import TransferCommand


class GroupCommand(NamedTuple):
    """Transfers to make together or not at all.

    `transaction` is the packed id; each transfer has the same one.
    """

    transaction: str
    transfers: tuple[TransferCommand, ...]
    #: See `domain/notes.py`; empty when the caller said nothing more.
    note: str = ""
    #: Id of the key that pays; empty without keys.
    by: str = ""

    @property
    def payer(self) -> str:
        """The payer of the first leg. This account and the id name the group."""
        return self.transfers[0].from_account

    def mark(self) -> str:
        """See `domain/groups.py`."""
        return mark_for(((t[0], t[1], t[2], t[3]) for t in self.transfers), self.note)


class GroupAnswer(NamedTuple):
    """`outcome` is an `Outcome` character: `+` paid, a decline of the leg `leg`, or `!` conflict."""

    outcome: str
    replayed: bool = False
    leg: int | None = None


class GroupView(NamedTuple):
    """`outcome` as in a `GroupAnswer`, or `~` while a partition has not yet been told the decision."""

    outcome: str
    leg: int | None
    legs: tuple[Leg, ...]
    mark: str
