"""What an error reply of Redis says of the call that got it: the one table by which everybody sorts them.

Only a call that certainly did nothing may be made again, or be reported as not done. Redis decides most errors before
it runs anything. Inside a script it decides some at the first write and never after one: `scriptVerifyOOM` and
`scriptVerifyWriteCommandAllow` in script.c of Redis 7, `luaRedisGenericCommand` in scripting.c of 6.2. Any other error
that comes out of a script may follow a write.
"""

import re
from enum import StrEnum
from typing import Final, NamedTuple


class Meaning(StrEnum):
    """What became of the call, and what helps."""

    #: Nothing ran. The node takes the call once somebody has mended it, or by itself.
    RETRY = "retry"
    #: Nothing ran. Another node serves this, or will: look which.
    ELSEWHERE = "elsewhere"
    #: Nothing ran. The node must be compared with the journal before it serves.
    RECOVER = "recover"
    #: Nothing ran. The node has no memory for more.
    MEMORY = "memory"
    #: It may have run in part.
    UNKNOWN = "unknown"


class Row(NamedTuple):
    """`first_write`: said inside a script too, and then before its first write. `reads`: whether reads still pass."""

    meaning: Meaning
    first_write: bool = False
    reads: bool = False


_RETRY: Final = Row(Meaning.RETRY)
_ELSEWHERE: Final = Row(Meaning.ELSEWHERE)
#: Never said to the calls that the engine makes; if it were, nobody knows why.
_FOREIGN: Final = Row(Meaning.UNKNOWN)

#: By the first word of the error. A test holds it against the words that Redis and Valkey themselves contain.
TABLE: Final[dict[str, Row]] = {
    # The node takes no writes.
    "MISCONF": Row(Meaning.RETRY, first_write=True, reads=True),
    "NOREPLICAS": Row(Meaning.RETRY, first_write=True, reads=True),
    "OOM": Row(Meaning.MEMORY, first_write=True, reads=True),
    # It takes nothing now.
    "LOADING": _RETRY,
    "BUSY": _RETRY,
    "CLUSTERDOWN": _RETRY,
    "TRYAGAIN": _RETRY,
    # It takes nothing from us.
    "DENIED": _RETRY,
    "NOAUTH": _RETRY,
    "NOPERM": _RETRY,
    "NOPROTO": _RETRY,
    "WRONGPASS": _RETRY,
    # The call can be made nowhere: its keys are in different slots.
    "CROSSSLOT": _RETRY,
    # It is not the primary, or not of this slot.
    "MOVED": _ELSEWHERE,
    "ASK": _ELSEWHERE,
    "MASTERDOWN": _ELSEWHERE,
    "REDIRECT": _ELSEWHERE,
    "READONLY": Row(Meaning.ELSEWHERE, first_write=True, reads=True),
    # It has restarted.
    "NOSCRIPT": Row(Meaning.RECOVER),
    # The call was understood and failed.
    "ERR": Row(Meaning.UNKNOWN),
    "WRONGTYPE": Row(Meaning.UNKNOWN),
    # Answers to transactions, to SCRIPT KILL, to blocking calls, to commands on groups, to replicas, of Sentinel.
    "EXECABORT": _FOREIGN,
    "UNKILLABLE": _FOREIGN,
    "NOTBUSY": _FOREIGN,
    "UNBLOCKED": _FOREIGN,
    "BUSYGROUP": _FOREIGN,
    "BUSYKEY": _FOREIGN,
    "NOGROUP": _FOREIGN,
    "INPROG": _FOREIGN,
    "INVALIDOBJ": _FOREIGN,
    "IOERR": _FOREIGN,
    "NOGOODSLAVE": _FOREIGN,
    "NOGOODPRIMARY": _FOREIGN,
    "NOMASTERLINK": _FOREIGN,
    "NOQUORUM": _FOREIGN,
}

#: Errors without a word of their own that are decided before anything runs.
_BEFORE_ANYTHING: Final = ("ERR max number of clients", "ERR unknown command")
TEXT_CHARACTERS_MAX: Final = 120

#: Redis 6.2 puts the error of a command into that of its script: `ERR Error running script (call to f_<sha>):
#: @user_script:88: @user_script: 88: -MISCONF Redis is ...`.
_wrapped = re.compile(r"ERR Error running script.*?@user_script: ?\d+: -?([A-Z]{2,} .*)", re.DOTALL).match
#: Redis 7 appends where it was: `MISCONF Redis is ... script: <sha>, on @user_script:88.`
_appended = re.compile(r"(.*?),? script: [0-9a-f]{40}, on @user_script:\d+\.?\Z", re.DOTALL).match


class Refusal(NamedTuple):
    """An error reply, sorted. `text` is what Redis said, short enough to be passed on."""

    code: str
    meaning: Meaning
    #: The node would still answer reads.
    reads: bool
    text: str


def refusal_of(error: str) -> Refusal:
    """Sort an error reply to a script call or to a single command. What is in no row may have run."""
    inside = _wrapped(error) or _appended(error)
    said = error if inside is None else inside[1]
    code = said.partition(" ")[0]
    row = TABLE.get(code, _FOREIGN)
    text = " ".join(said.split())[:TEXT_CHARACTERS_MAX]
    if inside is not None and not row.first_write:
        return Refusal(code, Meaning.UNKNOWN, False, text)
    if error.startswith(_BEFORE_ANYTHING):
        return Refusal(code, Meaning.RETRY, False, text)
    return Refusal(code, row.meaning, row.reads, text)
