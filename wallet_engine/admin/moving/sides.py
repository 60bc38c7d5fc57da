"""The two nodes of a move.

A run that drives a move may be stopped for any time. When it wakes up, another run may have taken over and finished,
and the partition may even have come back. So every write depends on a condition that the node itself checks. On the
target: `meta` still has this run's token. That uses WATCH, then MULTI/EXEC, because a script would have to declare
keys that do not exist yet, and an importing node refuses that with TRYAGAIN. On the source: `meta` has the epoch.

**A node that does not own a slot may hold keys of it, and its replicas may hold others.** Redis drops the keys of a
slot that a primary loses, but does not tell its replicas; a replica that is promoted later brings the keys back. No
client reaches them, and they count for nothing. So a target is emptied before anything is copied to it. Its replicas
are emptied too, by the names of their keys: UNLINK of a key that the primary lacks is not replicated, but a SET and
an UNLINK of that key are.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, Final

import hiredis

from wallet_engine.admin.moving.wire import Command, Setback, Wire
from wallet_engine.domain.errors import ConfigError, WalletError
from wallet_engine.domain.key_names import META_FOLDED
from wallet_engine.domain.oracle_state import WITNESSED
from wallet_engine.redis_store.connection import Word
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.scripts import load_script
from wallet_engine.redis_store.topology import NodeView, parse_myself, slot_owners
from wallet_engine.routing.slots import slot_of

KEYS_MAX: Final = 1000

_TURN: Final = load_script("turn").text
_RELEASE: Final = load_script("release").text
_ASKING: Final = ("ASKING",)


class TakenOver(WalletError):
    """Another run drives the move now; this run has to stop."""


class Side:
    """The common part of `Source` and `Target`."""

    def __init__(self, node: NodeView, keys: PartitionKeys) -> None:
        self.node = node
        self.keys = keys
        self.slot = slot_of(keys.tag)
        self.wire = Wire(node.address)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.node.address} slot={self.slot}>"

    def close(self) -> None:
        self.wire.close()

    def key(self, kind: bytes) -> bytes:
        return b"%s{%s}" % (kind, self.keys.tag.encode())

    def kinds(self) -> set[bytes]:
        """The kinds of the partition's keys on the node; foreign keys in its slot by their whole name."""
        return {name.removesuffix(self.key(b"")) for name in self.names(self.wire)}

    def names(self, wire: Wire) -> set[bytes]:
        """All keys of the slot on a node; at most `KEYS_MAX`."""
        return set(wire.call("CLUSTER", "GETKEYSINSLOT", self.slot, KEYS_MAX))

    def read(self, *commands: Command) -> list[Any]:
        """Replies of commands on one key each. The owner of the slot ignores ASKING."""
        replies = self.wire.batch([word for command in commands for word in (_ASKING, command)])
        return [self.wire.checked(reply) for reply in replies[1::2]]

    def check_not_promoted(self) -> None:
        """Raises `Setback` if the node was promoted since `node` was seen: its data may be older than what it said."""
        reply: bytes = self.wire.call("CLUSTER", "NODES")
        now = parse_myself(self.node.address, reply.decode())
        if (now.is_primary, now.config_epoch) != (self.node.is_primary, self.node.config_epoch):
            raise Setback(f"{self.node.address} was a replica meanwhile, and may have lost data")

    def meta(self) -> dict[str, str]:
        flat = self.read(("HGETALL", self.keys.meta))[0]
        return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}

    def turn(self, expected: Mapping[str, Word], changes: Mapping[str, Word]) -> tuple[int, str] | None:
        """Change meta if it has the `expected` values ("" for absent); returns its seq and nonce, or None."""
        words = [word for pair in (*expected.items(), *changes.items()) for word in pair]
        reply = self.read(("EVAL", _TURN, 1, self.keys.meta, len(expected), *words))[0]
        if reply[0] != 1:
            return None
        return int(reply[1] or 0), (reply[2] or b"").decode()


