"""Drives one move through its states. It may be killed after any step; any other run can continue the move.

    planned    the record exists
    copying    the slot is IMPORTING on the target; the source serves and is never set MIGRATING
    frozen     the source's meta says `moving`: it takes no operation, services hold the partition's queue
    switched   the map says (target, epoch + 1)
    done       slots given to the target, source emptied, record deleted

**The switch is one compare-and-set of the map**, from (source, epoch) to (target, epoch + 1). Before it, the
target's copy counts for nothing; after it, the source's data counts for nothing.

Between freeze and switch, the source must not serve again while the switch may still happen. Three parties may end
the freeze: this run, before it tries the switch or once it knows that the switch failed; another run that took over,
after it has made the freeze its own and the map newer (`_take_freeze`); and recovery, which raises the epoch in the
map. In the last two cases this run's compare-and-set fails: it reads the map, then checks its freeze, then replaces
exactly that map.

If ZooKeeper does not say whether the switch was made, the source stays frozen. The journal process ends that freeze
when ZooKeeper is back (`drain/shard_drain.py`, MOVING_S_MAX).
"""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from redis.exceptions import RedisError

from wallet_engine.admin.moving.copying import Copy
from wallet_engine.admin.moving.durable import wait_durable
from wallet_engine.admin.moving.sides import Side, Source, TakenOver, Target
from wallet_engine.admin.moving.wire import Setback
from wallet_engine.admin.waiting import wait_until
from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.slots_owner import give_slots
from wallet_engine.redis_store.topology import NodeView, find_primary, view_node
from wallet_engine.routing.directory import LOCKS, Directory
from wallet_engine.routing.model import PartitionMap
from wallet_engine.routing.moves import Move, MoveState, StoredMove
from wallet_engine.routing.processes import birth_of
from wallet_engine.routing.slots import slot_range, tag_of
from wallet_engine.routing.tree import LockTimeout, NodeMissing, StoreUnavailable, VersionConflict
from wallet_engine.routing.zookeeper import SESSION_TIMEOUT_S

#: Limit from the freeze to the switch. Services hold a partition's operations for 2 s before they refuse them.
FREEZE_S_MAX: Final = 0.7
#: How long a move starts new attempts, while nodes are away or being recovered.
SETBACKS_S_MAX: Final = 60.0
SETBACK_PAUSE_S: Final = 0.5
#: How long `abort` waits for each of the two nodes.
UNDO_S_MAX: Final = 20.0
#: The lock of a run that was killed elsewhere lasts until its session ends.
LOCK_WAIT_S: Final = SESSION_TIMEOUT_S + 2.0
#: How long to wait until the target serves and every node knows that it owns the slots.
SEEN_S_MAX: Final = 30.0
SWITCH_ATTEMPTS_MAX: Final = 10

T = TypeVar("T")

#: Called with the name of each step; see `Driver`.
OnStep = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a move. `digest` is that of this run's copy; empty when the run only finished a switch."""

    move: Move
    epoch: int
    seq: int
    digest: str
    freeze_s: float
    seconds: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Undone:
    """`left`: why the copied data is still on the target; "" when it is gone."""

    move: Move
    left: str


