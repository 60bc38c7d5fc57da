"""One Redis node in memory: the commands that the engine and its scripts use, and no others.

Written for speed: fakeredis runs the same scripts about ten times slower. `test_redis_node.py` holds the two
against each other. A node has one clock, may be stopped, lose its memory, go back to an old image of it, or go on
as a primary that its shard has replaced.
"""

from binascii import crc_hqx
from collections.abc import Callable
from typing import Any, Final

import hiredis
from simulation.lua_scripts import ScriptError, run_script, sha_of
from simulation.network import Wire
from simulation.world import Handle, World

Value = Any
Store = dict[bytes, Value]

_ERRORS: Final = (KeyError, ValueError, IndexError, TypeError)


#: As short as the engine's periods are here: streams get holes around open entries after a few entries.
SHORTENED: Final = {b"local PINNED_ENTRIES_MAX = 64\n": b"local PINNED_ENTRIES_MAX = 3\n"}


def shortened(text: bytes) -> bytes:
    """A script as the nodes run it."""
    for constant, value in SHORTENED.items():
        text = text.replace(constant, value)
    return text


class Stream:
    """Ids are `<n>-0`. `top` is the last id ever added: smaller ones are refused."""

    __slots__ = ("entries", "top")

    def __init__(self) -> None:
        self.entries: dict[int, list[bytes]] = {}
        self.top = 0

    def copy(self) -> "Stream":
        other = Stream()
        other.entries = self.entries.copy()
        other.top = self.top
        return other


class CommandError(Exception):
    """An error reply; its text begins with the code."""


def _words(args: tuple[Any, ...]) -> list[bytes]:
    """What a script passes, as Redis sees it: a number is printed with 17 digits."""
    return [
        arg if type(arg) is bytes else b"%d" % arg if type(arg) is int else b"%.17g" % arg for arg in args
    ]


def _entry_number(entry_id: bytes) -> int:
    number, _, rest = entry_id.partition(b"-")
    if rest not in (b"0", b""):
        raise CommandError("ERR this node knows only ids <n>-0")
    return int(number)


