"""The request for a group, validated, and what became of one."""

from typing import NamedTuple

from wallet_engine.domain.groups import Leg, mark_for
from wallet_engine.domain.transfer import TransferCommand


class GroupCommand(NamedTuple):
    """Transfers to make together or not at all. `transaction` is the packed id, which each of them has too."""

    transaction: str
    transfers: tuple[TransferCommand, ...]
    #: See `domain/notes.py`; empty when the caller said nothing more.
    note: str = ""
    #: Id of the key that pays; empty without keys.
    by: str = ""

    @property
    def payer(self) -> str:
        """Who names the group, with the id."""
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
    """`outcome` as of a `GroupAnswer`, or `~` while a partition is still to be told of the decision."""

    outcome: str
    leg: int | None
    legs: tuple[Leg, ...]
    mark: str