class Source(Side):
    """The node that serves the partition under `epoch` until the switch."""

    def __init__(self, node: NodeView, keys: PartitionKeys, epoch: int) -> None:
        super().__init__(node, keys)
        self.epoch = epoch

    def freeze(self, token: str) -> tuple[int, str]:
        """Stop the partition from taking operations; returns its last seq and nonce. Raises `Setback`."""
        ours: dict[str, Word] = {"epoch": self.epoch, "owner": self.node.node_id, "state": "live"}
        last = self.turn(ours, {"state": "moving", "move": token})
        if last is None:
            raise Setback("the partition was recovered meanwhile")
        return last

    def frozen_by(self, token: str) -> bool:
        """Whether the partition is still frozen, by this run."""
        return self.turn({"epoch": self.epoch, "state": "moving", "move": token}, {}) is not None

    def thaw(self, token: str) -> bool:
        """Let it serve again. Only for this run's own freeze, when no change of the map is under way."""
        return self.turn({"state": "moving", "move": token}, {"state": "live", "move": ""}) is not None

    def seize(self, token: str) -> bool:
        """Take over a freeze, also another run's. Returns False when the partition is not frozen."""
        meta = self.meta()
        if meta.get("state") != "moving":
            return False
        theirs: dict[str, Word] = {"epoch": self.epoch, "state": "moving", "move": meta.get("move", "")}
        if self.turn(theirs, {"move": token}) is None:
            raise Setback("the partition has changed while it was looked at")
        return True

    def release(self) -> bool:
        """Delete the partition, which has moved. Returns False when the node holds something else."""
        others = sorted(self.names(self.wire) - {self.keys.meta.encode()})
        names: list[Word] = [self.keys.meta, *others]
        return bool(self.wire.call("EVAL", _RELEASE, len(names), *names, self.epoch))


class Target(Side):
    """The node that imports the slot, for the run named by `token`. `replicas`: addresses of its replicas."""

    def __init__(self, node: NodeView, keys: PartitionKeys, token: str, replicas: Iterable[str] = ()) -> None:
        super().__init__(node, keys)
        self.token = token
        self._replicas = tuple(replicas)

    def claim(self, source_id: str, epoch: int, kinds: Iterable[bytes] = ()) -> None:
        """Import the slot, claim `meta` for this run, and delete all that the node and its replicas have in the slot.

        `epoch`: that of the map, which places the partition elsewhere. `kinds`: keys to delete also from replicas that
        do not answer. Raises `ConfigError` for data that may be newer than the map, `Setback` when the slot's owner
        is not known.
        """
        import_slot(self.wire, self.slot, source_id)
        self._take(epoch)
        self._watch()
        names = self.names(self.wire) | self._names_on_replicas() | {self.key(kind) for kind in kinds}
        for name in sorted(names - {self.keys.meta.encode()}):
            self.write(_gone(name))

    def _take(self, epoch: int) -> None:
        """Make `meta` this run's, on the replicas too, unless it may be newer than the map or changes meanwhile."""
        key = self.keys.meta
        watched = self.wire.batch([_ASKING, ("WATCH", key), _ASKING, ("HGETALL", key)])
        flat = self.wire.checked(watched[-1])
        meta = dict(zip(flat[::2], flat[1::2], strict=True))
        state, of = meta.get(b"state", b"copying"), int(meta.get(b"epoch") or 0)
        if state not in (b"copying", b"moved") and of >= epoch:
            raise ConfigError(
                f"{self.node.address} holds the partition in state {state.decode()} under epoch {of}, and the map says "
                f"{epoch}: see wallet-admin doctor"
            )
        mine: Command = ("HSET", key, "state", "copying", "move", self.token)
        done = self.wire.checked(self.wire.batch([_ASKING, ("MULTI",), *_gone(key), mine, ("EXEC",)])[-1])
        if done is None:
            raise TakenOver("another run has begun to copy the partition")
        for reply in done:
            self.wire.checked(reply)

    def _names_on_replicas(self) -> set[bytes]:
        found: set[bytes] = set()
        for address in self._replicas:
            with suppress(Setback), closing(Wire(address)) as wire:
                found |= self.names(wire)
        return found

    def write(self, commands: Sequence[Command], *, after: Iterable[Command] = ()) -> list[Any]:
        """Run commands, all on one key, if the node is still this run's. Returns the replies of `after`, run next.

        Raises `TakenOver` or `Setback`; then nothing was written.
        """
        reads = [word for command in after for word in (_ASKING, command)]
        watch = self._watching()
        replies = self.wire.batch([_ASKING, ("MULTI",), *commands, ("EXEC",), *reads, *watch])
        done = replies[len(commands) + 2]
        self._check_watched(replies[-1], done)
        for reply in self.wire.checked(done):
            self.wire.checked(reply)
        return [self.wire.checked(reply) for reply in replies[len(commands) + 4 : -len(watch) : 2]]

    def certify(self, content: Mapping[str, str], epoch: int, last: tuple[int, str]) -> None:
        """Write all of meta except `state: live`. The keys on the node are now the whole partition, up to `last`."""
        changes: dict[str, Word] = {name: content.get(name, "") for name in (*META_FOLDED, WITNESSED, "form")}
        changes |= {"epoch": epoch, "owner": self.node.node_id}
        stands = self.turn({"state": "copying", "move": self.token}, changes)
        if stands is None:
            raise TakenOver("another run has begun to copy the partition")
        if stands != last:
            raise Setback(f"the source stands at {stands}, and was frozen at {last}")

    def drop(self) -> None:
        """Undo `claim`: delete everything of the partition on this node."""
        for name in self.names(self.wire) - {self.keys.meta.encode()}:
            self.write([("UNLINK", name)])
        replies = self.wire.batch([_ASKING, ("MULTI",), ("UNLINK", self.keys.meta), ("EXEC",)])
        if self.wire.checked(replies[-1]) is None:
            raise TakenOver("another run drives this move now")
        self.wire.call("CLUSTER", "SETSLOT", self.slot, "STABLE")

    def check(self) -> None:
        """Raises `Setback` or `TakenOver` unless the node still has this run's copy."""
        self._watch()

    def _watching(self) -> list[Command]:
        meta = self.keys.meta
        return [_ASKING, ("WATCH", meta), _ASKING, ("HMGET", meta, "state", "move")]

    def _watch(self) -> None:
        self._check_watched(self.wire.batch(self._watching())[-1], [])

    def _check_watched(self, mine: Any, executed: Any) -> None:
        """Check the watched meta. `executed` is None when meta changed between WATCH and EXEC."""
        self.wire.checked(mine)
        if mine == [b"copying", self.token.encode()] and executed is not None:
            return
        if mine[0] is None or isinstance(executed, hiredis.ReplyError):
            raise Setback(f"{self.node.address} has lost what was copied to it")
        raise TakenOver("another run drives this move now")


