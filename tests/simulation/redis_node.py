"""One Redis node in memory: commands, scripts, transactions and slots as the engine and its moves use them.

Written for speed: fakeredis runs the same scripts about ten times slower. `test_redis_node.py` compares the two. A node
has one clock. It may be stopped, lose its memory, go back to an old image, or go on as a primary that its shard has
replaced.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis
from simulation.commands import ERRORS, CommandError, Commands, Status, Store, copy_store, slot_of_key
from simulation.lua_scripts import ScriptError, is_replicated, run_script, sha_of
from simulation.network import Wire
from simulation.world import Handle, World

#: The error of a node that cannot save its image.
MISCONF: Final = (
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."
)
#: The error when a script uses a key that it did not declare, in a slot of another node.
NON_LOCAL: Final = "ERR Script attempted to access a non local key in a cluster node"
#: Shortened like the engine's periods: streams get holes around open entries after a few entries.
SHORTENED: Final = {b"local PINNED_ENTRIES_MAX = 64\n": b"local PINNED_ENTRIES_MAX = 3\n"}
_OK: Final = Status(b"OK")
_QUEUED: Final = Status(b"QUEUED")
#: Commands that name no key.
_KEYLESS: Final = frozenset((b"PING", b"TIME", b"INFO", b"CLUSTER", b"SCRIPT", b"ROLE"))
#: Commands that a replica answers too.
_OF_REPLICAS: Final = frozenset((b"PING", b"INFO", b"CLUSTER", b"ROLE"))


def shortened(text: bytes) -> bytes:
    """A script as the nodes run it."""
    for constant, value in SHORTENED.items():
        text = text.replace(constant, value)
    return text


class Talk:
    """What a node keeps for one connection: whether it may use slots that are being imported, and its transaction."""

    __slots__ = ("asking", "queued", "watched")

    def __init__(self) -> None:
        self.asking = False
        self.queued: list[list[bytes]] | None = None
        #: key -> how often it had been written when WATCH came
        self.watched: dict[bytes, int] = {}


class RedisNode:
    """A process on one address. `primary` and `slots` are what the node believes."""

    def __init__(self, world: World, address: str, node_id: str, shard: str = "") -> None:
        self.world = world
        self.address = address
        self.node_id = node_id
        self.shard = shard
        self.alive = True
        self.primary = True
        self.config_epoch = 1
        #: Each partition's slot -> the shard that owns it, and the epoch of that claim. Every node serves other slots.
        self.slots: dict[int, tuple[str, int]] = {}
        #: Each partition's slot -> all slots of the partition.
        self.ranges: dict[int, range] = {}
        #: The other node of its shard: its replica, or its primary.
        self.peer: RedisNode | None = None
        self.importing: set[int] = set()
        #: Keys that this node has dropped on losing a slot. Its replica still has them, as Redis does not tell it.
        self.left_on_replica: Store = {}
        #: Fields of hashes that scripts have written here and not on replicas: key -> field -> value on replicas.
        self.unreplicated: dict[bytes, dict[bytes, bytes | None]] = {}
        self.skew_us = 0
        self.store: Store = {}
        self.scripts: dict[bytes, bytes] = {}
        self.sessions: dict[_Session, None] = {}
        #: The memory as it was a while ago: a replica's, or the last saved image.
        self.image: Store = {}
        self.image_chance = 0.0
        self.stalled_until_us = 0
        self.refuses_writes = ""
        self.patch_script: Callable[[bytes], bytes] = lambda text: text
        #: Called after each cached script: its SHA, its arguments, its reply.
        self.on_script: Callable[[RedisNode, bytes, list[bytes], Any], None] | None = None
        #: Called after a partition (its meta key) was made `live`, by recovery or by a move to this node.
        self.on_live: Callable[[RedisNode, bytes], None] | None = None
        #: Called with a stream's key and the newest entry trimmed from it.
        self.on_trim: Callable[[bytes, int], None] = lambda key, seq: None
        #: Called when this node is told that a slot belongs to a node id.
        self.on_claim: Callable[[RedisNode, int, str], None] = lambda node, slot, node_id: None
        #: The highest configuration epoch in the cluster.
        self.epoch_max: Callable[[], int] = lambda: self.config_epoch
        self._bind()

    def __repr__(self) -> str:
        state = "alive" if self.alive else "down"
        return f"<RedisNode {self.address} {state} primary={self.primary} sessions={len(self.sessions)}>"

    def _bind(self) -> None:
        self.commands = Commands(self.store, self._now_us, self.node_id.encode())
        self.commands.trim_reach = self.world.rng.random
        self.commands.scan_again = lambda: int(self.world.rng.random() ** 2 * 3)
        self.commands.on_trim = lambda key, seq: self.on_trim(key, seq)
        self.commands.refuses_writes = self.refuses_writes

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
        """A new process with this memory; `scripts`: whether it keeps scripts, as a replica that had them."""
        self.alive = True
        self.store = store
        self.image = copy_store(store)
        self.left_on_replica, self.unreplicated = {}, {}  # its replica copies everything anew
        self.refuses_writes = ""
        if not scripts:
            self.scripts = {}
        self._bind()

    def set_clock(self, ahead_us: int) -> None:
        """Set its machine's clock `ahead_us` ahead of the right time."""
        self.skew_us = ahead_us

    def take_image(self) -> None:
        self.image = copy_store(self.store)

    def refuse_writes(self, said: str) -> None:
        """Answer every write with this error from now on; with "" take writes again."""
        self.refuses_writes = self.commands.refuses_writes = said

    # Slots -----------------------------------------------------------------------------------------------

    def owned(self) -> list[range]:
        """The slots that the node claims for its shard."""
        return [self.ranges[slot] for slot, (shard, _) in self.slots.items() if shard == self.shard]

    def learn(self, slot: int, shard: str, epoch: int) -> None:
        """Gossip: a shard claims a slot. A node that loses it drops its keys, and its replica does not."""
        if epoch <= self.slots[slot][1]:
            return
        lost = self.slots[slot][0] == self.shard != shard
        self.slots[slot] = shard, epoch
        if lost:
            for key in [key for key in self.store if slot_of_key(key) == slot]:
                value = self.store.pop(key)
                if isinstance(value, dict):
                    self.left_on_replica[key] = value

    def replica_has(self, store: Store) -> Store:
        """A replica's copy of its primary's memory: it still has the keys that the primary dropped with a slot."""
        copied = copy_store(store)
        for key, fields in self.left_on_replica.items():
            copied[key] = {**fields, **copied.get(key, {})}
        for key, fields in self.unreplicated.items():
            for field, value in fields.items() if key in copied else ():
                if value is None:
                    copied[key].pop(field, None)
                else:
                    copied[key][field] = value
        return copied

    def _cluster(self, words: list[bytes]) -> Any:
        what = words[1].upper()
        if what == b"BUMPEPOCH":
            self.bump_epoch()
            return _OK
        if what == b"NODES":
            return b"\n".join([self._myself(), *self._others()])
        if what == b"GETKEYSINSLOT" and not self.primary:
            return self._replicated(int(words[2]))
        if what != b"SETSLOT":
            return self.commands.run(b"CLUSTER", *words[1:])
        slot, how = int(words[2]), words[3].upper()
        if slot in self.slots:
            if how == b"IMPORTING":
                if self.slots[slot][0] == self.shard:
                    raise CommandError(f"ERR I'm already the owner of hash slot {slot}")
                self.importing.add(slot)
            elif how == b"STABLE":
                self.importing.discard(slot)
            else:
                self._assign(slot, words[4])
        return _OK

    def bump_epoch(self) -> None:
        self.config_epoch = self.epoch_max() + 1

    def _myself(self) -> bytes:
        """The line of `CLUSTER NODES` about the node itself."""
        slots = "".join(f" {owned.start}-{owned.stop - 1}" for owned in self.owned() if self.primary)
        follows = "-" if self.primary or self.peer is None else self.peer.node_id
        role = "master" if self.primary else "slave"
        line = f"{self.node_id} {self.address}@1 myself,{role} {follows} 0 0 {self.config_epoch} connected{slots}"
        return line.encode()

    def _others(self) -> list[bytes]:
        """The lines about the other shards' slots, with the shard's name in place of a node."""
        known: dict[str, list[str]] = {}
        for slot, (shard, _) in self.slots.items():
            if shard != self.shard:
                known.setdefault(shard, []).append(f"{self.ranges[slot].start}-{self.ranges[slot].stop - 1}")
        return [
            f"{shard} {shard}:0@0 master - 0 0 0 connected {' '.join(slots)}".encode()
            for shard, slots in known.items()
        ]

    def _replicated(self, slot: int) -> list[bytes]:
        """The keys of a slot on this replica."""
        if self.peer is None or not self.peer.alive:
            return []
        return sorted(
            key for key in {*self.peer.store, *self.peer.left_on_replica} if slot_of_key(key) == slot
        )

    def _assign(self, slot: int, node_id: bytes) -> None:
        mine = self.slots[slot][0] == self.shard
        if mine and node_id != self.node_id.encode() and any(slot_of_key(key) == slot for key in self.store):
            raise CommandError(
                f"ERR Can't assign hashslot {slot} to a different node while I still hold keys for this hash slot."
            )
        if slot in self.importing and node_id == self.node_id.encode():
            self.bump_epoch()
        self.importing.discard(slot)
        self.on_claim(self, slot, node_id.decode())

    def _check_slot(self, keys: list[bytes], talk: Talk) -> None:
        """Raises `CommandError` unless this node serves the slot of the keys to this connection."""
        slot = slot_of_key(keys[0]) if keys else -1
        owner = self.slots.get(slot)
        if owner is None or owner[0] == self.shard:
            return
        if not (talk.asking and slot in self.importing):
            raise CommandError(f"MOVED {slot} {owner[0]}")
        if len(keys) > 1 and not all(key in self.store for key in keys):
            raise CommandError("TRYAGAIN Multiple keys request during rehashing of slot")

    # Commands --------------------------------------------------------------------------------------------

    def execute(self, words: list[bytes], talk: Talk | None = None) -> Any:
        """One command; raises `CommandError`."""
        talk = talk or Talk()
        name = words[0].upper()
        if not self.primary and name not in _OF_REPLICAS and not (name == b"EVALSHA" and words[2] == b"0"):
            raise CommandError(f"MOVED 0 {self.address}")
        if name == b"ASKING":
            talk.asking = True
            return _OK
        try:
            return self._begun(name, words, talk)
        finally:
            if talk.queued is None:
                talk.asking = False

    def _begun(self, name: bytes, words: list[bytes], talk: Talk) -> Any:
        if name == b"MULTI":
            talk.queued = []
            return _OK
        if name == b"EXEC":
            return self._transaction(talk)
        if name not in _KEYLESS:
            count = int(words[2]) if name in (b"EVAL", b"EVALSHA") else 1
            self._check_slot(words[3 : 3 + count] if name in (b"EVAL", b"EVALSHA") else words[1:2], talk)
        if talk.queued is not None:
            talk.queued.append(words)
            return _QUEUED
        if name == b"WATCH":
            talk.watched |= {key: self.commands.touched.get(key, 0) for key in words[1:]}
            return _OK
        return self._run(name, words)

    def _transaction(self, talk: Talk) -> Any:
        queued, talk.queued = talk.queued or [], None
        watched, talk.watched = talk.watched, {}
        if any(self.commands.touched.get(key, 0) != times for key, times in watched.items()):
            return None
        replies: list[Any] = []
        for words in queued:
            try:
                replies.append(self._run(words[0].upper(), words))
            except CommandError as error:
                replies.append(error)
        return replies

    def _run(self, name: bytes, words: list[bytes]) -> Any:
        if name == b"EVALSHA":
            return self._evalsha(words)
        if name == b"EVAL":
            return self._eval(words)
        if name == b"SCRIPT":
            return self._script(words)
        if name == b"CLUSTER":
            return self._cluster(words)
        if name == b"ROLE":
            return self._role()
        self._tell_replica(name, words[1:])
        try:
            return self.commands.run(name, *words[1:])
        except ERRORS as error:
            raise CommandError(f"ERR {name.decode()} failed: {error!r}") from error

    def _tell_replica(self, name: bytes, words: Sequence[bytes]) -> None:
        """The replica drops the keys that this node drops. A key that this node does not have is not sent on."""
        if name in (b"DEL", b"UNLINK"):
            for key in words:
                if key in self.store:
                    self.left_on_replica.pop(key, None)
                    self.unreplicated.pop(key, None)
        elif name == b"HSET" and not is_replicated():
            on_replica, here = self.unreplicated.setdefault(words[0], {}), self.store.get(words[0], {})
            for field in words[1::2]:
                on_replica.setdefault(field, here.get(field))
        elif name == b"HSET" and words[0] in self.unreplicated:
            for field in words[1::2]:
                self.unreplicated[words[0]].pop(field, None)

    def _role(self) -> Any:
        if not self.primary:
            return [b"slave", b"", 0, b"connected", 0]
        replicas = [self.peer] if self.peer is not None and self.peer.alive and not self.peer.primary else []
        addresses = [replica.address.encode().partition(b":") for replica in replicas]
        return [b"master", 0, [[host, port, b"0"] for host, _, port in addresses]]

    def _script(self, words: list[bytes]) -> Any:
        if words[1].upper() == b"EXISTS":
            return [int(sha in self.scripts) for sha in words[2:]]
        sha = sha_of(words[2])
        self.scripts[sha] = self.patch_script(shortened(words[2]))
        return sha

    def _eval(self, words: list[bytes]) -> Any:
        """Run a script that is not cached: of recovery, the drain or moves. Some make a partition live."""
        count = int(words[2])
        keys, argv = words[3 : 3 + count], words[3 + count :]
        state_before = self._state(keys[0])
        reply = self._run_script(self.patch_script(shortened(words[1])), keys, argv)
        if state_before in (b"recovering", b"copying") and self._state(keys[0]) == b"live" and self.on_live:
            self.on_live(self, keys[0])
        return reply

    def _state(self, key: bytes) -> Any:
        """The state in a partition's meta; None for any other key."""
        found = self.store.get(key)
        return found.get(b"state") if isinstance(found, dict) else None

    def _evalsha(self, words: list[bytes]) -> Any:
        sha = words[1]
        text = self.scripts.get(sha)
        if text is None:
            raise CommandError("NOSCRIPT No matching script. Please use EVAL.")
        count = int(words[2])
        keys, argv = words[3 : 3 + count], words[3 + count :]
        reply = self._run_script(text, keys, argv)
        if self.on_script is not None:
            self.on_script(self, sha, argv, reply)
        if self.image_chance and self.world.rng.random() < self.image_chance:
            self.take_image()
        return reply

    def _run_script(self, text: bytes, keys: list[bytes], argv: list[bytes]) -> Any:
        declared = slot_of_key(keys[0]) if keys else -1

        def call(name: bytes, *args: Any) -> Any:
            if name not in _KEYLESS and args and slot_of_key(args[0]) != declared:
                self._check_local(args[0])
            self._tell_replica(name, args)
            return self.commands.from_script(name, *args)

        try:
            reply = run_script(text, keys, argv, call)
            for answer in reply if type(reply) is list else ():
                if type(answer) is list and answer[0] == b"ERROR":
                    self._check_failure(answer[1].decode())
            return reply
        except CommandError as error:
            if (
                self.refuses_writes and str(error) == self.refuses_writes
            ):  # as Redis 7 puts it, at the first write
                raise CommandError(f"{error} script: {sha_of(text).decode()}, on @user_script:1.") from error
            self.world.violate(f"a script failed: {error!r}")
            raise CommandError(f"ERR {error}") from error
        except (ScriptError, *ERRORS) as error:
            self.world.violate(f"a script failed: {error!r}")
            raise CommandError(f"ERR {error}") from error

    def _check_local(self, key: bytes) -> None:
        """Check a key that a script uses without having declared it. Raises `CommandError`."""
        owner = self.slots.get(slot_of_key(key))
        if not self.primary or (owner is not None and owner[0] != self.shard):
            raise CommandError(NON_LOCAL)

    def _check_failure(self, said: str) -> None:
        """A script has caught an error, which must not be a failure of its own."""
        if said != NON_LOCAL and not (self.refuses_writes and said == self.refuses_writes):
            self.world.violate(f"a script failed: {said}")


class _Session:
    """The node's end of a connection."""

    loop = None

    def __init__(self, node: RedisNode, wire: Wire) -> None:
        self.node = node
        self.wire = wire
        self.closed = False
        self._talk = Talk()
        self._reader = hiredis.Reader()
        self._backlog: list[bytes] = []

    def arrived(self, data: bytes) -> None:
        self._backlog.append(data)
        self._work()

    def _work(self) -> None:
        """Execute what has arrived, in order; while the node hangs, wait until it no longer does."""
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
                reply: Any = node.execute(words, self._talk)
            except CommandError as error:
                reply = error
            replies.append(encode(reply))
        self.wire.send(self, b"".join(replies))

    def lost(self) -> None:
        self.closed = True
        self.node.sessions.pop(self, None)


def encode(reply: Any) -> bytes:
    """A reply in the protocol's form."""
    if type(reply) is Status:
        return b"+%b\r\n" % reply
    if type(reply) is bytes:
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if reply is None:
        return b"$-1\r\n"
    if type(reply) is list:
        return b"*%d\r\n" % len(reply) + b"".join([encode(item) for item in reply])
    if isinstance(reply, CommandError):
        return b"-%b\r\n" % str(reply).replace("\n", " ").encode()
    return b":%d\r\n" % reply
