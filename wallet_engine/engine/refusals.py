"""What a script says instead of doing what it was asked: one reading of it for batches, probes and reads."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import hiredis

from wallet_engine.redis_store.refusals import Refusal, refusal_inside, refusal_of

#: The partition is not served here, or not in this epoch: nothing was done, and it may be elsewhere or later.
_OF_GUARDS: Final = frozenset(("EPOCH", "STATE", "OWNER"))


class ScriptRefusal(NamedTuple):
    """The codes stand at the top of `lua/apply.lua`; `shown` is what the script adds to it, as text."""

    code: str
    shown: str

    @property
    def why(self) -> str:
        """For a log, or an outage's detail."""
        return f"{self.code.lower()} {self.shown}"

    @property
    def guarded(self) -> bool:
        """The partition does not let this call in; what it asked may be asked again later."""
        return self.code in _OF_GUARDS

    @property
    def unrecovered(self) -> bool:
        """The node has to be compared with the journal first."""
        return self.code == "OWNER" or self.shown == "absent"


def error_in(answer: Any) -> Refusal | None:
    """What Redis said in place of an answer, of the whole call or of this partition; None where the script answers."""
    if isinstance(answer, hiredis.ReplyError):
        return refusal_of(str(answer))
    if type(answer) is list and answer[0] == b"ERROR":
        return refusal_inside(answer[1].decode(errors="replace"), bool(answer[2]))
    return None


def refusal_in(reply: Sequence[Any]) -> ScriptRefusal | None:
    """The refusal in a script's reply of several parts; None when it is an answer."""
    code, shown = reply[0], reply[1]
    if code == b"OK":
        return None
    return ScriptRefusal(code.decode(), shown.decode() if isinstance(shown, bytes) else str(shown))
