"""Which roles may send which message to a journal copy. A message without a row here is refused.

The table applies to secured connections (`peer_tls`). On a plain connection the peer is unknown: then it is
loopback, or the operator gave `--insecure`, and every peer may send every message.
"""

from collections.abc import Mapping
from typing import Any, Final

from wallet_engine.domain.principals import PeerRole, Principal
from wallet_engine.journal.copies_wire import (
    EntriesAsk,
    Follow,
    HeldAsk,
    More,
    PeerHello,
    PlaceAsk,
    Promise,
    StateAsk,
)
from wallet_engine.journal.feed_wire import BroughtAsk, EndsAsk, FollowerHello, Locate, ReadAsk
from wallet_engine.journal.link_wire import (
    Asks,
    FindCredits,
    FindEntry,
    NewEntries,
    Recover,
    ServiceHello,
    Written,
)

_JOURNAL, _SERVICE = PeerRole.JOURNAL, PeerRole.SERVICE
_FOLLOWER, _ADMIN = PeerRole.FOLLOWER, PeerRole.ADMIN

#: Roles that may connect to a journal copy.
CALLERS: Final = frozenset({_JOURNAL, _SERVICE, _FOLLOWER, _ADMIN})
#: Roles that may read a copy's state and entries.
READERS: Final = frozenset({_JOURNAL, _FOLLOWER, _ADMIN})

FOLLOWERS: Final = frozenset({_FOLLOWER, _SERVICE, _ADMIN})

MAY_SAY: Final[Mapping[type[Any], frozenset[PeerRole]]] = {
    # As a service.
    ServiceHello: frozenset({_SERVICE, _FOLLOWER, _ADMIN}),
    NewEntries: frozenset({_SERVICE}),
    Written: frozenset({_SERVICE, _ADMIN}),
    Asks: frozenset({_SERVICE, _FOLLOWER, _ADMIN}),
    FindCredits: frozenset({_SERVICE, _FOLLOWER, _ADMIN}),
    FindEntry: frozenset({_SERVICE, _FOLLOWER, _ADMIN}),
    Recover: frozenset({_SERVICE, _ADMIN}),
    # As another copy, or as a reader with a copy's messages.
    PeerHello: READERS,
    StateAsk: READERS,
    HeldAsk: READERS,
    EntriesAsk: READERS,
    More: READERS,
    PlaceAsk: READERS,
    Promise: frozenset({_JOURNAL}),
    Follow: frozenset({_JOURNAL}),
    # As a follower: services too, because their calls read the past.
    FollowerHello: FOLLOWERS,
    Locate: FOLLOWERS,
    ReadAsk: FOLLOWERS,
    EndsAsk: FOLLOWERS,
    BroughtAsk: FOLLOWERS,
}


def may_say(principal: Principal, message: object) -> bool:
    """Whether this caller may send the message. A copy must give the id of its certificate."""
    if principal.role not in MAY_SAY.get(type(message), ()):
        return False
    if isinstance(message, PeerHello) and principal.role is PeerRole.JOURNAL:
        return message.journal_id == principal.id
    return True
