"""The two nodes of a move, as the move sees them.

A run that drives a move may be stopped for any time and wake up when another has taken over, finished, and the
partition has come back. So nothing is written on either node but on a condition that the node itself checks:
on the target, that its `meta` still carries this run's token (WATCH, then MULTI/EXEC: a script would have to declare
keys that are not there yet, which an importing node refuses with TRYAGAIN); on the source, that `meta` says the epoch.

**A node that does not own a slot may hold keys of it, and its replicas others.** Redis drops the keys of a slot that a
primary loses, and tells its replicas nothing; one that is promoted later brings them back. No client reaches them,
and they are nobody's truth. So a target is emptied of whatever is there before anything is copied to it, and its
replicas too, by name: UNLINK of a key that a primary lacks is not sent on, a SET and its UNLINK are.
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
    """Somebody else drives the move now; this run has to stop."""


class Side:
    """What both nodes have in common."""

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
        """The partition's keys that are on the node, without their tag; of others in its slot the whole name."""
        return {name.removesuffix(self.key(b"")) for name in self.names(self.wire)}

    def names(self, wire: Wire) -> set[bytes]:
        """All keys of the slot that a node has."""
        return set(wire.call("CLUSTER", "GETKEYSINSLOT", self.slot, KEYS_MAX))

    def read(self, *commands: Command) -> list[Any]:
        """Replies of commands on one key each; ASKING makes no difference on the owner of the slot."""
        replies = self.wire.batch([word for command in commands for word in (_ASKING, command)])
        return [self.wire.checked(reply) for reply in replies[1::2]]

    def meta(self) -> dict[str, str]:
        flat = self.read(("HGETALL", self.keys.meta))[0]
        return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}

    def turn(self, expected: Mapping[str, Word], changes: Mapping[str, Word]) -> tuple[int, str] | None:
        """Change meta if it says what is expected ("" for absent): its seq and nonce then. None: nothing changed."""
        words = [word for pair in (*expected.items(), *changes.items()) for word in pair]
        reply = self.read(("EVAL", _TURN, 1, self.keys.meta, len(expected), *words))[0]
        if reply[0] != 1:
            return None
        return int(reply[1] or 0), (reply[2] or b"").decode()


class Source(Side):
    """Serves the partition under `epoch` until the switch."""

    def __init__(self, node: NodeView, keys: PartitionKeys, epoch: int) -> None:
        super().__init__(node, keys)
        self.epoch = epoch

    def freeze(self, token: str) -> tuple[int, str]:
        """From now on the partition takes no operation; its last seq and nonce. Raises `Setback`."""
        ours: dict[str, Word] = {"epoch": self.epoch, "owner": self.node.node_id, "state": "live"}
        last = self.turn(ours, {"state": "moving", "move": token})
        if last is None:
            raise Setback("the partition was recovered meanwhile")
        return last

    def frozen_by(self, token: str) -> bool:
        """Whether it still is, by this run."""
        return self.turn({"epoch": self.epoch, "state": "moving", "move": token}, {}) is not None

    def thaw(self, token: str) -> bool:
        """Let it serve again. Only for a freeze of one's own, with no change of the map under way."""
        return self.turn({"state": "moving", "move": token}, {"state": "live", "move": ""}) is not None

    def seize(self, token: str) -> bool:
        """Take over a freeze, also one that another run made. False when the partition is not frozen."""
        meta = self.meta()
        if meta.get("state") != "moving":
            return False
        theirs: dict[str, Word] = {"epoch": self.epoch, "state": "moving", "move": meta.get("move", "")}
        if self.turn(theirs, {"move": token}) is None:
            raise Setback("the partition has changed while it was looked at")
        return True

    def release(self) -> bool:
        """Forget the partition, which has moved. False when what is here is something else."""
        others = sorted(self.names(self.wire) - {self.keys.meta.encode()})
        names: list[Word] = [self.keys.meta, *others]
        return bool(self.wire.call("EVAL", _RELEASE, len(names), *names, self.epoch))