def _gone(key: Word) -> list[Command]:
    """Commands that delete the key from the node and all its replicas, even if only one of them has it."""
    return [("UNLINK", key), ("SET", key, ""), ("UNLINK", key)]


def import_slot(wire: Wire, slot: int, owner_id: str) -> None:
    """Make the node import the slot. Raises `Setback` while it does not know the slot's owner.

    Redis never assigns an imported slot to a node by itself. If the owner has stepped down meanwhile, the slot has no
    owner, and a node serves no such slot. So the import is ended; the next packet of the new owner tells the node.
    """
    lines = wire.call("CLUSTER", "NODES").decode()
    if slot not in slot_owners(lines)[0]:
        wire.call("CLUSTER", "SETSLOT", slot, "STABLE")
        raise Setback(f"{wire.address} has not heard yet who owns slot {slot}")
    wire.call("CLUSTER", "SETSLOT", slot, "IMPORTING", owner_id)


def forget_unreachable(address: str, slot: int, names: Iterable[bytes], owner_id: str) -> None:
    """Remove keys that are no partition's from a node that does not own their slot, and from its replicas.

    Raises `Setback` when the node owns the slot, or a key changes meanwhile, as it would if it came with the slot.
    """
    with closing(Wire(address)) as wire:
        import_slot(wire, slot, owner_id)
        for name in names:
            wire.batch([_ASKING, ("WATCH", name)])
            lines = wire.call("CLUSTER", "NODES").decode()
            if parse_myself(address, lines).owns(slot):
                raise Setback(f"{address} has been given slot {slot}")
            if wire.checked(wire.batch([_ASKING, ("MULTI",), *_gone(name), ("EXEC",)])[-1]) is None:
                raise Setback(f"{name!r} has changed on {address}")
        wire.call("CLUSTER", "SETSLOT", slot, "STABLE")
