"""Moves of partitions by the real driver, as somebody at `wallet-admin` makes, kills, stops and undoes them."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from simulation.blocking import Blocking, wait
from simulation.directory_tree import Keeper, SimTree
from simulation.network import Network
from simulation.processes import Process
from simulation.world import Killed, World

from wallet_engine.admin.moving.driver import Driver
from wallet_engine.domain.errors import Corruption, WalletError
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.moves import MOVES
from wallet_engine.routing.tree import HeldLock, Node, StoreUnavailable

#: What the driver says after each of its steps.
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
Verb = Callable[[Driver], object]


class AdminTree:
    """A `SimTree` for code that blocks: words take time on their way, and an answer may be lost."""

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

    def set(self, path: str, data: bytes, version: int) -> int:
        return int(self._asked(lambda: self._tree.set(path, data, version)))

    def delete(self, path: str, version: int | None = None) -> None:
        self._asked(lambda: self._tree.delete(path, version))

    def children(self, path: str) -> list[str]:
        return list(self._asked(lambda: self._tree.children(path)))

    def lock(self, path: str, holder: str, *, timeout_s: float = 0.0) -> AbstractContextManager[HeldLock]:
        return self._tree.lock(path, holder, timeout_s=timeout_s)


class MoveRun(Process):
    """`wallet-admin move`, `resume` or `abort` of one partition. `dies_at`: the step behind which it is killed."""

    def __init__(
        self,
        world: World,
        keeper: Keeper,
        network: Network,
        name: str,
        partition: int,
        verb: Verb,
        dies_at: str,
    ) -> None:
        super().__init__(world, keeper, network, name)
        self.partition = partition
        self.verb = verb
        self.dies_at = dies_at
        self._blocking: Blocking | None = None

    async def main(self, directory: Directory) -> None:
        ended: asyncio.Future[Exception | None] = self.loop.create_future()
        self._blocking = Blocking(self.loop, self._drive, ended.set_result)
        error = await ended
        self.world.note(f"{self.name} ends: {error!r}")
        if isinstance(error, Corruption) or not isinstance(error, WalletError | None):
            self.world.violate(f"G11: the move of partition {self.partition}: {error!r}")
        self.loop.call_soon(self._leave)

    def _leave(self) -> None:
        self.kill()
        raise Killed

    def _drive(self) -> None:
        directory = Directory(AdminTree(SimTree(self.keeper, self.loop), self._pass_time))  # type: ignore[arg-type]
        driver = Driver(directory, self.partition, self.name, self.name, on_step=self._note_step)
        self.verb(driver)

    def _pass_time(self) -> None:
        wait(asyncio.sleep(self.world.latency_us() / 1e6))

    def _note_step(self, step: str) -> None:
        self.world.note(f"partition {self.partition}: {step}")
        if step == self.dies_at:
            self.world.after(0, self.kill)
            wait(asyncio.sleep(60))

    def kill(self) -> None:
        super().kill()
        if self._blocking is not None:
            self._blocking.end()


class Mover:
    """Whoever moves partitions in a simulated cluster. `strike` is one act; `tidy` ends what is left."""

    def __init__(self, world: World, keeper: Keeper, network: Network, shard_names: list[str]) -> None:
        self.world = world
        self.keeper = keeper
        self.network = network
        self.runs: list[MoveRun] = []
        self.done = 0
        self._shard_names = shard_names
        self._tidying = False

    def __repr__(self) -> str:
        return f"<Mover runs={self.runs!r} under way={self.under_way()}>"

    def under_way(self) -> list[int]:
        """Partitions of which there is a record."""
        return [int(name) for name in self.keeper.children(MOVES)]

    def strike(self, home_of: Callable[[int], str], partitions: int) -> None:
        """Begin a move, or do something about one."""
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
        self._start(partition, lambda driver: driver.begin(source, chosen), dies_at)

    def _running(self) -> list[MoveRun]:
        self.runs = [run for run in self.runs if run.alive]
        return self.runs

    def _start(self, partition: int, verb: Verb, dies_at: str = "") -> None:
        run = MoveRun(
            self.world,
            self.keeper,
            self.network,
            f"admin{next(self.world.serials)}",
            partition,
            verb,
            dies_at,
        )
        self.runs.append(run)
        run.start()

    def _go_on(self, partition: int, *, dies: bool = True) -> None:
        rng = self.world.rng
        dies_at = rng.choice(STEPS) if dies and rng.random() < 0.3 else ""
        if rng.random() < 0.6:
            self._start(partition, Driver.resume, dies_at)
        else:
            self._start(partition, Driver.abort, dies_at)

    def _disturb(self, run: MoveRun) -> None:
        """Kill it, or stop it for long, perhaps for longer than ZooKeeper waits for it: another may take over."""
        if self.world.rng.random() < 0.5:
            run.kill()
            return
        self.world.pause(run.loop, int(self.world.rng.random() ** 2 * 11e6))
        if self.world.rng.random() < 0.5:
            self.keeper.process_died(run.loop)

    def tidy(self) -> None:
        """Nothing fails any more: whoever is at it goes on, and what nobody is at is resumed or undone."""
        if not self._tidying:
            self._tidying = True
            self.world.after(0, self._tidy)

    def _tidy(self) -> None:
        if not self._running():
            left = self.under_way()
            if not left:
                return
            self._go_on(self.world.rng.choice(left), dies=False)
        self.world.after(200_000, self._tidy)
