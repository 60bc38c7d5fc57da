"""The commands of a simulated Redis node: those that the engine, its scripts and its moves use, and no others."""

from binascii import crc_hqx
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final

Value = Any
Store = dict[bytes, Value]

ERRORS: Final = (KeyError, ValueError, IndexError, TypeError)


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


class Status(bytes):
    """A status reply: to a script it is a table with the text under `ok`."""


class CommandError(Exception):
    """An error reply; its text begins with the code."""


def _words(args: tuple[Any, ...]) -> list[bytes]:
    """A script's arguments as Redis sees them: a number is printed with 17 digits."""
    return [
        arg if type(arg) is bytes else b"%d" % arg if type(arg) is int else b"%.17g" % arg for arg in args
    ]


def _entry_number(entry_id: bytes) -> int:
    number, _, rest = entry_id.partition(b"-")
    if rest not in (b"0", b""):
        raise CommandError("ERR this node knows only ids <n>-0")
    return int(number)


#: Commands that change a key, or may: a node that takes no writes refuses them, and they touch a watched key.
WRITES: Final = frozenset(
    b"SET HSET HSETNX HDEL HINCRBY DEL UNLINK PERSIST ZADD ZREM ZREMRANGEBYSCORE XADD XDEL XTRIM".split()
)


class Commands:
    """Commands on a store. Each takes words and returns bytes, an int, None, or a list of these."""

    def __init__(self, store: Store, now_us: Callable[[], int], node_id: bytes) -> None:
        self.store = store
        self.now_us = now_us
        self.node_id = node_id
        #: The error of each write while the node takes none; "" while it takes them.
        self.refuses_writes = ""
        #: How often each key was written, for WATCH.
        self.touched: dict[bytes, int] = {}
        #: How far `XTRIM ~` goes, 0 to 1: Redis trims whole blocks and may leave any number below one.
        self.trim_reach: Callable[[], float] = lambda: 1.0
        #: How many fields a scan returns a second time; fewer than it returns in one call.
        self.scan_again: Callable[[], int] = lambda: 0
        #: cursor -> the last name that was returned
        self._scanned: dict[bytes, bytes] = {}
        #: Told the key and the newest entry that was trimmed.
        self.on_trim: Callable[[bytes, int], None] = lambda key, seq: None
        self.table: dict[bytes, Callable[..., Any]] = {
            name[1:].upper().encode(): getattr(self, name) for name in dir(self) if name.startswith("c")
        }

    def run(self, name: bytes, *words: bytes) -> Any:
        """One command. Raises `CommandError`."""
        if name in WRITES:
            if self.refuses_writes:
                raise CommandError(self.refuses_writes)
            for key in words if name in (b"DEL", b"UNLINK") else words[:1]:
                self.touched[key] = self.touched.get(key, 0) + 1
        return self.table[name](*words)

    def from_script(self, name: bytes, *args: Any) -> Any:
        return self.run(name.upper(), *_words(args))

    # Hashes ----------------------------------------------------------------------------------------------

    def cHMGET(self, key: bytes, *fields: bytes) -> list[bytes | None]:
        found = self.store.get(key)
        return [None] * len(fields) if found is None else [found.get(field) for field in fields]

    def cHGET(self, key: bytes, field: bytes) -> bytes | None:
        return self.store.get(key, {}).get(field)

    def cHGETALL(self, key: bytes) -> list[bytes]:
        return [word for pair in self.store.get(key, {}).items() for word in pair]

    def cHLEN(self, key: bytes) -> int:
        return len(self.store.get(key, ()))

    def cHSET(self, key: bytes, *pairs: bytes) -> int:
        if not pairs or len(pairs) % 2:
            raise CommandError("ERR wrong number of arguments for 'hset' command")
        found = self.store.setdefault(key, {})
        size = len(found)
        found.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(found) - size

    def cHSETNX(self, key: bytes, field: bytes, value: bytes) -> int:
        return 0 if field in self.store.get(key, {}) else self.cHSET(key, field, value)

    def cHDEL(self, key: bytes, *fields: bytes) -> int:
        found = self.store.get(key, {})
        gone = sum(found.pop(field, None) is not None for field in fields)
        if gone and not found:
            del self.store[key]
        return gone

    def cHINCRBY(self, key: bytes, field: bytes, step: bytes) -> int:
        found = self.store.setdefault(key, {})
        value = int(found.get(field, b"0")) + int(step)
        found[field] = b"%d" % value
        return value

    def cHSCAN(self, key: bytes, cursor: bytes, _count: bytes, most: bytes) -> list[Any]:
        """Returns fields in order of their names. A field that exists during the whole scan comes once, or twice."""
        return self._scan(sorted(self.store.get(key, {}).items()), cursor, most)

    def cZSCAN(self, key: bytes, cursor: bytes, _count: bytes, most: bytes) -> list[Any]:
        """The same of members and scores."""
        found = self.store.get(key, {})
        return self._scan([(member, b"%.17g" % found[member]) for member in sorted(found)], cursor, most)

    def _scan(self, found: list[tuple[bytes, bytes]], cursor: bytes, most: bytes) -> list[Any]:
        last = self._scanned.get(cursor, b"")
        begin = bisect_right(found, last, key=lambda pair: pair[0]) if cursor != b"0" else 0
        begin = max(0, begin - self.scan_again())
        some = found[begin : begin + int(most)]
        if begin + len(some) >= len(found):
            return [b"0", [word for pair in some for word in pair]]
        rest = b"%d" % (len(self._scanned) + 1)
        self._scanned[rest] = max(last, some[-1][0])
        return [rest, [word for pair in some for word in pair]]

    # Keys ------------------------------------------------------------------------------------------------

    def cEXISTS(self, key: bytes) -> int:
        return int(key in self.store)

    def cSET(self, key: bytes, value: bytes) -> Any:
        """A text is stored as a hash of one field: nothing reads it, it is only unlinked."""
        self.store[key] = {b"": value}
        return Status(b"OK")

    def cDEL(self, *keys: bytes) -> int:
        return sum(self.store.pop(key, None) is not None for key in keys)

    cUNLINK = cDEL

    def cPERSIST(self, key: bytes) -> int:
        return 0  # no key has a time to live

    def cTYPE(self, key: bytes) -> Any:
        """The type as a script sees it: a table with the name under `ok`."""
        value = self.store.get(key)
        if isinstance(value, Stream):
            return Status(b"stream")
        scores = isinstance(value, dict) and value and isinstance(next(iter(value.values())), float)
        return Status(b"none" if value is None else b"zset" if scores else b"hash")

    # Sorted sets -----------------------------------------------------------------------------------------

    def cZADD(self, key: bytes, *pairs: bytes) -> int:
        found = self.store.setdefault(key, {})
        size = len(found)
        found.update((member, float(score)) for score, member in zip(pairs[::2], pairs[1::2], strict=True))
        return len(found) - size

    def cZCARD(self, key: bytes) -> int:
        return len(self.store.get(key, ()))

    def cZSCORE(self, key: bytes, member: bytes) -> bytes | None:
        score = self.store.get(key, {}).get(member)
        return None if score is None else b"%.17g" % score

    def cZMSCORE(self, key: bytes, *members: bytes) -> list[bytes | None]:
        return [self.cZSCORE(key, member) for member in members]

    def cZRANGE(self, key: bytes, first: bytes, last: bytes, *scores: bytes) -> list[bytes]:
        found = self.store.get(key, {})
        members = sorted(found, key=lambda member: (found[member], member))
        end = int(last)
        some = members[int(first) : end + 1 if end >= 0 else len(members) + end + 1]
        return [word for member in some for word in (member, b"%.17g" % found[member])] if scores else some

    def cZRANGEBYSCORE(self, key: bytes, low: bytes, high: bytes, *options: bytes) -> list[bytes]:
        found = self.store.get(key, {})
        scored = options[:1] == (b"WITHSCORES",)
        limit = options[scored:]
        members = [
            member for member in self.cZRANGE(key, b"0", b"-1") if float(low) <= found[member] <= float(high)
        ]
        if limit:
            members = members[int(limit[1]) : int(limit[1]) + int(limit[2])]
        return [word for member in members for word in (member, b"%d" % found[member])] if scored else members

    def cZREM(self, key: bytes, *members: bytes) -> int:
        found = self.store.get(key, {})
        gone = sum(found.pop(member, None) is not None for member in members)
        if gone and not found:
            del self.store[key]
        return gone

    def cZREMRANGEBYSCORE(self, key: bytes, low: bytes, high: bytes) -> int:
        found = self.store.get(key, {})
        gone = [member for member, score in found.items() if float(low) <= score <= float(high)]
        for member in gone:
            del found[member]
        if not found:
            self.store.pop(key, None)
        return len(gone)

    # Streams ---------------------------------------------------------------------------------------------

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
        low = 0 if first == b"-" else _entry_number(first.removeprefix(b"(")) + first.startswith(b"(")
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

    # The node --------------------------------------------------------------------------------------------

    def cTIME(self) -> list[bytes]:
        seconds, micros = divmod(self.now_us(), 1_000_000)
        return [b"%d" % seconds, b"%d" % micros]

    def cPING(self) -> bytes:
        return b"PONG"

    def cINFO(self, *_sections: bytes) -> bytes:
        return b"used_memory:1\r\nmaxmemory:0\r\n"

    def cCLUSTER(self, what: bytes, *args: bytes) -> Any:
        what = what.upper()
        if what == b"MYID":
            return self.node_id
        if what == b"GETKEYSINSLOT":
            slot = int(args[0])
            return [key for key in self.store if slot_of_key(key) == slot][: int(args[1])]
        raise CommandError(f"ERR this node does not know CLUSTER {what.decode()}")


def slot_of_key(key: bytes) -> int:
    tag = key.partition(b"{")[2].partition(b"}")[0] or key
    return crc_hqx(tag, 0) & 16383


def copy_store(store: Store) -> Store:
    return {key: value.copy() for key, value in store.items()}
