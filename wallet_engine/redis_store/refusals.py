"""What an error reply of Redis means for the call that got it: one table for all callers.

A call may be repeated, or reported as not done, only if it certainly did nothing. Redis raises most errors
before it runs anything. Inside a script it raises some at the first write and never after one:
`scriptVerifyOOM` and `scriptVerifyWriteCommandAllow` in script.c of Redis 7, `luaRedisGenericCommand` in
scripting.c of 6.2. Any other error from a script may come after a write.
"""

import re
import ssl
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

import hiredis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from wallet_engine.domain.errors import text_of


class Meaning(StrEnum):
    """Whether the call ran, and how to react."""

    #: Nothing ran. The node takes the call later, by itself or once an operator has fixed it.
    RETRY = "retry"
    #: Nothing ran. Another node serves this, or will: find out which.
    ELSEWHERE = "elsewhere"
    #: Nothing ran. The node must be compared with the journal before it serves.
    RECOVER = "recover"
    #: Nothing ran. The node is out of memory.
    MEMORY = "memory"
    #: It may have run in part.
    UNKNOWN = "unknown"


class Row(NamedTuple):
    """`first_write`: a script gets it only at its first write, before anything is written.

    `reads`: whether the node still answers reads.
    """

    meaning: Meaning
    first_write: bool = False
    reads: bool = False


_RETRY: Final = Row(Meaning.RETRY)
_ELSEWHERE: Final = Row(Meaning.ELSEWHERE)
#: Redis never answers the engine's calls with this; if it did, the reason would be unknown.
_FOREIGN: Final = Row(Meaning.UNKNOWN)

#: By the first word of the error. A test compares it with the words in Redis and Valkey themselves.
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
    # It does not admit us.
    "DENIED": _RETRY,
    "NOAUTH": _RETRY,
    "NOPERM": _RETRY,
    "NOPROTO": _RETRY,
    "WRONGPASS": _RETRY,
    # No node can run the call: its keys are in different slots.
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
    # Answers to transactions, SCRIPT KILL, blocking calls, commands on groups and replicas, and of Sentinel.
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

#: Errors without a code word of their own that Redis raises before anything runs.
_BEFORE_ANYTHING: Final = ("ERR max number of clients", "ERR unknown command")
TEXT_CHARACTERS_MAX: Final = 120

#: Redis 6.2 puts the error of a command into that of its script: `ERR Error running script (call to f_<sha>):
#: @user_script:88: @user_script: 88: -MISCONF Redis is ...`.
_wrapped = re.compile(r"ERR Error running script.*?@user_script: ?\d+: -?([A-Z]{2,} .*)", re.DOTALL).match
#: Redis 7 appends where it was: `MISCONF Redis is ... script: <sha>, on @user_script:88.`
_appended = re.compile(r"(.*?),? script: [0-9a-f]{40}, on @user_script:\d+\.?\Z", re.DOTALL).match


class Refusal(NamedTuple):
    """A classified error reply. `text` is the message of Redis, short enough to be passed on."""

    code: str
    meaning: Meaning
    #: Whether the node would still answer reads.
    reads: bool
    text: str

    def why(self, shard: str) -> str:
        """A sentence about the shard."""
        return f"shard {shard} refuses{' writes' if self.reads else ''}: {self.text}"


def refusal_of(error: str) -> Refusal:
    """Classify an error reply to a script call or a command. If no row has it, the call may have run."""
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


#: Message of Redis inside a script -> its code word for the same error in a call that declares its keys.
_UNDECLARED: Final = {"non local key": "MOVED", "cluster is down": "CLUSTERDOWN"}
#: The place in the script, which Redis 6.2 puts before the message.
_place = re.compile(r"\A(?:@?user_script: ?\d+: )+-?")


def refusal_inside(error: str, begun: bool) -> Refusal:
    """Classify an error inside the apply script, for one of its partitions.

    `begun`: whether the writes of that partition had begun.
    """
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


#: What Redis and Lua say of data that is not what it must be. Anything else may be said by a node that will not or
#: cannot do something now, whatever the data: no recovery mends that.
_of_data = re.compile(r"WRONGTYPE|attempt to |not an integer|not a valid float").search


def is_of_data(error: object) -> bool:
    """Whether a script failed at the data that it met, and not at its node: what a key holds is not what it must be."""
    if not isinstance(error, hiredis.ReplyError):
        return False
    return refusal_of(str(error)).meaning is Meaning.UNKNOWN and _of_data(str(error)) is not None


class Obstacle(StrEnum):
    """Why a node cannot be asked; the text continues a sentence about it. Settings fix all but `SILENT`."""

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
    """`text` is a sentence without its subject, with the message of Redis or TLS."""

    obstacle: Obstacle
    text: str


#: By the first word of an error reply. redis-py removes that word, and has exception classes for some of
#: them.
_OBSTACLES: Final = {
    "NOAUTH": Obstacle.NO_PASSWORD,
    "WRONGPASS": Obstacle.WRONG_PASSWORD,
    "NOPERM": Obstacle.NOT_ALLOWED,
    "DENIED": Obstacle.PROTECTED,
}
_PASSWORD_MISSING: Final = "Authentication required"
#: Messages of Redis before version 6, and of a node without a password to a login without a user.
_PASSWORD_WRONG: Final = ("invalid password", "AUTH <password> called without any password configured")
_UNKNOWN_COMMAND: Final = "unknown command"
_HANDSHAKE: Final = "handshake"
#: A node that wants TLS ends a connection that does not begin with it.
_BROKEN_OFF: Final = (ConnectionResetError, BrokenPipeError, EOFError)


def hindrance_of(error: BaseException) -> Hindrance:
    """Classify an error that redis-py, hiredis, `ssl` or a socket raised or returned for a call to a node."""
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
    """Whether the node answered that we may not run this command. Some callers can go on without it."""
    return isinstance(error, ResponseError) and hindrance_of(error).obstacle in (
        Obstacle.NOT_ALLOWED,
        Obstacle.NO_COMMAND,
    )


def is_broken_off(error: BaseException) -> bool:
    """Whether the other side ended the connection; `greeting` may find out why."""
    return any(isinstance(cause, _BROKEN_OFF) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
