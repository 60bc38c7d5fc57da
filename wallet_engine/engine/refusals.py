"""Refusals by a script, parsed in one place for batches, probes and reads."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import hiredis

from wallet_engine.redis_store.refusals import Refusal, refusal_inside, refusal_of

#: The partition is not served here, or not in this epoch. Nothing was done; it may work elsewhere or later.
_OF_GUARDS: Final = frozenset(("EPOCH", "STATE", "OWNER"))


class ScriptRefusal(NamedTuple):
    """The codes are at the top of `lua/apply.lua`; `shown` is the text that the script adds."""

    code: str
    shown: str

    @property
    def why(self) -> str:
        """For a log, or an outage's detail."""
        return f"{self.code.lower()} {self.shown}"

    @property
    def guarded(self) -> bool:
        """Whether the guards of the partition refused the call; it may be sent again later."""
        return self.code in _OF_GUARDS

    @property
    def unrecovered(self) -> bool:
        """Whether the node has to be compared with the journal first."""
        return self.code == "OWNER" or self.shown == "absent"


def error_in(answer: Any) -> Refusal | None:
    """The error of Redis for the whole call or for this partition; None if the script itself answered."""
    if isinstance(answer, hiredis.ReplyError):
        return refusal_of(str(answer))
    if type(answer) is list and len(answer) > 2 and answer[0] == b"ERROR":
        return refusal_inside(answer[1].decode(errors="replace"), bool(answer[2]))
    return None


def refusal_in(reply: Sequence[Any]) -> ScriptRefusal | None:
    """The refusal in a script's reply of several parts; None when the reply is an answer."""
    code, shown = reply[0], reply[1]
    if code == b"OK":
        return None
    return ScriptRefusal(code.decode(), shown.decode() if isinstance(shown, bytes) else str(shown))


def batch_refusal_in(answer: Any) -> ScriptRefusal:
    """The refusal in the answer to a batch. Raises `ValueError`: what is no refusal there is no answer at all."""
    refusal = refusal_in(answer) if type(answer) is list and len(answer) > 1 else None
    if refusal is None:
        raise ValueError(f"no answer to a batch: {answer!r}")
    return refusal