class Commands:
    """Commands on a store. Each takes words and returns bytes, an int, None, or a list of these."""

    def __init__(self, store: Store, now_us: Callable[[], int], node_id: bytes) -> None:
        self.store = store
        self.now_us = now_us
        self.node_id = node_id
        #: How far `XTRIM ~` goes, 0 to 1: Redis trims whole blocks and may leave any number below one.
        self.trim_reach: Callable[[], float] = lambda: 1.0
        #: Told the key and the newest entry that was trimmed.
        self.on_trim: Callable[[bytes, int], None] = lambda key, seq: None
        self.table: dict[bytes, Callable[..., Any]] = {
            name[1:].upper().encode(): getattr(self, name) for name in dir(self) if name.startswith("c")
        }

    def from_script(self, name: bytes, *args: Any) -> Any:
        return self.table[name](*_words(args))

    def cHMGET(self, key: bytes, *fields: bytes) -> list[bytes | None]:
        found = self.store.get(key)
        return [None] * len(fields) if found is None else [found.get(field) for field in fields]

    def cHGET(self, key: bytes, field: bytes) -> bytes | None:
        return self.store.get(key, {}).get(field)

    def cHSET(self, key: bytes, *pairs: bytes) -> int:
        if not pairs or len(pairs) % 2:
            raise CommandError("ERR wrong number of arguments for 'hset' command")
        found = self.store.setdefault(key, {})
        size = len(found)
        found.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(found) - size

    def cHINCRBY(self, key: bytes, field: bytes, step: bytes) -> int:
        found = self.store.setdefault(key, {})
        value = int(found.get(field, b"0")) + int(step)
        found[field] = b"%d" % value
        return value

    def cEXISTS(self, key: bytes) -> int:
        return int(key in self.store)

    def cDEL(self, *keys: bytes) -> int:
        return sum(self.store.pop(key, None) is not None for key in keys)

    cUNLINK = cDEL

    def cPERSIST(self, key: bytes) -> int:
        return 0  # no key has a time to live

    def cZADD(self, key: bytes, score: bytes, member: bytes) -> int:
        found = self.store.setdefault(key, {})
        new = member not in found
        found[member] = float(score)
        return int(new)

    def cZSCORE(self, key: bytes, member: bytes) -> bytes | None:
        score = self.store.get(key, {}).get(member)
        return None if score is None else b"%.17g" % score

    def cZRANGE(self, key: bytes, first: bytes, last: bytes) -> list[bytes]:
        found = self.store.get(key, {})
        members = sorted(found, key=lambda member: (found[member], member))
        end = int(last)
        return members[int(first) : end + 1 if end >= 0 else len(members) + end + 1]

    def cZCARD(self, key: bytes) -> int:
        return len(self.store.get(key, {}))

    def cZRANGEBYSCORE(self, key: bytes, low: bytes, high: bytes, *limit: bytes) -> list[bytes]:
        found = self.store.get(key, {})
        members = [
            member for member in self.cZRANGE(key, b"0", b"-1") if float(low) <= found[member] <= float(high)
        ]
        return members[int(limit[1]) : int(limit[1]) + int(limit[2])] if limit else members

    def cZREMRANGEBYSCORE(self, key: bytes, low: bytes, high: bytes) -> int:
        found = self.store.get(key, {})
        gone = [member for member, score in found.items() if float(low) <= score <= float(high)]
        for member in gone:
            del found[member]
        if not found:
            self.store.pop(key, None)
        return len(gone)

    def cXADD(self, key: bytes, entry_id: bytes, *pairs: bytes) -> bytes:
        number = _entry_number(entry_id)
        stream = self.store.setdefault(key, Stream())
        if number <= stream.top:
            raise CommandError(
                "ERR The ID specified in XADD is equal or smaller than the target stream top item"
            )
        stream.entries[number] = list(pairs)
        stream.top = number
        return entry_id

    def cXLEN(self, key: bytes) -> int:
        return len(self.store[key].entries) if key in self.store else 0

    def cXRANGE(self, key: bytes, first: bytes, last: bytes, *limit: bytes) -> list[Any]:
        if key not in self.store:
            return []
        entries = self.store[key].entries
        low = 0 if first == b"-" else _entry_number(first)
        high = 2**63 if last == b"+" else _entry_number(last)
        if not entries or next(reversed(entries)) < low:
            return []
        found = [[b"%d-0" % number, fields] for number, fields in entries.items() if low <= number <= high]
        return found[: int(limit[1])] if limit else found

    def cXTRIM(self, key: bytes, strategy: bytes, *rest: bytes) -> int:
        if strategy.upper() != b"MINID" or key not in self.store:
            return 0
        entries = self.store[key].entries
        old = [number for number in entries if number < _entry_number(rest[-1])]
        if rest[0] == b"~":
            old = old[: round(len(old) * self.trim_reach())]
        for number in old:
            del entries[number]
        if old:
            self.on_trim(key, old[-1])
        return len(old)

    def cXDEL(self, key: bytes, *entry_ids: bytes) -> int:
        if key not in self.store:
            return 0
        entries = self.store[key].entries
        gone = [number for number in map(_entry_number, entry_ids) if entries.pop(number, None) is not None]
        if gone:
            self.on_trim(key, max(gone))
        return len(gone)

    def cTIME(self) -> list[bytes]:
        seconds, micros = divmod(self.now_us(), 1_000_000)
        return [b"%d" % seconds, b"%d" % micros]

    def cPING(self) -> bytes:
        return b"PONG"

    def cROLE(self) -> list[Any]:
        return [b"master", 0, []]

    def cCLUSTER(self, what: bytes, *args: bytes) -> Any:
        what = what.upper()
        if what == b"MYID":
            return self.node_id
        if what == b"GETKEYSINSLOT":
            slot = int(args[0])
            return [key for key in self.store if _slot(key) == slot][: int(args[1])]
        raise CommandError(f"ERR this node does not know CLUSTER {what.decode()}")


def _slot(key: bytes) -> int:
    tag = key.partition(b"{")[2].partition(b"}")[0] or key
    return crc_hqx(tag, 0) & 16383


