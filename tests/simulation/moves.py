"""Moves of partitions by the real driver, which an operator begins, kills, stops and undoes."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from simulation.blocking import Blocking, wait
from simulation.directory_tree import Keeper, SimTree
from simulation.network import Network
from simulation.processes import Process
from simulation.world import Killed, ProcessLoop, World

from wallet_engine.admin.moving.driver import Driver, Undone
from wallet_engine.domain.errors import Corruption, WalletError
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.moves import MOVES, Moves
from wallet_engine.routing.tree import HeldLock, Node, StoreUnavailable, Version

#: The names that the driver reports after its steps.
STEPS: Final = (
    "planned",
    "copying",
    "copied",
    "verified",
    "frozen recorded",
    "frozen",
    "durable",
    "certified",
    "switched",
    "released",
    "open",
    "switch recorded",
    "slots given",
    "done",
)
#: How many partitions move back to a shard that they left, once nothing fails any more.
RETURNS: Final = 2

Verb = Callable[[Driver], object]


class AdminTree:
    """A `SimTree` for blocking code: messages take time, and an answer may be lost."""

    def __init__(self, tree: SimTree, pass_time: Callable[[], object]) -> None:
        self._tree = tree
        self._pass_time = pass_time

    def __repr__(self) -> str:
        return f"<AdminTree {self._tree!r}>"

    def _asked(self, what: Callable[[], Any]) -> Any:
        self._pass_time()
        answer = what()
        self._pass_time()
        if not self._tree.connected:
            raise StoreUnavailable("ZooKeeper does not answer any more")
        return answer

    def get(self, path: str) -> Node | None:
        found: Node | None = self._asked(lambda: self._tree.get(path))
        return found

    def create(self, path: str, data: bytes, *, ephemeral: bool = False) -> None:
        self._asked(lambda: self._tree.create(path, data, ephemeral=ephemeral))

    def set(self, path: str, data: bytes, version: int, *, beside: Version | None = None) -> int:
        return int(self._asked(lambda: self._tree.set(path, data, version, beside=beside)))

    def delete(self, path: str, version: int | None = None) -> None:
        self._asked(lambda: self._tree.delete(path, version))

    def children(self, path: str) -> list[str]:
        return list(self._asked(lambda: self._tree.children(path)))

    def lock(self, path: str, holder: str, *, timeout_s: float = 0.0) -> AbstractContextManager[HeldLock]:
        return self._tree.lock(path, holder, timeout_s=timeout_s)


class MoveRun(Process):
    """`wallet-admin move`, `resume` or `abort` of one partition.

    `dies_at`: the step after which it is killed. `must_end`: nothing fails any more, so it must end well.
    """

    def __init__(
        self,
        world: World,
        keeper: Keeper,
        network: Network,
        name: str,
        partition: int,
        verb: Verb,
        dies_at: str,
        *,
        must_end: bool = False,
    ) -> None:
        super().__init__(world, keeper, network, name)
        self.partition = partition
        self.verb = verb
        self.dies_at = dies_at
        self.must_end = must_end
        #: The step after which it is stopped for a while.
        self.stops_at = "" if must_end or world.rng.random() < 0.8 else world.rng.choice(STEPS[4:9])
        self._blocking: Blocking | None = None

    async def main(self, directory: Directory) -> None:
        ended: asyncio.Future[Exception | None] = self.loop.create_future()
        self._blocking = Blocking(self.loop, self._drive, ended.set_result)
        error = await ended
        self.world.note(f"{self.name} ends: {error!r}")
        unexpected = isinstance(error, Corruption) or not isinstance(error, WalletError | None)
        if unexpected or (error and self.must_end):
            self.world.violate(f"G11: the move of partition {self.partition}: {error!r}")
        self.loop.call_soon(self._leave)

    def _leave(self) -> None:
        self.kill()
        raise Killed

    def _drive(self) -> None:
        directory = Directory(AdminTree(SimTree(self.keeper, self.loop), self._pass_time))  # type: ignore[arg-type]
        driver = Driver(directory, self.partition, self.name, self.name, on_step=self._note_step)
        ended = self.verb(driver)
        if isinstance(ended, Undone) and ended.left and self.must_end:
            self.world.violate(
                f"G11: what was copied of partition {self.partition} is still there: {ended.left}"
            )

    def _pass_time(self) -> None:
        wait(asyncio.sleep(self.world.latency_us() / 1e6))

    def _note_step(self, step: str) -> None:
        self.world.note(f"partition {self.partition}: {step}")
        if step == self.dies_at:
            self.world.after(0, self.kill)
            wait(asyncio.sleep(60))
        if step == self.stops_at:
            self.world.after(0, self.stop_for, 0.3 + 4.0 * self.world.rng.random())
            self._pass_time()

    def stop_for(self, seconds: float) -> None:
        """Stop it for longer than its session: another run may take over. It wakes up, and goes on where it was."""
        self.world.pause(self.loop, int(seconds * 1e6))
        self.keeper.process_died(self.loop)

    def kill(self) -> None:
        super().kill()
        if self._blocking is not None:
            self._blocking.end()


class Mover:
    """The operator that moves partitions in a simulated cluster. `strike` is one act; `tidy` ends what is left."""

    def __init__(self, world: World, keeper: Keeper, network: Network, shard_names: list[str]) -> None:
        self.world = world
        self.keeper = keeper
        self.network = network
        self.runs: list[MoveRun] = []
        self._shard_names = shard_names
        #: Partitions and the shards that they were moved from, in the order of the moves.
        self._left: dict[tuple[int, str], None] = {}
        self._tidying = False
        #: Whether `tidy` has nothing left to do.
        self.at_rest = True
        self._outsider = ProcessLoop(world, "onlooker")
        self._to_return = RETURNS
        self._returned: set[str] = set()

    def __repr__(self) -> str:
        return f"<Mover runs={self.runs!r} under way={self.under_way()}>"

    def under_way(self) -> list[int]:
        """Partitions with a record of a move."""
        return [int(name) for name in self.keeper.children(MOVES)]

    def strike(self, home_of: Callable[[int], str], partitions: int) -> None:
        """Begin a move, or disturb, resume or undo one."""
        rng, running = self.world.rng, self._running()
        if running and rng.random() < 0.7:
            self._disturb(rng.choice(running))
            return
        left = self.under_way()
        if left and rng.random() < 0.7:
            self._go_on(rng.choice(left))
            return
        partition = rng.randrange(partitions)
        self.move(partition, home_of(partition), dies_at=rng.choice(STEPS) if rng.random() < 0.4 else "")

    def move(self, partition: int, source: str, *, target: str = "", dies_at: str = "") -> None:
        others = [name for name in self._shard_names if name != source]
        chosen = target or self.world.rng.choice(others)
        self.world.note(f"move of {partition} from {source} to {chosen}, dies at {dies_at or 'no step'}")
        self._left[partition, source] = None
        self._start(partition, lambda driver: driver.begin(source, chosen), dies_at)

    def _running(self) -> list[MoveRun]:
        self.runs = [run for run in self.runs if run.alive]
        return self.runs

    def _start(self, partition: int, verb: Verb, dies_at: str = "") -> None:
        name = f"admin{next(self.world.serials)}"
        words = self.world, self.keeper, self.network, name, partition, verb, dies_at
        run = MoveRun(*words, must_end=self._tidying)
        self.runs.append(run)
        run.start()

    def _go_on(self, partition: int, *, undo: float = 0.4) -> None:
        rng = self.world.rng
        dies_at = rng.choice(STEPS) if not self._tidying and rng.random() < 0.3 else ""
        self._start(partition, Driver.abort if rng.random() < undo else Driver.resume, dies_at)

    def _disturb(self, run: MoveRun) -> None:
        """Kill it, or stop it for long, perhaps for longer than its session: then another run may take over."""
        if self.world.rng.random() < 0.5:
            run.kill()
            return
        self.world.pause(run.loop, int(self.world.rng.random() ** 2 * 11e6))
        if self.world.rng.random() < 0.5:
            self.keeper.process_died(run.loop)

    def tidy(self, home_of: Callable[[int], str], fail_over: Callable[[str], object]) -> None:
        """Nothing fails any more: running moves go on, those without a driver are resumed or undone.

        Some partitions move back; then the replicas of those shards are promoted, with all keys that they have.
        """
        if not self._tidying:
            self._tidying, self.at_rest = True, False
            self.world.after(0, self._tidy, home_of, fail_over)

    def _tidy(self, home_of: Callable[[int], str], fail_over: Callable[[str], object]) -> None:
        if self._running() or self._begin_another(home_of):
            self.world.after(200_000, self._tidy, home_of, fail_over)
            return
        for shard in sorted(self._returned):
            fail_over(shard)
        self.at_rest = True

    def _begin_another(self, home_of: Callable[[int], str]) -> bool:
        """Begin what is left to do; returns whether there was anything."""
        rng = self.world.rng
        if left := self.under_way():
            partition = rng.choice(left)
            stored = Moves(SimTree(self.keeper, self._outsider)).get(partition)
            assert stored is not None
            self._go_on(partition, undo=0.0 if stored.move.target == home_of(partition) else 0.4)
            return True
        gone = [(partition, shard) for partition, shard in self._left if home_of(partition) != shard]
        if not gone or not self._to_return:
            return False
        self._to_return -= 1
        partition, shard = rng.choice(gone)
        self._returned.add(shard)
        self.move(partition, home_of(partition), target=shard)
        return True
