"""What an error reply of Redis means for the call that got it: the one table for all callers.

Only a call that certainly did nothing may be made again, or be reported as not done. Redis decides most errors before
it runs anything. Inside a script it decides some at the first write and never after one: `scriptVerifyOOM` and
`scriptVerifyWriteCommandAllow` in script.c of Redis 7, `luaRedisGenericCommand` in scripting.c of 6.2. Any other error
that comes out of a script may follow a write.
"""

import re
import ssl
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from wallet_engine.domain.errors import text_of


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

    def why(self, shard: str) -> str:
        """The same of a shard, in words."""
        return f"shard {shard} refuses{' writes' if self.reads else ''}: {self.text}"


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


#: What Redis says inside a script, where it would have answered a call that declares its keys with this word.
_UNDECLARED: Final = {"non local key": "MOVED", "cluster is down": "CLUSTERDOWN"}
#: Where in the script it was, as Redis 6.2 puts it in front.
_place = re.compile(r"\A(?:@?user_script: ?\d+: )+-?")


def refusal_inside(error: str, begun: bool) -> Refusal:
    """Sort what Redis said inside the apply script of one of its partitions; `begun`: whether that one's writes had."""
    said = _place.sub("", error)
    text = " ".join(said.split())[:TEXT_CHARACTERS_MAX]
    code = said.partition(" ")[0]
    row = TABLE.get(code, _FOREIGN)
    if row.first_write:
        return Refusal(code, row.meaning, row.reads, text)
    if not begun:
        for words, word in _UNDECLARED.items():
            if words in said:
                return Refusal(word, TABLE[word].meaning, False, text)
    return Refusal(code, Meaning.UNKNOWN, False, text)


class Obstacle(StrEnum):
    """Why a node cannot be asked, said of the node. Settings mend all but `SILENT`."""

    SILENT = "does not answer"
    NO_PASSWORD = "asks for a password: give --redis-user and --redis-password-file"
    WRONG_PASSWORD = "does not take this user and password: see --redis-user, wallet-admin redis acl"
    NOT_ALLOWED = "does not let this user do that: see --redis-user, wallet-admin redis acl"
    NO_COMMAND = "has this command disabled or renamed"
    TLS = "cannot be reached by TLS: see --redis-ca, --redis-cert, --redis-key"
    PROTECTED = (
        "is in protected mode, and lets only its own machine in: give it users (wallet-admin redis acl) or a password, "
        "or, where nobody else reaches it, set `protected-mode no`"
    )


class Hindrance(NamedTuple):
    """`text` is a sentence without its subject, with what Redis or TLS said."""

    obstacle: Obstacle
    text: str


#: By the first word of an error reply. redis-py takes that word away, and tells some of them by class.
_OBSTACLES: Final = {
    "NOAUTH": Obstacle.NO_PASSWORD,
    "WRONGPASS": Obstacle.WRONG_PASSWORD,
    "NOPERM": Obstacle.NOT_ALLOWED,
    "DENIED": Obstacle.PROTECTED,
}
_PASSWORD_MISSING: Final = "Authentication required"
#: Said by Redis before 6, and by one that has no password for a login without a user.
_PASSWORD_WRONG: Final = ("invalid password", "AUTH <password> called without any password configured")
_UNKNOWN_COMMAND: Final = "unknown command"
_HANDSHAKE: Final = "handshake"
#: A node that wants TLS ends a connection that does not begin so.
_BROKEN_OFF: Final = (ConnectionResetError, BrokenPipeError, EOFError)


def hindrance_of(error: BaseException) -> Hindrance:
    """Sort what redis-py, hiredis, `ssl` or a socket raised, or gave as a reply, when a node was to be asked."""
    said = " ".join(text_of(error).split())[: 2 * TEXT_CHARACTERS_MAX]
    obstacle = _obstacle(error, said)
    if obstacle is Obstacle.SILENT and is_broken_off(error):
        said += "; perhaps it speaks TLS only (--redis-ca), or not at all"
    return Hindrance(
        obstacle, f"{obstacle}: {said}" if obstacle is Obstacle.SILENT else f"{obstacle} ({said})"
    )


def _obstacle(error: BaseException, said: str) -> Obstacle:
    found = _OBSTACLES.get(said.partition(" ")[0])
    if found is not None:
        return found
    if any(text in said for text in _PASSWORD_WRONG):
        return Obstacle.WRONG_PASSWORD
    if isinstance(error, NoPermissionError):
        return Obstacle.NOT_ALLOWED
    if isinstance(error, AuthenticationError):
        return Obstacle.NO_PASSWORD if said.startswith(_PASSWORD_MISSING) else Obstacle.WRONG_PASSWORD
    if said.removeprefix("ERR ").startswith(_UNKNOWN_COMMAND):
        return Obstacle.NO_COMMAND
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError) or (isinstance(cause, TimeoutError) and _HANDSHAKE in str(cause)):
            return Obstacle.TLS
    return Obstacle.SILENT


def cannot_be_asked(error: BaseException) -> bool:
    """Whether the node has answered that we may not run this command: a caller that can do without it goes on."""
    return isinstance(error, ResponseError) and hindrance_of(error).obstacle in (
        Obstacle.NOT_ALLOWED,
        Obstacle.NO_COMMAND,
    )


def is_broken_off(error: BaseException) -> bool:
    """Whether somebody is there who has ended the connection: `greeting` may say why."""
    return any(isinstance(cause, _BROKEN_OFF) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