class Target(Side):
    """Imports the slot and belongs to one run, named by `token`. `replicas` are the addresses of the node's own."""

    def __init__(self, node: NodeView, keys: PartitionKeys, token: str, replicas: Iterable[str] = ()) -> None:
        super().__init__(node, keys)
        self.token = token
        self._replicas = tuple(replicas)

    def claim(self, source_id: str, epoch: int, kinds: Iterable[bytes] = ()) -> None:
        """Import the slot, take what is there from any earlier run or stay of the partition, and empty it.

        The map says `epoch`, and that the partition is elsewhere. `kinds` are removed too from replicas that do not
        answer. Raises `ConfigError` for what may be newer than the map, `Setback` from a node that owns the slot.
        """
        import_slot(self.wire, self.slot, source_id)
        self._take(epoch)
        self._watch()
        names = self.names(self.wire) | self._names_on_replicas() | {self.key(kind) for kind in kinds}
        for name in sorted(names - {self.keys.meta.encode()}):
            self.write(_gone(name))

    def _take(self, epoch: int) -> None:
        """Make `meta` this run's, on the replicas too, if it is still what was judged."""
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
        """Run commands, all on one key, if the node is still this run's; the replies of `after`, run behind them.

        Raises `TakenOver` or `Setback`, with nothing written.
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
        """Write meta: all but its being live. From now on the keys here are the whole partition, up to `last`."""
        changes: dict[str, Word] = {name: content.get(name, "") for name in (*META_FOLDED, WITNESSED, "form")}
        changes |= {"epoch": epoch, "owner": self.node.node_id}
        stands = self.turn({"state": "copying", "move": self.token}, changes)
        if stands is None:
            raise TakenOver("another run has begun to copy the partition")
        if stands != last:
            raise Setback(f"the source stands at {stands}, and was frozen at {last}")

    def drop(self) -> None:
        """Undo `claim`: nothing of the partition is left here."""
        for name in self.names(self.wire) - {self.keys.meta.encode()}:
            self.write([("UNLINK", name)])
        replies = self.wire.batch([_ASKING, ("MULTI",), ("UNLINK", self.keys.meta), ("EXEC",)])
        if self.wire.checked(replies[-1]) is None:
            raise TakenOver("another run drives this move now")
        self.wire.call("CLUSTER", "SETSLOT", self.slot, "STABLE")

    def check(self) -> None:
        """Raises `Setback` or `TakenOver` unless the node has what this run has copied to it."""
        self._watch()

    def _watching(self) -> list[Command]:
        meta = self.keys.meta
        return [_ASKING, ("WATCH", meta), _ASKING, ("HMGET", meta, "state", "move")]

    def _watch(self) -> None:
        self._check_watched(self.wire.batch(self._watching())[-1], [])

    def _check_watched(self, mine: Any, executed: Any) -> None:
        """`executed` is None when meta changed between the look before and the write."""
        self.wire.checked(mine)
        if mine == [b"copying", self.token.encode()] and executed is not None:
            return
        if mine[0] is None or isinstance(executed, hiredis.ReplyError):
            raise Setback(f"{self.node.address} has lost what was copied to it")
        raise TakenOver("another run drives this move now")


def _gone(key: Word) -> list[Command]:
    """Commands after which neither the node nor any of its replicas has the key, even if only one of them had it."""
    return [("UNLINK", key), ("SET", key, ""), ("UNLINK", key)]


def import_slot(wire: Wire, slot: int, owner_id: str) -> None:
    """Have the node import the slot. Raises `Setback` while it does not know who owns it.

    Redis by itself gives an imported slot to no node. If its owner has stepped down meanwhile the slot has none, and a
    node serves no slot without an owner. So end the import; the next packet of the new owner tells the node.
    """
    lines = wire.call("CLUSTER", "NODES").decode()
    if slot not in slot_owners(lines)[0]:
        wire.call("CLUSTER", "SETSLOT", slot, "STABLE")
        raise Setback(f"{wire.address} has not heard yet who owns slot {slot}")
    wire.call("CLUSTER", "SETSLOT", slot, "IMPORTING", owner_id)


def forget_unreachable(address: str, slot: int, names: Iterable[bytes], owner_id: str) -> None:
    """Remove keys that are no partition's from a node that does not own their slot, and from its replicas.

    Raises `Setback` when it does, or when one changes meanwhile, as it would if it came with the slot.
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