class RedisNode:
    """A process on one address. `primary` is what the node believes of itself."""

    def __init__(self, world: World, address: str, node_id: str) -> None:
        self.world = world
        self.address = address
        self.node_id = node_id
        self.alive = True
        self.primary = True
        self.config_epoch = 1
        self.skew_us = 0
        self.store: Store = {}
        self.scripts: dict[bytes, bytes] = {}
        self.sessions: dict[_Session, None] = {}
        #: An image of the memory as it was a while ago: a replica's, or the last one saved.
        self.image: Store = {}
        self.image_chance = 0.0
        self.stalled_until_us = 0
        self.patch_script: Callable[[bytes], bytes] = lambda text: text
        #: Called after each script: name of the command's SHA, keys, arguments, reply.
        self.on_script: Callable[[RedisNode, bytes, list[bytes], list[bytes], list[Any]], None] | None = None
        #: Called after recovery has set the state of a partition (its meta key) to `live`.
        self.on_live: Callable[[RedisNode, bytes], None] | None = None
        #: Called with a stream's key and the newest entry trimmed from it.
        self.on_trim: Callable[[bytes, int], None] = lambda key, seq: None
        self._bind()

    def __repr__(self) -> str:
        state = "alive" if self.alive else "down"
        return f"<RedisNode {self.address} {state} primary={self.primary} sessions={len(self.sessions)}>"

    def _bind(self) -> None:
        self.commands = Commands(self.store, self._now_us, self.node_id.encode())
        self.commands.trim_reach = self.world.rng.random
        self.commands.on_trim = lambda key, seq: self.on_trim(key, seq)

    def _now_us(self) -> int:
        return self.world.now_us + self.skew_us

    def accept(self, wire: Wire) -> "_Session | None":
        if not self.alive:
            return None
        session = _Session(self, wire)
        self.sessions[session] = None
        return session

    def drop_sessions(self) -> None:
        for session in list(self.sessions):
            session.wire.reset()
        self.sessions.clear()

    def stop(self) -> None:
        self.alive = False
        self.drop_sessions()

    def start(self, store: Store, *, scripts: bool = False) -> None:
        """A new process with this memory; `scripts`: a replica that had been given the scripts too."""
        self.alive = True
        self.store = store
        self.image = copy_store(store)
        if not scripts:
            self.scripts = {}
        self._bind()

    def take_image(self) -> None:
        self.image = copy_store(self.store)

    def execute(self, words: list[bytes]) -> Any:
        """One command; raises `CommandError`."""
        if not self.primary:
            raise CommandError(f"MOVED 0 {self.address}")
        name = words[0].upper()
        if name == b"EVALSHA":
            return self._evalsha(words)
        if name == b"EVAL":
            return self._eval(words)
        if name == b"SCRIPT":
            return self._script(words)
        try:
            return self.commands.table[name](*words[1:])
        except _ERRORS as error:
            raise CommandError(f"ERR {name.decode()} failed: {error!r}") from error

    def _script(self, words: list[bytes]) -> Any:
        if words[1].upper() == b"EXISTS":
            return [int(sha in self.scripts) for sha in words[2:]]
        sha = sha_of(words[2])
        self.scripts[sha] = self.patch_script(shortened(words[2]))
        return sha

    def _eval(self, words: list[bytes]) -> Any:
        """Recovery's and the drain's own scripts, which are not cached; one of them makes a partition live."""
        count = int(words[2])
        keys, argv = words[3 : 3 + count], words[3 + count :]
        meta = self.store.get(keys[0], {})
        state_before = meta.get(b"state")
        try:
            reply = run_script(shortened(words[1]), keys, argv, self.commands.from_script)
        except (ScriptError, CommandError, *_ERRORS) as error:
            self.world.violate(f"a script failed: {error!r}")
            raise CommandError(f"ERR {error}") from error
        if state_before != b"live" and meta.get(b"state") == b"live" and self.on_live is not None:
            self.on_live(self, keys[0])
        return reply

    def _evalsha(self, words: list[bytes]) -> Any:
        sha = words[1]
        text = self.scripts.get(sha)
        if text is None:
            raise CommandError("NOSCRIPT No matching script. Please use EVAL.")
        count = int(words[2])
        keys, argv = words[3 : 3 + count], words[3 + count :]
        try:
            reply = run_script(text, keys, argv, self.commands.from_script)
        except (ScriptError, CommandError, *_ERRORS) as error:
            self.world.violate(f"a script failed: {error!r}")
            raise CommandError(f"ERR {error}") from error
        if self.on_script is not None:
            self.on_script(self, sha, keys, argv, reply)
        if self.image_chance and self.world.rng.random() < self.image_chance:
            self.take_image()
        return reply


class _Session:
    """The node's end of a connection."""

    loop = None

    def __init__(self, node: RedisNode, wire: Wire) -> None:
        self.node = node
        self.wire = wire
        self.closed = False
        self._reader = hiredis.Reader()
        self._backlog: list[bytes] = []

    def arrived(self, data: bytes) -> None:
        self._backlog.append(data)
        self._work()

    def _work(self) -> None:
        """Execute what has arrived, unless the node hangs; in order, whenever it stops to hang."""
        node = self.node
        if self.closed or self.wire.broken or not self._backlog:
            return
        if node.stalled_until_us > node.world.now_us:
            node.world.at(node.stalled_until_us, None, Handle(self._work, (), None))
            return
        self._reader.feed(b"".join(self._backlog))
        self._backlog.clear()
        replies = []
        while (words := self._reader.gets()) is not False:
            try:
                reply: Any = node.execute(words)
            except CommandError as error:
                reply = error
            replies.append(encode(reply))
        self.wire.send(self, b"".join(replies))

    def lost(self) -> None:
        self.closed = True
        self.node.sessions.pop(self, None)


def encode(reply: Any) -> bytes:
    """A reply in the protocol's form."""
    if type(reply) is bytes:
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if reply is None:
        return b"$-1\r\n"
    if type(reply) is list:
        return b"*%d\r\n" % len(reply) + b"".join([encode(item) for item in reply])
    if isinstance(reply, CommandError):
        return b"-%b\r\n" % str(reply).replace("\n", " ").encode()
    return b":%d\r\n" % reply


def copy_store(store: Store) -> Store:
    return {key: value.copy() for key, value in store.items()}