class Driver:
    """Moves one partition. `on_step(name)` is called after each step, `progress(fields)` while copying.

    Raises `ConfigError`, `StoreUnavailable`, `Setback` (too many of them), `TakenOver`, `Corruption`. After each of
    these the partition serves, or the text says what ends its freeze; `resume` continues the move.
    """

    def __init__(
        self,
        directory: Directory,
        partition: int,
        token: str,
        driver: str,
        *,
        on_step: OnStep = lambda step: None,
        progress: Callable[[int], object] = lambda fields: None,
    ) -> None:
        self._directory = directory
        self._moves = directory.moves
        self._partition = partition
        self._token = token
        self._driver = driver
        self._step = on_step
        self._progress = progress
        self._config = directory.config()
        self._keys = PartitionKeys(tag_of(partition, self._config.partitions))

    def __repr__(self) -> str:
        return f"<Driver p={self._partition} {self._token}>"

    # Entry points

    def begin(self, source: str, target: str) -> Outcome:
        """Move the partition. Raises `ConfigError` when a move exists already, or it is no longer on `source`."""
        with self._locked():
            self._expect_shard(source)
            started_ms = time.time_ns() // 1_000_000
            planned = Move(
                self._partition, source, target, MoveState.PLANNED, 0, self._token, self._driver, started_ms
            )
            stored = self._moves.create(planned)
            self._step("planned")
            return self._drive(stored)

    def resume(self) -> Outcome:
        """Continue a move, also one of another run."""
        with self._locked():
            stored = self._take_over()
            return self._drive(stored)

    def abort(self) -> Undone:
        """Undo a move that has not switched: first the source serves again, then the target's copy is removed.

        Raises `ConfigError` when it has switched, `Setback` when the source does not come back in time.
        """
        with self._locked():
            stored = self._take_over()
            source_id = self._patiently(lambda: self._back_to_source(stored))
            left = ""
            try:
                self._patiently(lambda: self._empty(stored.move.target, source_id))
            # The target may never come back, and its copy counts for nothing.
            except (Setback, ConfigError) as error:
                left = str(error)
            self._moves.forget(stored)
            return Undone(stored.move, left)

    def clear(self, shard: str) -> None:
        """Remove the partition's data from a shard that is not its home. Raises `ConfigError`, `Setback`."""
        with self._locked():
            home = self._directory.partition_map().shard_of(self._partition)
            if self._moves.get(self._partition) is not None or home == shard:
                raise ConfigError(f"partition {self._partition} is on {shard} now, or on its way there")
            self._empty(shard, self._primary(home).node_id)

    def _back_to_source(self, stored: StoredMove) -> str:
        """End the freeze, if there is one; returns the source's node id."""
        move = stored.move
        if move.committed(self._directory.partition_map()):
            raise ConfigError(
                f"partition {move.partition} is on {move.target} already, and can only be finished: "
                f"wallet-admin resume {move.partition}"
            )
        node = self._primary(move.source)
        with closing(Source(node, self._keys, self._epoch())) as source:
            self._take_freeze(stored, source)
        return node.node_id

    def _empty(self, shard: str, home_id: str) -> None:
        """Remove the partition from a shard that is not its home, and its replicas. Raises `Setback`, `ConfigError`."""
        with closing(self._target(shard)) as target:
            target.claim(home_id, self._epoch())
            target.drop()

    def _patiently(self, undo: Callable[[], T]) -> T:
        """Retry while a node that was killed restarts. Raises the last `Setback`."""
        deadline_s = time.monotonic() + UNDO_S_MAX
        while True:
            try:
                return undo()
            except Setback:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(SETBACK_PAUSE_S)

    # Steps

    def _drive(self, stored: StoredMove) -> Outcome:
        began_s = time.monotonic()
        deadline_s, attempts = began_s + SETBACKS_S_MAX, 0
        copy, freeze_s = None, 0.0
        while not stored.move.committed(self._directory.partition_map()):
            attempts += 1
            try:
                stored, copy, freeze_s = self._copy_and_switch(stored)
            except Setback:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(SETBACK_PAUSE_S)
        epoch, seq = self._finish(stored)
        digest = "" if copy is None else copy.digests[0]
        seconds = time.monotonic() - began_s
        return Outcome(stored.move, epoch, seq, digest, freeze_s, seconds, attempts)

    def _copy_and_switch(self, stored: StoredMove) -> tuple[StoredMove, Copy, float]:
        """One attempt. After a `Setback` the source serves, or is gone."""
        stored = self._again(stored)
        move = stored.move
        source_node = self._primary(move.source)
        with (
            closing(Source(source_node, self._keys, self._epoch())) as source,
            closing(self._target(move.target)) as target,
        ):
            stored = self._take_freeze(stored, source)
            stored = self._record(stored, state=MoveState.COPYING, epoch=source.epoch)
            target.claim(source_node.node_id, source.epoch, source.kinds())
            self._step("copying")
            copy = Copy(source, target, self._progress)
            with _unless_changed(source, target):
                copy.copy()
                self._step("copied")
                copy.verify()
            self._step("verified")
            stored = self._record(stored, state=MoveState.FROZEN)
            self._step("frozen recorded")
            counted = self._directory.members().copies
            journals = [info for name, info in self._directory.journals().items() if name in counted]
            partition_map = self._map_with(move.target)
            with _unless_changed(source, target):
                copy.catch_up()
            frozen_s = time.monotonic()
            with uninterrupted(), self._frozen(source) as (seq, nonce, give_up):
                self._step("frozen")
                with _unless_changed(source, target):
                    copy.finish(seq)
                remaining_s = frozen_s + FREEZE_S_MAX - time.monotonic()
                quorum = self._config.journal_quorum
                wait_durable(journals, quorum, self._partition, seq, nonce, remaining_s)
                self._step("durable")
                target.certify(source.meta(), source.epoch + 1, (seq, nonce))
                self._step("certified")
                if time.monotonic() > frozen_s + FREEZE_S_MAX:
                    raise Setback(f"the freeze took over {FREEZE_S_MAX} s")
                self._switch(move, source, partition_map, give_up)
                self._step("switched")
                with suppress(Setback):  # if the source is gone, there is nothing to release
                    source.release()
                self._step("released")
                with suppress(Setback):  # if the target is gone, the journal process recovers it
                    self._open(target, source.epoch + 1)
                self._step("open")
            return stored, copy, time.monotonic() - frozen_s

    def _again(self, stored: StoredMove) -> StoredMove:
        """Check, before each attempt, that the move is still this run's and the partition still on the source."""
        current = self._still_ours()
        self._expect_shard(stored.move.source)
        return current

    def _still_ours(self) -> StoredMove:
        current = self._moves.get(self._partition)
        if current is None or current.move.token != self._token:
            raise TakenOver(f"the move of partition {self._partition} was changed by another run")
        return current

    @contextmanager
    def _frozen(self, source: Source) -> Iterator[tuple[int, str, list[bool]]]:
        """Frozen inside the block. An exception thaws the source, unless `give_up[0]` is False (switch possible)."""
        give_up = [True]
        try:
            seq, nonce = source.freeze(self._token)
            yield seq, nonce, give_up
        except BaseException:
            if give_up[0]:
                with suppress(Setback), closing(Source(source.node, self._keys, source.epoch)) as again:
                    again.thaw(self._token)  # on a new connection: the old one may still expect a reply
            raise

    def _switch(self, move: Move, source: Source, partition_map: PartitionMap, give_up: list[bool]) -> None:
        """Make the switch. `partition_map` was read before the freeze."""
        for _ in range(SWITCH_ATTEMPTS_MAX):
            entry = partition_map.partitions[self._partition]
            if (entry.shard, entry.epoch) != (move.source, source.epoch):
                raise Setback(f"partition {self._partition} was recovered meanwhile")
            if not source.frozen_by(self._token):
                raise Setback("the freeze has ended")
            switched = partition_map.with_shard(self._partition, move.target)
            switched = switched.with_epochs({self._partition: entry.epoch + 1})
            give_up[0] = False
            try:
                self._directory.replace_map(partition_map, switched)
                return
            except VersionConflict:
                give_up[0] = True
                partition_map = self._map_with(move.target)
            except StoreUnavailable as error:
                if self._switched_after_all(move, give_up):
                    return
                raise StoreUnavailable(
                    f"{error}; partition {self._partition} stays frozen until ZooKeeper is back and the journal "
                    f"process has looked at it: then wallet-admin resume {self._partition}"
                ) from None
        raise Setback("the map kept being changed by others")

    def _switched_after_all(self, move: Move, give_up: list[bool]) -> bool:
        """Whether a switch without an answer was made. Raises `Setback` when it is certain that it never will be."""
        with suppress(StoreUnavailable, VersionConflict):
            found = self._directory.partition_map()
            if move.committed(found):
                return True
            self._directory.replace_map(found, found)  # a newer version: a late switch would fail on it
            give_up[0] = True
            raise Setback("ZooKeeper went away during the switch")
        return False

    def _take_freeze(self, stored: StoredMove, source: Source) -> StoredMove:
        """End a freeze that another run left. Afterwards no switch of that run can succeed."""
        if not source.seize(self._token):
            return stored
        for _ in range(SWITCH_ATTEMPTS_MAX):
            partition_map = self._directory.partition_map()
            if stored.move.committed(partition_map):
                raise Setback("the move has switched meanwhile")
            with suppress(VersionConflict):
                self._directory.replace_map(partition_map, partition_map)  # the same map, as a newer version
                source.thaw(self._token)
                return stored
        raise Setback("the map kept being changed by others")

    def _open(self, target: Target, epoch: int) -> None:
        """Let the target serve; its slot comes first, so that the first operation finds it."""
        target.wire.batch([("CLUSTER", "SETSLOT", target.slot, "NODE", target.node.node_id)])
        target.turn({"state": "copying", "epoch": epoch}, {"state": "live", "move": ""})

    def _finish(self, stored: StoredMove) -> tuple[int, int]:
        """The steps after the switch: idempotent, the same for every run. Returns the epoch and seq seen live."""
        move = stored.move
        if move.state != MoveState.SWITCHED:
            stored = self._record(stored, state=MoveState.SWITCHED)
        self._step("switch recorded")
        self._release_source(move)
        target = self._primary(move.target, wait_s=SEEN_S_MAX)
        shards = self._directory.shards()
        others = [node for shard in shards.values() for node in shard.nodes]
        slots = slot_range(self._partition, self._config.partitions)
        try:
            give_slots(slots, target, others)
        except (RedisError, OSError) as error:
            raise Setback(f"{target.address} does not take its slots: {error}") from None
        self._step("slots given")
        with suppress(Setback), closing(Target(target, self._keys, move.token)) as side:
            self._open(side, move.epoch + 1)
        seen: list[tuple[int, int]] = []
        wait_until(
            lambda: self._serves(move.target, seen),
            f"partition {self._partition} on {move.target}",
            SEEN_S_MAX,
        )
        wait_until(
            lambda: self._all_know(move.target, slots, others),
            f"slots {slots.start}-{slots.stop - 1} on {move.target}",
            SEEN_S_MAX,
        )
        self._forget_at_source(stored, target)
        self._moves.forget(stored)
        self._step("done")
        return seen[-1]

    def _forget_at_source(self, stored: StoredMove, target: NodeView) -> None:
        """Empty the source. Its primary dropped `meta` with the slot; its replicas did not. It may be gone."""
        with suppress(Setback, ConfigError):
            self._still_ours()
            self._empty(stored.move.source, target.node_id)

    def _release_source(self, move: Move) -> None:
        node = find_primary(self._nodes(move.source))
        if node is not None:
            with suppress(Setback), closing(Source(node, self._keys, move.epoch)) as source:
                source.release()

    def _serves(self, shard: str, seen: list[tuple[int, int]]) -> bool:
        """Whether the partition is live on the shard, under the epoch of the map."""
        node = find_primary(self._nodes(shard))
        if node is None:
            return False
        with suppress(Setback), closing(Side(node, self._keys)) as side:
            meta = side.meta()
            epoch = self._directory.partition_map().epoch_of(self._partition)
            if (meta.get("state"), meta.get("owner"), meta.get("epoch")) == (
                "live",
                node.node_id,
                str(epoch),
            ):
                seen.append((epoch, int(meta["seq"])))
                return True
        return False

    def _all_know(self, shard: str, slots: range, addresses: list[str]) -> bool:
        """Whether this shard's primary claims the slots and no other primary that answers does.

        The source learns by gossip that it lost them. If it gets a new configuration epoch before that, for example
        through another move, its claim wins, and the slots have to be given again.
        """
        ends = {slots.start, slots.stop - 1}
        target = find_primary(self._nodes(shard))
        if target is None:
            return False
        if not all(map(target.owns, ends)):
            with suppress(RedisError, OSError):
                give_slots(slots, target, addresses)
            return False
        views = [view for address in addresses if address != target.address and (view := view_node(address))]
        return not any(view.is_primary and view.owns(slot) for view in views for slot in ends)

    # Small parts

    @contextmanager
    def _locked(self) -> Iterator[None]:
        name = f"move-{self._partition}"
        self._drop_dead_lock(f"{LOCKS}/{name}")
        try:
            with self._directory.lock(name, timeout_s=LOCK_WAIT_S):
                yield
        except LockTimeout as error:
            raise ConfigError(
                f"another run drives the move of partition {self._partition}: {error}"
            ) from None

    def _drop_dead_lock(self, path: str) -> None:
        """Delete the lock of a run that was killed on this host, instead of waiting for the end of its session."""
        node = self._directory.tree.get(path)
        if node is None:
            return
        host, _, rest = node.data.decode(errors="replace").partition(" pid ")
        pid = rest.partition(" ")[0]
        if host == socket.gethostname() and pid.isdigit() and birth_of(int(pid)) is None:
            with suppress(NodeMissing, VersionConflict):
                self._directory.tree.delete(path, node.version)

    def _record(self, stored: StoredMove, **changes: object) -> StoredMove:
        """Change the record. Raises `TakenOver` when another run has changed it."""
        try:
            return self._moves.replace(stored, **changes)
        except (NodeMissing, VersionConflict):
            raise TakenOver(f"the move of partition {self._partition} was changed by another run") from None

    def _take_over(self) -> StoredMove:
        stored = self._moves.get(self._partition)
        if stored is None:
            raise ConfigError(
                f"partition {self._partition} is not being moved: wallet-admin moves lists the moves in progress"
            )
        return self._record(stored, token=self._token, driver=self._driver)

    def _expect_shard(self, source: str) -> None:
        found = self._directory.partition_map().shard_of(self._partition)
        if found != source:
            raise ConfigError(f"partition {self._partition} is on {found}, no longer on {source}")

    def _epoch(self) -> int:
        return self._directory.partition_map().epoch_of(self._partition)

    def _map_with(self, shard: str) -> PartitionMap:
        """The map, read before the check that the shard exists: removing a shard makes the map newer."""
        partition_map = self._directory.partition_map()
        self._nodes(shard)
        return partition_map

    def _nodes(self, shard: str) -> tuple[str, ...]:
        shards = self._directory.shards()
        if shard not in shards:
            raise ConfigError(f"shard {shard} was removed")
        return shards[shard].nodes

    def _primary(self, shard: str, *, wait_s: float = 0.0) -> NodeView:
        deadline_s = time.monotonic() + wait_s
        while (node := find_primary(self._nodes(shard))) is None:
            if time.monotonic() > deadline_s:
                raise Setback(f"shard {shard} has no primary that answers")
            time.sleep(SETBACK_PAUSE_S)
        return node

    def _target(self, shard: str) -> Target:
        node = self._primary(shard)
        replicas = [address for address in self._nodes(shard) if address != node.address]
        return Target(node, self._keys, self._token, replicas)


@contextmanager
def _unless_changed(source: Source, target: Target) -> Iterator[None]:
    """Turns `Corruption` into `Setback` if a recovery, a failover, or a node that lost its data explains the
    difference.
    """
    try:
        yield
    except Corruption:
        meta = source.meta()
        if meta.get("state") not in ("live", "moving") or meta.get("epoch") != str(source.epoch):
            raise Setback("the partition was recovered meanwhile") from None
        target.check()
        for side in (source, target):
            side.check_not_promoted()
        raise


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delays Ctrl-C until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    except Setback:
        if pressed:  # the freeze has ended, and the user wants no other attempt
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
